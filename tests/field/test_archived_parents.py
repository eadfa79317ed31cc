"""Rows below an archived row: PATCH is 404 as POST is. They can be read and deleted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from httpx import AsyncClient

from tests.integration.api_client import api_of, run_sql
from tests.integration.importing import Importer, importer
from tests.integration.test_api_management import CREATE
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

USERS = "/backend/open-api/v1/users"
SCOPES = ("offers:read", "offers:write", "money:read", "money:write", "admin")

CHILDREN: list[tuple[str, str, dict[str, Any]]] = [  # archived row, row below it, change
    ("offer", "offers/3/urls", {"weight": 7}),
    ("offer", "offers/3/affiliates", {"status": "rejected"}),
    ("offer", "offers/3/free-values", {"value": "autumn"}),
    ("offer", "offers/3/caps", {"amount": 6}),
    ("offer", "offers/3/goals", {"name": "Sale"}),
    ("offer", "goals/{goal}/terms", {"payout": "3"}),  # the goal's offer
    ("goal", "goals/{goal}/terms", {"payout": "3"}),
    ("advertiser", "advertisers/1/postback-secrets", {"name": "other"}),
    ("affiliate", "affiliates/513/postbacks", {"statuses": ["hold"]}),
]
IDS = {"offer": 3, "advertiser": 1, "affiliate": 513}


async def _made(client: AsyncClient, path: str, example: str) -> str:
    body = {**CREATE[example]}
    made = await client.post(f"{USERS}/{path}", json=body)
    assert made.status_code == 201, made.text
    row = made.json()
    return f"{USERS}/{path}/{row.get('id') or row.get('affiliate_id')}"


@pytest.mark.parametrize(("archived", "path", "change"), CHILDREN)
async def test_child_of_an_archived_row_is_not_changed(
    database: Settings, archived: str, path: str, change: dict[str, Any]
) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    async with api_of(database, scopes=SCOPES) as client:
        goal = (await client.post(f"{USERS}/offers/3/goals", json={"name": "Deposit"})).json()["id"]
        example = path.format(goal=3)
        child = await _made(client, path.format(goal=goal), example)
        place = f"{USERS}/{path.format(goal=goal)}"
        before = (await client.get(child)).json()
        await run_sql(
            database,
            f"UPDATE {archived} SET is_archived = true WHERE id = {IDS.get(archived, goal)}",
        )
        assert (await client.post(place, json=CREATE[example])).status_code == 404
        for body in (change, {}, {"is_archived": False} if "is_archived" in before else change):
            answer = await client.patch(child, json=body)
            assert (answer.status_code, answer.headers["content-type"]) == (
                404,
                "application/problem+json",
            ), body
        assert (await client.get(child)).json() == before
        assert before in (await client.get(place)).json()["data"]
        assert (await client.delete(child)).status_code == 204


async def test_children_change_once_their_parent_is_restored(database: Settings) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    async with api_of(database, scopes=SCOPES) as client:
        child = await _made(client, "offers/3/caps", "offers/3/caps")
        assert (await client.delete(f"{USERS}/offers/3")).status_code == 204
        assert (await client.patch(child, json={"amount": 6})).status_code == 404
        assert (await client.patch(f"{USERS}/offers/3", json={"is_archived": False})).status_code == 200
        assert (await client.patch(child, json={"amount": 6})).json()["amount"] == 6


async def test_command_line_and_catalogue_file_answer_alike(importer: Importer) -> None:
    await importer.catalogue()
    await importer.fetch("UPDATE offer SET is_archived = true WHERE id = 3")
    content = {"offer_urls": [{"id": 132, "offer_id": 3, "url": "https://ad.test/?c={hash}", "weight": 9}]}
    done = await importer.run("catalogue", importer.file("change.json", json.dumps(content)))
    assert (done.code, "The offer does not exist." in done.err or "matches no offer" in done.err) == (
        1,
        True,
    ), done.err
    assert await importer.fetch("SELECT weight FROM offer_url WHERE id = 132") == [(1,)]
