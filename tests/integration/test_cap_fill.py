"""How full an offer's caps are: clicks counted in a real Valkey, conversions in a real Postgres."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from httpx import AsyncClient

from tests.integration.api_client import api_of, run_sql
from tests.integration.stream_client import append, click_at
from tests.integration.test_alerts import conversions
from tracker.api.http.routing import ROOT
from tracker.domain import caps
from tracker.domain.model import Cap, Period
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

pytestmark = pytest.mark.anyio

FILL = f"{ROOT}/offers/3/cap-fill"
ADDED = """
INSERT INTO cap (id, offer_id, affiliate_id, counts, period, amount, on_reached, currency) VALUES
    (1, 3, NULL, 'clicks', 'total', 10, 'close', NULL), (2, 3, 0, 'clicks', 'total', 5, 'close', NULL),
    (3, 3, 0, 'conversions', 'total', 8, 'mark', NULL), (4, 3, NULL, 'payout', 'total', 9, 'close', 'USD'),
    (5, 3, 514, 'conversions', 'total', 4, 'close', NULL), (6, 3, NULL, 'clicks', 'hour', 0, 'close', NULL);
INSERT INTO report_count
SELECT 96, 'affiliate', key, extract(epoch FROM now())::integer / 86400 * 96, 1, 1, 1
FROM unnest(ARRAY['513', '514']) AS key;
"""
FULL: list[tuple[str, list[tuple[int, int | None, str, int]]]] = [
    (
        "",
        [
            (1, None, "3", 10),
            (2, 513, "2", 5),
            (2, 514, "1", 5),
            (3, 513, "2", 8),
            (4, None, "3.00", 9),
            (5, 514, "1", 4),
        ],
    ),
    ("?affiliate_id=513", [(1, None, "3", 10), (2, 513, "2", 5), (3, 513, "2", 8), (4, None, "3.00", 9)]),
    ("?affiliate_id=514", [(1, None, "3", 10), (2, 514, "1", 5), (4, None, "3.00", 9), (5, 514, "1", 4)]),
    ("?affiliate_id=515", [(1, None, "3", 10), (2, 515, "0", 5), (3, 515, "0", 8), (4, None, "3.00", 9)]),
]


@pytest.fixture
async def counted(database: Settings) -> Settings:
    """Three clicks and three conversions: two of affiliate 513 and one of 514."""
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    await run_sql(database, ADDED)
    await run_sql(
        database,
        conversions(3, "3 s", "1 s") + "UPDATE conversion SET affiliate_id = 514 WHERE click_id = 2",
    )
    millis = int(time.time() * 1000)
    clicks = []
    for n, affiliate_id in enumerate((513, 513, 514)):
        limits = [Cap(whose, False, Period.TOTAL, 100, 0) for whose in (None, 0)]
        counters = tuple(caps.counter(cap, 3, "UTC", affiliate_id, millis) for cap in limits)
        clicks.append(click_at(millis, n, counters=counters))
    await append(database, *clicks)
    return database


@pytest.fixture
async def client(counted: Settings) -> AsyncIterator[AsyncClient]:
    async with api_of(counted, scopes=("offers:read",)) as client:
        yield client


def seen(body: dict[str, Any]) -> list[tuple[int, int | None, str, int]]:
    return [(row["cap_id"], row["affiliate_id"], row["used"], row["amount"]) for row in body["data"]]


async def test_fill_counts_clicks_and_conversions_for_whom_a_cap_counts(client: AsyncClient) -> None:
    for query, expected in FULL:
        body = (await client.get(f"{FILL}{query}")).json()
        assert (query, seen(body), body["total"]) == (query, expected, len(expected))
    assert (body["data"][-1]["currency"], body["data"][-1]["ends_at"]) == ("USD", None)


async def test_fill_of_an_unknown_offer_is_not_found(client: AsyncClient) -> None:
    for path, status in (("offers/99/cap-fill", 404), ("offers/x/cap-fill", 404)):
        assert (await client.get(f"{ROOT}/{path}")).status_code == status


async def test_fill_hides_money(counted: Settings) -> None:
    async with api_of(counted, scopes=("offers:read",)) as client:
        await run_sql(counted, "UPDATE token SET hides_money = true")
        found = (await client.get(FILL)).json()["data"]
        assert {row["cap_id"] for row in found} == {1, 2, 3, 5}
        assert all("currency" not in row for row in found)


async def test_fill_waits_for_the_stream(counted: Settings) -> None:
    away = replace(counted, redis_url="redis://127.0.0.1:1/0")
    async with api_of(away, scopes=("offers:read",)) as client:
        answer = await client.get(FILL)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
