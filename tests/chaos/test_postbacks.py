"""Every part is killed while postbacks flow. An answered postback makes one conversion."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import asyncpg
import pytest

from tests.chaos.load import Load
from tests.chaos.scenario import House
from tests.conftest import Furnish
from tests.e2e.running import PATIENCE
from tracker.processes.engines.engine import resolve
from tracker.settings import Settings
from tracker.store.db import UNREACHABLE
from tracker.stream.postbacks import PostbackStream

SEED = 5
KILLED = (
    ("tracker edge",),
    ("tracker worker",),
    ("postgres",),
    ("valkey-server",),
    ("valkey-server", "postgres"),
)
_GOAL = """
INSERT INTO advertiser_secret (advertiser_id, secret_hash) VALUES (1, sha256('trs_chaos'));
UPDATE goal SET multiple = true WHERE offer_id = 3
"""
_PARKED = "SELECT EXISTS (SELECT FROM postback WHERE result = 'parked')"
_TAKEN = "SELECT parameters ->> 'order_id', result FROM postback WHERE result <> 'refused'"
_PAUSE = 0.1  # of each connection: postbacks of one click are slow to apply by the ten thousand
_LINK = "/offer/3?affiliate_id=513"


class Calls(Load):
    """An advertiser that sends one postback for each order."""

    async def _click(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        order = f"o{number}"
        writer.write(f"GET {self._links[0]}&order_id={order} HTTP/1.1\r\nHost: t.example\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        headers = dict(line.split(b": ", 1) for line in head.splitlines()[1:-1])
        await reader.readexactly(int(headers[b"content-length"]))
        if head.startswith(b"HTTP/1.1 200 "):
            self._note(order, "")
            return True
        if not head.startswith(
            (b"HTTP/1.1 503 ", b"HTTP/1.1 403 ")
        ):  # 403: the edge does not know the secret yet
            self.unexpected.append(head)
        await asyncio.sleep(_PAUSE)
        return False


@pytest.mark.timeout(180)
def test_answered_postback_is_applied_once(furnish: Furnish, tmp_path: Path) -> None:
    asyncio.run(run(furnish(tmp_path / "var")))


async def run(data_dir: Path) -> None:
    house = await asyncio.to_thread(House, data_dir)
    try:
        settings = resolve(Settings(data_dir=data_dir))
        await _execute(settings, _GOAL)
        response, _ = await asyncio.to_thread(house.up.get, _LINK)
        click = response.headers["location"].partition("click_id=")[2][:32]
        answered = await _fail_under_load(house, f"/postback?click_id={click}&token=trs_chaos")
        await _drained(settings)
        await _check(settings, answered)
    finally:
        await asyncio.to_thread(house.up.end)


async def _fail_under_load(house: House, call: str) -> set[str]:
    lot = random.Random(SEED)
    async with asyncio.timeout(2 * PATIENCE), Calls([house.up.port], call) as calls:
        for words in lot.sample(KILLED, len(KILLED)):
            await calls.answers(lot.randint(100, 300))
            await house.kill(*words)
            await calls.answers(100)
            await asyncio.sleep(lot.uniform(0.3, 0.8))
    assert calls.unexpected == []
    return set(calls.answered)


async def _drained(settings: Settings) -> None:
    """Wait until the stream is empty and no postback waits for its click."""
    assert settings.redis_url
    async with asyncio.timeout(PATIENCE), PostbackStream(settings.redis_url) as stream:
        while await stream.waiting() != (0, 0) or await _is_any_parked(settings):
            await asyncio.sleep(0.1)


async def _is_any_parked(settings: Settings) -> bool:
    """Unknown while Postgres is coming back."""
    try:
        connection = await asyncpg.connect(settings.postgres_dsn)
    except UNREACHABLE:
        return True
    try:
        return bool(await connection.fetchval(_PARKED))
    finally:
        await connection.close()


async def _check(settings: Settings, answered: set[str]) -> None:
    connection = await asyncpg.connect(settings.postgres_dsn)
    try:
        logged = await connection.fetch(_TAKEN)
        made = await connection.fetch("SELECT order_id FROM conversion")
    finally:
        await connection.close()
    times = Counter(order for order, _ in logged)
    assert answered <= times.keys()
    assert {order for order, count in times.items() if count > 1} == set()
    assert {result for _, result in logged} == {"stored"}
    assert sorted(order for (order,) in made) == sorted(times)


async def _execute(settings: Settings, statements: str) -> None:
    connection = await asyncpg.connect(settings.postgres_dsn)
    await connection.execute(statements)
    await connection.close()
