"""The promises of the recorder, with a stream that comes and goes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.connection import AbstractConnection

from tests.e2e.running import PATIENCE
from tests.factories.clicks import a_click, an_offer, outcomes_of, pending
from tests.integration.api_client import hash_at
from tests.integration.stream_client import stored
from tracker.domain.click_id import Mint, millis_of
from tracker.domain.model import Cap, Click, Counter, Outcomes, Period, Reason, Status
from tracker.edge.record.identity import EdgeId
from tracker.edge.record.partitioned import PartitionedRecorder
from tracker.edge.record.recorder import NotRecorded
from tracker.edge.record.slot_watch import SlotWatch
from tracker.edge.record.spool import segments
from tracker.processes.children import Claim
from tracker.processes.engines.engine import Engine, resolve
from tracker.processes.engines.valkey import start_valkey
from tracker.settings import Settings
from tracker.stream.appender import MAX_BATCH_BYTES
from tracker.stream.client import open_client
from tracker.stream.ledger import StreamLedger
from tracker.stream.record import decode

pytestmark = pytest.mark.anyio

SLOT = 4
RUN = "0123456789abcdef"
mint = Mint()


class Stream:
    """A Valkey of the test's own, which it may stop and kill."""

    def __init__(self, settings: Settings, claim: Claim) -> None:
        self.settings = settings
        self._claim = claim
        self._engine: Engine | None = None

    async def start(self) -> None:
        self._engine = await start_valkey(self.settings, self._claim)

    async def kill(self) -> None:
        if self._engine:
            self.signal(signal.SIGCONT)
            await self._engine.kill()
            self._engine = None

    def signal(self, number: signal.Signals) -> None:
        assert self._engine
        os.kill(self._engine.process.pid, number)

    async def ask(self, *words: Any) -> Any:
        assert self.settings.redis_url
        async with open_client(self.settings.redis_url, decode_responses=True) as client:
            return await client.execute_command(*words)


@pytest.fixture
async def stream(tmp_path: Path) -> AsyncIterator[Stream]:
    settings = resolve(Settings(data_dir=tmp_path / "var"))
    claim = await Claim.take(settings.data_dir)
    stream = Stream(settings, claim)
    yield stream
    await stream.kill()
    await claim.release()


def a_visit(visitor_key: int = 1, **changes: Any) -> Click:
    return a_click(hash=mint.hash(), visitor_key=visitor_key, **changes)


async def started(settings: Settings, slot: int = SLOT) -> PartitionedRecorder:
    recorders = PartitionedRecorder(settings, EdgeId(slot, RUN), mint)
    await recorders.start()
    return recorders


def record(recorders: PartitionedRecorder, *clicks: Click) -> asyncio.Future[list[int]]:
    return asyncio.gather(*(record_one(recorders, click, outcomes_of(click)) for click in clicks))


def record_one(recorders: PartitionedRecorder, click: Click, outcomes: Outcomes) -> Awaitable[int]:
    """Spool a single click. Returns the index of its outcome."""
    (batch,) = recorders.batches([pending(click, outcomes)])
    return only(batch.recorder.record(batch.entries))


async def only(chosen: Awaitable[list[int]]) -> int:
    (place,) = await chosen
    return place


