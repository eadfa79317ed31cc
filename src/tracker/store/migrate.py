"""Brings a database up to date: the files of migrations/ in order, each once, each in a transaction."""

from __future__ import annotations

from importlib.resources import files

from tracker.store import partitions
from tracker.store.pool import connect

_LOCK = 0x7C1C_0001  # one migrating process at a time

_LEDGER = """
CREATE TABLE IF NOT EXISTS migration (
    name        text PRIMARY KEY,
    applied_at  timestamptz NOT NULL DEFAULT now()
)
"""

_DEPLOYMENT = """
INSERT INTO deployment (visitor_key)
VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'))
ON CONFLICT DO NOTHING
"""


async def migrate(dsn: str) -> list[str]:
    """Apply what is missing and return the names of the files applied, in order.

    Also creates the deployment's visitor key, once, and the partitions of the next days.
    """
    connection = await connect(dsn)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(_LEDGER)
        done = {row["name"] for row in await connection.fetch("SELECT name FROM migration")}
        applied = [name for name in _names() if name not in done]
        for name in applied:
            async with connection.transaction():
                await connection.execute((files(__package__) / "migrations" / name).read_text())
                await connection.execute("INSERT INTO migration (name) VALUES ($1)", name)
        await connection.execute(_DEPLOYMENT)
        await partitions.create_ahead(connection)
        return applied
    finally:
        await connection.close()


def _names() -> list[str]:
    directory = files(__package__) / "migrations"
    return sorted(entry.name for entry in directory.iterdir() if entry.name.endswith(".sql"))
