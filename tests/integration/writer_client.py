"""A connection of a click writer."""

from __future__ import annotations

from tracker.settings import Settings
from tracker.store.clicks import insert as clicks
from tracker.store.db import Connection, connect


async def connect_writer(settings: Settings) -> Connection:
    """Connect as a writer does, ready for `clicks.store`."""
    assert settings.postgres_dsn
    connection = await connect(settings.postgres_dsn)
    await clicks.prepare(connection)
    return connection
