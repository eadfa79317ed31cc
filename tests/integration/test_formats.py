"""Edges come first, or a worker goes back: every click is stored, and none becomes a dead letter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from httpx import AsyncClient

from tests.factories.clicks import outcomes_of
from tests.integration.edge_client import PATIENCE, edge_of
from tests.integration.former_worker import former_worker
from tests.integration.ledger_entries import streams_of
from tests.integration.stream_client import NOON, click_at, dead_letters
from tracker.device import UnreadDevice
from tracker.edge.record.format_watch import FormatWatch
from tracker.edge.record.identity import EdgeId
from tracker.ops.doctor import report
from tracker.settings import Settings
from tracker.store.db import connect
from tracker.stream.appender import Appender, Lane
from tracker.stream.client import open_client
from tracker.stream.dead_letters import DeadLetters
from tracker.stream.record import encode
from workers import click_writer

pytestmark = pytest.mark.anyio

LINK = "/offer/3?affiliate_id=513"
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/129.0.0.0 Safari/537.36 {}"


@asynccontextmanager
async def new_worker(settings: Settings, slot: int) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    working = asyncio.create_task(click_writer.run(settings, slot, stopping))
    try:
        yield
    finally:
        stopping.set()
        await working


async def devices(settings: Settings) -> list[str]:
    assert settings.postgres_dsn
    connection = await connect(settings.postgres_dsn)
    try:
        return [row["browser_version"] for row in await connection.fetch("SELECT browser_version FROM click")]
    finally:
        await connection.close()


async def edge_says(settings: Settings, version: int) -> None:
    """Wait until the edge has seen the workers."""
    assert settings.redis_url
    async with open_client(settings.redis_url) as client, asyncio.timeout(PATIENCE):
        while True:
            (word,) = [await client.get(key) async for key in client.scan_iter("formats:*")] or [b""]
            if f"clicks={version} ".encode() in (word or b""):
                return
            await asyncio.sleep(0.05)


class Visitors:
    """Clicks one after the other, each with a User-Agent of its own."""

    def __init__(self, settings: Settings, client: AsyncClient) -> None:
        self._settings = settings
        self._client = client
        self._sent = 0

    async def come(self, number: int = 5) -> None:
        for _ in range(number):
            self._sent += 1
            answer = await self._client.get(LINK, headers={"User-Agent": AGENT.format(self._sent)})
            assert answer.status_code == 302

    async def are_stored(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(found := await devices(self._settings)) < self._sent:
                await asyncio.sleep(0.05)
        assert found == ["129"] * self._sent
        assert await dead_letters(self._settings) == []


async def test_edge_before_its_workers_and_after_them_loses_no_click(database: Settings) -> None:
    async with edge_of(database) as client:
        visitors = Visitors(database, client)
        async with former_worker(database, 0):
            await edge_says(database, 1)
            await visitors.come()
            await visitors.are_stored()
            async with new_worker(database, 1):
                await edge_says(database, 1)
                await visitors.come()
                await visitors.are_stored()
        async with new_worker(database, 0):
            await edge_says(database, 2)
            await visitors.come()
            await visitors.are_stored()
        await edge_says(database, 1)  # nobody works
        await visitors.come()
        async with former_worker(database, 0):
            await visitors.come()
            await visitors.are_stored()


async def test_former_worker_stores_what_is_replayed(database: Settings) -> None:
    click = click_at(NOON, device=UnreadDevice("", ""))
    assert database.redis_url
    appender = Appender(database.redis_url)
    await appender.append(Lane(), [encode(click, outcomes_of(click))], PATIENCE)
    await appender.close()
    async with former_worker(database, 0), DeadLetters(database.redis_url) as letters:
        async with asyncio.timeout(PATIENCE):
            while not (dead := await dead_letters(database)):
                await asyncio.sleep(0.05)
            assert await letters.replay(dead[0])
            while not await devices(database):
                await asyncio.sleep(0.05)
    assert await dead_letters(database) == []


async def test_two_processes_of_one_edge_are_named_by_log_and_doctor(
    database: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """As on copies of one disk. A restarted edge follows its former process, and is alone."""
    assert database.redis_url
    edge = EdgeId(3, "0123456789abcdef")
    former, first, second = (FormatWatch(database.redis_url, edge, 1) for _ in range(3))
    now = int(time.time() * 1000)
    async with streams_of(database) as streams:
        await streams.say(str(edge), now)

    async def named() -> list[str]:
        found = await report.examine(database, "formats")
        return [finding.text for finding in found if finding.level == "fail"]

    for watch in (former, first, first):
        await watch.look()
    assert (await named(), caplog.messages) == ([], [])
    for watch in (second, first, second, first):
        await watch.look()
    assert await named() == [f"two processes run as edge {edge}, on copies of one disk"]
    assert len([line for line in caplog.messages if "another process has this slot" in line]) == 2
    for watch in (former, first, second):
        await watch.close()
