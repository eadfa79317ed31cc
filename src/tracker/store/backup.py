"""The database side of a backup: pauses writers for a moment, and counts the stored clicks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from tracker.store import locks
from tracker.store.db import Connection, connect


class WritersBusy(Exception):  # noqa: N818 - a state of the writers, not an error
    """A writer stayed between commit and acknowledgement for too long."""


@asynccontextmanager
async def writers_held(dsn: str, patience: float) -> AsyncIterator[None]:
    """In this context every stored click is acknowledged, and no click is stored.

    Writers queue behind our request for the lock, so the wait is limited to `patience` seconds.

    Raises:
        WritersBusy: the wait was too short.
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
        await connection.close()  # the lock ends with the connection


async def export(connection: Connection) -> str:
    """Begin a transaction that keeps the present view, and export that view for pg_dump."""
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    return str(await connection.fetchval("SELECT pg_export_snapshot()"))


async def stored(connection: Connection) -> int:
    """The number of clicks, counted one by one as proof."""
    return int(await connection.fetchval("SELECT count(*) FROM click"))


async def analyze(connection: Connection) -> None:
    """Update the planner's statistics, which pg_restore does not restore."""
    await connection.execute("ANALYZE")
