from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.api_client import CLICKS, api_of, run_sql
from tracker.settings import Settings
from tracker.store.pool import connect
from tracker.store.tokens import SCOPES, create_token

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("scope", SCOPES)
async def test_only_a_scope_that_reads_clicks_reads_them(database: Settings, scope: str) -> None:
    async with api_of(database, scopes=(scope,)) as client:
        for path in (CLICKS, f"{CLICKS}/export"):
            answer = await client.get(path)
            if scope in ("clicks:read", "admin"):
                assert answer.status_code == 200
            else:
                assert answer.status_code == 403
                assert "clicks:read" in answer.json()["message"]
                assert 'error="insufficient_scope", scope="clicks:read"' in answer.headers["www-authenticate"]


async def test_without_a_valid_token_there_is_no_answer(
    database: Settings, caplog: pytest.LogCaptureFixture
) -> None:
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


async def test_a_token_is_kept_as_its_digest_and_its_use_is_noted_once_a_minute(database: Settings) -> None:
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


@pytest.mark.parametrize("scopes", [[], ["clicks"], ["clicks:read", "root"]])
async def test_a_token_of_an_unknown_scope_is_not_made(database: Settings, scopes: list[str]) -> None:
    assert database.postgres_dsn is not None
    with pytest.raises(ValueError, match="scopes"):
        await create_token(database.postgres_dsn, scopes)


async def test_an_expiry_needs_a_time_zone(database: Settings) -> None:
    assert database.postgres_dsn is not None
    with pytest.raises(ValueError, match="expires_at"):
        await create_token(database.postgres_dsn, ["admin"], expires_at=datetime(2030, 1, 1))
