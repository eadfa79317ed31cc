"""The lock for changes of conversions, and the lock of the one worker that applies postbacks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tracker.store import locks
from tracker.store.db import Connection
from tracker.store.locks import Lock

HOLDER_IDLES = "60s"
"""How long the holder of the lock may be idle: a frozen one must not block the others."""

_LOCK_IT = """
SELECT set_config('idle_in_transaction_session_timeout', $2, true), pg_advisory_xact_lock($1)
"""
# Only one of several workers writes, and a frozen one must not block the others for long.
_SESSION = """
SET default_transaction_isolation = 'read committed';
SET idle_in_transaction_session_timeout = '60s';
SET idle_session_timeout = '60s';
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""


async def lock(connection: Connection) -> None:
    """Take the lock for changes of conversions until the end of this transaction."""
    await connection.execute(_LOCK_IT, Lock.CONVERSIONS, HOLDER_IDLES)


async def begin_writing(connection: Connection) -> bool:
    """Become the writer of postbacks for the life of this connection. Returns False if another worker is."""
    await connection.execute(_SESSION)
    return await locks.try_to_take(connection, Lock.POSTBACK_WRITER)


@asynccontextmanager
async def no_backup(connection: Connection) -> AsyncIterator[None]:
    """A backup contains this work as a whole, or not at all."""
    await connection.execute("SELECT pg_advisory_lock_shared($1)", Lock.BACKUP_GATE)
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock_shared($1)", Lock.BACKUP_GATE)
