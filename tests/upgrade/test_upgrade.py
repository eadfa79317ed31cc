"""The release before is upgraded under load, and an edge goes back one step. Nothing is lost or doubled.

The old release's own code runs here, out of the archives beside this file.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from tests.chaos.load import Load
from tests.conftest import open_directory
from tests.e2e.running import PATIENCE, free_port
from tests.upgrade.release import CODE, DATA, DEAD, MOST_BYTES, Release, content, unpack
from tracker.processes.children import Claim
from tracker.processes.engines.engine import resolve
from tracker.processes.engines.postgres import start_postgres
from tracker.processes.engines.valkey import start_valkey
from tracker.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(150)]

_GROWS = {"click", "conversion", "book"}
_STORED = "SELECT affiliate_source || aff_sub FROM click"


def test_archives_are_there_and_small() -> None:
    assert CODE.is_file()
    assert DATA.stat().st_size <= MOST_BYTES


@pytest.fixture
def root() -> Iterator[Path]:
    with open_directory() as directory:
        yield directory


@asynccontextmanager
async def engines(data_dir: Path) -> AsyncIterator[tuple[str, str]]:
    """The URLs of the engines on the data directory of the release before."""
    settings = resolve(Settings(data_dir=data_dir))
    async with AsyncExitStack() as stack:
        claim = await Claim.take(data_dir)
        stack.push_async_callback(claim.release)
        valkey = await start_valkey(settings, claim)
        stack.push_async_callback(valkey.stop)
        postgres = await start_postgres(settings, claim)
        stack.push_async_callback(postgres.stop)
        yield valkey.url, postgres.url


async def test_upgrade_under_load_loses_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two edges, a worker and the database follow docs/operations/upgrade.md. Then one edge goes back."""
    monkeypatch.setattr("tests.chaos.load.CONNECTIONS", 2)
    expected = unpack(root)
    async with engines(root / "var") as (redis_url, dsn):
        assert await content(dsn) == expected["told"]
        assert await dead_letters(redis_url) == 1
        releases = [Release(root / "var", code, redis_url, dsn) for code in (root / "code", None)]
        async with asyncio.timeout(2 * PATIENCE):
            async with upgraded_and_gone_back(*releases, expected["link"]) as answered:
                await stored(dsn, answered | {*expected["answered"]})
                await everything_is_kept(dsn, expected["told"])
        assert await dead_letters(redis_url) == 1
        assert (await releases[1].run("ledger"))[0] == 0


@asynccontextmanager
async def upgraded_and_gone_back(former: Release, new: Release, link: str) -> AsyncIterator[set[str]]:
    """Gives the clicks that were answered meanwhile, while the new worker goes on storing them."""
    ports = [free_port(), free_port()]
    loads = [Load([port], f"{link}&source=edge{slot}-") for slot, port in enumerate(ports)]
    edges = [AsyncExitStack(), AsyncExitStack()]
    async with AsyncExitStack() as stack:
        for slot, port in enumerate(ports):
            stack.push_async_callback(edges[slot].aclose)
            await edges[slot].enter_async_context(former.edge(slot, port))
        async with former.running("worker"), loads[0], loads[1]:
            await all_answer(loads)
            await healthy(former)
        async with loads[0], loads[1]:
            code, applied = await new.run("migrate")
            assert (code, "applied 0084" in applied) == (0, True), applied
            await all_answer(loads)
            await stack.enter_async_context(new.running("worker"))
            for slot, release in ((0, new), (1, new), (1, former)):
                await edges[slot].aclose()
                await edges[slot].enter_async_context(release.edge(slot, ports[slot]))
                await all_answer(loads)
            await healthy(new)
        assert [load.unexpected for load in loads] == [[], []]
        yield {f"edge{slot}-{name}" for slot, load in enumerate(loads) for name in load.answered}


async def all_answer(loads: list[Load]) -> None:
    await asyncio.gather(*(load.answers(30) for load in loads))


async def healthy(release: Release) -> None:
    _, output = await release.run("doctor", "--json")
    findings = json.loads(output[output.index("[") :])
    assert {"engines", "ledger", "catalogue"} <= {finding["topic"] for finding in findings}
    assert [finding for finding in findings if finding["level"] == "fail"] == []


async def stored(dsn: str, answered: set[str]) -> None:
    """Wait until each answered click is stored. None is there twice."""
    connection = await asyncpg.connect(dsn)
    while not answered <= (times := Counter(row[0] for row in await connection.fetch(_STORED))).keys():
        await asyncio.sleep(0.1)
    await connection.close()
    assert [name for name in answered if times[name] > 1] == []


async def everything_is_kept(dsn: str, told: dict[str, list[str]]) -> None:
    now = await content(dsn)
    while len(now["conversion"]) < len(told["conversion"]) + 1:  # the postback that waited on the stream
        now = await content(dsn)
    assert {name: rows for name, rows in now.items() if name not in _GROWS} == {
        name: rows for name, rows in told.items() if name not in _GROWS
    }
    for name in _GROWS:
        assert Counter(told[name]) <= Counter(now[name])


async def dead_letters(url: str) -> int:
    async with redis.asyncio.Redis.from_url(url) as client:
        return int(await client.xlen(DEAD))
