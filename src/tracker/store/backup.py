"""What a backup asks of Postgres: that writers stand still for a moment, and what is stored then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from tracker.store import locks
from tracker.store.db import Connection, connect


class WritersBusy(Exception):  # noqa: N818 - a state of theirs, and nobody's error
    """A writer was between commit and acknowledgement for too long."""


@asynccontextmanager
async def writers_held(dsn: str, patience: float) -> AsyncIterator[None]:
    """Until this is left, all that is stored is acknowledged, and nothing more is stored.

    Writers wait for us already while we wait for them, hence the `patience`, in seconds.

    Raises:
        WritersBusy: it was not enough.
    """
    connection = await connect(dsn)
    try:
        await connection.execute(f"SET lock_timeout = {int(patience * 1000)}")
        try:
            await locks.take(connection, locks.Lock.BACKUP_GATE)
        except asyncpg.LockNotAvailableError as error:
            raise WritersBusy from error
        yield
    finally:
        await connection.close()  # and with it the lock is gone


async def export(connection: Connection) -> str:
    """Begin a transaction that goes on seeing what there is now, and name its view for pg_dump to share."""
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    return str(await connection.fetchval("SELECT pg_export_snapshot()"))


async def stored(connection: Connection) -> int:
    """How many clicks there are: counted one by one, so that it vouches for them."""
    return int(await connection.fetchval("SELECT count(*) FROM click"))


async def analyze(connection: Connection) -> None:
    """Have the planner know the tables: pg_restore leaves it guessing."""
    await connection.execute("ANALYZE")
