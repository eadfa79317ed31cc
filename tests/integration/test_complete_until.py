"""Complete-Until, the time before which every click is stored, and a poller that uses it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from httpx import AsyncClient

from tests.factories.clicks import a_row
from tests.factories.clicks import store as store_rows
from tests.integration.api_client import CLICKS, api_of, hash_at, store
from tests.integration.ledger_entries import Streams, streams_of
from tracker.domain.click_id import millis_of
from tracker.ops.ledger import complete_until, rfc3339
from tracker.reading import complete_until as completeness
from tracker.settings import Settings
from tracker.store.clicks import insert as clicks
from tracker.store.db import connect
from tracker.stream import ledger
from tracker.stream.ledger import HOUR, StreamLedger
from workers import click_writer

pytestmark = pytest.mark.anyio

NOW = 1_790_000_000_123
HEADER = "Complete-Until"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completeness, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(completeness, "AFTER_FAILURE_SECONDS", 0.0)


Case = Callable[[Streams], Awaitable[object]]


async def nothing(_: Streams) -> None: ...


async def an_edge(streams: Streams) -> None:
    await streams.say("0", NOW)


async def an_edge_whose_clock_is_ahead(streams: Streams) -> None:
    await streams.say("0", NOW + HOUR, said=NOW)


async def two_edges(streams: Streams) -> None:
    await streams.say("0", NOW)
    await streams.say("1", NOW - 7, spooled={1: 1})


async def a_click_alone(streams: Streams) -> None:
    await streams.record(hash_at(NOW - 9))


async def a_late_click_behind_others(streams: Streams) -> None:
    await an_edge(streams)
    await streams.record(*(hash_at(NOW - n) for n in (2, 1, 3 * HOUR)))


async def a_late_click_beyond_those_looked_at(streams: Streams) -> None:
    await a_late_click_behind_others(streams)
    await streams.record(*(hash_at(NOW - n) for n in (2, 1)))


async def many_that_are_not_late(streams: Streams) -> None:
    await an_edge(streams)
    await streams.record(*(hash_at(NOW - n) for n in (5, 4, 3)))


@pytest.mark.parametrize(
    ("case", "until"),
    [
        (nothing, None),
        (an_edge, NOW),
        (an_edge_whose_clock_is_ahead, NOW),
        (two_edges, NOW - 7),
        (a_click_alone, NOW - 9),
        (a_late_click_behind_others, NOW - 3 * HOUR),
        (a_late_click_beyond_those_looked_at, (NOW - 3 * HOUR) // 60_000 * 60_000),
        (many_that_are_not_late, NOW // 60_000 * 60_000),
    ],
)
@pytest.mark.parametrize("partition", [0, 63])
async def test_lowest_of_edges_and_streams_counts(
    database: Settings, monkeypatch: pytest.MonkeyPatch, case: Case, until: int | None, partition: int
) -> None:
    monkeypatch.setattr(ledger, "_LOOKED_AT", 3 if "behind" not in case.__name__ else 4)
    async with streams_of(database, partition) as streams:
        await case(streams)
    assert database.redis_url
    async with StreamLedger(database.redis_url) as stream:
        assert await stream.complete_until() == until
        assert await stream.complete_until(since=NOW - 4 * HOUR) == until


async def test_spool_of_this_machine_holds_complete_until_back(database: Settings) -> None:
    spool = database.data_dir / "spool"
    spool.mkdir()
    async with streams_of(database) as streams:
        await streams.say("0", NOW)
    assert database.redis_url
    async with StreamLedger(database.redis_url) as stream:
        for first, until in ((NOW + 5, NOW), (NOW - 5, NOW - 5)):
            (spool / f"{first:012x}-9-0-0123456789abcdef.spool").touch()
            assert await complete_until(stream, database.data_dir) == until


async def test_complete_until_is_on_all_answers_about_clicks(database: Settings, at_once: None) -> None:
    await store(database, [a_row(hash=hash_at(NOW))])
    asked = ["", "/1", f"/{hash_at(NOW)}", "/2", "?after_id=0", "?page=2", "/export", "/export?format=csv"]
    async with api_of(database) as client, streams_of(database) as streams:
        for path in asked:
            assert HEADER not in (await client.get(CLICKS + path)).headers
        await an_edge(streams)
        for path in asked:
            assert (await client.get(CLICKS + path)).headers[HEADER] == "2026-09-21T14:13:20.123Z"
        assert HEADER not in (await client.get(CLICKS + "?page=none")).headers


async def test_complete_until_never_goes_back(database: Settings, at_once: None) -> None:
    async with api_of(database) as client, streams_of(database) as streams:
        await streams.say("0", NOW)
        told = [(await client.get(CLICKS)).headers[HEADER]]
        for until in (NOW - 1000, NOW + 1):
            await streams.say("0", until)
            told.append((await client.get(CLICKS)).headers[HEADER])
        await streams.unsay("0")
        told.append((await client.get(CLICKS)).headers[HEADER])
    assert [text[-4:] for text in told] == ["123Z", "123Z", "124Z", "124Z"]


async def test_api_serves_without_a_stream_server(database: Settings) -> None:
    async with api_of(replace(database, redis_url="unix:///nowhere.sock")) as client:
        for _ in range(2):
            answer = await client.get(CLICKS)
            assert (answer.status_code, HEADER in answer.headers) == (200, False)


async def test_complete_until_survives_the_loss_of_the_stream_server(
    database: Settings, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise ConnectionError("a test")

    async with api_of(database) as client, streams_of(database) as streams:
        await an_edge(streams)
        known = (await client.get(CLICKS)).headers[HEADER]
        with monkeypatch.context() as patched:
            patched.setattr(StreamLedger, "complete_until", away)
            assert (await client.get(CLICKS)).headers[HEADER] == known
        await streams.say("0", NOW + 1)
        assert (await client.get(CLICKS)).headers[HEADER] != known


async def test_feed_that_a_writer_holds_back_does_not_run_ahead_of_itself(
    database: Settings, at_once: None
) -> None:
    assert database.postgres_dsn
    slow = await connect(database.postgres_dsn)
    await clicks.prepare(slow)
    async with api_of(database) as client, streams_of(database) as streams:
        async with slow.transaction():
            await store_rows(slow, [a_row(hash=hash_at(NOW))])
            await store(database, [a_row(hash=hash_at(NOW - 24 * HOUR))])  # of another day: else it waits
            await streams.say("0", NOW)
            held_back = await client.get(CLICKS, params={"after_id": 0})
            assert (held_back.json()["data"], HEADER in held_back.headers) == ([], False)
            assert HEADER in (await client.get(CLICKS)).headers
        await streams.say("0", NOW + 1)
        assert (await client.get(CLICKS, params={"after_id": 0})).headers[HEADER].endswith(".124Z")
    await slow.close()


# A network's hour in a second: two edges, one of them spools all the time.

START = int(time.time()) * 1000 // HOUR * HOUR - 2 * HOUR
STEPS = 40
STEP = HOUR // STEPS
WRITERS = 3


async def live(streams: Streams, chance: random.Random, sent: list[str]) -> None:
    for step in range(STEPS):
        start = START + step * STEP
        hashes = [hash_at(start + chance.randrange(STEP), n) for n in range(chance.randrange(1, 20))]
        await streams.record(*hashes)
        sent += hashes
        await streams.say("0", start + STEP)
        await asyncio.sleep(chance.random() * 0.04)
    await streams.say("0", START + 2 * HOUR)


async def spooling(
    streams: Streams, chance: random.Random, sent: list[str], is_over: Callable[[], bool]
) -> None:
    """Spools clicks of the whole hour and sends them afterwards, oldest first."""
    spool = sorted(hash_at(START + chance.randrange(HOUR), 2000 + n) for n in range(200))
    await streams.say("1", millis_of(spool[0]), spooled={START // 60_000: len(spool)})
    while not is_over():
        await asyncio.sleep(0.01)
    while spool:
        await streams.record(*spool[:17], late=True)
        sent += spool[:17]
        del spool[:17]
        if spool:
            await streams.say("1", millis_of(spool[0]), spooled={START // 60_000: len(spool)})
        await asyncio.sleep(chance.random() * 0.03)
    await streams.unsay("1")


async def write(settings: Settings, slot: int, is_over: Callable[[], bool]) -> None:
    while True:
        was_over = is_over()
        await click_writer.run(settings, slot, burst=True)
        if was_over:
            return


async def windows(client: AsyncClient, seen: list[str]) -> None:
    """Reads on from the last complete second and keeps clicks complete by the answer."""
    done = START // 1000
    while done < (START + HOUR) // 1000:
        created_from = f"{datetime.fromtimestamp(done, UTC):%Y-%m-%d %H:%M:%S}"
        answer = await client.get(CLICKS, params={"created_from": created_from, "per_page": 1000})
        assert answer.json()["pages"] <= 1
        until = answer.headers.get(HEADER)
        end = done if until is None else int(datetime.fromisoformat(until).timestamp())
        hashes = [row["hash"] for row in answer.json()["data"]]
        seen += [hash_ for hash_ in hashes if millis_of(hash_) < end * 1000]
        done = max(done, end)
        await asyncio.sleep(0.01)


async def feed(client: AsyncClient, seen: list[str]) -> None:
    """Follows after_id until the feed has shown the whole hour."""
    after_id, until = 0, ""
    while True:
        answer = await client.get(CLICKS, params={"after_id": after_id, "per_page": 50})
        body, until = answer.json(), answer.headers.get(HEADER, "")
        seen += [row["hash"] for row in body["data"]]
        after_id = body["next_after_id"]
        if len(body["data"]) < 50 and until >= rfc3339(START + HOUR):
            return
        if not body["data"]:
            await asyncio.sleep(0.01)


@pytest.fixture
async def client(database: Settings, at_once: None) -> AsyncIterator[AsyncClient]:
    async with api_of(database) as client:
        yield client


async def test_pollers_miss_nothing_of_several_writers_and_a_spool_that_drains_an_hour_late(
    database: Settings, client: AsyncClient
) -> None:
    chance = random.Random(4)
    sent: list[str] = []
    in_windows: list[str] = []
    in_feed: list[str] = []
    async with asyncio.TaskGroup() as tasks, streams_of(database) as streams:
        first = tasks.create_task(live(streams, chance, sent))
        last = tasks.create_task(spooling(streams, chance, sent, first.done))
        for slot in range(WRITERS):
            tasks.create_task(write(database, slot, last.done))
        pollers = [tasks.create_task(windows(client, in_windows)), tasks.create_task(feed(client, in_feed))]
        await asyncio.gather(*pollers)
    assert sorted(in_windows) == sorted(sent) == sorted(in_feed)
    assert len(set(sent)) == len(sent) > 400
