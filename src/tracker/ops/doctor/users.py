"""Users: whether an admin can sign in, and second factors."""

from __future__ import annotations

from tracker.ops.doctor import key_file
from tracker.ops.doctor.finding import Finding, cannot_read
from tracker.ops.doctor.key_file import Sealed
from tracker.ops.doctor.servers import StreamResult, connected
from tracker.settings import Settings
from tracker.store import db
from tracker.store.people import users
from tracker.store.people.users import Guarded

_MOST_NAMED = 5


async def check(settings: Settings, _: StreamResult) -> list[Finding]:
    """Whether an admin can sign in, admins have a second factor, and the key file opens second factors."""
    try:
        async with connected(settings) as connection:
            has_had_user = await users.has_had_user(connection)
            guarded = await users.guarded(connection)
    except (*db.UNREACHABLE, db.REFUSED) as error:
        return [cannot_read("users", error)]
    if not has_had_user:
        text = "nobody can sign in yet: tracker up prints the first admin's link, or tracker users invite"
        return [Finding("users", "ok", text)]
    return [_of_admins(guarded), *_of_factors(settings, guarded)]


def _of_admins(guarded: list[Guarded]) -> Finding:
    admins = [user for user in guarded if user.role == "admin"]
    if not admins:
        advice = "run tracker users reset EMAIL for an admin, or tracker users invite EMAIL --role admin"
        return Finding("users", "warn", "no admin can sign in", advice)
    if bare := [user.email for user in admins if user.totp_secret is None]:
        more = f" and {len(bare) - _MOST_NAMED} more" if len(bare) > _MOST_NAMED else ""
        text = f"admins without a second factor: {', '.join(bare[:_MOST_NAMED])}{more}"
        advice = "ask them to switch it on, or set TRACKER_TOTP_ROLES=admin"
        return Finding("users", "warn", text, advice)
    return Finding("users", "ok", f"admins who can sign in, all with a second factor: {len(admins)}")


def _of_factors(settings: Settings, guarded: list[Guarded]) -> list[Finding]:
    sealed = [
        Sealed(
            f"the second factor of {user.email}",
            user.totp_secret,
            f"run tracker users reset {user.email} --second-factor",
        )
        for user in guarded
        if user.totp_secret is not None
    ]
    if not sealed:
        return []
    lost = ": tracker users reset EMAIL --second-factor for each user"
    return key_file.findings(settings, "users", sealed, "of the second factors is missing", lost)
