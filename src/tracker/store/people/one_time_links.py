"""Links that work once: invitations, resets, and the first admin's. Only their digests are stored."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, NamedTuple

from tracker.store.db import Connection, Pool

Purpose = Literal["invitation", "reset", "first-admin"]

# Of one user or of the first admin one link works at a time.
_VOID = "DELETE FROM one_time_link WHERE user_id IS NOT DISTINCT FROM $1"
_MAKE = """
INSERT INTO one_time_link (secret_hash, purpose, user_id, drops_factor, ends_at)
VALUES ($1, $2, $3, $4, now() + $5)
"""
_FIND = """
SELECT purpose, user_id, drops_factor, email, name, role
FROM one_time_link LEFT JOIN user_account ON user_account.id = user_id
WHERE secret_hash = $1 AND ends_at > now() AND coalesce(NOT is_disabled, true)
"""
_USE = "DELETE FROM one_time_link WHERE secret_hash = $1 AND ends_at > now() RETURNING purpose, user_id"
_DROP_ALL = "DELETE FROM one_time_link"
_DROP_OVER = "DELETE FROM one_time_link WHERE ends_at < now()"


class OneTimeLink(NamedTuple):
    """A link that still works."""

    purpose: Purpose
    user_id: int | None  # None: the first admin
    drops_factor: bool  # it also removes the second factor
    email: str | None
    name: str | None
    role: str | None


async def make(
    connection: Connection,
    digest: bytes,
    purpose: Purpose,
    user_id: int | None,
    lasts: timedelta,
    *,
    drops_factor: bool,
) -> None:
    """Store a link. An earlier link of the user ends."""
    await void(connection, user_id)
    await connection.execute(_MAKE, digest, purpose, user_id, drops_factor, lasts)


async def void(connection: Connection, user_id: int | None) -> None:
    """End the links of a user. None: those of the first admin."""
    await connection.execute(_VOID, user_id)


async def find(source: Pool | Connection, digest: bytes) -> OneTimeLink | None:
    """The link of a secret, if it works. It goes on working."""
    row = await source.fetchrow(_FIND, digest)
    return row and OneTimeLink(*row)


async def use(connection: Connection, digest: bytes) -> bool:
    """Use a link up. Of two requests one gets True."""
    return await connection.fetchrow(_USE, digest) is not None


async def drop_all(connection: Connection) -> None:
    """End all links."""
    await connection.execute(_DROP_ALL)


async def drop_over(connection: Connection) -> None:
    """Forget the links that have ended."""
    await connection.execute(_DROP_OVER)
