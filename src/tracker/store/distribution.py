"""Distributes the table of clicks over the nodes of a Citus cluster, by the hash of the click.

Clicks are the only large table. All others stay on the coordinator, and every process connects to it.
"""

from __future__ import annotations

from typing import NamedTuple

from tracker.errors import UserError
from tracker.store import locks
from tracker.store.clicks import partitions
from tracker.store.db import Connection, connect

_IS_CITUS = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')"
_IS_COORDINATOR = "SELECT groupid = 0 FROM pg_dist_local_group"
_IS_DISTRIBUTED = """
SELECT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = to_regclass('click') AND partmethod = 'h')
"""
# A server without any entry is a cluster of one node: Citus enters it by itself.
_NODES = """
SELECT CASE WHEN count(*) = 0 THEN 1 ELSE count(*) FILTER (WHERE shouldhaveshards AND isactive) END
FROM pg_dist_node WHERE noderole = 'primary'
"""
_SHARDS = "SELECT current_setting('citus.shard_count')::integer"
# Citus has no triggers. Each statement of ours that takes clicks away notes it, too.
_DISTRIBUTE = """
DROP TRIGGER IF EXISTS note_updated ON click;
DROP TRIGGER IF EXISTS note_deleted ON click;
SELECT create_distributed_table('click', 'hash');
"""
# With its default, Citus calls a function for each table in the catalogue. asyncpg asks for each type once a
# connection, which then takes up to a minute instead of 20 ms.
_SHOW_SHARDS = """
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET citus.override_table_visibility = off', current_database());
END $$
"""
# What was copied to the shards is also in the local tables still, which nobody reads any more.
_FORGET_COPIED = "SELECT truncate_local_data_after_distributing_table('click')"


class Distribution(NamedTuple):
    """How clicks are distributed."""

    nodes: int  # that take shards
    shards: int  # of each partition
    is_there: bool  # it was so before


async def distribute(dsn: str, *, is_dry: bool = False) -> Distribution:
    """Distribute the clicks of a migrated database, unless they are. Stored clicks are copied meanwhile.

    Writers and readers of clicks wait. The number of shards is the setting citus.shard_count.

    Raises:
        UserError: the database cannot have distributed tables.
    """
    connection = await connect(dsn)
    try:
        nodes = await _check(connection)
        shards = int(await connection.fetchval(_SHARDS))
        is_there = bool(await connection.fetchval(_IS_DISTRIBUTED))
        if not (is_there or is_dry):
            await locks.take(connection, locks.Lock.MIGRATION)
            await partitions.keep(connection)
            async with connection.transaction():
                await connection.execute(_SHOW_SHARDS)
                await connection.execute(_DISTRIBUTE)
            await connection.execute(_FORGET_COPIED)
        return Distribution(nodes, shards, is_there)
    finally:
        await connection.close()


async def _check(connection: Connection) -> int:
    """The number of nodes that take shards.

    Raises:
        UserError: no node takes any, or this is no coordinator.
    """
    if not await connection.fetchval(_IS_CITUS):
        raise UserError(
            "this PostgreSQL has no Citus: run CREATE EXTENSION citus in this database on each node, "
            "or leave --distributed out"
        )
    if not await connection.fetchval(_IS_COORDINATOR):
        raise UserError("this is a worker node of Citus: TRACKER_POSTGRES_DSN must name its coordinator")
    nodes = int(await connection.fetchval(_NODES))
    if not nodes:
        raise UserError(
            "no node of Citus takes shards: run citus_add_node, or citus_set_node_property(…, "
            "'shouldhaveshards', true) for the coordinator itself"
        )
    return nodes
