"""Clicks through an edge whose stream is on several nodes, while something happens to the nodes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from time import monotonic
from typing import Any

from httpx import AsyncClient

from tests.integration.edge_client import edge_of
from tests.integration.topologies import PATIENCE
from tracker.ops import ledger
from tracker.settings import Settings
from tracker.store import db
from tracker.stream.reader import UNREACHABLE
from tracker.stream.waiting_clicks import waiting_clicks
from workers import click_writer

LINK = "/offer/3?affiliate_id=513"
TWO_COPIES: Mapping[str, Any] = {"copies": 2, "on_loss": "redirect"}
"""A kill may take what no replica has. All nodes are on this machine, so a spool would be no second copy."""

_VISITORS_AT_ONCE = 4


class Traffic:
    """Answers to visitors by their status, since the edge is ready."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.answers: Counter[int] = Counter()
        self._numbers = count()

    async def visit(self, client: AsyncClient, leaving: asyncio.Event) -> None:
        """Clicks of visitors who were never here, so that all partitions get their share."""
        while not leaving.is_set():
            agent = (
                f"Mozilla/5.0 (X11; Linux x86_64; rv:{next(self._numbers)}.0) Gecko/20100101 Firefox/130.0"
            )
            answer = await client.get(LINK, headers={"User-Agent": agent})
            self.answers[answer.status_code] += 1

    async def more(self, clicks: int) -> None:
        """Wait for further clicks."""
        wanted = self.answers.total() + clicks
        async with asyncio.timeout(PATIENCE):
            while self.answers.total() < wanted:
                await asyncio.sleep(0.01)

    async def settle(self) -> None:
        """Check that all were redirected, that each redirect is stored once, and that the books balance."""
        assert list(self.answers) == [302]
        until = monotonic() + PATIENCE
        while (await self._waiting() or await self._stored() < self.answers[302]) and monotonic() < until:
            await asyncio.sleep(0.05)
        answered, stored, waiting = self.answers[302], await self._stored(), await self._waiting()
        assert (stored, waiting) == (answered, {}), f"{answered=} {stored=} {waiting=}"
        now = int(time.time() / 60)
        balance, _ = await ledger.ask(self.settings, range(now - 5, now + 1), verify=True)
        assert [ledger.amiss(minute) for minute in balance.unbalanced] == []

    async def _stored(self) -> int:
        assert self.settings.postgres_dsn
        connection = await db.connect(self.settings.postgres_dsn)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM click"))
        finally:
            await connection.close()

    async def _waiting(self) -> dict[int, int] | str:
        """Clicks on the stream by partition, or why it cannot be asked."""
        assert self.settings.redis_url
        try:
            return await waiting_clicks(self.settings.redis_url)
        except UNREACHABLE as error:
            return str(error)


@asynccontextmanager
async def traffic(settings: Settings) -> AsyncIterator[Traffic]:
    """An edge, a worker and visitors, who stop with the block. Then each of their clicks must be stored."""
    leaving, stopping, going = asyncio.Event(), asyncio.Event(), Traffic(settings)
    async with edge_of(settings) as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(click_writer.run(settings, 0, stopping))
        visitors = [tasks.create_task(going.visit(client, leaving)) for _ in range(_VISITORS_AT_ONCE)]
        try:
            await going.more(50)
            yield going
            await going.more(50)
            leaving.set()
            await asyncio.wait(visitors)
            await going.settle()
        finally:
            leaving.set()
            stopping.set()
