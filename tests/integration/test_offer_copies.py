"""An offer is copied with its parts, as a draft, in one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx import AsyncClient

from tests.integration.api_client import api_of, run_sql
from tracker.api.http.routing import ROOT
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

pytestmark = pytest.mark.anyio

OFFER = f"{ROOT}/offers/3"
ADDED = """
INSERT INTO affiliate (id, name, is_archived) VALUES (700, 'Gone', true);
UPDATE offer SET external_id = 'E-1', closed_until = 'infinity', targeting = '{"country": ["DE"]}',
    tags = '{vip}', visibility = 'private' WHERE id = 3;
UPDATE goal SET payout = 2.5, revenue = 4, name = 'Install', currency = 'EUR', id = 90 WHERE offer_id = 3;
INSERT INTO goal (id, offer_id, name, code, parent_goal_id, payout, is_priced, is_archived) VALUES
    (71, 3, 'Trial', 'trial', NULL, 0, false, false), (70, 3, 'Sale', 'sale', 71, 9, true, false),
    (72, 3, 'Old', NULL, NULL, 1, true, true);
INSERT INTO goal_terms (goal_id, affiliate_id, country_code, payout) VALUES
    (70, 513, NULL, 12), (90, NULL, 'NO', 3), (90, 700, NULL, 8);
INSERT INTO offer_url (offer_id, url, is_archived) VALUES (3, 'https://ad.example/old', true);
INSERT INTO cap (offer_id, affiliate_id, counts, period, amount) VALUES
    (3, NULL, 'clicks', 'day', 10), (3, 700, 'clicks', 'day', 5);
INSERT INTO offer_affiliate (offer_id, affiliate_id, status) VALUES (3, 513, 'approved');
"""
_OWN = ("id", "offer_id", "goal_id", "version", "parent_goal_id")


@pytest.fixture
async def offer(database: Settings) -> Settings:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    await run_sql(database, ADDED)
    return database


@pytest.fixture
async def admin(offer: Settings) -> AsyncIterator[AsyncClient]:
    async with api_of(offer, scopes=("admin",)) as client:
        yield client


async def rows(client: AsyncClient, path: str) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = (await client.get(f"{ROOT}/{path}")).json()["data"]
    return data


def plain(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what is of one row only."""
    return sorted(
        ({name: value for name, value in row.items() if name not in _OWN} for row in found), key=str
    )


async def test_copy_is_a_draft_with_the_same_parts(admin: AsyncClient) -> None:
    answer = await admin.post(f"{OFFER}/copy", json={})
    copy, former = answer.json(), (await admin.get(OFFER)).json()
    assert (answer.status_code, answer.headers["Location"]) == (201, f"{ROOT}/offers/{copy['id']}")
    changed = {name for name in former if former[name] != copy[name]}
    assert changed == {"id", "version", "name", "status", "external_id", "closed_until"}
    assert (copy["name"], copy["status"]) == ("Test Offer (copy)", "draft")
    for part, left_out in (("urls", 0), ("goals", 0), ("free-values", 0), ("caps", 1), ("affiliates", 1)):
        before, after = [await rows(admin, f"offers/{id_}/{part}") for id_ in (3, copy["id"])]
        kept = [row for row in before if part != "affiliates" and row.get("affiliate_id") != 700]
        assert (part, plain(after)) == (part, plain(kept))
        assert len(before) - len(after) == left_out


async def test_copied_goals_keep_their_order_and_terms(admin: AsyncClient) -> None:
    id_ = (await admin.post(f"{OFFER}/copy", json={"name": "Autumn"})).json()["id"]
    goals = {row["name"]: row for row in await rows(admin, f"offers/{id_}/goals")}
    assert goals.keys() == {"Install", "Trial", "Sale"}
    assert goals["Sale"]["parent_goal_id"] == goals["Trial"]["id"]
    terms = {name: await rows(admin, f"goals/{goals[name]['id']}/terms") for name in goals}
    assert [row["payout"] for row in terms["Sale"]] == ["12.00"]
    assert [row["country_code"] for row in terms["Install"]] == ["NO"]  # an archived affiliate has no terms


async def test_copy_without_the_scope_of_money_has_no_price(offer: Settings) -> None:
    async with api_of(offer, scopes=("offers:read", "offers:write")) as client:
        copy = (await client.post(f"{OFFER}/copy", json={"name": "Cheap"})).json()
        assert [warning[:6] for warning in copy["warnings"]] == ["goals:"]
        goals = await rows(client, f"offers/{copy['id']}/goals")
        assert {(row["payout"], row["is_priced"]) for row in goals} == {("0.00", False)}
        assert {row["name"] for row in goals} == {"Install", "Trial", "Sale"}
        assert await rows(client, f"goals/{goals[0]['id']}/terms") == []


@pytest.mark.parametrize(
    ("path", "body", "status", "wrong"),
    [
        ("offers/99", {}, 404, []),
        ("offers/x", {}, 404, []),
        ("offers/3", {"name": " "}, 422, ["name"]),
        ("offers/3", {"id": 7}, 422, ["id"]),
        ("offers/4", {}, 422, ["advertiser_id"]),
    ],
)
async def test_copy_is_refused(
    offer: Settings, admin: AsyncClient, path: str, body: dict[str, Any], status: int, wrong: list[str]
) -> None:
    await run_sql(offer, "UPDATE advertiser SET is_archived = true WHERE id = 2")
    total = len(await rows(admin, "offers"))
    answer = await admin.post(f"{ROOT}/{path}/copy", json=body)
    assert (answer.status_code, list(answer.json().get("errors", []))) == (status, wrong)
    assert len(await rows(admin, "offers")) == total


async def test_copy_needs_the_scope(offer: Settings) -> None:
    async with api_of(offer, scopes=("offers:read",)) as client:
        assert (await client.post(f"{OFFER}/copy", json={})).status_code == 403
