"""Drafts: offers that are tried before they are active, and warnings at activation."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from httpx import AsyncClient

from tests.integration.api_client import api_of, run_sql
from tests.integration.edge_client import edge_of, recorded
from tests.integration.importing import Importer, importer
from tracker.api.http.auth import VIEWS
from tracker.catalogue.tracking_links import make_link
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.tokens import create_token

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

USERS = "/backend/open-api/v1/users"
LINK = "/offer/3?affiliate_id=513"
NO_PRICE = "has no price yet: set its payout and revenue"
SCOPES = ("offers:read", "offers:write", "money:write")


@pytest.fixture
async def demo(database: Settings) -> Settings:
    """The demo, whose offer 3 is a draft."""
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    await run_sql(database, "UPDATE offer SET status = 'draft' WHERE id = 3")
    return replace(database, geoip_db=())


FALLBACKS = [  # fallback of the draft or of the network, answer, stored row
    ("SELECT", 403, "", ("rejected", 18, 3)),
    ("UPDATE offer SET fallback_offer_id = 1 WHERE id = 3", 302, "https://", ("forwarded", 18, 1)),
    (
        "UPDATE offer SET fallback_url = 'https://instead.test/' WHERE id = 3",
        302,
        "https://instead",
        ("forwarded", 18, 3),
    ),
    ("UPDATE deployment SET fallback_offer_id = 1", 302, "https://", ("forwarded", 18, 1)),
    ("UPDATE deployment SET fallback_offer_id = 3", 403, "", ("rejected", 18, 3)),
]


@pytest.mark.parametrize(("statement", "status", "location", "row"), FALLBACKS)
async def test_draft_refuses_with_a_reason_of_its_own(
    demo: Settings, statement: str, status: int, location: str, row: tuple[str, int, int]
) -> None:
    await run_sql(demo, statement)
    async with edge_of(demo, demo=False) as client:
        for method, count in (("HEAD", 0), ("GET", 1)):
            answer = await client.request(method, LINK)
            assert answer.status_code == status
            assert answer.headers.get("location", "").startswith(location)
            stored = [(click.status, click.reason, click.offer_id) for click in await recorded(demo)]
            assert stored == [row] * count


async def test_draft_cannot_be_a_fallback(demo: Settings) -> None:
    await run_sql(demo, "UPDATE offer SET status = 'paused', fallback_offer_id = 3 WHERE id = 1")
    async with edge_of(demo, demo=False) as client:
        assert (await client.get("/offer/1?affiliate_id=513")).status_code == 410
        assert (await client.get("/offer/9?affiliate_id=513")).status_code == 404


async def test_test_clicks_are_served(demo: Settings) -> None:
    signed = await make_link(demo, 3, 513, test_until=_tomorrow())
    async with edge_of(demo, demo=False) as client:
        for link in (signed[signed.index("/offer/") :], "/offer/3?affiliate_id=599"):
            assert (await client.get(link)).headers["location"].startswith("https://ad.example/land")
    rows = await recorded(demo)
    assert [(row.status, row.reason, row.is_test) for row in rows] == [("accepted", 0, True)] * 2


async def test_explain_shows_the_outcome_of_a_draft_if_active(demo: Settings, importer: Importer) -> None:
    link = f"http://t.test{LINK}"
    async with api_of(demo, scopes=SCOPES) as client:
        by_api = (await client.get("/backend/open-api/v1/explain", params={"url": link})).json()
    by_command = json.loads((await importer.command("explain", link, "--json")).out)
    for told in (by_api, by_command):
        assert (told["answer"]["reason_name"], told["answer"]["http_status"]) == ("offer_draft", 403)
        assert told["if_active"]["status"] == "accepted"
        assert told["if_active"]["location"].startswith("https://ad.example/land")
        assert told["urls"]
    test = await make_link(demo, 3, 513, test_until=_tomorrow())
    told = json.loads((await importer.command("explain", test, "--json")).out)
    assert (told["answer"]["status"], told["is_test"], "if_active" in told) == ("accepted", True, False)


async def test_becoming_active_without_a_price_warns(database: Settings) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    async with api_of(database, scopes=SCOPES) as client:
        offer = await _made(client, {"name": "New", "advertiser_id": 1, "status": "draft"})
        assert "warnings" not in offer, "a draft may be incomplete"
        (goal,) = (await client.get(f"{USERS}/offers/{offer['id']}/goals")).json()["data"]
        told = await _patched(client, offer, status="active")
        assert told["warnings"] == [f"goal {goal['id']} ({goal['name']}) {NO_PRICE}"]
        assert "warnings" not in await _patched(client, offer, name="Newer"), "it was active before"
        assert "warnings" not in await _patched(client, offer, status="paused")
        goal_path = f"{USERS}/offers/{offer['id']}/goals/{goal['id']}"
        for status, is_told in (("paused", False), ("active", True)):  # of the goal, which pays only then
            await client.patch(goal_path, json={"status": status})
            assert ("warnings" in await _patched(client, offer, status="active")) == is_told, status
            await _patched(client, offer, status="draft")
        await client.patch(goal_path, json={"payout": "2.50"})
        assert "warnings" not in await _patched(client, offer, status="active")
        made = await _made(client, {"name": "Live at once", "advertiser_id": 1})
        assert len(made["warnings"]) == 1
        listed = (await client.get(f"{USERS}/offers/{made['id']}")).json()
        assert "warnings" not in listed, "only who changes something is told"


async def test_command_line_prints_warnings(demo: Settings, importer: Importer) -> None:
    made = await importer.command("offers", "add", "name=New", "advertiser_id=1", "status=draft")
    assert (made.code, made.err) == (0, "")
    id_ = made.out.split()[1]
    for words in (("--dry-run",), ("--json",), ()):
        await run_sql(demo, "UPDATE offer SET status = 'draft' WHERE id = $1", int(id_))
        told = await importer.command("offers", "set", id_, "status=active", *words)
        assert (told.code, NO_PRICE in told.err) == (0, True), words
        assert "warnings" not in told.out or words == ("--json",)
    listed = await importer.command("offers", "list", "status=draft")
    assert [line.split()[0] for line in listed.out.splitlines()[1:]] == ["3"]


CATALOGUE = """
advertisers: [{name: A}]
offers:
  - {name: Priced, advertiser: A, goals: [{is_base: true, payout: "1.50"}]}
  - {name: Unpriced, advertiser: A}
  - {name: Draft, advertiser: A, status: draft}
