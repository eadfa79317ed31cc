"""Sessions of people who signed in. The database has only the digests of their secrets."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

from tracker.store.db import Connection, Pool
from tracker.store.people.users import IS_SHUT
from tracker.store.tokens import OPEN_ADVERTISERS, OPEN_AFFILIATES

_MAKE = """
INSERT INTO user_session (secret_hash, user_id, rights, is_whole, ends_at, address, user_agent)
VALUES ($1, $2, $3, $4, now() + $5, $6, $7) RETURNING id
"""
# Half sessions end soon, and end none: one who only knows the password can make them.
_END_OLDEST = """
DELETE FROM user_session WHERE id IN (
    SELECT id FROM user_session WHERE user_id = $1 AND is_whole
    ORDER BY seen_at DESC, id DESC OFFSET $2)
"""
# A session of other rights than its user has now is over, and so is one of a disabled or shut-out user.
_FIND = f"""
SELECT session.id, session.rights, session.is_whole, session.seen_as, session.seen_as_id,
       CASE session.seen_as
           WHEN 'affiliate' THEN (SELECT name FROM affiliate WHERE id = session.seen_as_id)
           WHEN 'advertiser' THEN (SELECT name FROM advertiser WHERE id = session.seen_as_id)
       END AS seen_as_name,
       account.id AS user_id, account.email, account.name, account.role,
       {OPEN_AFFILIATES}, {OPEN_ADVERTISERS}, account.hides_money,
       account.totp_since IS NOT NULL AS has_totp,
       session.seen_at < now() - interval '1 minute' AS is_sight_unrecorded
FROM user_session AS session JOIN user_account AS account ON account.id = user_id
WHERE secret_hash = $1 AND NOT is_disabled AND account.rights = session.rights
    AND ends_at > now() AND seen_at > now() - $2::interval AND NOT {IS_SHUT}
"""  # noqa: S608
_SEE = """
UPDATE user_session SET seen_at = now() WHERE id = $1 AND seen_at < now() - interval '1 minute'
"""
_LIST = """
SELECT session.id, made_at, seen_at, least(ends_at, seen_at + $2::interval) AS ends_at, address, user_agent,
       seen_as, seen_as_id
FROM user_session AS session JOIN user_account AS account ON account.id = user_id
WHERE user_id = $1 AND is_whole AND account.rights = session.rights AND NOT is_disabled
    AND ends_at > now() AND seen_at > now() - $2::interval
ORDER BY seen_at DESC, session.id
"""
_EXISTS = "SELECT EXISTS (SELECT FROM user_session WHERE id = $1)"
_END = "DELETE FROM user_session WHERE id = $1 AND user_id = $2 RETURNING true"
_END_ALL = "DELETE FROM user_session WHERE user_id = $1 AND id IS DISTINCT FROM $2"
_SEEN_AS = "UPDATE user_session SET seen_as = $2, seen_as_id = $3 WHERE id = $1"
_DROP_ALL = "DELETE FROM user_session"
_DROP_OVER = "DELETE FROM user_session WHERE ends_at < now() OR seen_at < now() - $1::interval"


MOST_OF_USER = 50
"""Most sessions of a user. A further one ends the one that was not used for longest."""


class Session(NamedTuple):
    """A session that was presented, with its user of now."""

    id: int
    rights: int  # of the user when the session was made, and still
    is_whole: bool  # False: the second factor is still missing
    seen_as: str | None  # affiliate or advertiser: an admin looks as this partner
    seen_as_id: int | None
    seen_as_name: str | None
    user_id: int
    email: str
    name: str
    role: str
    affiliate_ids: list[int]  # without blocked and archived ones
    advertiser_ids: list[int]  # without archived ones
    hides_money: bool
    has_totp: bool
    is_sight_unrecorded: bool  # for a minute


async def make(
    connection: Connection,
    digest: bytes,
    user_id: int,
    rights: int,
    *,
    is_whole: bool,
    lasts: timedelta,
    address: str,
    user_agent: str,
) -> int:
    """Store a session and return its id. Of a user's whole ones MOST_OF_USER stay."""
    values = (digest, user_id, rights, is_whole, lasts, address, user_agent)
    id_ = int(await connection.fetchval(_MAKE, *values))
    if is_whole:
        await connection.execute(_END_OLDEST, user_id, MOST_OF_USER)
    return id_


async def find(pool: Pool, digest: bytes, idle: timedelta) -> Session | None:
    """The session of a secret if it has not ended. Notes that it was seen, at most once a minute."""
    row = await pool.fetchrow(_FIND, digest, idle)
    if row is None:
        return None
    session = Session(*row)
    if session.is_sight_unrecorded:
        await pool.execute(_SEE, session.id)
    return session


async def exists(connection: Connection, id_: int) -> bool:
    """Whether a session that was found is still there."""
    return bool(await connection.fetchval(_EXISTS, id_))


async def of_user(source: Pool | Connection, user_id: int, idle: timedelta) -> list[dict[str, Any]]:
    """The open sessions of a user, the last seen first."""
    return [dict(row) for row in await source.fetch(_LIST, user_id, idle)]


async def end(connection: Connection, id_: int, user_id: int) -> bool:
    """End a session. False if the user has no such session."""
    return bool(await connection.fetchval(_END, id_, user_id))


async def end_all(connection: Connection, user_id: int, *, but: int | None = None) -> None:
    """End all sessions of a user, or all except one."""
    await connection.execute(_END_ALL, user_id, but)


async def see_as(connection: Connection, id_: int, kind: str | None, owner_id: int | None) -> None:
    """Let a session see what a partner sees. None: what its user sees."""
    await connection.execute(_SEEN_AS, id_, kind, owner_id)


async def drop_all(connection: Connection) -> None:
    """Sign everybody out."""
    await connection.execute(_DROP_ALL)


async def drop_over(connection: Connection, idle: timedelta) -> None:
    """Forget the sessions that have ended."""
    await connection.execute(_DROP_OVER, idle)
