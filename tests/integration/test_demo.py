"""The demo data and its token: loaded once, into an empty database only."""

from __future__ import annotations

import pytest

from tests.factories.clicks import a_row
from tests.integration.api_client import run_sql, store
from tracker.domain.access import OF_NETWORK
from tracker.settings import Settings
from tracker.store.catalogue.demo import has_demo, load_demo
from tracker.store.db import connect
from tracker.store.tokens import create_token, works

pytestmark = pytest.mark.anyio

OWN = [
    "INSERT INTO advertiser (name) VALUES ('mine')",
    "INSERT INTO advertiser (id, name, is_archived) VALUES (4711, 'mine', true)",
    "INSERT INTO affiliate (name) VALUES ('mine')",
    "INSERT INTO block (field, value) VALUES ('source', 'x')",
    "INSERT INTO bot_rule (field, value) VALUES ('ip', '192.0.2.1')",
    "INSERT INTO tracking_host (host) VALUES ('go.example')",
    "INSERT INTO link_form (path, parameters) VALUES ('/click', '{\"o\": \"offer_id\"}')",
    "INSERT INTO status_word (word, status) VALUES ('lead', 'pending')",
    "UPDATE deployment SET fallback_url = 'https://mine.example/'",
]


@pytest.mark.parametrize("own", OWN)
async def test_demo_is_not_loaded_beside_own_data(database: Settings, own: str) -> None:
    dsn = database.postgres_dsn or ""
    await run_sql(database, own)
    kept: list[str] = []
    assert not await load_demo(dsn, kept.append)
    assert (kept, await has_demo(dsn), await count(dsn, "offer"), await count(dsn, "token")) == (
        [],
        False,
        0,
        0,
    )


async def test_demo_is_not_loaded_beside_clicks(database: Settings) -> None:
    await store(database, [a_row()])
    assert not await load_demo(database.postgres_dsn or "")


TABLES = ("offer_free_value", "goal", "offer_url", "offer", "affiliate", "advertiser")


async def test_demo_token_is_made_once_and_not_after_its_revocation(database: Settings) -> None:
    dsn = database.postgres_dsn or ""
    kept: list[str] = []
    assert await load_demo(dsn, kept.append)
    (token,) = kept
    assert await works(dsn, token)
    assert await has_demo(dsn)
    for change in (
        "SELECT",
        "UPDATE token SET revoked_at = now()",
        "; ".join(f"DELETE FROM {table}" for table in TABLES),
    ):
        await run_sql(database, change)
        await load_demo(dsn, kept.append)
        assert kept == [token], change
    assert await has_demo(dsn)
    assert not await works(dsn, token)


async def test_demo_makes_no_second_token(database: Settings) -> None:
    dsn = database.postgres_dsn or ""
    await create_token(dsn, OF_NETWORK)
    kept: list[str] = []
    assert await load_demo(dsn, kept.append)
    assert (kept, await count(dsn, "token")) == ([], 1)


async def test_token_that_cannot_be_kept_is_not_made(database: Settings) -> None:
    dsn = database.postgres_dsn or ""

    def fail(_token: str) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        await load_demo(dsn, fail)
    assert (await count(dsn, "token"), await count(dsn, "offer")) == (0, 0)


async def count(dsn: str, table: str) -> int:
    connection = await connect(dsn)
    try:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))
    finally:
        await connection.close()
