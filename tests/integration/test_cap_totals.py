"""The counts of other partitions that a partition gets, on a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from tests.integration.edge_client import PATIENCE
from tests.integration.stream_client import NOON, append, click_at
from tracker.domain.model import Counter
from tracker.edge.record import cap_totals
from tracker.edge.record.cap_totals import CapSums
from tracker.settings import Settings
from tracker.stream.client import StreamClient

pytestmark = pytest.mark.anyio

CAP = Counter("3:all:clicks:total:0", False, 10, 0)
OTHER = Counter("4:all:clicks:total:0", False, 5, 0)


async def add(settings: Settings, counted: dict[int, int], counter: Counter = CAP) -> None:
    """Count some clicks in some partitions."""
    for partition, number in counted.items():
        clicks = [click_at(NOON, n, counters=(counter._replace(limit=1000),)) for n in range(number)]
        await append(settings, *clicks, partition=partition)


def limits(sums: CapSums, *counters: Counter, partitions: int = 3) -> list[list[int]]:
    """The limits sent to each partition."""
    told = [sums.lowered(counters, partition) for partition in range(partitions)]
    return [[counter.limit for counter in lowered] for lowered in told]


@pytest.fixture
async def three(database: Settings) -> Settings:
    return replace(database, partitions=3)


@asynccontextmanager
async def kept_fresh(settings: Settings) -> AsyncIterator[CapSums]:
    sums = CapSums(settings)
    running = asyncio.create_task(sums.run())
    try:
        yield sums
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await sums.close()


async def until(sums: CapSums, expected: list[list[int]], *counters: Counter) -> None:
    async with asyncio.timeout(PATIENCE):
        while limits(sums, *counters) != expected:
            await asyncio.sleep(0.005)


async def test_limit_is_lowered_by_what_the_others_have_counted(three: Settings) -> None:
    await add(three, {0: 2, 1: 3})
    await add(three, {2: 7}, OTHER)
    sums = CapSums(three)
    assert limits(sums, CAP, OTHER) == [[10, 5]] * 3, "nothing is known yet"
    await sums.refresh()
    assert limits(sums, CAP, OTHER) == [[7, 0], [8, 0], [5, 5]]
    assert limits(sums, CAP._replace(limit=20)) == [[17], [18], [15]], "a raised limit"
    assert limits(sums) == [[], [], []]
    await add(three, {2: 4})
    assert limits(sums, CAP) == [[7], [8], [5]]
    await sums.refresh()
    assert limits(sums, CAP) == [[3], [4], [5]]
    await sums.close()


async def test_unused_caps_are_not_asked_about(three: Settings) -> None:
    sums = CapSums(three)
    limits(sums, CAP)
    await sums.refresh()
    await add(three, {0: 2})
    await sums.refresh()  # no click has used it since
    assert limits(sums, CAP) == [[10]] * 3
    await sums.refresh()
    assert limits(sums, CAP) == [[10], [8], [8]]
    await sums.close()


async def test_new_counter_is_asked_about_at_once(three: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cap_totals, "REFRESH_SECONDS", 3600.0)
    await add(three, {0: 2})
    await add(three, {1: 1}, OTHER)
    async with kept_fresh(three) as sums:
        await until(sums, [[10], [8], [8]], CAP)
        await until(sums, [[4], [5], [4]], OTHER)


async def test_caps_in_use_are_asked_about_again(three: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cap_totals, "REFRESH_SECONDS", 0.02)
    async with kept_fresh(three) as sums:
        for n in range(1, 4):
            await add(three, {1: 1})
            await until(sums, [[10 - n], [10], [10 - n]], CAP)


async def test_many_counters_are_asked_about_and_the_longest_unused_forgotten(
    three: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cap_totals, "MAX_COUNTERS", 1200)
    many = [CAP._replace(name=f"{n}") for n in range(1201)]
    for counter in (many[0], many[1199], many[1200]):
        await add(three, {0: 1}, counter)
    sums = CapSums(three)
    limits(sums, *many)
    await sums.refresh()
    assert limits(sums, many[0], many[1199], many[1200])[1] == [9, 9, 10], "the last waits for its turn"
    await sums.refresh()
    assert limits(sums, many[1200])[1] == [9]
    limits(sums, *many[1:1200])
    await sums.refresh()
    assert limits(sums, many[1199], many[1200])[1] == [9, 9]
    await sums.close()


@asynccontextmanager
async def limited(settings: Settings) -> AsyncIterator[tuple[Settings, Callable[..., Awaitable[None]]]]:
    """Settings of a user who may ask for partition 0 only, and a function to change that."""
    assert settings.redis_url
    name, password = "limited", "of-partitions"
    async with StreamClient(settings.redis_url) as client:
        servers = await client.servers_of(range(2))

        async def allow(*words: str) -> None:
            for server in servers:
                await server.execute_command("ACL", "SETUSER", name, *words)

        await allow("on", f">{password}", "+@all", "~cap:{0}:*")
        try:
            url = urlsplit(settings.redis_url)
            limited_url = f"{url.scheme}://{name}:{password}@{url.netloc}{url.path}"
            yield replace(settings, redis_url=limited_url), allow
        finally:
            for server in servers:
                await server.execute_command("ACL", "DELUSER", name)


async def test_partition_that_does_not_answer_counts_as_it_was_last_known(
    database: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    two = replace(database, partitions=2)
    await add(two, {0: 2, 1: 3})
    async with limited(two) as (half, allow):
        sums = CapSums(half)
        limits(sums, CAP, partitions=2)
        await sums.refresh()
        assert limits(sums, CAP, partitions=2) == [[10], [8]]
        await sums.refresh()
        assert caplog.text.count("partition 1 does not answer") == 1, "said once"

        await allow("allkeys")
        limits(sums, CAP, partitions=2)
        await sums.refresh()
        assert limits(sums, CAP, partitions=2) == [[7], [8]]

        await allow("resetkeys", "~cap:{0}:*")
        await add(two, {0: 1, 1: 1})
        await sums.refresh()
        assert limits(sums, CAP, partitions=2) == [[7], [7]]
        assert caplog.text.count("partition 1 does not answer") == 2
        await sums.close()
