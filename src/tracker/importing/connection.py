"""Opens the connection of an import."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tracker.errors import UserError
from tracker.settings import Settings
from tracker.store import db
from tracker.store.db import Connection
from tracker.store.imports import progress


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[Connection]:
    """The connection of the only import.

    Raises:
        UserError: another import is running.
    """
    assert settings.postgres_dsn
    connection = await db.connect(settings.postgres_dsn)
    try:
        if not await progress.begin(connection):
            raise UserError("another import is running")
        yield connection
    finally:
        await connection.close()
