"""PostgreSQL's primary is killed under load, and its standby takes its place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from httpx import AsyncClient

from tests.conftest import Engines, Furnish
from tests.factories.clicks import a_click, a_row, outcomes_of
from tests.integration.api_client import CLICKS, api_of, store
from tests.integration.engines import PATIENCE, until
from tests.integration.standby_client import STANDBY, Pair, pair_of
from tracker.domain.click_id import Mint
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.ops import ledger
from tracker.processes.catalogue_sync import follow_catalogue
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.stream.appender import Appender, Lane
from tracker.stream.record import encode
from workers import click_writer

pytestmark = pytest.mark.anyio

_ROUNDS = 20


@pytest.fixture
async def pair(furnish: Furnish, tmp_path: Path) -> AsyncIterator[Pair]:
    async with pair_of(furnish, tmp_path / "pair") as both:
        yield both


@pytest.fixture
async def settings(pair: Pair, engines: Engines, tmp_path: Path) -> Settings:
    """Settings that name both servers, the standby first."""
    async with redis.asyncio.Redis.from_url(engines.redis_url) as client:
        await client.flushall()
    await load_demo(pair.primary.dsn)
    await pair.caught_up()
    return replace(engines.settings, postgres_dsn=pair.dsn, data_dir=tmp_path, batch_age=0.0)


class Visitors:
    """Clicks that an edge appends all the time."""

    def __init__(self, settings: Settings) -> None:
        self.hashes: set[str] = set()
        self._appender = Appender(str(settings.redis_url))
        self._mint, self._lane = Mint(), Lane()

    async def click(self, number: int = 20) -> None:
        made = [a_click(hash=self._mint.hash(), visitor_key=n) for n in range(number)]
        records = [encode(click, outcomes_of(click)) for click in made]
        await self._appender.append(self._lane, records, PATIENCE)
        self._lane.next()
        self.hashes |= {click.hash for click in made}

    async def close(self) -> None:
        await self._appender.close()


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[None]:
    """A worker that stores clicks."""
    stopping = asyncio.Event()
    task = asyncio.create_task(click_writer.run(settings, 0, stopping))
    try:
        yield
    finally:
        stopping.set()
        await task


async def promoted(pair: Pair) -> None:
    await pair.primary.kill()
    await pair.standby.ask("SELECT pg_promote(true, 30)")


async def is_drained(settings: Settings) -> bool:
    async with redis.asyncio.Redis.from_url(str(settings.redis_url)) as client:
        return await client.xlen("clicks:{0}") == 0


async def balance(settings: Settings) -> ledger.Ledger:
    minute = int(time.time()) // 60
    return (await ledger.ask(settings, range(minute - 5, minute + 1), verify=True))[0]


async def served(client: AsyncClient) -> Any:
    answer = await client.get(CLICKS, params={"per_page": 1000})
    return answer.json() if answer.status_code == 200 else None


async def test_promotion_under_load_loses_and_doubles_nothing(settings: Settings, pair: Pair) -> None:
    await pair.primary.set("synchronous_standby_names", STANDBY)
    await pair.standby.set("synchronous_standby_names", "")  # the next primary is alone
    catalogue, visitors = Catalogue(), Visitors(settings)
    follower = asyncio.create_task(follow_catalogue(settings, catalogue, settings.data_dir / "snapshot"))
    async with api_of(settings, scopes=("clicks:read",)) as client, working(settings):
        for number in range(_ROUNDS):
            await visitors.click()
            if number == _ROUNDS // 2:
                await until(lambda: served(client))
                await promoted(pair)
        await until(lambda: is_drained(settings))
        shown = await until(lambda: served(client))
        assert {row["hash"] for row in shown["data"]} == visitors.hashes
        assert shown["total"] == len(visitors.hashes)
        (balanced,) = {minute.state for minute in (await balance(settings)).minutes}
        assert balanced is ledger.State.BALANCED
        await pair.standby.ask("UPDATE offer SET status = 'paused' WHERE id = 3")
        await until(lambda: is_paused(catalogue))
    follower.cancel()
    with suppress(asyncio.CancelledError):
        await follower
    await visitors.close()


async def is_paused(catalogue: Catalogue) -> bool:
    offer = catalogue.offers.get(3)
    return offer is not None and not offer.is_active


async def test_ledger_sees_what_a_promotion_has_lost(settings: Settings, pair: Pair) -> None:
    """Without a synchronous standby stored clicks leave the stream on one disk."""
    visitors = Visitors(settings)
    async with working(settings):
        await pair.standby.kill()
        await visitors.click(7)
        await until(lambda: is_drained(settings))
        await pair.primary.kill()
        await pair.standby.start()
        await promoted(pair)
        await visitors.click(5)
        await until(lambda: is_drained(settings))
    found = await balance(settings)
    lost = await pair.standby.ask("SELECT 12 - count(*) FROM click")
    assert sum(minute.difference for minute in found.unbalanced) == lost == 7
    await visitors.close()


async def test_standby_of_a_history_that_was_left_is_not_read(settings: Settings, pair: Pair) -> None:
    """Its log is longer than the new primary's, and has clicks that exist no more."""
    await pair.standby.kill()
    await store(replace(settings, postgres_dsn=pair.primary.dsn), [a_row()])
    await pair.primary.ask("SELECT pg_switch_wal()")
    await pair.primary.kill()
    await pair.standby.start()
    await promoted(pair)
    (pair.primary.directory / "standby.signal").touch()
    await pair.primary.start()
    new, old = pair.standby, pair.primary
    written = await new.ask("SELECT pg_current_wal_flush_lsn()::text")
    assert await old.ask("SELECT pg_last_wal_replay_lsn() > $1::text::pg_lsn", written)
    assert await old.ask("SELECT count(*) FROM click") == 1
    async with api_of(replace(settings, postgres_dsn=new.dsn, read_dsn=old.dsn)) as client:
        assert (await served(client))["total"] == 0
