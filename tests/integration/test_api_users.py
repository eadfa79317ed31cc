"""Users invited, changed, reset and deleted through the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx import AsyncClient

from tests.integration.api_client import api_of, run_sql
from tests.integration.people import AWAY, HOME, PASSWORD, People, people_of, secret_of
from tests.integration.test_api_tokens import named
from tracker.people.sign_in import WrongError
from tracker.settings import Settings
from tracker.store.tokens import create_token

pytestmark = pytest.mark.anyio

ROOT = "/backend/open-api/v1/users"
USERS = f"{ROOT}/users"
JANE = {"email": "jane@net.example", "role": "admin"}


@pytest.fixture
async def client(database: Settings) -> AsyncIterator[AsyncClient]:
    await run_sql(database, "INSERT INTO affiliate (id, name) VALUES (513, 'A'), (514, 'B')")
    async with api_of(database, scopes=("admin",)) as client:
        yield client


@pytest.fixture
async def people(database: Settings) -> AsyncIterator[People]:
    async with people_of(database) as people:
        yield people


async def test_user_is_invited_shown_changed_and_deleted(client: AsyncClient, people: People) -> None:
    await people.joined("boss@net.example")
    body = {**JANE, "role": "manager", "name": "Jane Roe", "affiliate_ids": [514, 513, 514]}
    answer = await client.post(USERS, json=body)
    assert answer.status_code == 201, answer.text
    user, place = answer.json(), answer.headers["location"]
    link = user.pop("link")
    assert link.startswith("http://127.0.0.1:8001/dashboard/link?s=")
    assert (user["affiliate_ids"], user["has_password"]) == ([513, 514], False)
    assert (await client.get(place)).json() == user
    assert secret_of(link) not in (await client.get(USERS)).text
    for found in (
        {"q": "ROE"},
        {"role": "manager"},
        {"affiliate_id": 514},
        {"is_disabled": "false", "q": "j"},
    ):
        assert (await client.get(USERS, params=found)).json()["data"] == [user], found
    await people.sign_in.with_link(secret_of(link), PASSWORD, HOME)

    stale = await client.patch(place, json={"name": "x"}, headers={"If-Match": '"99"'})
    assert named(stale, 412) == {"version"}
    assert named(await client.patch(place, json={"name": "x", "version": 99}), 409) == {"version"}
    answer = await client.patch(place, json={"role": "analyst", "affiliate_ids": [], "name": None})
    changed = answer.json()
    told = (changed["role"], changed["affiliate_ids"], changed["name"], changed["has_password"])
    assert told == ("analyst", [], "", True)
    assert answer.headers["etag"] == f'"{changed["version"]}"'
    assert (await client.patch(place, json=changed)).json() == changed
    assert named(await client.patch(place, json={"has_totp": True}), 422) == {"has_totp"}
    assert named(await client.patch(place, json={"password_hash": "x"}), 422) == {"password_hash"}

    assert (await client.delete(place)).status_code == 204
    for method in ("GET", "PATCH", "DELETE"):
        assert (await client.request(method, place, json={})).status_code == 404


@pytest.mark.parametrize(
    ("change", "status", "fields"),
    [
        ({"email": "jane"}, 422, {"email"}),
        ({"email": ""}, 422, {"email"}),
        ({"email": None}, 422, {"email"}),
        ({"email": "x" * 250 + "@net.example"}, 422, {"email"}),
        ({"email": "a\u0000@net.example"}, 422, {"email"}),
        ({"email": "BOSS@net.example"}, 409, {"email"}),
        ({"role": "boss"}, 422, {"role"}),
        ({"role": None}, 422, {"role"}),
        ({"role": "affiliate"}, 422, {"affiliate_ids"}),
        ({"role": "manager", "affiliate_ids": [7]}, 422, {"affiliate_ids"}),
        ({"role": "manager", "affiliate_ids": ["513"]}, 422, {"affiliate_ids.0"}),
        ({"role": "manager", "affiliate_ids": [513], "advertiser_ids": [1]}, 422, {"advertiser_ids"}),
        ({"hides_money": True}, 422, {"hides_money"}),
        ({"hides_money": "yes"}, 422, {"hides_money"}),
        ({"name": "\u200b"}, 422, {"name"}),
        ({"password": "x"}, 422, {"password"}),
        ({"is_disabled": 1}, 422, {"is_disabled"}),
    ],
)
async def test_wrong_fields_are_named(
    client: AsyncClient, people: People, change: dict[str, Any], status: int, fields: set[str]
) -> None:
    await people.joined("boss@net.example")
    invited = (await client.post(USERS, json={"email": "tom@net.example", "role": "admin"})).json()
    patch = await client.patch(f"{USERS}/{invited['id']}", json=change)
    assert named(patch, status) == fields
    if "is_disabled" not in change:
        given = {name: value for name, value in {**JANE, **change}.items() if value is not None}
        assert named(await client.post(USERS, json=given), status) == fields
    assert (await client.get(f"{USERS}/{invited['id']}")).json()["version"] == invited["version"]


async def test_last_admin_stays(client: AsyncClient, people: People) -> None:
    boss = f"{USERS}/{(await people.joined('boss@net.example')).user_id}"
    assert named(await client.patch(boss, json={"is_disabled": True}), 409) == {"is_disabled"}
    assert named(await client.patch(boss, json={"role": "finance"}), 409) == {"role"}
    assert named(await client.delete(boss), 409) == {"role"}
    await people.joined()
    assert (await client.delete(boss)).status_code == 204


async def test_user_is_reset(client: AsyncClient, people: People) -> None:
    session = await people.joined()
    await people.with_factor(session)
    place = f"{USERS}/{session.user_id}"
    assert named(await client.post(f"{place}/reset", json={"password": "x"}), 422) == {"password"}
    link = (await client.post(f"{place}/reset", json={"second_factor": True})).json()["link"]
    signed_in = await people.sign_in.with_link(secret_of(link), "quite another phrase", HOME)
    assert not (await people.session(signed_in)).has_totp
    with pytest.raises(WrongError):
        await people.sign_in.with_password("jane@net.example", PASSWORD, HOME)


async def test_sessions_are_listed_and_ended(client: AsyncClient, people: People) -> None:
    session = await people.joined()
    other = await people.joined("boss@net.example")
    signed_in = await people.sign_in.with_password("jane@net.example", PASSWORD, AWAY)
    place = f"{USERS}/{session.user_id}/sessions"
    listed = (await client.get(place)).json()["data"]
    assert {(one["address"], one["user_agent"]) for one in listed} == {HOME, AWAY}
    assert "secret" not in str(listed)
    ended = (await people.session(signed_in)).id
    assert (await client.delete(f"{place}/{other.id}")).status_code == 404
    assert (await client.delete(f"{place}/{ended}")).status_code == 204
    assert await people.is_over(signed_in)
    assert [one["id"] for one in (await client.get(place)).json()["data"]] == [session.id]
    assert (await client.delete(place)).status_code == 204
    assert (await client.get(place)).json() == {"data": []}


async def test_audit_trail_is_filtered_by_user(client: AsyncClient, people: People) -> None:
    await people.joined("boss@net.example")
    session = await people.joined()
    trail = (await client.get(f"{ROOT}/audit", params={"user_id": session.user_id})).json()["data"]
    told = [(one["token_name"], one["user_id"], one["address"], one["path"]) for one in trail]
    who = (session.email, session.user_id, HOME.address)
    assert told == [(*who, f"users/{session.user_id}/sessions"), (*who, f"users/{session.user_id}")]


async def test_audit_trail_names_the_token_and_its_address(client: AsyncClient, database: Settings) -> None:
    user = (await client.post(USERS, json=JANE)).json()
    await client.post(f"{USERS}/{user['id']}/reset", json={})
    await client.patch(f"{USERS}/{user['id']}", json={"role": "finance"})
    trail = (await client.get(f"{ROOT}/audit", params={"resource": "user_account"})).json()["data"]
    assert [(one["action"], one["path"], one["address"]) for one in reversed(trail)] == [
        ("create", f"users/{user['id']}", "127.0.0.1"),
        ("update", f"users/{user['id']}", "127.0.0.1"),
        ("update", f"users/{user['id']}", "127.0.0.1"),
    ]
    assert (trail[0]["before"]["role"], trail[0]["after"]["role"]) == ("admin", "finance")
    assert trail[1]["after"]["link"] == "invitation"
    assert secret_of(user["link"]) not in str(trail)
    token = await create_token(database.postgres_dsn or "", ["offers:read"])
    seen = await client.get(
        f"{ROOT}/audit", params={"resource": "user_account"}, headers={"Authorization": f"Bearer {token}"}
    )
    assert seen.json()["data"] == []


async def test_audit_trail_shows_addresses_to_admins_only(client: AsyncClient, database: Settings) -> None:
    await client.post(f"{ROOT}/advertisers", json={"name": "A"})
    token = await create_token(database.postgres_dsn or "", ["offers:read"])
    for headers, seen in (({}, "127.0.0.1"), ({"Authorization": f"Bearer {token}"}, None)):
        (change,) = (await client.get(f"{ROOT}/audit?resource=advertiser", headers=headers)).json()["data"]
        assert (change.get("address"), "address" in change) == (seen, seen is not None)
        assert (await client.get(f"{ROOT}/audit/{change['id']}", headers=headers)).json() == change


async def test_change_is_shown_to_those_who_see_its_resource(client: AsyncClient, database: Settings) -> None:
    await client.post(USERS, json=JANE)
    (change,) = (await client.get(f"{ROOT}/audit?resource=user_account")).json()["data"]
    place = f"{ROOT}/audit/{change['id']}"
    assert (await client.get(place)).json() == change
    token = await create_token(database.postgres_dsn or "", ["offers:read", "money:read"])
    for path in (place, f"{ROOT}/audit/999999", f"{ROOT}/audit/x"):
        assert (await client.get(path, headers={"Authorization": f"Bearer {token}"})).status_code == 404


async def test_audit_trail_is_filtered_by_time_and_place(client: AsyncClient, database: Settings) -> None:
    made = await client.post(f"{ROOT}/advertisers", json={"name": "A"})
    for offer in ("3", "30"):
        row = f"({offer}, 'B', {made.json()['id']})"
        await run_sql(database, f"INSERT INTO offer (id, name, advertiser_id) VALUES {row}")
        await client.patch(f"{ROOT}/offers/{offer}", json={"note": "x"})
    await client.post(f"{ROOT}/offers/3/urls", json={"name": "U", "url": "https://a.example/"})
    await run_sql(database, "UPDATE audit SET at = '2026-03-28T23:30:00Z' WHERE path = 'offers/3'")
    for params, paths in (
        ({"under": "offers/3"}, ["offers/3/urls/1", "offers/3"]),
        ({"under": "offers/30"}, ["offers/30"]),
        ({"under": "offers/"}, []),
        ({"under": "offers/3", "at_to": "2026-03-28", "tz": "UTC"}, ["offers/3"]),
        ({"at_from": "2026-03-29", "at_to": "2026-03-29", "tz": "Europe/Berlin"}, ["offers/3"]),
        ({"at_from": "2026-03-28", "at_to": "2026-03-28", "tz": "Europe/Berlin"}, []),
        ({"at_to": "2026-03-28 23:30:00", "tz": "UTC"}, ["offers/3"]),
        ({"at_to": "2026-03-28 23:29:59", "tz": "UTC"}, []),
    ):
        answer = (await client.get(f"{ROOT}/audit", params=params)).json()
        assert ([change["path"] for change in answer["data"]], answer["total"]) == (paths, len(paths))
    wrong = await client.get(f"{ROOT}/audit", params={"at_from": "2026-03-29", "at_to": "2026-03-28"})
    assert [*wrong.json()["errors"]] == ["at_to"]
