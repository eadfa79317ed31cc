"""A tracker on a cluster: slots that move under load, primaries that are killed, one that is away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.factories.clicks import a_click, outcomes_of
from tests.integration.ledger_entries import streams_of
from tests.integration.stream_client import hash_at
from tests.integration.topologies import HASTY, Cluster, Node, cluster, until
from tests.nodes.traffic import TWO_COPIES, traffic
from tracker.ops.doctor import report
from tracker.settings import MAX_PARTITIONS, Settings
from tracker.stream.appender import Appender, AppendError, Lane
from tracker.stream.homes import homes_of
from tracker.stream.ledger import StreamLedger
from tracker.stream.reader import Reader
from tracker.stream.record import Entry, encode
from tracker.stream.waiting_clicks import waiting_clicks

pytestmark = pytest.mark.anyio

PARTITIONS = 6
SECOND = 1.0


@pytest.fixture(scope="module")
async def running(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path_factory.mktemp("cluster") / "of", HASTY) as made:
        yield made


@pytest.fixture
async def nodes(running: Cluster) -> AsyncIterator[Cluster]:
    """The cluster, empty and whole. What a test kills is started again."""
    await running.empty()
    yield running
    await running.repair()


@pytest.fixture
def settings(database: Settings, nodes: Cluster) -> Settings:
    return replace(database, redis_url=nodes.url, partitions=PARTITIONS, **TWO_COPIES)


def an_entry(number: int) -> Entry:
    click = a_click(hash=hash_at(1_790_000_000_000 + number), visitor_key=number)
    return encode(click, outcomes_of(click))


async def elsewhere(nodes: Cluster, partition: int) -> Node:
    """A primary that does not have a partition."""
    home = await nodes.home(partition)
    return next(node for node in await nodes.primaries() if node is not home)


async def test_each_partition_is_found_at_its_primary(nodes: Cluster) -> None:
    homes = homes_of(nodes.url)
    for server in await homes.servers():
        for partition in server.partitions[::5]:
            assert str(server.address) == (await nodes.home(partition)).address
    found = [number for server in await homes.servers() for number in server.partitions]
    assert sorted(found) == list(range(MAX_PARTITIONS))


async def test_open_connections_follow_a_slot_that_moves(nodes: Cluster, settings: Settings) -> None:
    source, target = await nodes.home(0), await elsewhere(nodes, 0)
    appender, lane = Appender(nodes.url), Lane()
    async with (
        Reader(nodes.url, 0) as reader,
        StreamLedger(nodes.url) as ledger,
        streams_of(settings) as streams,
    ):
        await reader.create_group()
        for turn, node in enumerate((source, target, source)):
            if turn:
                await nodes.migrate(0, node)
            await streams.say("0", 1_790_000_000_000 + turn)
            await appender.append(lane, [an_entry(turn)], SECOND)
            lane.next()
            assert await ledger.complete_until() == 1_790_000_000_000 + turn
            (delivery,) = await reader.new(10, None)
            await reader.acknowledge([delivery])
    await appender.close()
    assert await waiting_clicks(nodes.url) == {}


async def test_slots_move_there_and_back_under_load(nodes: Cluster, settings: Settings) -> None:
    async with traffic(settings) as going:
        for partition in (0, 1):
            home = await nodes.home(partition)
            await nodes.migrate(partition, await elsewhere(nodes, partition))
            await going.more(50)
            await nodes.migrate(partition, home)
            await going.more(50)


async def test_killed_primary_loses_no_click(nodes: Cluster, settings: Settings) -> None:
    async with traffic(settings) as going:
        home = await nodes.home(0)
        home.kill()
        await going.more(50)
        await until(lambda: _has_another(nodes, home))
        await going.more(50)
        home.start()  # as a replica: two copies are complete with it


async def _has_another(nodes: Cluster, former: Node) -> bool:
    return len(await nodes.primaries()) == 3 and former not in await nodes.primaries()


async def test_shard_that_is_away_concerns_its_own_partitions_only(
    nodes: Cluster, settings: Settings
) -> None:
    server = next(one for one in await homes_of(nodes.url).servers() if 0 in one.partitions)
    name = str(await (await nodes.home(0)).ask("CLUSTER", "MYSHARDID"))
    shard = [node for node in nodes.nodes if await node.knows("CLUSTER", "MYSHARDID", having=name)]
    for node in shard:
        node.kill()
    for partition in range(PARTITIONS):
        appender = Appender(nodes.url, partition)
        if partition in server.partitions:
            with pytest.raises(AppendError):
                await appender.append(Lane(), [an_entry(partition)], 0.2)
        else:
            await appender.append(Lane(), [an_entry(partition)], SECOND)
        await appender.close()
    finding, *_ = [one for one in await report.examine(settings, "engines") if one.level == "fail"]
    assert shard[0].address in finding.text or shard[1].address in finding.text


async def test_doctor_prints_the_command_that_evens_the_partitions(
    nodes: Cluster, settings: Settings
) -> None:
    crowded = await nodes.home(0)
    for partition in (1, 2, 3):
        if await nodes.home(partition) is not crowded:
            await nodes.migrate(partition, crowded)
    spread, *others = await report.examine(settings, "nodes")
    assert (spread.level, others) == ("warn", [])
    for command in spread.advice.split(" && "):
        _, _, _, _, port, *words = command.split()
        (node,) = [one for one in nodes.nodes if one.port == int(port)]
        await node.ask(*words)
    await until(lambda: _is_even(settings))


async def _is_even(settings: Settings) -> bool:
    return [finding.level for finding in await report.examine(settings, "nodes")] == ["ok"]
