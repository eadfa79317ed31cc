"""A tracker behind sentinels: a primary that is killed, and one that is replaced as planned."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import redis.asyncio

from tests.integration.topologies import HASTY, NAME, Node, Sentinels, sentinels, until
from tests.nodes.traffic import TWO_COPIES, traffic
from tracker.ops.doctor import report
from tracker.settings import Settings
from tracker.stream.homes import homes_of
from tracker.stream.waiting_clicks import waiting_clicks

pytestmark = pytest.mark.anyio


@pytest.fixture
async def nodes(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sentinels]:
    async with sentinels(tmp_path_factory.mktemp("sentinels") / "of", HASTY) as made:
        yield made


@pytest.fixture
def settings(database: Settings, nodes: Sentinels) -> Settings:
    return replace(database, redis_url=nodes.url, partitions=2, **TWO_COPIES)


async def test_killed_primary_loses_no_click_even_if_it_returns_early(
    nodes: Sentinels, settings: Settings
) -> None:
    """A primary that starts again believes that it is one, until the sentinels tell it ten seconds later."""
    first = await nodes.home(0)
    async with traffic(settings) as going:
        first.kill()
        await until(lambda: _leads(nodes, first))
        first.start()
        await going.more(50)
        await until(lambda: _is_replica(nodes, first))
        await going.more(50)


async def test_planned_change_of_the_primary_loses_no_click(nodes: Sentinels, settings: Settings) -> None:
    first = await nodes.home(0)
    async with traffic(settings) as going:
        await nodes.sentinels[0].ask("SENTINEL FAILOVER", NAME, "COORDINATED")
        await going.more(50)
        await until(lambda: _leads(nodes, first))


async def _leads(nodes: Sentinels, former: Node) -> bool:
    """Whether another than the former primary leads."""
    return [node is former for node in await nodes.primaries()] == [False]


async def _is_replica(nodes: Sentinels, node: Node) -> bool:
    (primary,) = await nodes.primaries() if len(await nodes.primaries()) == 1 else (node,)
    return primary is not node and await primary.knows("INFO", "replication", having="state=online")


async def test_sentinel_that_names_a_replica_is_not_believed(nodes: Sentinels) -> None:
    (replica,) = [node for node in nodes.nodes if node is not await nodes.home(0)]
    for one in nodes.sentinels:
        await one.ask("SENTINEL REMOVE", NAME)
    for one in nodes.sentinels:
        await one.ask("SENTINEL MONITOR", NAME, "127.0.0.1", replica.port, 2)
    with pytest.raises(redis.exceptions.ConnectionError, match=f"{replica.port} is no primary, though"):
        await waiting_clicks(nodes.url)


async def test_name_that_no_sentinel_knows_is_said(nodes: Sentinels, database: Settings) -> None:
    settings = replace(database, redis_url=nodes.url.replace(NAME, "other"))
    failed = [one.text for one in await report.examine(settings, "engines") if one.level == "fail"]
    assert "knows no 'other'" in failed[0]


async def test_doctor_asks_the_replica_too(nodes: Sentinels, settings: Settings) -> None:
    (replica,) = [node for node in nodes.nodes if node is not await nodes.home(0)]
    await replica.ask("CONFIG SET", "appendfsync", "everysec")
    await replica.ask("CONFIG SET", "min-replicas-to-write", "0")
    said = [one for one in await report.examine(settings, "durability") if one.level == "warn"]
    assert said[0].text.startswith(f"{replica.address}: level in force: everysec")
    alone = replace(settings, copies=1)
    (warned,) = [one.text for one in await report.examine(alone, "nodes") if one.level == "warn"]
    assert warned.startswith(f"min-replicas-to-write 0 on {replica.address}: ")
    replica.kill()
    (warned,) = [one.text for one in await report.examine(settings, "nodes") if one.level == "warn"]
    assert warned == f"replica {replica.address} does not answer"
    assert [server.is_replica for server in await homes_of(nodes.url).servers()] == [False, True]