"""


async def test_imported_catalogue_is_checked_as_a_whole(importer: Importer) -> None:
    path = importer.file("network.yaml", CATALOGUE)
    for words in (("--dry-run",), ("--json",)):
        done = await importer.run("catalogue", path, *words)
        (warning,) = done.err.splitlines()
        assert done.code == 0
        assert "offers[1]: goal" in warning
        assert NO_PRICE in warning
    assert await importer.fetch("SELECT name FROM offer WHERE status = 'draft'") == [("Draft",)]
    again = await importer.run("catalogue", path)
    assert (again.code, again.err) == (0, ""), "nothing became active"
    wrong = importer.file("wrong.yaml", CATALOGUE.replace("draft", "concept"))
    assert "draft" in (await importer.run("catalogue", wrong)).err


async def test_partners_do_not_see_drafts(demo: Settings) -> None:
    assert demo.postgres_dsn
    token = await create_token(demo.postgres_dsn, ("offers:read",), affiliate_id=513)
    async with api_of(demo, scopes=()) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        offers = (await client.get(f"{VIEWS['affiliate']}/offers")).json()
        assert 3 not in [offer["id"] for offer in offers["data"]]
        await run_sql(demo, "UPDATE offer SET status = 'active' WHERE id = 3")
        offers = (await client.get(f"{VIEWS['affiliate']}/offers")).json()
        assert 3 in [offer["id"] for offer in offers["data"]]


async def test_document_knows_drafts(demo: Settings) -> None:
    async with api_of(demo, scopes=SCOPES) as client:
        document = (await client.get("/openapi.json")).json()
        assert "draft" in document["components"]["schemas"]["Offer"]["properties"]["status"]["enum"]
        listed = (await client.get(f"{USERS}/offers?status=draft")).json()
        assert [offer["id"] for offer in listed["data"]] == [3]


async def _made(client: AsyncClient, fields: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(f"{USERS}/offers", json=fields)
    assert answer.status_code == 201, answer.text
    row: dict[str, Any] = answer.json()
    return row


async def _patched(client: AsyncClient, offer: dict[str, Any], **fields: str) -> dict[str, Any]:
    answer = await client.patch(f"{USERS}/offers/{offer['id']}", json=fields)
    assert answer.status_code == 200, answer.text
    row: dict[str, Any] = answer.json()
    return row


def _tomorrow() -> datetime:
    return datetime.now(UTC) + timedelta(days=1)
