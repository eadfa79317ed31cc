"""Clicks on a Citus of one node: what is distributed, and what stays. See `CITUS_DSN`.

The tests of other modules run there too, by the same fixture.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.factories.clicks import a_click, a_row
from tests.factories.clicks import store as store_rows
from tests.integration.writer_client import connect_writer
from tracker.settings import Settings
from tracker.store.clicks import list as click_list
from tracker.store.clicks import partitions
from tracker.store.db import open_pool
from tracker.store.distribution import distribute
from tracker.store.paging import Order

pytestmark = pytest.mark.anyio

_SHARDS = """
SELECT logicalrelid::text, count(*) FROM pg_dist_partition JOIN pg_dist_shard USING (logicalrelid) GROUP BY 1
"""


async def test_only_the_clicks_are_distributed_and_only_once(database: Settings) -> None:
    assert database.postgres_dsn
    for is_dry in (True, False):
        made = await distribute(database.postgres_dsn, is_dry=is_dry)
        assert (made.nodes, made.is_there) == (1, True)
    connection = await connect_writer(database)
    shards = dict(await connection.fetch(_SHARDS))
    assert set(shards.values()) == {4}
    assert {name[: len("click")] for name in shards} == {"click"}
    await connection.close()


async def test_partitions_are_made_of_shards_and_take_stray_rows(database: Settings) -> None:
    connection = await connect_writer(database)
    await store_rows(connection, [a_row(a_click(hash=f"0190{'0' * 8}70008{'0' * 15}"))])  # 2024
    today = datetime.now(UTC).date() + timedelta(days=1)
    created = await partitions.create_ahead(connection, today)
    assert "click_20240610" in created
    assert dict(await connection.fetch(_SHARDS)).keys() >= set(created)
    assert await connection.fetchval("SELECT count(*) FROM click_default") == 0
    assert await connection.fetchval("SELECT count(*) FROM click_20240610") == 1
    await connection.close()


async def test_look_ups_by_id_and_by_hash_outlive_prepared_plans(database: Settings) -> None:
    connection = await connect_writer(database)
    now = int(datetime.now(UTC).timestamp() * 1000)
    hashes = [f"{now:012x}70008{number:015x}" for number in range(3)]
    await store_rows(connection, [a_row(a_click(hash=hash_)) for hash_ in hashes])
    await connection.close()
    assert database.postgres_dsn
    pool = await open_pool(database.postgres_dsn, size=1)
    for _ in range(7):  # PostgreSQL thinks of a plan for all parameters at the sixth
        for hash_ in hashes:
            row = await click_list.one(pool, hash_, UTC, lambda clicks: clicks)
            assert row is not None
            assert await click_list.hash_of(pool, int(str(row["id"]))) == hash_
    page = await click_list.page(pool, click_list.ClickFilter(), Order(True, UTC), 1, 2)
    assert (len(page.rows), page.total, page.has_more) == (2, 3, True)
    await pool.close()
