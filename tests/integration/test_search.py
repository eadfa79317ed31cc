"""The search: anything by its id or name, and nothing of others."""

from __future__ import annotations

import time
from typing import Any

import pytest
from httpx import AsyncClient

from tests.factories.clicks import HASH, a_row
from tests.integration.api_client import CLICKS, api_of, hash_at, run_sql, store
from tests.integration.test_manual_conversions import OTHER_HASH, clicks, told
from tests.integration.test_partner_access import client_of
from tracker.reading.search import MOST
from tracker.settings import Settings
from tracker.store.clicks import text_search

__all__ = ["clicks"]
pytestmark = pytest.mark.anyio

SCOPES = ("clicks:read", "conversions:read", "conversions:write", "offers:read")
_MORE = f"""
INSERT INTO legacy_click (legacy_id, source, hash) VALUES ('old-1', 'earlier', '{HASH}');
UPDATE click SET affiliate_id = 514, advertiser_id = 2 WHERE hash = '{OTHER_HASH}';
UPDATE conversion SET affiliate_id = 514, advertiser_id = 2 WHERE order_id = 'B-2';
INSERT INTO offer (id, name, advertiser_id, visibility) VALUES (7000, '100%_Sale <b>', 2, 'private');
"""


@pytest.fixture
async def stored(clicks: Settings) -> Settings:
    async with api_of(clicks, scopes=SCOPES) as client:
        body = [
            {"click_id": HASH, "order_id": "A-1"},
            {"click_id": OTHER_HASH, "order_id": "B-2"},
            {"click_id": "never-seen"},
        ]
        await told(client, {"conversions": body})
    await run_sql(clicks, _MORE)
    return clicks


async def found(client: AsyncClient, q: str, root: str = "users") -> list[dict[str, Any]]:
    answer = await client.get(f"/backend/open-api/v1/{root}/search", params={"q": q})
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


def told_briefly(rows: list[dict[str, Any]]) -> list[str]:
    return [f"{row['kind']} {row['id']}{'' if row['is_exact'] else ' ~'}" for row in rows]


OF_CLICK = [f"click {HASH}", f"postbacks {HASH} ~"]
CASES: list[tuple[str, list[str]]] = [
    (HASH, OF_CLICK),
    (f"  {HASH.upper()} ", [f"click {HASH}", f"postbacks {HASH.upper()} ~"]),
    ("old-1", [f"click {HASH}"]),
    ("A-1", ["conversion 1"]),
    ("never-seen", ["postbacks never-seen ~"]),
    ("513", ["affiliate 513"]),
    ("john doe", ["affiliate 513"]),
    ("PUZZLE", ["offer 1 ~"]),
    ("%_sale", ["offer 7000 ~"]),
    ("Affiliate 50", [f"affiliate {id_} ~" for id_ in (501, 502, 503, 504, 505)]),
    ("no such thing", []),
    ("  ", []),
    ("' OR 1=1 --", []),
    ("\u200b", []),
]


@pytest.mark.parametrize(("q", "expected"), CASES, ids=[repr(q) for q, _ in CASES])
async def test_search_finds_by_id_and_name(stored: Settings, q: str, expected: list[str]) -> None:
    async with api_of(stored, scopes=SCOPES) as client:
        rows = await found(client, q)
        assert sorted(told_briefly(rows)) == sorted(expected)
        for row in rows:
            if row["kind"] in ("click", "offer"):
                place = f"/backend/open-api/v1/users/{row['path']}"
                assert (await client.get(place)).status_code == 200, row
    assert [row["is_exact"] for row in rows] == sorted((row["is_exact"] for row in rows), reverse=True)


