"""Several edges over several partitions: visitors stay together, caps overshoot as documented."""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

import pytest

from tests.factories.clicks import a_click, pending
from tests.integration.edge_client import PATIENCE
from tests.integration.stream_client import SECOND, stored
from tracker.domain.click_id import Mint
from tracker.domain.model import Counter
from tracker.edge.record.identity import EdgeId
from tracker.edge.record.partitioned import PartitionedRecorder
from tracker.settings import Settings
from tracker.stream.appender import Appender
from tracker.stream.record import decode

pytestmark = pytest.mark.anyio

PARTITIONS = 4
CAP = Counter("3:all:clicks:total:0", False, 40, 0)
CAPPED = 2

mint = Mint()
new_visitor = count(1_000_000)


@asynccontextmanager
async def edges(settings: Settings, number: int, partitions: int) -> AsyncIterator[list[PartitionedRecorder]]:
    """The recorders of this number of edges."""
    patient = replace(settings, partitions=partitions, append_timeout=PATIENCE)
    several = [PartitionedRecorder(patient, EdgeId(slot, f"{slot:016x}"), mint) for slot in range(number)]
    for recorders in several:
        await recorders.start()
    try:
        yield several
    finally:
        for recorders in several:
            await recorders.stop()


async def record(edge: PartitionedRecorder, visitor_key: int, *counters: Counter) -> int:
    click = a_click(hash=mint.hash(), visitor_key=visitor_key, counters=counters)
    (batch,) = edge.batches([pending(click)])
    (place,) = await batch.recorder.record(batch.entries)
    return place


async def accepted(several: list[PartitionedRecorder], clicks: int) -> int:
    """The number of simultaneous clicks of new visitors that the cap accepts."""
    outcomes = await asyncio.gather(
        *(record(several[n % len(several)], next(new_visitor), CAP) for n in range(clicks))
    )
    return sum(outcome != CAPPED for outcome in outcomes)


async def counted(settings: Settings, partitions: int) -> list[int]:
    assert settings.redis_url
    found = []
    for partition in range(partitions):
        appender = Appender(settings.redis_url, partition)
        found += await appender.counts([CAP.name], SECOND)
        await appender.close()
    return found


@pytest.mark.parametrize("partitions", [1, PARTITIONS])
async def test_visitor_is_unique_once_over_edges_and_partitions(database: Settings, partitions: int) -> None:
    visitors, times = 200, 5
    async with edges(database, 3, partitions) as several:
        await asyncio.gather(
            *(record(several[n % 3], visitor) for n in range(times) for visitor in range(visitors))
        )
    where: dict[int, set[int]] = {}
    uniques: Tally[int] = Tally()
    for partition in range(partitions):
        rows = [decode(delivery.fields) for delivery in await stored(database, partition)]
        assert rows, "each partition has its share"
        for row in rows:
            where.setdefault(row.visitor_key, set()).add(partition)
            uniques[row.visitor_key] += row.is_unique
    assert {key: len(found) for key, found in where.items()} == dict.fromkeys(range(visitors), 1)
    assert uniques == dict.fromkeys(range(visitors), 1)


async def test_cap_is_exact_on_one_partition(database: Settings) -> None:
    async with edges(database, 3, 1) as several:
        assert await accepted(several, CAP.limit - 10) == CAP.limit - 10
        assert await accepted(several, 200) == 10


async def test_cap_on_several_partitions_is_over_only_by_clicks_before_the_sums(
    database: Settings,
) -> None:
    async with edges(database, 3, PARTITIONS) as several:
        first = await accepted(several, CAP.limit - 10)
        assert first == CAP.limit - 10, "no click is refused before the cap is full"
        at_once = await accepted(several, 100)  # with sums as old as may be
        assert 10 <= at_once <= 100
        assert all(number <= CAP.limit for number in await counted(database, PARTITIONS))

        await full(several)
        total = sum(await counted(database, PARTITIONS))
        assert total >= CAP.limit
        assert await accepted(several, 200) == 0, "once the sums are known nothing is let through"
        assert sum(await counted(database, PARTITIONS)) == total


async def full(several: list[PartitionedRecorder]) -> None:
    """Wait until each edge refuses in each partition."""
    async with asyncio.timeout(PATIENCE):
        for edge in several:
            for visitor in range(PARTITIONS):
                while await record(edge, visitor, CAP) != CAPPED:
                    await asyncio.sleep(0.01)


async def test_edge_has_been_up_once_every_partition_was_reached(database: Settings) -> None:
    async with edges(database, 1, PARTITIONS) as (edge,):
        assert edge.has_been_up
    away = replace(database, redis_url="unix:///nonexistent/valkey.sock")
    async with edges(away, 1, PARTITIONS) as (edge,):
        assert not edge.has_been_up
        for visitor in range(PARTITIONS):
            assert await record(edge, visitor) == 0
        assert edge.spooled == PARTITIONS
