"""The limit of the visitor memory: visitors beyond it, and how memory becomes free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from time import time
from typing import Any

import pytest

from tests.e2e.running import PATIENCE
from tests.factories.clicks import a_click, an_offer, outcomes_of, pending
from tests.integration.api_client import api_of
from tests.integration.edge_client import edge_of, recorded
from tests.integration.metrics_client import metrics_of
from tests.integration.stream_client import NOON, hash_at, stored
from tests.integration.test_uniqueness import with_refused_duplicates
from tracker.domain.click_id import Mint
from tracker.domain.click_id import hash_at as some_hash_at
from tracker.domain.model import Click, ClickRow, Counter, Reason, Status
from tracker.edge.record.identity import EdgeId
from tracker.edge.record.partitioned import PartitionedRecorder
from tracker.edge.record.spool import segments
from tracker.ops.doctor import report
from tracker.ops.doctor.finding import Finding
from tracker.ops.explain import Question, explain
from tracker.ops.geo_lookup import GeoLookup
from tracker.processes.children import Claim
from tracker.processes.engines.engine import resolve
from tracker.processes.engines.valkey import start_valkey
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.stream import visitor_memory
from tracker.stream.appender import Appender, Lane
from tracker.stream.client import open_client
from tracker.stream.record import Decision, Entry, decode, encode, network_number
from tracker.stream.visitor_memory import VisitorMemory

pytestmark = pytest.mark.anyio

MIB = 1 << 20
NOBODYS = VisitorMemory(0)  # no room for anybody
HOUR = 3_600_000
chance = Random(1)


def visitors(number: int, networks: Sequence[str] = (), millis: int | None = None) -> Iterator[Click]:
    """First clicks of `number` visitors, from these /24 networks or from any."""
    mint = Mint()
    for _ in range(number):
        network = (
            chance.choice(networks) if networks else f"{chance.randrange(1, 224)}.{chance.getrandbits(8)}.1"
        )
        hash_ = mint.hash() if millis is None else some_hash_at(millis)
        click = a_click(hash=hash_, visitor_key=chance.getrandbits(64))
        yield click._replace(visitor=click.visitor._replace(ip=f"{network}.{chance.getrandbits(8)}"))


class Stream:
    """One partition with this visitor memory, and a connection to inspect it."""

    def __init__(self, settings: Settings, client: Any, memory: VisitorMemory) -> None:
        assert settings.redis_url
        self.settings, self.client, self.memory = settings, client, memory
        self.url = settings.redis_url
        self._appender, self._lane = Appender(self.url, memory=memory), Lane()

    async def append(self, clicks: Sequence[Click]) -> list[Decision]:
        return await self.append_entries([encode(click, outcomes_of(click)) for click in clicks])

    async def append_entries(self, entries: Sequence[Entry]) -> list[Decision]:
        answers: list[Decision] = []
        for start in range(0, len(entries), 512):
            receipt = await self._appender.append(self._lane, entries[start : start + 512], PATIENCE)
            self._lane.next()
            answers += receipt.answers
        return answers

    async def append_late(self, entries: Sequence[Entry]) -> None:
        await self._appender.append_late(Lane().id, 1, entries, PATIENCE, is_uncertain=False)

    async def look(self, click: Click) -> Decision:
        (answer,) = (await self._appender.look([encode(click, outcomes_of(click))], PATIENCE)).answers
        return answer

    async def rows(self) -> list[ClickRow]:
        return [decode(delivery.fields) for delivery in await stored(self.settings)]

    async def used(self) -> int:
        """Bytes held by the server after its lazy frees."""
        await self.client.delete("clicks:{0}")
        while (info := await self.client.info("memory"))["lazyfree_pending_objects"]:
            await asyncio.sleep(0.01)
        return int(info["used_memory"])

    async def in_use(self) -> visitor_memory.InUse:
        return await visitor_memory.in_use(self.url, self.memory)

    async def pass_hours(self) -> None:
        """Empty the visitor memory and its hourly counts."""
        buckets = [key async for key in self.client.scan_iter("unique:*", count=10_000)]
        await self.client.delete(*buckets)
        this_hour = (await self.client.time())[0] // 3600
        counts = "remembered:{0}:parts"
        for name, value in (await self.client.hgetall(counts)).items():
            if ":" in name:
                await self.client.hdel(counts, name)
                await self.client.hset(counts, f"{this_hour}:{name.partition(':')[2]}", value)
        _, rest = (await self.client.get("remembered:{0}")).split(" ", 1)
        await self.client.set("remembered:{0}", f"{this_hour - 1} {rest}")

    async def close(self) -> None:
        await self._appender.close()


@asynccontextmanager
async def stream_of(settings: Settings, memory: VisitorMemory) -> AsyncIterator[Stream]:
    async with open_client(settings.redis_url or "", decode_responses=True) as client:
        stream = Stream(settings, client, memory)
        try:
            yield stream
        finally:
            await stream.close()


def unknown(answers: Sequence[Decision]) -> int:
    return sum(answer.is_unknown for answer in answers)


async def test_invented_visitors_leave_clicks_their_room(tmp_path: Path) -> None:
    settings = resolve(Settings(data_dir=tmp_path / "var", stream_bytes=8 * MIB, append_timeout=PATIENCE))
    claim = await Claim.take(settings.data_dir)
    valkey = await start_valkey(settings, claim)
    recorders = PartitionedRecorder(settings, EdgeId(0, "0" * 16), Mint())
    await recorders.start()
    try:
        async with stream_of(settings, VisitorMemory()) as stream:
            (known,) = visitors(1)
            assert await record(recorders, [known]) == [0]
            recorded = 0
            for _ in range(160):  # 80,000: 12 MB if all were remembered
                await record(recorders, list(visitors(500)))
                recorded += await stream.client.xlen("clicks:{0}")
                await stream.client.delete("clicks:{0}")  # a worker stores them
            assert recorded == 80_000 + 1
            assert (await stream.in_use()).is_full
            (new,) = visitors(1)
            again = [known._replace(hash=Mint().hash()), new]
            assert await record(recorders, again) == [1, 0]
            rows = await stream.rows()
            assert [(row.is_unique, row.group_hash, row.reason) for row in rows] == [
                (False, known.hash, Reason.NONE),
                (False, None, Reason.VISITOR_UNKNOWN),
            ]
            assert 40_000 < recorders.unknown < 60_000
            await stream.pass_hours()
            (newest,) = visitors(1)
            assert await record(recorders, [newest, newest._replace(hash=Mint().hash())]) == [0, 1]
            assert (await stream.in_use()).bytes < 100_000
    finally:
        await recorders.stop()
        await valkey.stop()
        await claim.release()
    assert recorders.spooled == 0
    assert segments(settings.data_dir / "spool") == []


async def record(recorders: PartitionedRecorder, clicks: list[Click]) -> list[int]:
    (batch,) = recorders.batches(list(map(pending, clicks)))
    return await batch.recorder.record(batch.entries)


@pytest.mark.parametrize("room", [2 * MIB, 4 * MIB])
async def test_visitor_memory_hardly_exceeds_its_limit(database: Settings, room: int) -> None:
    async with stream_of(database, VisitorMemory(room)) as stream:
        before = await stream.used()
        answers = await stream.append(list(visitors(room // 80)))
        assert 0.8 * room < await stream.used() - before < 1.25 * room
        first = next(n for n, answer in enumerate(answers) if answer.is_unknown)
        assert unknown(answers[first:]) == len(answers) - first, "nobody is remembered any more"
        assert unknown(answers) > 0.2 * len(answers)
        in_use = await stream.in_use()
        assert in_use.is_full
        assert room <= in_use.bytes < room + 64 * 156


async def test_visitors_of_one_bucket_count_their_memory(database: Settings) -> None:
    """Buckets of more than 512 are hash tables."""
    async with stream_of(database, VisitorMemory(64 * MIB)) as stream:
        before = await stream.used()
        few_buckets = [
            click._replace(visitor_key=click.visitor_key & 0x0003_FFFF_FFFF_FFFF)
            for click in visitors(20_000)
        ]
        await stream.append(few_buckets)
        taken = await stream.used() - before
        assert 0.7 * taken < (await stream.in_use()).bytes < 1.4 * taken


async def test_visitor_memory_is_counted_until_it_is_free(database: Settings) -> None:
    async with stream_of(database, VisitorMemory(64 * MIB)) as stream:
        now = int(time() * 1000)
        for window in (60, 3600, 86_400, 31_622_400):
            for millis in (now, now - 40 * 86_400_000):
                offer = an_offer(id=window, unique_window=window)
                clicks = [click._replace(offer=offer) for click in visitors(1_500, millis=millis)]
                await stream.append(clicks)
        parts = await stream.client.hgetall("remembered:{0}:parts")
        counted_until = {int(name.partition(":")[0]) * HOUR for name in parts if ":" in name}
        free = {
            -(-(await stream.client.pexpiretime(key)) // HOUR) * HOUR
            async for key in stream.client.scan_iter("unique:*", count=10_000)
        }
        assert free <= counted_until
        assert max(free) == max(counted_until)


async def test_network_takes_at_most_an_eighth_of_the_memory(database: Settings) -> None:
    room = 4 * MIB
    async with stream_of(database, VisitorMemory(room)) as stream:
        answers = await stream.append(list(visitors(20_000, ["203.0.113"])))
        in_use = await stream.in_use()
        assert room / 8 <= in_use.bytes < room / 8 + 64 * 156
        assert (in_use.closed, in_use.is_full) == (1, False)
        assert 0.7 < unknown(answers) / len(answers) < 1
        others = [
            click
            for click in visitors(2_000)
            if network_number(click.visitor.ip) != network_number("203.0.113.1")
        ]
        assert unknown(await stream.append(others)) == 0
        assert unknown(await stream.append(list(visitors(10, ["203.0.113"])))) == 10
        await stream.pass_hours()
        assert unknown(await stream.append(list(visitors(10, ["203.0.113"])))) == 0
        assert (await stream.in_use()).closed == 0


async def test_clicks_without_an_address_belong_to_no_network(database: Settings) -> None:
    async with stream_of(database, VisitorMemory(4 * MIB)) as stream:
        nowhere = [click._replace(visitor=click.visitor._replace(ip="")) for click in visitors(10_000)]
        assert unknown(await stream.append(nowhere)) == 0
        assert (await stream.in_use()).closed == 0


@pytest.mark.parametrize("partitions", [1, 4])
async def test_partitions_share_what_is_allowed(database: Settings, partitions: int) -> None:
    async with stream_of(database, VisitorMemory(MIB, partitions)) as stream:
        await stream.append(list(visitors(12_000)))
        in_use = await stream.in_use()
        assert MIB / partitions <= in_use.bytes < MIB / partitions + 64 * 156
        assert (in_use.is_full, in_use.allowed) == (True, MIB)


async def test_visitor_without_room_is_redirected_as_new_but_not_counted_unique(database: Settings) -> None:
    async with stream_of(database, NOBODYS) as stream:
        click = a_click(hash=hash_at(NOON))
        assert (
            await stream.append_entries([with_refused_duplicates(click)] * 2)
            == [Decision(0, None, is_unknown=True)] * 2
        )
        await stream.append_late([encode(click, outcomes_of(click))])
        rows = await stream.rows()
        assert [
            (row.status, row.reason, row.is_unique, row.group_hash, row.verdict_late) for row in rows
        ] == [
            (Status.ACCEPTED, Reason.VISITOR_UNKNOWN, False, None, False),
            (Status.ACCEPTED, Reason.VISITOR_UNKNOWN, False, None, False),
            (Status.ACCEPTED, Reason.VISITOR_UNKNOWN, False, None, True),
        ]
        assert await stream.client.keys("unique:*") == []


async def test_visitor_without_room_counts_for_caps_of_clicks_only(database: Settings) -> None:
    clicks, uniques = Counter("clicks", False, 2, 0), Counter("uniques", True, 1, 0)
    async with stream_of(database, NOBODYS) as stream:
        counted = [
            a_click(hash=hash_at(NOON, n), visitor_key=n, counters=(clicks, uniques)) for n in range(3)
        ]
        answers = await stream.append(counted)
        assert [(answer.outcome, answer.is_unknown) for answer in answers] == [
            (0, True),
            (0, True),
            (2, False),
        ]
        assert await stream.client.mget("cap:{0}:clicks", "cap:{0}:uniques") == ["2", None]
        await stream.client.set("cap:{0}:uniques", 1)
        (full,) = await stream.append([counted[0]._replace(counters=(uniques,))])
        assert full == Decision(2, None), "a full cap takes no visitor who may be new"


async def test_uncertain_call_without_room_is_not_done_again(database: Settings) -> None:
    async with stream_of(database, NOBODYS) as stream:
        clicks = [a_click(hash=hash_at(NOON, n), visitor_key=n) for n in range(3)]
        entries = [encode(click, outcomes_of(click)) for click in clicks]
        appender, lane = Appender(stream.url, memory=NOBODYS), Lane()
        done = await appender.append(lane, entries, PATIENCE)
        assert (await appender.append(lane, entries, PATIENCE)).answers == done.answers
        for _ in range(2):
            await appender.append_late(lane.id, lane.sequence + 1, entries, PATIENCE, is_uncertain=True)
        assert [row.hash for row in await stream.rows()] == [click.hash for click in clicks]
        await appender.close()


async def test_look_at_full_memory_writes_nothing(database: Settings) -> None:
    async with stream_of(database, NOBODYS) as stream:
        assert await stream.look(a_click()) == Decision(0, None, is_unknown=True)
        assert await stream.client.keys("*") == []


async def test_entries_of_spools_before_the_bound_are_read(database: Settings) -> None:
    """Their controls end with the window and have no network."""
    async with stream_of(database, VisitorMemory(MIB)) as stream:
        click = a_click(hash=hash_at(NOON))
        control, record = encode(click, outcomes_of(click))
        window = (86_400).to_bytes(4)
        assert control[1:5] != window
        await stream.append_late([(control[:1] + window + control[5:], record)])
        assert await stream.append([click._replace(hash=hash_at(NOON + 1))]) == [Decision(1, click.hash)]


async def test_server_that_hides_its_memory_gets_the_usual_limit(database: Settings) -> None:
    async with open_client(database.redis_url or "") as client:
        await client.acl_setuser("hosted", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info"])
    parted = (database.redis_url or "").removeprefix("unix://")
    hosted = replace(database, redis_url=f"unix://hosted:@{parted}")
    try:
        async with stream_of(hosted, VisitorMemory()) as stream:
            assert unknown(await stream.append(list(visitors(10)))) == 0
            assert (await stream.in_use()).allowed == 128 * MIB
    finally:
        async with open_client(database.redis_url or "") as client:
            await client.acl_deluser("hosted")


async def test_edge_counts_unknown_visitors(database: Settings) -> None:
    async with edge_of(replace(database, unique_bytes=0)) as client:
        for agent in ("a", "b", "b"):
            answer = await client.get(
                "/offer/3?affiliate_id=513", headers={"User-Agent": f"Mozilla/5.0 {agent}"}
            )
            assert answer.status_code == 302
        metrics = await metrics_of(database)
    rows = await recorded(database)
    assert [(row.status, row.reason, row.is_unique) for row in rows] == [("accepted", 41, False)] * 3
    assert 'tracker_visitors_unknown_total{edge="0"} 3' in metrics


async def test_explain_shows_full_visitor_memory(database: Settings) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    question = Question("http://t.test/offer/3?affiliate_id=513", "192.0.2.1", "Mozilla/5.0", "", "", NOON)
    told = await explain(replace(database, unique_bytes=0), GeoLookup(()), question)
    assert (told["is_unique"], told["first_click"]) == (False, None)
    assert (told["answer"]["status"], told["answer"]["reason_name"]) == ("accepted", "visitor_unknown")


async def test_doctor_and_metrics_show_the_visitor_memory(database: Settings) -> None:
    small = replace(database, unique_bytes=MIB)
    assert [finding.level for finding in await findings(small)] == ["ok"]
    async with stream_of(small, VisitorMemory.of(small)) as stream:
        await stream.append(list(visitors(5_000, ["203.0.113"])))
        (fine, network) = await findings(small)
        assert (fine.level, network.level) == ("ok", "warn")
        assert network.text == "networks that have used up their eighth of it: 1"
        await stream.append(list(visitors(10_000)))
        full = (await findings(small))[0]
        assert full.level == "warn"
        assert full.text.endswith("of at most 1.0: new visitors count as not unique, with reason 41")
        taken = (await stream.in_use()).bytes
    async with api_of(small):
        metrics = (await metrics_of(small)).splitlines()
    assert {f"tracker_unique_bytes {taken}", f"tracker_unique_allowed_bytes {MIB}"} <= set(metrics)
    huge = replace(database, unique_bytes=1 << 50)
    assert (await findings(huge))[-1].text.startswith("TRACKER_UNIQUE_MB is over three quarters")


async def findings(settings: Settings) -> list[Finding]:
    words = ("visitors", "eighth", "TRACKER_UNIQUE_MB")
    return [
        finding
        for finding in await report.examine(settings, "durability")
        if any(word in finding.text for word in words)
    ]