async def test_search_finds_sub_ids_of_the_latest_clicks(
    clicks: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, day = int(time.time() * 1000), 86_400_000
    rows = [
        ("summer", "", now - day, 513),
        ("", "summer", now - 2 * day, 513),
        ("summer", "summer", now - 28 * day, 514),
        ("summer", "", now - 31 * day, 513),
        ("other", "", now - 3 * day, 513),
    ]
    await store(
        clicks,
        [
            a_row(hash=hash_at(millis, n), aff_sub=sub, affiliate_source=source, affiliate_id=affiliate)
            for n, (sub, source, millis, affiliate) in enumerate(rows)
        ],
    )

    async def labels(client: AsyncClient, q: str, root: str = "users") -> list[str]:
        found_rows = await found(client, q, root)
        for row in found_rows:
            listed = await client.get(f"/backend/open-api/v1/{root}/{row['path']}")
            assert f"{listed.json()['total']} click" in row["label"]
        return [f"{row['kind']} {row['id']}: {row['label']}" for row in found_rows]

    two = "sub_id aff_sub: 2 clicks with the sub id 1 summer"
    one = "sub_id aff_sub: 1 click with the sub id 1 summer"
    async with api_of(clicks, scopes=("clicks:read",)) as client:
        expected = [two, "sub_id affiliate_source: 2 clicks with the source summer"]
        assert await labels(client, " summer ") == expected
        assert await labels(client, "Summer") == []
        assert await labels(client, "other") == ["sub_id aff_sub: 1 click with the sub id 1 other"]
    async with client_of(clicks, "affiliate") as client:
        expected = [one, "sub_id affiliate_source: 1 click with the source summer"]
        assert await labels(client, "summer", "affiliates") == expected
    async with client_of(clicks, "advertiser") as client:
        assert await found(client, "summer", "advertisers") == []
    monkeypatch.setattr(text_search, "MOST_READ", 1)
    async with api_of(clicks, scopes=("clicks:read",)) as client:
        assert [row["id"] for row in await found(client, "summer")] == ["aff_sub"]
        assert await found(client, "other") == []


@pytest.mark.parametrize(
    ("scopes", "kinds"),
    [
        (("clicks:read",), {"click"}),
        (("conversions:read",), {"conversion"}),
        (("offers:read",), {"advertiser", "offer"}),
        (("admin",), {"click", "conversion", "advertiser", "offer"}),
    ],
)
async def test_scope_finds_what_it_reads(stored: Settings, scopes: tuple[str, ...], kinds: set[str]) -> None:
    async with api_of(stored, scopes=scopes) as client:
        rows = await found(client, "1")
    assert {row["kind"] for row in rows if row["is_exact"]} == kinds
    assert len(rows) <= MOST


@pytest.mark.parametrize(
    ("kind", "q", "expected"),
    [
        ("affiliate", HASH, [f"click {HASH}"]),
        ("affiliate", OTHER_HASH, []),
        ("affiliate", "old-1", [f"click {HASH}"]),
        ("affiliate", "A-1", []),  # order ids are the advertiser's
        ("affiliate", "Puzzle", ["offer 1 ~"]),
        ("affiliate", "7000", []),
        ("affiliate", "John", []),
        ("affiliate", "never-seen", []),
        ("advertiser", "A-1", ["conversion 1"]),
        ("advertiser", "B-2", []),
        ("advertiser", OTHER_HASH, []),
        ("advertiser", "Puzzle", []),
    ],
)
async def test_partners_find_their_own_rows(stored: Settings, kind: str, q: str, expected: list[str]) -> None:
    async with client_of(stored, kind) as client:
        rows = await found(client, q, f"{kind}s")
    assert told_briefly(rows) == expected
    assert "revenue" not in str(rows)


@pytest.mark.parametrize("query", ["", "q=" + "x" * 501, "q=a%00b", "q=a&q=b", "q=a&page=2"])
async def test_wrong_search_names_the_parameter(stored: Settings, query: str) -> None:
    async with api_of(stored, scopes=SCOPES) as client:
        answer = await client.get(f"{CLICKS.removesuffix('clicks')}search?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"]
