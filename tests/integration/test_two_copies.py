"""TRACKER_COPIES=2: what is answered is on two machines. So the loss of one machine loses none of it."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import redis.asyncio

from tests.factories.clicks import HASH, a_click, outcomes_of, pending
from tests.integration.api_client import run_sql
from tests.integration.edge_client import edge_of
from tests.integration.engines import until
from tests.integration.metrics_client import metrics_of
from tests.integration.replicas import Node, Pair, a_pair
from tests.integration.stream_client import SECOND
from tracker.domain.click_id import Mint
from tracker.domain.model import Click, ClickRow
from tracker.edge.record import spool_drain
from tracker.edge.record.identity import EdgeId
from tracker.edge.record.partitioned import PartitionedRecorder
from tracker.edge.record.recorder import NotRecorded
from tracker.edge.record.spool import Spool, segments
from tracker.edge.record.spool_drain import Drain
from tracker.edge.record.spool_file import Call, Segment
from tracker.ops import ledger
from tracker.ops.doctor import copies
from tracker.settings import OnLoss, Settings
from tracker.store.clicks.insert import Writer
from tracker.stream import keys
from tracker.stream.appender import Appender, AppendError, Lane
from tracker.stream.reader import Reader
from tracker.stream.record import decode, encode
from tracker.stream.visitor_memory import VisitorMemory
from workers.click_writer import ClickWriter

pytestmark = pytest.mark.anyio

mint = Mint()
_SECRET = "INSERT INTO advertiser_secret (advertiser_id, secret_hash) VALUES (1, sha256('two'))"
LINK = "/offer/3?affiliate_id=513"
VISITORS = 32
APPEND_SECONDS = 1.0
"""A replica confirms in time, however busy the machine is."""
SECONDS_AWAY = 0.03
"""From the primary to the replica."""


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with a_pair(tmp_path) as pair:
        yield pair


def an_edge(pair: Pair, directory: Path, *, on_loss: OnLoss = "refuse", number: int = 2) -> Settings:
    return Settings(
        data_dir=directory / "edge",
        redis_url=pair.front.url,
        on_loss=on_loss,
        copies=number,
        append_timeout=APPEND_SECONDS,
    )


@asynccontextmanager
async def recording(settings: Settings, *, is_elsewhere: bool = True) -> AsyncIterator[PartitionedRecorder]:
    """`is_elsewhere`: whether the stream counts as another machine's. All of 127.0.0.0/8 is this one's."""
    recorders = PartitionedRecorder(settings, EdgeId(0, "0" * 16), mint, lambda *_: is_elsewhere)
    await recorders.start()
    try:
        yield recorders
    finally:
        await recorders.stop()


async def record(recorders: PartitionedRecorder, *clicks: Click) -> list[int]:
    waiting = [pending(click, outcomes_of(click)) for click in clicks]
    (batch,) = recorders.batches(waiting)
    return await batch.recorder.record(batch.entries)


def a_visit(visitor_key: int) -> Click:
    return a_click(hash=mint.hash(), visitor_key=visitor_key)


class Load:
    """Visitors that click without end."""

    def __init__(self, recorders: PartitionedRecorder) -> None:
        self.answered: dict[str, int] = {}  # the numbers of outcomes by the clicks' hashes
        self._recorders = recorders
        self._numbers = count()
        self._answer = asyncio.Event()

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._visit()) for _ in range(VISITORS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def more(self, clicks: int) -> None:
        wanted = len(self.answered) + clicks

        async def are_there() -> bool:
            return len(self.answered) >= wanted

        await until(are_there)

    async def next(self) -> None:
        """Wait for an answer of this moment."""
        self._answer.clear()
        await self._answer.wait()

    async def _visit(self) -> None:
        while True:
            click = a_visit(next(self._numbers) // 2)
            try:
                (self.answered[click.hash],) = await record(self._recorders, click)
                self._answer.set()
            except NotRecorded:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.005)


async def on_stream(node: Node) -> dict[str, ClickRow]:
    """The clicks on the stream by their hashes. The last entry of a click is the one that is stored."""
    async with redis.asyncio.Redis.from_url(node.url) as client:
        rows = [decode(fields) for _, fields in await client.xrange(keys.clicks(0))]
    return {row.hash: row for row in rows}


async def drained(settings: Settings) -> None:
    async def is_empty() -> bool:
        return not segments(settings.data_dir / "spool")

    await until(is_empty)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("loses_edge", [False, True], ids=["primary", "primary and edge"])
async def test_lost_machine(tmp_path: Path, number: int, loses_edge: bool) -> None:
    """What was answered is on the replica, which takes over. With one copy some of it is not."""
    async with a_pair(tmp_path, SECONDS_AWAY) as pair:
        settings = an_edge(pair, tmp_path, on_loss="refuse" if loses_edge else "redirect", number=number)
        async with recording(settings) as recorders, Load(recorders) as load:
            await load.more(200)
            await load.next()
            await pair.fail_over()
            if not loses_edge:
                await load.more(100)
                await pair.replace()
                await drained(settings)
                await load.more(100)
        if loses_edge:
            shutil.rmtree(settings.data_dir, ignore_errors=True)  # it may have spooled nothing
        lost = load.answered.keys() - (await on_stream(pair.replica)).keys()
        assert bool(lost) == (number == 1), len(lost)


@pytest.mark.parametrize("loses_primary", [False, True], ids=["it stops and goes on", "it takes over"])
async def test_missing_replica(pair: Pair, tmp_path: Path, loses_primary: bool) -> None:
    """Clicks go to the stream and to the spool of another machine, until a replica confirms again."""
    settings = an_edge(pair, tmp_path)
    async with recording(settings) as recorders:
        first, second, third, fourth, fifth = (a_visit(key) for key in (1, 1, 2, 2, 3))
        answers = await record(recorders, first)
        if loses_primary:
            pair.link.cut()
        else:
            pair.replica.signal(signal.SIGSTOP)
        for click in (second, third, fourth):
            answers += await record(recorders, click)
        assert answers == [0, 1, 0, 1], "decided as ever"
        assert len(await on_stream(pair.primary)) == 4
        assert (recorders.spooled, recorders.one_copy) == (3, 0)
        if loses_primary:
            await pair.fail_over()
            await pair.replace()
        else:
            pair.replica.signal(signal.SIGCONT)
        await drained(settings)
        assert await record(recorders, fifth) == [0]
        assert recorders.spooled == 3, "the replica confirms again"
        rows = await on_stream(pair.replica)
        clicks = (first, second, third, fourth, fifth)
        assert rows.keys() == {each.hash for each in clicks}
        assert await pair.replica.ask("XLEN", keys.clicks(0)) == len(clicks), "each is there once"
        assert [rows[each.hash].is_unique for each in clicks] == [True, False, True, False, True]
        assert not any(rows[each.hash].verdict_late for each in clicks), "stored as answered"


@pytest.mark.parametrize("on_loss", ["refuse", "redirect"])
async def test_spool_on_the_streams_machine_is_no_second_copy(
    pair: Pair, tmp_path: Path, on_loss: OnLoss
) -> None:
    async with recording(an_edge(pair, tmp_path, on_loss=on_loss), is_elsewhere=False) as recorders:
        assert await record(recorders, a_visit(1)) == [0]
        pair.replica.signal(signal.SIGSTOP)
        for click in (a_visit(1), a_visit(2), a_visit(3)):
            if on_loss == "refuse":
                with pytest.raises(NotRecorded, match="only one machine"):
                    await record(recorders, click)
            else:
                assert len(await record(recorders, click)) == 1
        assert (recorders.spooled, recorders.one_copy) == (0, 3)
        recorded = 2 if on_loss == "refuse" else 4  # the call that missed the replica was done
        assert len(await on_stream(pair.primary)) == recorded
        pair.replica.signal(signal.SIGCONT)

        async def has_two_copies() -> bool:
            before = recorders.one_copy
            with suppress(NotRecorded):
                await record(recorders, a_visit(4))
            return recorders.one_copy == before

        await until(has_two_copies)


async def test_full_spool_keeps_refused_clicks_off_the_stream(pair: Pair, tmp_path: Path) -> None:
    """Each try of a refused visitor would count. Once there is room, the edge is ready without a click."""
    settings = replace(an_edge(pair, tmp_path), spool_bytes=0)
    async with recording(settings) as recorders:
        assert await record(recorders, a_visit(1)) == [0]
        pair.link.cut()
        for _ in range(4):
            with pytest.raises(NotRecorded, match="only one machine"):
                await record(recorders, a_visit(2))
        assert len(await on_stream(pair.primary)) == 2, "the call that missed the replica was done"
        assert recorders.has_refused
        recorders._recorders[0]._spool._max_bytes = 1 << 30

        async def is_ready() -> bool:
            return not recorders.has_refused

        await until(is_ready)
        assert await record(recorders, a_visit(3)) == [0]


async def test_edge_says_yes_only_to_what_two_machines_have(
    database: Settings, pair: Pair, tmp_path: Path
) -> None:
    settings = replace(
        database,
        redis_url=pair.front.url,
        copies=2,
        append_timeout=APPEND_SECONDS,
        data_dir=tmp_path / "edge",
    )
    postback = f"/postback?click_id={HASH}&token=two"
    async with edge_of(settings) as client:
        assert (await client.get(LINK)).status_code == 302
        await run_sql(database, _SECRET)
        while (answer := await client.get(postback)).status_code == 403:
            pass  # the edge knows the secret within a second
        assert answer.status_code == 200
        pair.replica.signal(signal.SIGSTOP)
        assert (await client.get(LINK)).status_code == 503
        assert (await client.get(LINK)).status_code == 503
        assert (await client.get(postback)).status_code == 503
        metrics = await metrics_of(settings)
        assert 'tracker_clicks_one_copy_total{edge="0"} 2' in metrics
        assert 'tracker_clicks_not_recorded_total{edge="0",answer="refuse"} 2' in metrics
        pair.replica.signal(signal.SIGCONT)


async def test_repeated_call_waits_for_the_replica(pair: Pair) -> None:
    """A new connection, as of a client that tries again, waits for what the first one wrote."""
    click = a_visit(1)
    entries = [encode(click, outcomes_of(click))]

    async def append() -> None:
        appender = Appender(pair.front.url, copies=2)
        try:
            await appender.append_each(entries, SECOND)
        finally:
            await appender.close()

    pair.replica.signal(signal.SIGSTOP)
    for _ in range(2):
        with pytest.raises(AppendError, match="no replica") as caught:
            await append()
        assert not caught.value.is_certain
    pair.replica.signal(signal.SIGCONT)
    await append()
    assert (await on_stream(pair.replica)).keys() == {click.hash}


async def test_writer_reads_and_acknowledges_on_the_replica_too(tmp_path: Path) -> None:
    async with a_pair(tmp_path, SECONDS_AWAY) as pair:
        settings = an_edge(pair, tmp_path)
        async with recording(settings) as recorders:
            await record(recorders, *(a_visit(key) for key in range(3)))
        async with Reader(pair.front.url, 0, copies=2) as reader:
            await reader.create_group()
            batch = await reader.new(10, None)
            assert (await pair.replica.ask("XPENDING", keys.clicks(0), keys.GROUP))["pending"] == 3
            await reader.acknowledge(batch[:2])
            assert len(await on_stream(pair.replica)) == 1
            pair.replica.signal(signal.SIGSTOP)
            await reader.acknowledge(batch[2:])
            assert await reader.new(10, None) == [], "it goes on without the replica"
        assert await on_stream(pair.primary) == {}


async def test_ledger_balances_though_a_lost_server_had_stored_more_than_its_replica_has(
    database: Settings, pair: Pair, tmp_path: Path
) -> None:
    """One click's acknowledgement is lost with the server, and another click's entry is."""
    settings = replace(an_edge(pair, tmp_path), postgres_dsn=database.postgres_dsn)
    async with recording(settings) as recorders, Reader(pair.front.url, 0, copies=2) as reader:
        await reader.create_group()
        await record(recorders, a_visit(1))
        pair.link.cut()
        await record(recorders, a_visit(2))
        writer = ClickWriter(settings, Writer(0, 0), reader, asyncio.Event(), burst=True)
        await writer.run()
        assert await on_stream(pair.primary) == {}
        await record(recorders, a_visit(3))
        await writer.run()  # notes another batch
        await pair.fail_over()
        await pair.replace()
        await drained(settings)
        assert len(await on_stream(pair.replica)) == 3
        await writer.run()
        now = int(time.time()) // 60
        told, _ = await ledger.ask(settings, range(now - 2, now + 1), verify=True)
        assert sum(minute.rows or 0 for minute in told.minutes) == 3
        assert [minute.difference for minute in told.minutes if minute.difference] == []
        assert told.unbalanced == []


async def test_spool_waits_for_a_replica_without_reading_its_segments_again(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour without a replica fills hundreds of segments. What the stream has of them is not sent again."""
    settings, spool = an_edge(pair, tmp_path), Spool(tmp_path / "edge" / "spool", 0, 0, 1 << 30)
    appender, lane, click = Appender(pair.front.url), Lane(), a_visit(1)
    entries = [encode(click, outcomes_of(click))]
    receipt = await appender.append(lane, entries, SECOND)
    await appender.close()
    spool.append(entries, b"", Call(lane.id, lane.sequence), receipt.decided)
    spool.append([encode(click := a_visit(2), outcomes_of(click))], b"", None)
    seen = Counter[str]()

    def counted(owner: type, name: str) -> None:
        do = getattr(owner, name)

        def call(*words: object, **options: object) -> object:
            seen[name] += 1
            return do(*words, **options)

        monkeypatch.setattr(owner, name, call)

    counted(Segment, "groups")
    counted(Appender, "append_late")
    counted(Drain, "_is_copied")
    pair.replica.signal(signal.SIGSTOP)
    drain = Drain(pair.front.url, tmp_path / "edge" / "spool", VisitorMemory.of(settings), copies=2)
    segment = spool.seal()
    assert segment
    drain.take(segment)
    await drain.start()

    async def has_waited() -> bool:
        return seen["_is_copied"] == 2

    monkeypatch.setattr(spool_drain, "_CALL_SECONDS", 0.5)
    await until(has_waited)
    assert (seen["groups"], seen["append_late"]) == (1, 1)
    pair.replica.signal(signal.SIGCONT)
    await drained(settings)
    await drain.stop()
    assert await pair.replica.ask("XLEN", keys.clicks(0)) == 2


async def test_doctor_asks_the_replicas(pair: Pair, tmp_path: Path) -> None:
    settings = an_edge(pair, tmp_path)

    async def said() -> list[str]:
        return [f"{each.level}: {each.text}" for each in await copies.check(settings)]

    first, alone = await said()
    assert first == "ok: replicas that have a click on disk before its redirect is sent: 1"
    assert alone.startswith("warn: this machine is the stream server's")
    for option, value in (("appendfsync", "everysec"), ("appendonly", "no")):
        await pair.replica.ask("CONFIG", "SET", option, value)
        assert (await said())[0].endswith("connected: 1. None of them confirms a write on disk"), option
    pair.replica.signal(signal.SIGSTOP)
    assert (await said())[0].endswith("connected: 1. None of them confirms a write")
    pair.replica.signal(signal.SIGCONT)
    pair.link.cut()
    await until(pair.primary.is_left)
    assert (await said())[0].startswith("fail: no replica is connected")
    await pair.primary.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    (refused,) = await copies.check(settings)
    assert (refused.level, "NOREPLICAS" in refused.text) == ("fail", True)
    assert refused.advice.startswith("set min-replicas-to-write 0")
