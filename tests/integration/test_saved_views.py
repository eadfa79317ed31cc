"""Saved views: who sees them, who changes them, and what they may say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx import AsyncClient

from tests.integration.api_client import api_of, run_sql
from tests.integration.test_api_tokens import named
from tracker.settings import Settings
from tracker.store.tokens import create_token

pytestmark = pytest.mark.anyio

ROOT = "/backend/open-api/v1"
VIEWS = f"{ROOT}/users/views"
OF_AFFILIATES = f"{ROOT}/affiliates/views"
WEEK = {"name": "Week by offer", "query": "group_by=offer&period=last_7_days&chart=line"}


@pytest.fixture
async def client(database: Settings) -> AsyncIterator[AsyncClient]:
    await run_sql(database, "INSERT INTO affiliate (id, name) VALUES (513, 'A'), (514, 'B')")
    async with api_of(database, scopes=("reports:read",)) as client:
        yield client


async def bearer(database: Settings, *scopes: str, **fields: Any) -> dict[str, str]:
    assert database.postgres_dsn
    secret = await create_token(database.postgres_dsn, scopes or ("reports:read",), **fields)
    return {"Authorization": f"Bearer {secret}"}


async def names_at(client: AsyncClient, path: str, headers: dict[str, str], **filters: str) -> list[str]:
    answer = (await client.get(path, headers=headers, params=filters)).json()
    assert answer["total"] == len(answer["data"])
    return [row["name"] for row in answer["data"]]


async def test_view_is_saved_shown_changed_and_deleted(client: AsyncClient) -> None:
    answer = await client.post(VIEWS, json={**WEEK, "query": f"?{WEEK['query']}"})
    assert answer.status_code == 201, answer.text
    view, place = answer.json(), answer.headers["location"]
    assert {name: view[name] for name in (*WEEK, "shows", "is_shared")} == {
        **WEEK,
        "shows": "reports",
        "is_shared": False,
    }
    assert (await client.get(place)).json() == view
    assert (await client.get(VIEWS)).json()["data"] == [view]

    stale = await client.patch(place, json={"name": "x"}, headers={"If-Match": '"99"'})
    assert named(stale, 412) == {"version"}
    assert named(await client.patch(place, json={"version": 99, "name": "x"}), 409) == {"version"}
    assert named(await client.patch(place, json={"made_by": "x"}), 422) == {"made_by"}
    changed = (await client.patch(place, json={"name": "Mine", "is_shared": True})).json()
    assert (changed["name"], changed["query"], changed["is_shared"]) == ("Mine", WEEK["query"], True)
    assert changed["version"] > view["version"]

    assert (await client.delete(place)).status_code == 204
    for method in ("GET", "PATCH", "DELETE"):
        assert (await client.request(method, place, json={})).status_code == 404


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"query": "group_by=planet"}, {"query"}),
        ({"query": "period=today"}, {"query"}),
        ({"query": "group_by=offer&offer_id=x"}, {"query"}),
        ({"query": "group_by=offer&aff_sub=a b"}, {"query"}),
        ({"query": "group_by=offer#x"}, {"query"}),
        ({"query": "group_by=offer&aff_sub=" + "a" * 8_000}, {"query"}),
        ({"query": None}, {"query"}),
        ({"name": ""}, {"name"}),
        ({"name": "a\nb"}, {"name"}),
        ({"shows": "offers"}, {"shows"}),
        ({"shows": ["reports"]}, {"shows"}),
        ({"user_id": 1}, {"user_id"}),
        ({"shows": "clicks", "query": "status=nonsense"}, {"query"}),
    ],
)
async def test_wrong_view_names_the_field(
    client: AsyncClient, change: dict[str, Any], fields: set[str]
) -> None:
    assert named(await client.post(VIEWS, json={**WEEK, **change}), 422) == fields


async def test_views_are_seen_by_their_maker_or_team(client: AsyncClient, database: Settings) -> None:
    """A team is all who see the same rows."""
    mine = dict(client.headers)
    colleague, admin = await bearer(database), await bearer(database, "admin")
    one, two = await bearer(database, affiliate_id=513), await bearer(database, affiliate_id=513)
    other = await bearer(database, affiliate_id=514)
    hiding = await bearer(database, hides_money=True)
    for name, shared in (("private", False), ("of all", True)):
        for headers, path in ((mine, VIEWS), (one, OF_AFFILIATES)):
            body = {**WEEK, "name": name, "is_shared": shared}
            assert (await client.post(path, json=body, headers=headers)).status_code == 201
    both = ["of all", "private"]
    assert await names_at(client, VIEWS, mine) == both
    assert await names_at(client, VIEWS, mine, is_shared="true") == ["of all"]
    assert await names_at(client, VIEWS, mine, shows="clicks") == []
    assert [await names_at(client, VIEWS, who) for who in (colleague, admin, hiding)] == [["of all"]] * 3
    assert await names_at(client, OF_AFFILIATES, one) == both
    assert await names_at(client, OF_AFFILIATES, two) == ["of all"]
    assert await names_at(client, OF_AFFILIATES, other) == []

    rows = {row["name"]: row["id"] for row in (await client.get(VIEWS, headers=mine)).json()["data"]}
    private, of_all = f"{VIEWS}/{rows['private']}", f"{VIEWS}/{rows['of all']}"
    for who in (colleague, admin):
        assert (await client.get(private, headers=who)).status_code == 404
        assert (await client.patch(private, headers=who, json={"name": "x"})).status_code == 404
    assert (await client.get(of_all, headers=colleague)).status_code == 200
    assert (await client.patch(of_all, headers=colleague, json={"name": "x"})).status_code == 403
    assert (await client.delete(of_all, headers=colleague)).status_code == 403
    assert (await client.get(f"{OF_AFFILIATES}/{rows['of all']}", headers=one)).status_code == 404
    assert (await client.patch(of_all, headers=admin, json={"name": "x"})).status_code == 200


async def test_views_of_a_maker_have_distinct_names(client: AsyncClient, database: Settings) -> None:
    first = await client.post(VIEWS, json=WEEK)
    assert first.status_code == 201
    assert named(await client.post(VIEWS, json=WEEK), 422) == {"name"}
    of_clicks = {"name": WEEK["name"], "shows": "clicks", "query": "offer_id=3"}
    assert (await client.post(VIEWS, json=of_clicks)).status_code == 201
    second = await client.post(VIEWS, json={**WEEK, "name": "B"})
    assert named(await client.patch(second.headers["location"], json={"name": WEEK["name"]}), 422) == {"name"}
    assert (await client.patch(first.headers["location"], json={"query": "group_by=day"})).status_code == 200
    assert (await client.post(VIEWS, json=WEEK, headers=await bearer(database))).status_code == 201


async def test_view_takes_what_its_maker_may_ask_for(client: AsyncClient, database: Settings) -> None:
    money = {**WEEK, "query": "group_by=offer&measures=payout"}
    assert (await client.post(VIEWS, json=money)).status_code == 201
    hiding = await bearer(database, hides_money=True)
    assert named(await client.post(VIEWS, json=money, headers=hiding), 422) == {"query"}
    one = await bearer(database, affiliate_id=513)
    hidden = {**WEEK, "query": "group_by=advertiser"}
    assert named(await client.post(OF_AFFILIATES, json=hidden, headers=one), 422) == {"query"}


async def test_views_of_a_deleted_user_stay_with_the_team(database: Settings, client: AsyncClient) -> None:
    await run_sql(
        database,
        "INSERT INTO user_account (id, email, email_key, role) VALUES (7, 'a@b.test', 'a@b.test', 'analyst')",
    )
    for shared in (True, False):
        await run_sql(
            database,
            "INSERT INTO saved_view (name, shows, query, is_shared, user_id, made_by, affiliate_ids,"
            " advertiser_ids) VALUES ('V', 'reports', 'group_by=day', $1, 7, 'a@b.test', '{}', '{}')",
            shared,
        )
    await run_sql(database, "DELETE FROM user_account")
    rows = (await client.get(VIEWS)).json()["data"]
    assert [(row["is_shared"], row["user_id"], row["made_by"]) for row in rows] == [(True, None, "a@b.test")]
