"""The first admin: a link that `tracker up` prints while no user has ever existed."""

from __future__ import annotations

from tracker.people import one_time_links
from tracker.store import db
from tracker.store.people import one_time_links as stored_links
from tracker.store.people import users

LOCK = "first admin"
"""Held by transactions that make the link, or use it."""


async def link(dsn: str) -> str | None:
    """The path of a new link. The one of an earlier start ends.

    None once a user has existed, also if that user was deleted since: an operator of today would not expect
    that a restart prints a key to everything.
    """
    connection = await db.connect(dsn)
    try:
        async with connection.transaction():
            await users.lock(connection, LOCK)
            if await users.has_had_user(connection):
                await stored_links.void(connection, None)
                return None
            return await one_time_links.make(connection, "first-admin")
    finally:
        await connection.close()
