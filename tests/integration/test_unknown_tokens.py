"""Unknown tokens are looked up together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from tests.integration.api_client import run_sql
from tracker.settings import Settings
from tracker.store import db
from tracker.store.tokens import create_token, digest, find_token
from tracker.store.unknown_tokens import UnknownTokens

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(database: Settings) -> AsyncIterator[db.Pool]:
    async with await db.open_pool(database.postgres_dsn or "") as connections:
        yield connections


async def test_wrong_tokens_by_the_thousand_take_one_connection(
    database: Settings,
) -> None:
    right = await create_token(database.postgres_dsn or "", ["clicks:read"], "right")
    async with opened(database) as connections:
        unknown = UnknownTokens(connections)
        tokens = [*(f"trk_wrong{n}" for n in range(1_200)), right, *(f"trk_other{n}" for n in range(1_200))]
        found = await asyncio.gather(*map(unknown.find, tokens))
        assert [token.name for token in found if token] == ["right"]
        assert found[1_200] is not None
        assert connections.get_size() <= 2, "the other one notes that the right one is used"


async def test_secrets_of_a_token_are_found_until_they_end(database: Settings) -> None:
    names = ("fresh", "rotated", "overlapped", "revoked", "expired")
    secrets = {name: await create_token(database.postgres_dsn or "", ["clicks:read"], name) for name in names}
    async with opened(database) as connections:
        for name, until in (("rotated", timedelta(hours=-1)), ("overlapped", timedelta(hours=1))):
            await connections.execute(
                "UPDATE token SET previous_hash = secret_hash, secret_hash = $2, previous_until = now() + $3 "
                "WHERE name = $1",
                name,
                digest(f"trk_new_{name}"),
                until,
            )
        await connections.execute("UPDATE token SET revoked_at = now() WHERE name = 'revoked'")
        await connections.execute("UPDATE token SET expires_at = now() WHERE name = 'expired'")
        tokens = [*secrets.values(), "trk_new_rotated", "trk_new_overlapped"]
        unknown = UnknownTokens(connections)
        found = await asyncio.gather(*map(unknown.find, tokens))
        assert [token and token.name for token in found] == [
            *("fresh", None, "overlapped", None, "expired"),
            *("rotated", "overlapped"),
        ]
        assert found == [await find_token(connections, token) for token in tokens]
        unused = await connections.fetch("SELECT name FROM token WHERE last_used_at IS NULL ORDER BY name")
        assert [row["name"] for row in unused] == ["expired", "revoked"]


async def test_refusal_of_postgres_reaches_all_waiting_reads_and_does_not_last(database: Settings) -> None:
    right = await create_token(database.postgres_dsn or "", ["clicks:read"])
    async with opened(database) as connections:
        unknown = UnknownTokens(connections)
        await run_sql(database, "ALTER TABLE token RENAME TO gone")
        told = await asyncio.gather(*map(unknown.find, [right] * 9), return_exceptions=True)
        assert {type(error).__name__ for error in told} == {"UndefinedTableError"}
        await run_sql(database, "ALTER TABLE gone RENAME TO token")
        assert await unknown.find(right)


async def test_abandoned_request_affects_no_other(database: Settings) -> None:
    right = await create_token(database.postgres_dsn or "", ["clicks:read"])
    async with opened(database) as connections, opened(database) as others:
        unknown = UnknownTokens(connections)
        async with others.acquire() as locking, locking.transaction():
            await locking.execute("LOCK TABLE token")
            asks, waits, remains = [asyncio.create_task(unknown.find(right)) for _ in range(3)]
            await asyncio.sleep(0.1)
            asks.cancel()
            await asyncio.sleep(0.1)
            waits.cancel()
        assert await remains
        assert asks.cancelled()
        assert waits.cancelled()
