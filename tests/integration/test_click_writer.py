"""The real worker, driven until the stream is empty, into a real Postgres."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.factories.clicks import a_click, a_row, outcomes_of
from tests.factories.clicks import store as store_rows
from tests.integration.edge_client import PATIENCE
from tests.integration.stream_client import dead_letters
from tracker.domain.click_id import Mint
from tracker.domain.model import Click
from tracker.ops.doctor import report
from tracker.settings import Settings
from tracker.store.clicks import insert as store
from tracker.store.clicks.insert import Arrival, Writer
from tracker.store.db import connect
from tracker.stream.appender import Appender, Lane
from tracker.stream.client import open_client
from tracker.stream.reader import Reader
from tracker.stream.record import decode, encode
from tracker.stream.waiting_clicks import waiting_clicks
from workers import click_writer, housekeeping

pytestmark = pytest.mark.anyio

mint = Mint()


def some_clicks(number: int, **changes: Any) -> list[Click]:
    return [a_click(hash=mint.hash(), visitor_key=n, **changes) for n in range(number)]


async def append(settings: Settings, *entries: tuple[bytes, bytes], partition: int = 0) -> None:
    assert settings.redis_url
    appender = Appender(settings.redis_url, partition)
    await appender.append(Lane(), entries, 5.0)
    await appender.close()


async def query(settings: Settings, sql: str, *arguments: object) -> Any:
    assert settings.postgres_dsn
    connection = await connect(settings.postgres_dsn)
    try:
        return await connection.fetch(sql, *arguments)
    finally:
        await connection.close()


async def stored_hashes(settings: Settings) -> list[str]:
    return sorted(row["hash"].hex for row in await query(settings, "SELECT hash FROM click"))


async def counts(settings: Settings) -> dict[tuple[str, int], int]:
    rows = await query(
        settings, "SELECT dimension, key, sum(clicks)::int AS n FROM click_count_part GROUP BY 1, 2"
    )
    return {(row["dimension"], row["key"]): row["n"] for row in rows}


async def test_clicks_are_stored_once_and_counted(database: Settings) -> None:
    clicks = [*some_clicks(5), *some_clicks(3, affiliate_id=514)]
    await append(database, *(encode(click, outcomes_of(click)) for click in clicks))
    await click_writer.run(database, burst=True)
    assert await stored_hashes(database) == sorted(click.hash for click in clicks)
    expected = {("all", 0): 8, ("offer", 3): 8, ("affiliate", 513): 5, ("affiliate", 514): 3}
    expected |= {(f"{dimension}_day", key): clicks for (dimension, key), clicks in expected.items()}
    assert await counts(database) == expected
    assert database.redis_url
    async with Reader(database.redis_url, 0) as reader:
        assert await reader.waiting() == 0


async def test_batch_stored_but_not_acknowledged_is_not_stored_again(database: Settings) -> None:
    clicks = some_clicks(4)
    await append(database, *(encode(click, outcomes_of(click)) for click in clicks))
    assert database.redis_url
    assert database.postgres_dsn
    async with Reader(database.redis_url, 0) as killed:  # between commit and acknowledgement
        await killed.create_group()
        read = await killed.new(2, None)
    connection = await connect(database.postgres_dsn)
    await store.prepare(connection)
    arrivals = [Arrival(delivery.number, decode(delivery.fields)) for delivery in read]
    assert await store.store(connection, Writer(0, 0), arrivals) == set()
    await connection.close()

    await click_writer.run(database, burst=True)
    assert await stored_hashes(database) == sorted(click.hash for click in clicks)
    assert (await counts(database))["all", 0] == 4


async def test_bad_entry_goes_to_the_dead_letters_with_its_reason(database: Settings) -> None:
    good = some_clicks(6)
    too_large = a_click(
        hash=mint.hash(), visitor_key=99, affiliate_id=1 << 63
    )  # fits the record, not the column
    entries = [encode(click, outcomes_of(click)) for click in [*good[:3], too_large, *good[3:]]]
    entries.insert(2, (entries[0][0], b'\x01{"no":"record"}'))
    entries.insert(4, (entries[0][0], b"\x63what a later version writes"))
    await append(database, *entries)
    await click_writer.run(database, burst=True)
    assert await stored_hashes(database) == sorted(click.hash for click in good)
    assert database.redis_url
    async with Reader(database.redis_url, 0) as reader:
        assert await reader.waiting() == 0
    dead = await dead_letters(database)
    reasons = [letter.reason for letter in dead]
    assert len(reasons) == 3
    assert any("version" in reason for reason in reasons)
    assert any("OverflowError" in reason for reason in reasons)
    assert all(letter.fields[b"r"] for letter in dead)


async def test_lost_group_is_made_again_from_the_beginning(database: Settings) -> None:
    clicks = some_clicks(2)
    await click_writer.run(database, burst=True)
    await append(database, *(encode(click, outcomes_of(click)) for click in clicks))
    await click_writer.run(database, burst=True)
    assert len(await stored_hashes(database)) == 2


async def test_clicks_outside_every_partition_wait_in_the_default_one(database: Settings) -> None:
    old = "0190" + "0" * 8 + "7000" + "8" + "0" * 15  # 2024
    assert database.postgres_dsn
    connection = await connect(database.postgres_dsn)
    await store.prepare(connection)
    await store_rows(connection, [a_row(a_click(hash=old)), *map(a_row, some_clicks(2))])
    assert await connection.fetchval("SELECT count(*) FROM click_default") == 1
    await connection.close()

    created = await housekeeping.once(database)
    assert "click_20240610" in created  # one more if midnight has passed since
    (row,) = await query(
        database, "SELECT (SELECT count(*) FROM click_default) AS strays, count(*) AS all FROM click"
    )
    assert (row["strays"], row["all"]) == (0, 3)
    (moved,) = await query(
        database, "SELECT tableoid::regclass::text AS place FROM click ORDER BY hash LIMIT 1"
    )
    assert moved["place"] == "click_20240610"
    assert "click_20240610" not in await housekeeping.once(database)


async def test_partitions_made_by_several_at_once_are_made_once(database: Settings) -> None:
    await query(database, "DROP TABLE click_default")
    await query(database, "CREATE TABLE click_default PARTITION OF click DEFAULT")
    for (name,) in await query(
        database, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'click'::regclass"
    ):
        if name != "click_default":
            await query(database, f"DROP TABLE {name}")
    made = await asyncio.gather(*(housekeeping.once(database) for _ in range(4)))
    assert sorted(map(len, made)) == [0, 0, 0, 9]


async def test_hash_beyond_the_year_9999_goes_to_the_dead_letters(database: Settings) -> None:
    far = a_click(hash="f" * 12 + "7000" + "8" * 16, visitor_key=7)
    await append(database, *(encode(click, outcomes_of(click)) for click in [far, *some_clicks(2)]))
    await click_writer.run(database, burst=True)
    assert len(await stored_hashes(database)) == 2
    assert len(await dead_letters(database)) == 1


async def test_full_stream_server_is_drained_all_the_same(database: Settings) -> None:
    clicks = some_clicks(3)
    await append(database, *(encode(click, outcomes_of(click)) for click in clicks))
    await append(database, (encode(clicks[0], outcomes_of(clicks[0]))[0], b"\x01[]"))
    assert database.redis_url
    async with Reader(database.redis_url, 0) as reader:
        await reader.create_group()
    async with open_client(database.redis_url) as server:
        limit = (await server.config_get("maxmemory"))["maxmemory"]
        await server.config_set("maxmemory", 1)
        try:
            await click_writer.run(database, burst=True)
            assert len(await stored_hashes(database)) == 3
            assert await server.xlen("clicks:{0}") == 1, (
                "an entry that cannot be moved stays, and delays no other"
            )
        finally:
            await server.config_set("maxmemory", limit)
    await click_writer.run(database, burst=True)
    async with Reader(database.redis_url, 0) as reader:
        assert await reader.waiting() == 0
    assert len(await dead_letters(database)) == 1


async def test_partitions_are_drained_also_beyond_the_configured_ones(database: Settings) -> None:
    clicks = some_clicks(7)
    for partition, some in ((0, clicks[:2]), (1, clicks[2:5]), (63, clicks[5:])):
        entries = [encode(click, outcomes_of(click)) for click in some]
        await append(database, *entries, partition=partition)
    assert database.redis_url
    assert await waiting_clicks(database.redis_url) == {0: 2, 1: 3, 63: 2}
    two = replace(database, partitions=2)
    warned = [finding.text for finding in await report.examine(two, "engines") if finding.level == "warn"]
    assert warned == ["clicks wait in partition 63, but TRACKER_PARTITIONS is 2"]
    await click_writer.run(two, burst=True)
    assert await stored_hashes(database) == sorted(click.hash for click in clicks)
    assert (await counts(database))["all", 0] == 7
    assert await waiting_clicks(database.redis_url) == {}
    assert {finding.level for finding in await report.examine(two, "engines")} == {"ok"}


async def test_running_worker_reads_entries_beyond_its_partitions(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(click_writer, "_LOOK_SECONDS", 0.05)
    stopping = asyncio.Event()
    running = asyncio.create_task(click_writer.run(replace(database, batch_age=0.0), stopping=stopping))
    for partition in (0, 5, 9):
        (click,) = some_clicks(1)
        await append(database, encode(click, outcomes_of(click)), partition=partition)
        async with asyncio.timeout(PATIENCE):
            while click.hash not in await stored_hashes(database):
                await asyncio.sleep(0.05)
    stopping.set()
    await running
