from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from httpx import AsyncClient

from tests.factories.clicks import a_row
from tests.factories.clicks import store as store_rows
from tests.integration.api_client import CLICKS, api_of, hash_at, store
from tracker.domain.model import ClickRow
from tracker.settings import Settings
from tracker.store.clicks import insert as clicks
from tracker.store.db import Connection, connect

pytestmark = pytest.mark.anyio

NOW = 1_790_000_000_000
APART = 100_000_000  # milliseconds: writers of one day wait for each other's counts


def rows(start: int, count: int, **changes: Any) -> list[ClickRow]:
    return [a_row(hash=hash_at(NOW + n), **changes) for n in range(start, start + count)]


async def writer(settings: Settings) -> Connection:
    assert settings.postgres_dsn is not None
    connection = await connect(settings.postgres_dsn)
    await clicks.prepare(connection)
    return connection


async def polled(client: AsyncClient, after_id: int, **query: Any) -> tuple[list[int], int]:
    body = (await client.get(CLICKS, params={"after_id": after_id, **query})).json()
    assert (body["total"], body["page"], body["pages"]) == (None, None, None)
    return [row["id"] for row in body["data"]], body["next_after_id"]


async def test_ids_of_an_open_transaction_hold_back_all_above_them(database: Settings) -> None:
    slow = await writer(database)
    async with api_of(database) as client:
        assert await polled(client, 0) == ([], 0)
        for first in (1, 7):  # before the first id ever, and after some
            transaction = slow.transaction()
            await transaction.start()
            await store_rows(slow, rows(first * 100, 3))
            await store(database, rows(first * 100 + APART, 3))
            assert await polled(client, first - 1) == ([], first - 1)
            await transaction.commit()
            assert await polled(client, first - 1) == (list(range(first, first + 6)), first + 5)
    await slow.close()


async def test_ids_of_a_transaction_that_failed_hold_nothing_back(database: Settings) -> None:
    failing = await writer(database)
    transaction = failing.transaction()
    await transaction.start()
    await store_rows(failing, rows(0, 3))
    await store(database, rows(APART, 2))
    await transaction.rollback()
    await failing.close()
    async with api_of(database) as client:
        assert await polled(client, 0) == ([4, 5], 5)


async def test_feed_is_paged_and_filtered(database: Settings) -> None:
    await store(database, [*rows(0, 3), *rows(3, 2, offer_id=4), *rows(5, 3)])
    async with api_of(database) as client:
        assert await polled(client, 0, per_page=3) == ([1, 2, 3], 3)
        assert await polled(client, 3, per_page=3) == ([4, 5, 6], 6)
        assert await polled(client, 8) == ([], 8)
        assert await polled(client, 0, offer_id=4) == ([4, 5], 5)


async def test_poller_misses_nothing_of_many_writers(database: Settings) -> None:
    chance = random.Random(3)
    stored: list[int] = []

    async def write(start: int) -> None:
        connection = await writer(database)
        for batch in range(12):
            async with connection.transaction():
                await store_rows(connection, rows(start + batch * 10, chance.randrange(1, 5)))
                await asyncio.sleep(chance.random() * 0.02)
        await connection.close()

    async with api_of(database) as client:
        writers = asyncio.gather(*(write(n * APART) for n in range(4)))
        seen: list[int] = []
        after_id = 0
        while True:
            all_stored = writers.done()
            ids, after_id = await polled(client, after_id, per_page=5)
            seen += ids
            if all_stored and not ids:
                break
        await writers
        exported = await client.get(f"{CLICKS}/export")
        stored = sorted(int(line.split(",")[0].removeprefix('{"id":')) for line in exported.text.splitlines())
    assert seen == stored
    assert len(seen) >= 48
