"""503 of a busy pool: the log names the pool, and not Postgres as unavailable."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.integration.api_client import CLICKS, api_of
from tests.integration.edge_client import PATIENCE
from tracker.api import app
from tracker.settings import Settings
from tracker.store.db import connect

pytestmark = pytest.mark.anyio

USERS = "/backend/open-api/v1/users"
SIZE = 5  # connections of a pool


async def test_busy_pool_is_named(
    database: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "_LONGEST_WAIT_SECONDS", 0.2)
    assert database.postgres_dsn
    locking = await connect(database.postgres_dsn)
    async with api_of(database, scopes=("clicks:read", "offers:read", "offers:write")) as client:
        assert (await client.get(CLICKS)).status_code == 200
        transaction = locking.transaction()
        await transaction.start()
        await locking.execute("LOCK TABLE offer IN ACCESS EXCLUSIVE MODE")
        held = [asyncio.create_task(client.get(f"{USERS}/offers")) for _ in range(SIZE)]
        async with asyncio.timeout(PATIENCE):
            while await locking.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < SIZE:
                await asyncio.sleep(0.01)
        requests = (
            client.get(CLICKS),
            client.get(f"{CLICKS}/7"),
            client.get(f"{USERS}/offers"),
            client.patch(f"{USERS}/offers/3", json={"name": "x"}),
        )
        for request in requests:
            with caplog.at_level(logging.WARNING):
                answer = await request
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        await transaction.rollback()
        assert {answer.status_code for answer in await asyncio.gather(*held)} == {200}
    await locking.close()
    said = [record.getMessage() for record in caplog.records if record.name == "tracker.api.http.problems"]
    assert len(said) == len(requests)
    assert all("all 5 connections to Postgres were in use for 0.2 s" in line for line in said), said
    assert "unavailable" not in caplog.text


async def test_foreign_lock_is_named(database: Settings, caplog: pytest.LogCaptureFixture) -> None:
    assert database.postgres_dsn
    locking = await connect(database.postgres_dsn)
    async with api_of(database, scopes=("offers:write",)) as client, locking.transaction():
        await locking.execute("LOCK TABLE bot_rule IN ACCESS EXCLUSIVE MODE")
        answer = await client.post(f"{USERS}/bot-rules", json={"field": "user_agent", "value": "x"})
        assert answer.status_code == 503
    await locking.close()
    assert "another transaction has locked the row for too long" in caplog.text
    assert "unavailable" not in caplog.text
