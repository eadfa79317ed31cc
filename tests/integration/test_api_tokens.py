"""Tokens made, changed, rotated and revoked through the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx import AsyncClient, Response

from tests.integration.api_client import CLICKS, api_of, run_sql
from tracker.domain.access import BOUND_SCOPES, OF_NETWORK
from tracker.settings import Settings
from tracker.store.tokens import create_token

pytestmark = pytest.mark.anyio

USERS = "/backend/open-api/v1/users"
TOKENS = f"{USERS}/tokens"


@pytest.fixture
async def client(database: Settings) -> AsyncIterator[AsyncClient]:
    await run_sql(database, "INSERT INTO advertiser (id, name) VALUES (1, 'Acme')")
    await run_sql(database, "INSERT INTO affiliate (id, name) VALUES (513, 'Jane')")
    async with api_of(database, scopes=("admin",)) as client:
        yield client


async def made(client: AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post(TOKENS, json={"scopes": ["clicks:read"], **fields})
    assert answer.status_code == 201, answer.text
    token: dict[str, Any] = answer.json()
    return token


async def status_of(client: AsyncClient, secret: str, path: str = CLICKS) -> int:
    return (await client.get(path, headers={"Authorization": f"Bearer {secret}"})).status_code


def named(answer: Response, status: int) -> set[str]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return set(answer.json()["errors"])


async def test_token_is_made_shown_changed_and_revoked(client: AsyncClient) -> None:
    answer = await client.post(TOKENS, json={"scopes": ["clicks:read"], "name": "reporting"})
    token = answer.json()
    secret, place = token.pop("token"), answer.headers["location"]
    assert token["hint"] == secret[:8]
    assert (await client.get(place)).json() == token
    assert token in (await client.get(TOKENS, params={"name": "reporting"})).json()["data"]
    assert await status_of(client, secret) == 200

    change = {"name": "bi", "rate_limit": "5/second", "expires_at": "2099-01-01T00:00:00+01:00"}
    answer = await client.patch(place, json=change, headers={"If-Match": answer.headers["etag"]})
    changed = answer.json()
    assert (changed["name"], changed["rate_limit"]) == ("bi", "5/second")
    assert changed["expires_at"] == "2098-12-31T23:00:00+00:00"
    stale = await client.patch(place, json={"name": "x"}, headers={"If-Match": f'"{token["version"]}"'})
    assert named(stale, 412) == {"version"}
    assert (await client.patch(place, json=changed)).json()["version"] == changed["version"]
    assert named(await client.patch(place, json={"scopes": ["admin"]}), 422) == {"scopes"}

    for _ in range(2):
        assert (await client.delete(place)).status_code == 204
    assert await status_of(client, secret) == 401
    assert (await client.get(TOKENS, params={"is_revoked": "true"})).json()["data"][0]["name"] == "bi"
    assert "bi" not in (await client.get(TOKENS)).text
    trail = (await client.get(f"{USERS}/audit", params={"path": place.removeprefix(f"{USERS}/")})).json()
    assert [change["action"] for change in trail["data"]] == ["update", "update", "create"]
    assert secret not in str(trail)


async def test_use_of_a_token_is_not_a_change(client: AsyncClient) -> None:
    token = await made(client)
    assert await status_of(client, token["token"]) == 200
    used = (await client.get(f"{TOKENS}/{token['id']}")).json()
    assert used["last_used_at"] is not None
    assert used["version"] == token["version"]


async def test_rotated_token_has_two_secrets_until_the_overlap_ends(
    client: AsyncClient, database: Settings
) -> None:
    token = await made(client)
    place = f"{TOKENS}/{token['id']}/rotate"
    rotated = (await client.post(place, json={"overlap": 3600})).json()
    assert rotated["token"] != token["token"]
    assert (rotated["id"], rotated["hint"]) == (token["id"], rotated["token"][:8])
    assert [await status_of(client, each["token"]) for each in (token, rotated)] == [200, 200]

    assert named(await client.post(place, json={}), 409) == {"overlap"}
    await run_sql(database, "UPDATE token SET previous_until = now() - interval '1 second' WHERE id > 1")
    assert [await status_of(client, each["token"]) for each in (token, rotated)] == [401, 200]

    again = (await client.post(place, json={})).json()
    assert [await status_of(client, each["token"]) for each in (token, rotated, again)] == [401, 200, 200]
    at_once = (await client.post(place, json={"overlap": 0})).json()
    works = [await status_of(client, each["token"]) for each in (rotated, again, at_once)]
    assert works == [401, 401, 200]
    await client.delete(f"{TOKENS}/{token['id']}")
    assert named(await client.post(place, json={}), 409) == {"id"}
    assert await status_of(client, at_once["token"]) == 401


WRONG: list[tuple[dict[str, Any], set[str]]] = [
    ({"scopes": []}, {"scopes"}),
    ({"scopes": ["root"]}, {"scopes.0"}),
    ({"scopes": "admin"}, {"scopes"}),
    ({"scopes": None}, {"scopes"}),
    ({"rate_limit": "many"}, {"rate_limit"}),
    ({"expires_at": "tomorrow"}, {"expires_at"}),
    ({"affiliate_id": 513, "advertiser_id": 1}, {"advertiser_id"}),
    ({"affiliate_id": 999}, {"affiliate_id"}),
    ({"advertiser_id": 999}, {"advertiser_id"}),
    ({"affiliate_id": 513, "scopes": ["clicks:write"]}, {"scopes"}),
    ({"affiliate_id": 513, "scopes": ["clicks:read", "admin"]}, {"scopes"}),
    ({"advertiser_id": 1, "scopes": ["offers:read"]}, {"scopes"}),
    ({"secret": "trk_x"}, {"secret"}),
    ({"name": "x" * 501}, {"name"}),
    ({"name": "a\0b"}, {"name"}),
]


async def test_wrong_values_are_named(client: AsyncClient) -> None:
    for fields, errors in WRONG:
        answer = await client.post(TOKENS, json={"scopes": ["clicks:read"], **fields})
        assert named(answer, 422) == errors, fields
    assert len((await client.get(TOKENS)).json()["data"]) == 1


async def test_overlap_is_bounded(client: AsyncClient) -> None:
    token = await made(client)
    for overlap in (-1, 2_592_001, "1", 1.5):
        answer = await client.post(f"{TOKENS}/{token['id']}/rotate", json={"overlap": overlap})
        assert named(answer, 422) == {"overlap"}, overlap


async def test_tokens_need_the_admin_scope(database: Settings) -> None:
    scopes = tuple(scope for scope in OF_NETWORK if scope != "admin")
    async with api_of(database, scopes=scopes) as client:
        answers = [
            await client.get(TOKENS),
            await client.post(TOKENS, json={"scopes": ["admin"]}),
            await client.get(f"{TOKENS}/1"),
            await client.patch(f"{TOKENS}/1", json={"name": "x"}),
            await client.delete(f"{TOKENS}/1"),
            await client.post(f"{TOKENS}/1/rotate", json={}),
        ]
        assert [answer.status_code for answer in answers] == [403] * 6


async def test_token_that_is_not_there_is_404(client: AsyncClient) -> None:
    for place in ("999", "0", "x"):
        assert (await client.get(f"{TOKENS}/{place}")).status_code == 404, place
        assert (await client.post(f"{TOKENS}/{place}/rotate", json={})).status_code == 404, place


async def test_bound_token_has_each_of_its_scopes(database: Settings, client: AsyncClient) -> None:
    for kind, owner in (("affiliate", {"affiliate_id": 513}), ("advertiser", {"advertiser_id": 1})):
        scopes = list(BOUND_SCOPES[kind])
        assert (await made(client, scopes=scopes, **owner))["scopes"] == sorted(scopes)
        with pytest.raises(ValueError, match="scopes: admin"):
            await create_token(database.postgres_dsn or "", ["admin"], **owner)
