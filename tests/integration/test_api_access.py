from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.routing import Route

from tests.api_document import api_document
from tests.integration.api_client import CLICKS, api_of, run_sql
from tracker.api.app import create_api
from tracker.api.http.endpoint import Contract, contract_of
from tracker.domain.access import BOUND_SCOPES, OF_NETWORK, SCOPES, OwnerKind, Rights, every_rights
from tracker.settings import Settings
from tracker.store.db import connect
from tracker.store.tokens import create_token

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("scope", OF_NETWORK)
async def test_clicks_need_a_reading_scope(database: Settings, scope: str) -> None:
    async with api_of(database, scopes=(scope,)) as client:
        for path in (CLICKS, f"{CLICKS}/export"):
            answer = await client.get(path)
            if scope in ("clicks:read", "admin"):
                assert answer.status_code == 200
            else:
                assert answer.status_code == 403
                assert "clicks:read" in answer.json()["message"]
                assert 'error="insufficient_scope", scope="clicks:read"' in answer.headers["www-authenticate"]


async def test_api_needs_a_valid_token(database: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tracker")
    dsn = database.postgres_dsn
    assert dsn is not None
    good = await create_token(dsn, ["clicks:read"])
    expired = await create_token(dsn, ["admin"], expires_at=datetime.now(UTC) - timedelta(seconds=1))
    challenge = 'Bearer realm="tracker"'
    invalid = challenge + ', error="invalid_token"'
    table = [
        ([], "", challenge),
        ([], f"?access_token={good}", challenge),
        ([], f"?token={good}", challenge),
        (["Basic dXNlcjpwYXNz"], "", challenge),
        (["Bearer"], "", challenge),
        (["Bearer "], "", challenge),
        ([good], "", challenge),
        ([f"Bearer {good} x"], "", challenge),
        ([f"Bearer {good}", f"Bearer {good}"], "", challenge),
        (["Bearer " + "x" * 300], "", challenge),
        ([f"Bearer {good}x"], "", invalid),
        ([f"Bearer {good[:-1]}"], "", invalid),
        ([f"Bearer {good.upper()}"], "", invalid),
        (["Bearer trk_"], "", invalid),
        (["Bearer nothing"], "", invalid),
        ([f"Bearer {expired}"], "", invalid),
    ]
    async with api_of(database, scopes=()) as client:
        for values, query, expected in table:
            headers = [("Authorization", value) for value in values]
            for path in (CLICKS, f"{CLICKS}/1", f"{CLICKS}/export"):
                answer = await client.get(path + query, headers=headers)
                assert answer.status_code == 401, values
                assert answer.headers["www-authenticate"].startswith(expected)
                assert answer.headers["content-type"] == "application/problem+json"
                assert good not in answer.text
        for scheme in ("Bearer", "bearer", "BEARER"):
            answer = await client.get(CLICKS, headers={"Authorization": f"{scheme} {good}"})
            assert answer.status_code == 200
    assert good not in caplog.text


async def test_token_is_kept_as_its_digest_and_its_use_is_noted_once_a_minute(database: Settings) -> None:
    dsn = database.postgres_dsn
    assert dsn is not None
    token = await create_token(dsn, ["offers:read", "clicks:read", "clicks:read"], "reports")
    assert token.startswith("trk_")
    assert len(token) == 47
    connection = await connect(dsn)
    row = await connection.fetchrow("SELECT * FROM token")
    assert token not in str(dict(row))
    assert (row["name"], row["scopes"], row["last_used_at"]) == (
        "reports",
        ["clicks:read", "offers:read"],
        None,
    )
    uses = []
    async with api_of(database, scopes=()) as client:
        for age in (None, "30 seconds", "61 seconds"):
            if age is not None:
                await run_sql(database, f"UPDATE token SET last_used_at = now() - interval '{age}'")
            before = await connection.fetchval("SELECT last_used_at FROM token")
            answer = await client.get(CLICKS, headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 200
            uses.append(before != await connection.fetchval("SELECT last_used_at FROM token"))
    await connection.close()
    assert uses == [True, False, True]


PUBLIC = {"/health/live", "/health/ready", "/openapi.json", "/docs", "/docs/{name}"}


def operations(settings: Settings) -> list[tuple[str, str, Contract]]:
    """The method, path and contract of every endpoint that needs a token."""
    routes = [route for route in create_api(settings).routes if isinstance(route, Route)]
    return [
        (method, route.path, contract)
        for route in routes
        if (contract := contract_of(route)) is not None
        for method in sorted((route.methods or set()) - {"HEAD"})
    ]


def test_public_routes_are_health_and_docs(database: Settings) -> None:
    routes = [route for route in create_api(database).routes if isinstance(route, Route)]
    assert {route.path for route in routes if contract_of(route) is None} == PUBLIC


def test_document_gives_the_scopes_of_every_contract(database: Settings) -> None:
    paths = api_document()["paths"]
    documented = {
        (method.upper(), path): {needed["bearer"][0] for needed in operation["security"]}
        for path, methods in paths.items()
        for method, operation in methods.items()
    }
    declared = {(method, path): set(contract.scopes) for method, path, contract in operations(database)}
    assert documented == declared
    assert len(declared) > 100
    assert all(scopes and scopes <= set(SCOPES) for scopes in declared.values())


OWNERS: dict[OwnerKind | None, dict[str, Any]] = {
    None: {},
    "affiliate": {"affiliate_ids": [513, 514]},
    "advertiser": {"advertiser_id": 1},
}


def _each_scope(owner: OwnerKind | None) -> list[Rights]:
    return [Rights("", owner, False, (scope,)) for scope in (BOUND_SCOPES[owner] if owner else OF_NETWORK)]


# One kind of tokens a test, because a test has two minutes.
HOLDERS: dict[str, list[Rights]] = {
    "scopes of the network": _each_scope(None),
    "scopes of affiliates": _each_scope("affiliate"),
    "scopes of advertisers": _each_scope("advertiser"),
    "roles": [rights for rights in every_rights() if not rights.hides_money],
    "roles without money": [rights for rights in every_rights() if rights.hides_money],
}


@pytest.mark.parametrize("holders", HOLDERS)
async def test_endpoints_admit_only_the_tokens_of_their_contract(database: Settings, holders: str) -> None:
    await run_sql(database, "INSERT INTO advertiser (id, name) VALUES (1, 'A')")
    await run_sql(database, "INSERT INTO affiliate (id, name) VALUES (513, 'B'), (514, 'C')")
    tokens = {
        rights: await create_token(
            database.postgres_dsn or "",
            rights.scopes,
            hides_money=rights.hides_money,
            rate_limit="1000000/second",
            **OWNERS[rights.owner],
        )
        for rights in HOLDERS[holders]
    }
    async with api_of(database, scopes=()) as client:
        for method, path, contract in operations(database):
            place = re.sub(r"\{[^}]*\}", "999", path)
            for rights, token in tokens.items():
                answer = await client.request(
                    *(method, place),
                    headers={"Authorization": f"Bearer {token}"},
                    json={} if method in ("POST", "PATCH") else None,
                )
                case = f"{method} {path} as {rights}: {answer.status_code} {answer.text[:200]}"
                assert (answer.status_code != 403) == _may(rights, contract), case
                assert answer.status_code not in (401, 405, 429, 500), case


def _may(rights: Rights, contract: Contract) -> bool:
    has_scope = not {*contract.scopes, "admin"}.isdisjoint(rights.scopes)
    is_owner = (rights.owner or "") == contract.owner
    return has_scope and is_owner and not (rights.hides_money and contract.without_money is None)


async def test_routes_need_a_token(database: Settings) -> None:
    async with api_of(database, scopes=()) as client:
        for method, path, _ in operations(database):
            place = re.sub(r"\{[^}]*\}", "1", path)
            assert (await client.request(method, place)).status_code == 401, (method, path)


@pytest.mark.parametrize("scopes", [[], ["clicks"], ["clicks:read", "root"]])
async def test_token_of_an_unknown_scope_is_not_made(database: Settings, scopes: list[str]) -> None:
    assert database.postgres_dsn is not None
    with pytest.raises(ValueError, match="scopes"):
        await create_token(database.postgres_dsn, scopes)


async def test_expiry_needs_a_time_zone(database: Settings) -> None:
    assert database.postgres_dsn is not None
    with pytest.raises(ValueError, match="expires_at"):
        await create_token(database.postgres_dsn, ["admin"], expires_at=datetime(2030, 1, 1))
