"""Notes and marks: what explains a bend in a chart, for those who read the network's catalogue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from httpx import AsyncClient

from tests.integration.api_client import api_of, run_sql
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.tokens import create_token

pytestmark = pytest.mark.anyio

ROOT = "/backend/open-api/v1/users"
NOTES, MARKS = f"{ROOT}/notes", f"{ROOT}/marks"
SCOPES = ("offers:read", "offers:write", "money:write")
AT = "2026-11-27T00:00:00+01:00"
THAT_DAY = {"from": "2026-11-27", "to": "2026-11-27", "tz": "Europe/Berlin"}
_OLDER = "UPDATE audit SET at = at - interval '10 minutes'"


async def marks(client: AsyncClient, **query: str) -> list[dict[str, Any]]:
    answer = await client.get(MARKS, params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def demo(settings: Settings) -> None:
    assert settings.postgres_dsn
    await load_demo(settings.postgres_dsn)


async def test_note_is_written_changed_deleted_and_marked(database: Settings) -> None:
    async with api_of(database, scopes=SCOPES) as client:
        await run_sql(database, "UPDATE token SET name = 'newsroom'")
        made = await client.post(NOTES, json={"at": AT, "text": " Black Friday begins "})
        assert made.status_code == 201, made.text
        note = made.json()
        assert (note["text"], note["at"]) == ("Black Friday begins", "2026-11-26T23:00:00+00:00")
        assert note["author"] == "newsroom"
        path = f"{NOTES}/{note['id']}"
        assert made.headers["Location"] == path
        assert await marks(client, **THAT_DAY) == [
            {
                "at": AT,
                "kind": "note",
                "text": "Black Friday begins",
                "author": note["author"],
                "path": None,
                "note_id": note["id"],
            }
        ]
        assert await marks(client, **THAT_DAY | {"to": "2026-11-26", "from": "2026-11-26"}) == []
        changed = await client.patch(
            path, json={"text": "Cyber Monday"}, headers={"If-Match": made.headers["ETag"]}
        )
        assert (changed.status_code, changed.json()["author"]) == (200, note["author"])
        assert (await client.get(NOTES)).json()["total"] == 1
        stale = await client.patch(path, json={"text": "Late"}, headers={"If-Match": made.headers["ETag"]})
        assert stale.status_code == 412
        assert (await client.delete(path)).status_code == 204
        assert await marks(client, **THAT_DAY) == []
        trail = (await client.get(f"{ROOT}/audit", params={"resource": "note"})).json()["data"]
        assert [change["action"] for change in trail] == ["delete", "update", "create"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"text": "x"}, "at"),
        ({"at": "2026-11-27", "text": "x"}, "at"),
        ({"at": AT}, "text"),
        ({"at": AT, "text": " "}, "text"),
        ({"at": AT, "text": "x" * 501}, "text"),
        ({"at": AT, "text": "x", "author": "boss"}, "author"),
    ],
)
async def test_note_names_the_wrong_field(body: dict[str, str], field: str, database: Settings) -> None:
    async with api_of(database, scopes=SCOPES) as client:
        answer = await client.post(NOTES, json=body)
        assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])


@pytest.mark.parametrize(
    ("query", "field"), [({"from": "2026-11-27", "to": "2026-11-26"}, "from"), ({"from": "x"}, "from")]
)
async def test_marks_name_the_wrong_field(query: dict[str, str], field: str, database: Settings) -> None:
    async with api_of(database, scopes=SCOPES) as client:
        answer = await client.get(MARKS, params=query)
        assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])
        assert await marks(client, **{"from": "0001-01-01", "to": "9999-12-31"}) == []


CHANGES: list[tuple[str, dict[str, Any], str]] = [
    ("offers/3", {"status": "paused"}, "Offer 3 (Test Offer) paused"),
    ("offers/3", {"status": "active"}, "Offer 3 (Test Offer) is active again"),
    (
        "offers/3",
        {"redirect_status": 303, "targeting": {"country": ["DE"]}},
        "Offer 3 (Test Offer) changed: targeting, redirect_status 302 → 303",
    ),
    ("affiliates/513", {"status": "blocked"}, "Affiliate 513 ({}) blocked"),
    ("network", {"fallback_offer_id": 3}, "Network changed: fallback_offer_id none → 3"),
]


async def test_marks_say_what_was_changed(database: Settings) -> None:
    await demo(database)
    async with api_of(database, scopes=SCOPES) as client:
        for path, patch, text in CHANGES:
            answer = await client.patch(f"{ROOT}/{path}", json=patch)
            assert answer.status_code == 200, answer.text
            await run_sql(database, _OLDER)
            *_, last = await marks(client)
            name = answer.json().get("name")
            assert (last["kind"], last["path"], last["note_id"]) == ("change", path, None)
            assert await latest(client) == text.format(name)
        cap = (await client.post(f"{ROOT}/offers/3/caps", json={"period": "day", "amount": 5})).json()
        await run_sql(database, _OLDER)
        assert await latest(client) == f"Cap {cap['id']} of offer 3 added"
        await client.delete(f"{ROOT}/offers/3/caps/{cap['id']}")
        await run_sql(database, _OLDER)
        assert await latest(client) == f"Cap {cap['id']} of offer 3 deleted"
        terms = await client.post(f"{ROOT}/goals/3/terms", json={"country_code": "DE", "payout": "4.44"})
        await run_sql(database, _OLDER)
        assert await latest(client) == f"Terms {terms.json()['id']} of goal 3 added"
    assert database.postgres_dsn
    plain = await create_token(database.postgres_dsn, ("offers:read",), hides_money=True)
    async with api_of(database, scopes=()) as client:
        client.headers["Authorization"] = f"Bearer {plain}"
        assert await latest(client) == f"Cap {cap['id']} of offer 3 deleted"


async def latest(client: AsyncClient) -> str:
    """The last change, which `_OLDER` has moved into the past."""
    found = await marks(client, to=f"{datetime.now(UTC) + timedelta(minutes=1):%Y-%m-%d %H:%M:%S}")
    text: str = found[-1]["text"]
    return text


async def test_many_changes_of_one_kind_are_one_mark(database: Settings) -> None:
    await demo(database)
    await run_sql(
        database,
        """INSERT INTO audit (at, token_name, resource, action, path, after)
        SELECT '2026-11-27 08:00:10Z'::timestamptz, 'import', 'block', 'create', 'blocks/' || n, '{}'::json
        FROM generate_series(1, 300) AS n
        UNION ALL
        SELECT '2026-11-27 08:01:10Z'::timestamptz, 'import', 'block', 'create', 'blocks/' || n, '{}'::json
        FROM generate_series(301, 303) AS n""",
    )
    async with api_of(database, scopes=SCOPES) as client:
        found = await marks(client, **THAT_DAY)
        told = [(mark["text"], mark["path"]) for mark in found]
        one_by_one = [(f"Block {n} added", f"blocks/{n}") for n in (301, 302, 303)]
        assert told == [("300 blocks added", None), *one_by_one]


async def test_marks_are_bounded_and_say_so(database: Settings) -> None:
    statement = """INSERT INTO note (at, text)
        SELECT '2026-11-27 08:00Z'::timestamptz + n * interval '1 minute', 'note ' || n
        FROM generate_series(1, 101) AS n"""
    await run_sql(database, statement)
    async with api_of(database, scopes=SCOPES) as client:
        answer = (await client.get(MARKS, params=THAT_DAY)).json()
        assert (len(answer["data"]), answer["is_whole"]) == (100, False)
        assert (answer["data"][0]["text"], answer["data"][-1]["text"]) == ("note 2", "note 101")


@pytest.mark.parametrize(
    ("scopes", "owner"), [(("reports:read",), {}), (("offers:read",), {"affiliate_ids": [513]})]
)
async def test_marks_and_notes_are_for_readers_of_the_networks_catalogue(
    scopes: tuple[str, ...], owner: dict[str, Any], database: Settings
) -> None:
    await demo(database)
    assert database.postgres_dsn
    token = await create_token(database.postgres_dsn, scopes, **owner)
    async with api_of(database, scopes=()) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        for path in (NOTES, MARKS):
            assert (await client.get(path)).status_code == 403
        assert (await client.post(NOTES, json={"at": AT, "text": "x"})).status_code == 403
