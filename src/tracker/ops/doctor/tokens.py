"""Tokens that expire, and tokens that have lost scopes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tracker.ops.doctor.finding import Finding, cannot_read
from tracker.ops.doctor.servers import StreamResult, connected
from tracker.settings import Settings
from tracker.store import db, tokens

_SOON, _LATELY = timedelta(days=14), timedelta(days=30)
_MOST_TOKENS_NAMED = 5


async def check(settings: Settings, _: StreamResult) -> list[Finding]:
    """Tokens that have expired or expire soon, and tokens that have lost scopes."""
    try:
        async with connected(settings) as connection:
            expiring = await tokens.ageing(connection, _SOON)
            weakened = await tokens.weakened(connection, _LATELY)
    except (*db.UNREACHABLE, db.REFUSED) as error:
        return [cannot_read("tokens", error)]
    now = datetime.now(UTC)
    findings = [
        _ageing(name, id_, expires_at, now) for name, id_, expires_at in expiring[:_MOST_TOKENS_NAMED]
    ]
    if len(expiring) > _MOST_TOKENS_NAMED:
        more = len(expiring) - _MOST_TOKENS_NAMED
        findings.append(Finding("tokens", "warn", f"and {more} more that have expired or expire soon"))
    findings += [_weakened(token) for token in weakened[:_MOST_TOKENS_NAMED]]
    if len(weakened) > _MOST_TOKENS_NAMED:
        more = len(weakened) - _MOST_TOKENS_NAMED
        findings.append(Finding("tokens", "warn", f"and {more} more that have lost scopes"))
    return findings or [Finding("tokens", "ok", f"no token has expired or expires within {_SOON.days} days")]


def _ageing(name: str, id_: int, expires_at: datetime, now: datetime) -> Finding:
    does = "has expired" if expires_at <= now else "expires"
    text = f"token {id_} ({name or 'without a name'}) {does} at {expires_at:%Y-%m-%d %H:%M} UTC"
    return Finding("tokens", "warn", text, f"create another one, or revoke it: tracker token revoke {id_}")


def _weakened(token: tokens.Weakened) -> Finding:
    name, used = token.name or "without a name", f"{token.last_used_at:%Y-%m-%d}"
    text = f"token {token.id} ({name}), used {used}, no longer has: {', '.join(token.lost)}"
    advice = (
        "if it needs that, create another one with tracker token create --scope … "
        f"and then run tracker token revoke {token.id}"
    )
    return Finding("tokens", "warn", text, advice)