async def until(happened: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await happened():
            await asyncio.sleep(0.02)


async def drained(settings: Settings) -> None:
    async def is_empty() -> bool:
        return not segments(settings.data_dir / "spool")

    await until(is_empty)


async def ledger(stream: Stream, clicks: list[Click]) -> dict[str, int]:
    """The ledger's counts of the minutes of some clicks, by kind."""
    counts: dict[str, int] = {}
    for minute in {click.millis // 60_000 for click in clicks}:
        for field, count in (await stream.ask("HGETALL", f"ledger:{{0}}:{minute // 60}")).items():
            if field.startswith(f"{minute % 60}:"):
                kind = field.partition(":")[2]
                counts[kind] = counts.get(kind, 0) + int(count)
    return counts


async def test_clicks_that_arrive_together_are_answered_each_with_its_own(database: Settings) -> None:
    recorders = await started(database)
    assert await record(recorders, *(a_visit(n // 2) for n in range(1200))) == [0, 1] * 600
    await recorders.stop()


async def test_flood_of_long_links_is_not_an_outage(database: Settings) -> None:
    assert database.redis_url
    recorders = await started(replace(database, append_timeout=PATIENCE))
    async with redis.asyncio.from_url(database.redis_url) as client:
        await client.execute_command("COMMANDLOG", "RESET", "large-request")
        await client.config_set("commandlog-request-larger-than", MAX_BATCH_BYTES // 10)
        await record(recorders, *(a_visit(aff_subs=("long" * 2000,)) for _ in range(400)))
        calls = await client.execute_command("COMMANDLOG", "GET", -1, "large-request")
        await client.config_set("commandlog-request-larger-than", 1 << 20)  # Valkey's own setting
    await recorders.stop()
    sizes = [size for _, _, size, *_ in calls]
    assert sum(sizes) > 3 * MAX_BATCH_BYTES
    assert max(sizes) < 1.01 * MAX_BATCH_BYTES


async def test_waiting_hits_are_limited(database: Settings) -> None:
    recorders = await started(replace(database, max_waiting=3))
    waiting = record(recorders, *(a_visit() for _ in range(3)))
    with pytest.raises(NotRecorded, match="3 clicks are waiting"):
        record(recorders, a_visit())
    assert await waiting == [0, 1, 1]
    await recorders.stop()


async def test_recorder_stops_though_a_cancellation_is_swallowed(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def swallow(_: SlotWatch) -> None:  # as was seen below a call of redis-py
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(PATIENCE)

    monkeypatch.setattr(SlotWatch, "look", swallow)
    recorders = await started(database)
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE / 2):
        await recorders.stop()


async def test_waiting_hits_are_recorded_at_the_end(database: Settings) -> None:
    recorders = await started(database)
    waiting = record(recorders, *(a_visit(n) for n in range(700)))
    await recorders.stop()
    assert waiting.done()
    assert waiting.result() == [0] * 700


async def test_clicks_are_spooled_during_an_outage_and_drained_in_order(stream: Stream) -> None:
    recorders = await started(stream.settings)
    clicks = [a_visit(n // 2) for n in range(60)]
    for at in range(0, 60, 20):
        assert await record(recorders, *clicks[at : at + 20]) == [0] * 20, "answered with its first outcome"
    for batch in recorders.batches(list(map(pending, clicks))):
        batch.recorder.answered(click.millis // 60_000 for click in clicks)
    assert recorders.gauges()["stream_up"] == 0
    assert recorders.spooled == 60
    await stream.start()
    await drained(stream.settings)
    later = a_visit(0)
    assert await record(recorders, later) == [1]
    await recorders.stop()
    rows = [decode(delivery.fields) for delivery in await stored(stream.settings)]
    assert [row.hash for row in rows] == [click.hash for click in [*clicks, later]]
    assert [row.is_unique for row in rows] == [True, False] * 30 + [False]
    assert [row.verdict_late for row in rows] == [True] * 60 + [False]
    assert rows[-1].group_hash == clicks[0].hash
    assert await ledger(stream, [*clicks, later]) == {"r": 61, "l": 60, "n": 60}


async def test_clicks_that_waited_long_are_still_sent_to_a_stream_that_is_there(stream: Stream) -> None:
    await stream.start()
    recorders = await started(replace(stream.settings, append_timeout=0.2))
    waiting = record(recorders, a_visit(1))
    time.sleep(0.3)  # noqa: ASYNC251 - an edge that is held up
    assert await waiting == [0]
    assert recorders.spooled == 0
    await recorders.stop()


async def test_append_that_fails_is_measured_too(stream: Stream) -> None:
    recorders = await started(stream.settings)
    assert recorders.appends.buckets[-1][1] >= 1, "its first heartbeat found no server"
    await recorders.stop()


async def test_hit_without_stream_and_spool_is_refused(stream: Stream) -> None:
    stream.settings.data_dir.joinpath("spool").write_text("a file in its place")
    recorders = await started(stream.settings)
    for _ in range(2):
        with pytest.raises(NotRecorded, match="spool"):
            await record(recorders, a_visit())
    assert recorders.has_refused
    await stream.start()

    async def is_up() -> bool:
        return recorders.gauges()["stream_up"] == 1 and not recorders.has_refused

    await until(is_up)
    assert await record(recorders, a_visit()) == [0]
    await recorders.stop()


async def test_spool_that_takes_clicks_again_is_found_without_a_click(stream: Stream) -> None:
    blocked = stream.settings.data_dir / "spool"
    blocked.write_text("a file in its place")
    recorders = await started(stream.settings)
    with pytest.raises(NotRecorded, match="spool"):
        await record(recorders, a_visit())
    blocked.unlink()

    async def takes() -> bool:
        return not recorders.has_refused

    await until(takes)
    visit = a_visit()
    assert await record(recorders, visit) == [0]
    await stream.start()
    await drained(stream.settings)
    await recorders.stop()
    assert [decode(delivery.fields).hash for delivery in await stored(stream.settings)] == [visit.hash]


@pytest.mark.parametrize(
    ("refuse", "relent"),
    [
        (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),  # OOM
        (["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"]),  # READONLY
        (["CONFIG", "SET", "min-replicas-to-write", "1"], ["CONFIG", "SET", "min-replicas-to-write", "0"]),
    ],
    ids=["full", "read-only", "too few replicas"],
)
async def test_refusing_stream_counts_as_away(stream: Stream, refuse: list[str], relent: list[str]) -> None:
    await stream.start()
    recorders = await started(stream.settings)
    clicks = [a_visit(n) for n in range(3)]
    assert await record(recorders, clicks[0]) == [0]
    await stream.ask(*refuse)
    assert await record(recorders, clicks[1]) == [0]
    assert recorders.spooled == 1
    await stream.ask(*relent)
    await drained(stream.settings)
    assert await record(recorders, clicks[2]) == [0]
    await recorders.stop()
    rows = [decode(delivery.fields) for delivery in await stored(stream.settings)]
    assert {row.hash for row in rows} == {click.hash for click in clicks}
    assert len(rows) == 3


@pytest.mark.parametrize("mishap", [["SCRIPT", "FLUSH"], ["CLIENT", "KILL", "TYPE", "normal"]])
async def test_unexpected_error_is_not_an_outage(stream: Stream, mishap: list[str]) -> None:
    await stream.start()
    recorders = await started(stream.settings)
    assert await record(recorders, a_visit(1)) == [0]
    await stream.ask(*mishap)
    assert await record(recorders, a_visit(2)) == [0]
    assert recorders.spooled == 0
    await recorders.stop()
    assert len(await stored(stream.settings)) == 2


async def test_outage_ends_after_an_unexpected_error(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    recorders = await started(stream.settings)
    met = asyncio.Event()

    async def fail(*_: object) -> None:
        met.set()
        raise KeyError("what nobody foresaw")

    with monkeypatch.context() as patched:
        patched.setattr(AbstractConnection, "connect", fail)
        await met.wait()
        await asyncio.sleep(0)
    await stream.start()

    async def is_up() -> bool:
        return recorders.gauges()["stream_up"] == 1

    await until(is_up)
    await recorders.stop()


async def test_call_done_after_its_clicks_were_spooled_is_corrected(stream: Stream) -> None:
    """The stream stalls with a call in its socket. Later it does that call first, or the spool's.

    In both cases the stored outcomes are those answered.
    """
    await stream.start()
    recorders = await started(stream.settings)
    offer = an_offer(caps=(Cap(None, False, Period.TOTAL, 2),))
    counter = Counter("3:all:clicks:total:0", False, 2, 0)
    clicks = [a_visit(n, offer=offer, counters=(counter,)) for n in (1, 1, 1, 2)]
    sent = outcomes_of(clicks[0]).unique
    refused = sent._replace(status=Status.REJECTED, reason=Reason.CAPPED, location="")
    outcomes = Outcomes(sent, sent, refused)
    assert await record_one(recorders, clicks[0], outcomes) == 0
    stream.signal(signal.SIGSTOP)
    answers = await asyncio.gather(*(record_one(recorders, click, outcomes) for click in clicks[1:]))
    assert answers == [0, 0, 0]
    stream.signal(signal.SIGCONT)
    await drained(stream.settings)
    await recorders.stop()
    deliveries = await stored(stream.settings)
    rows = [decode(delivery.fields) for delivery in deliveries]
    late = {row.hash: row for row in rows if row.verdict_late}
    live = {row.hash: row for row in rows if not row.verdict_late}
    done = {click.hash: live.get(click.hash) for click in clicks[1:]}
    if any(done.values()):  # the stalled call was done: its refusals are corrected
        assert [row and row.status for row in done.values()] == ["accepted", "rejected", "rejected"]
    else:
        assert late.keys() == done.keys()
    assert all(row.status == "accepted" and row.redirected_link == sent.location for row in late.values())
    assert {click.hash for click in clicks[2:]} <= late.keys()
    assert late[clicks[3].hash].is_unique
    assert late[clicks[2].hash].group_hash == clicks[0].hash
    assert await stream.ask("GET", f"cap:{{0}}:{counter.name}") == "4"


async def test_segments_of_a_dead_edge_are_adopted(stream: Stream, tmp_path: Path) -> None:
    dead = await started(stream.settings)
    clicks = [a_visit(n) for n in range(5)]
    await record(dead, *clicks)
    await dead.stop()  # as a kill, this leaves the spool behind
    heir = await started(stream.settings, slot=5)
    assert len(segments(stream.settings.data_dir / "spool")) == 1
    await stream.start()
    await drained(stream.settings)
    await heir.stop()
    rows = [decode(delivery.fields) for delivery in await stored(stream.settings)]
    assert [row.hash for row in rows] == [click.hash for click in clicks]


async def test_edge_sends_its_low_watermark(stream: Stream) -> None:
    await stream.start()
    recorders = await started(stream.settings)

    async def word() -> list[str]:
        return str(await stream.ask("HGET", "edges:{0}", str(EdgeId(SLOT, RUN)))).split(" ")

    assert len(await word()) == 3, "before any click"
    first = a_visit()
    await record(recorders, first)

    async def has_come() -> bool:
        return int((await word())[0]) >= first.millis

    await until(has_come)  # a busy edge sends no heartbeat with each call
    until_millis, said_millis, spooled = await word()
    assert int(until_millis) <= mint.now()
    assert abs(int(said_millis) - int(until_millis)) < 60_000
    assert spooled == "{}"

    async def has_moved() -> bool:
        return int((await word())[0]) > int(until_millis)

    await until(has_moved)  # without any click
    await recorders.stop()
    assert await stream.ask("HGET", "edges:{0}", str(EdgeId(SLOT, RUN))) is None


async def test_heartbeat_holds_back_spooled_clicks(stream: Stream) -> None:
    recorders = await started(stream.settings)
    clicks = [a_visit(n) for n in range(3)]
    await record(recorders, *clicks)
    recorder = recorders._recorders[0]
    until_millis, spooled = recorder._heartbeat().split(b" ", 1)
    assert int(until_millis) <= millis_of(clicks[0].hash)
    assert spooled == b'{"%d":3}' % (clicks[0].millis // 60_000)
    await recorders.stop()
    heir = await started(stream.settings, slot=5)
    assert int(heir._recorders[0]._heartbeat().split(b" ")[0]) <= millis_of(clicks[0].hash)
    await heir.stop()


async def test_clicks_that_a_restored_file_lacks_are_told_by_their_answers(stream: Stream) -> None:
    await stream.start()
    recorders = await started(stream.settings)
    own, ago = recorders._recorders[0], mint.now() - 120_000  # the ledger judges minutes that have passed
    kept, lost = (
        [a_click(hash=hash_at(ago, n), visitor_key=n) for n in part] for part in ((0, 1), (2, 3, 4))
    )

    async def answered(clicks: list[Click], number: int) -> dict[int, int]:
        own.answered(click.millis // 60_000 for click in clicks)
        async with StreamLedger(stream.settings.redis_url or "") as counts:

            async def is_told() -> bool:
                told = await counts.snapshot([ago // 3_600_000])
                return told.counts[ago // 60_000].answered == number

            await until(is_told)
            return dict((await counts.snapshot([ago // 3_600_000])).lost_answered)

    await record(recorders, *kept)
    assert await answered(kept, 2) == {}
    files = stream.settings.data_dir / "valkey"
    shutil.copytree(files, older := files.with_name("older"), ignore=shutil.ignore_patterns("*.sock"))
    await record(recorders, *lost)
    await stream.kill()
    shutil.rmtree(files)
    older.rename(files)
    await stream.start()
    await record(recorders, a_visit())
    await drained(stream.settings)
    assert await answered(lost, 5) == {ago // 60_000: 3}
    await recorders.stop()
