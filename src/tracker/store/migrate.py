"""Migrates a database: the files of migrations/ in order, each once, each in a transaction."""

from __future__ import annotations

import logging
from contextlib import suppress
from importlib.resources import files

import asyncpg

from tracker.store import locks
from tracker.store.clicks import partitions
from tracker.store.db import REFUSED, Connection, NotMigratedError, Pool, connect
from tracker.store.locks import Lock

_log = logging.getLogger(__name__)

_LEDGER = """
CREATE TABLE IF NOT EXISTS migration (
    name        text PRIMARY KEY,
    applied_at  timestamptz NOT NULL DEFAULT now()
);
-- The migration that is under way, seen also from without its transaction: what is left here was cut off.
CREATE TABLE IF NOT EXISTS migration_begun (
    name        text PRIMARY KEY,
    begun_at    timestamptz NOT NULL DEFAULT now()
)
"""

_BEGIN = """
INSERT INTO migration_begun (name) VALUES ($1)
ON CONFLICT (name) DO UPDATE SET begun_at = now()
RETURNING (xmax <> 0) AS was_begun
"""

_HOLDER = """
SELECT pid, backend_start
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = 0 AND objid = $1 AND granted AND database = (
    SELECT oid FROM pg_database WHERE datname = current_database()
)
"""

_DEPLOYMENT = """
INSERT INTO deployment (visitor_key)
VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'))
ON CONFLICT DO NOTHING
"""


async def migrate(dsn: str) -> list[str]:
    """Apply the missing files in order, and return their names.

    It also creates the deployment's visitor key once, and the partitions of the next days. A file that was
    cut off by a kill left no trace. It is applied again as a whole, and a warning reports it.
    """
    connection = await connect(dsn)
    try:
        await _lock(connection)
        await connection.execute(_LEDGER)
        done = {row["name"] for row in await connection.fetch("SELECT name FROM migration")}
        applied = [name for name in _names() if name not in done]
        for name in applied:
            await _apply(connection, name)
        await connection.execute(_DEPLOYMENT)
        await partitions.create_ahead(connection)
        return applied
    finally:
        await connection.close()


async def is_behind(source: Pool | Connection) -> bool:
    """Whether a database lacks migrations of this version."""
    try:
        done = {name for (name,) in await source.fetch("SELECT name FROM migration")}
    except asyncpg.UndefinedTableError:
        return True
    return not done.issuperset(_names())


async def check(connection: Connection) -> None:
    """Check that a database has the migrations of this version.

    Raises:
        NotMigratedError: it lacks some.
    """
    if await is_behind(connection):
        raise NotMigratedError("it lacks migrations of this version")


async def _lock(connection: Connection) -> None:
    """Wait until no other process migrates this database.

    Our server process ends within a second after us.
    """
    with suppress(REFUSED):  # the server's operating system cannot report it
        await connection.execute("SET client_connection_check_interval = '1s'")
    if await locks.try_to_take(connection, Lock.MIGRATION):
        return
    for holder in await connection.fetch(_HOLDER, Lock.MIGRATION):
        _log.warning(
            "waiting for another migration of this database to end: "
            "server process %(holder)d, since %(since)s",
            {
                "event": "migration_waits",
                "holder": holder["pid"],
                "since": f"{holder['backend_start']:%Y-%m-%dT%H:%M:%SZ}",
            },
        )
    await locks.take(connection, Lock.MIGRATION)


async def _apply(connection: Connection, name: str) -> None:
    script = (files(__package__) / "migrations" / name).read_text()
    if await connection.fetchval(_BEGIN, name):
        _log.warning(
            "migration %(migration)s was cut off: nothing of it is left, and it is applied again",
            {"event": "migration_repeated", "migration": name},
        )
    async with connection.transaction():
        await connection.execute(script)
        await connection.execute("INSERT INTO migration (name) VALUES ($1)", name)
        await connection.execute("DELETE FROM migration_begun WHERE name = $1", name)


def _names() -> list[str]:
    directory = files(__package__) / "migrations"
    return sorted(entry.name for entry in directory.iterdir() if entry.name.endswith(".sql"))
