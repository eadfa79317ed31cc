"""Feeds of changes: a poller ends with exactly the rows of the table, in any order of commits."""

from __future__ import annotations

import asyncio
import random
from importlib.resources import files
from typing import Any

import pytest
from httpx import AsyncClient

from tests.factories.clicks import a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import api_of, hash_at, run_sql
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.http.auth import VIEWS
from tracker.api.http.routing import ROOT
from tracker.catalogue.resources import RESOURCES
from tracker.settings import Settings
from tracker.store.db import Connection, connect
from tracker.store.tokens import create_token

pytestmark = pytest.mark.anyio

CATALOGUE = f"{ROOT}/catalogue-changes"
NOON = 1_728_561_600_000
SCOPES = ("conversions:read", "offers:read", "offers:write")
INSERT = """
INSERT INTO conversion (hash, click_hash, click_id, goal_id, is_repeatable, status, payout, payout_currency,
    revenue, revenue_currency, created_at, updated_at, offer_id, advertiser_id, affiliate_id, device_type,
    device_os, browser, affiliate_source, is_test)
SELECT hash, hash, 1, 1, true, 'pending', 1, 'USD', 2, 'USD', now(), now(), $1, 1, 513, 'phone', 'iOS',
    'Safari', '', false
FROM (SELECT overlay(gen_random_uuid()::text PLACING '0192764c-d600-7' FROM 1)::uuid AS hash
      FROM generate_series(1, 3)) AS new
"""
UPDATE = """
UPDATE conversion SET status = 'approved', payout = payout + 1, updated_at = clock_timestamp()
WHERE id IN (SELECT id FROM conversion ORDER BY md5(id::text || $1) LIMIT 4 FOR UPDATE SKIP LOCKED)
"""


async def connected(settings: Settings) -> Connection:
    assert settings.postgres_dsn is not None
    return await connect(settings.postgres_dsn)


async def polled(client: AsyncClient, path: str, after: int, **query: Any) -> tuple[list[Any], int]:
    answer = await client.get(path, params={"updated_after": after, **query})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["total"], body["page"], body["pages"]) == (None, None, None)
    return body["data"], body["next_updated_after"]


async def followed(client: AsyncClient, path: str, after: int, **query: Any) -> tuple[list[Any], int]:
    """All that a feed has now."""
    found: list[Any] = []
    while True:
        rows, following = await polled(client, path, after, **query)
        assert following >= after
        found += rows
        if following == after:
            return found, after
        after = following


async def test_changes_of_an_open_transaction_hold_back_all_above_them(database: Settings) -> None:
    click = a_row(hash=hash_at(NOON))
    slow = await connected(database)
    async with api_of(database, scopes=SCOPES) as client:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute(INSERT, 3)
        await store_conversions(database, [a_conversion(click)])
        assert await polled(client, CONVERSIONS, 0) == ([], 0)
        await transaction.commit()
        rows, after = await polled(client, CONVERSIONS, 0)
        assert sorted(row["id"] for row in rows) == [1, 2, 3, 4]
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("UPDATE conversion SET status = 'hold' WHERE id = 1")
        await run_sql(database, "UPDATE conversion SET status = 'hold' WHERE id = 2")
        assert await polled(client, CONVERSIONS, after) == ([], after)
        await transaction.rollback()
        rows, last = await polled(client, CONVERSIONS, after)
        assert [(row["id"], row["status"]) for row in rows] == [(2, "hold")]
        assert await polled(client, CONVERSIONS, last) == ([], last)
    await slow.close()


@pytest.mark.parametrize(
    ("path", "sequence", "change"),
    [
        (CONVERSIONS, "conversion_version", "UPDATE conversion SET status = 'hold' WHERE id = 1"),
        (CATALOGUE, "catalogue_version", "UPDATE advertiser SET name = name || '!' WHERE id = 1"),
    ],
)
async def test_feed_misses_nothing_after_a_crash_that_takes_numbers_back(
    database: Settings, path: str, sequence: str, change: str
) -> None:
    await run_sql(database, "INSERT INTO advertiser (id, name) VALUES (1, 'PlayGames')")
    await store_conversions(database, [a_conversion(a_row(hash=hash_at(NOON)))])
    writer = await connected(database)
    async with api_of(database, scopes=SCOPES) as client:
        kept = await writer.fetchval(f"SELECT last_value FROM {sequence}")
        for _ in range(2):
            undone = writer.transaction()
            await undone.start()
            await writer.execute(change)
            await undone.rollback()
        _, after = await followed(client, path, 0)
        # As after a kill of PostgreSQL: the log of numbers that nobody committed was not on disk.
        await writer.execute("SELECT setval($1, $2)", sequence, kept)
        await writer.execute(change)
        rows, _ = await followed(client, path, after)
        assert len(rows) == 1
    await writer.close()


async def write(settings: Settings, seed: int) -> None:
    """Transactions with several changes, some of them undone in part or as a whole."""
    draw = random.Random(seed)
    connection = await connected(settings)
    for _ in range(25):
        whole = connection.transaction()
        await whole.start()
        for _ in range(draw.randint(1, 3)):
            part = connection.transaction()
            await part.start()
            statement, value = draw.choice(((INSERT, draw.randint(3, 4)), (UPDATE, str(draw.random()))))
            await connection.execute(statement, value)
            await asyncio.sleep(draw.random() / 100)
            await (part.rollback() if draw.random() < 0.2 else part.commit())
        await (whole.rollback() if draw.random() < 0.2 else whole.commit())
    await connection.close()


@pytest.mark.parametrize("query", [{}, {"offer_id": 3}])
async def test_poller_of_many_writers_ends_with_the_table(database: Settings, query: dict[str, int]) -> None:
    copy: dict[int, Any] = {}
    async with api_of(database, scopes=SCOPES) as client:
        writing = asyncio.gather(*(write(database, seed) for seed in range(6)))
        after, is_last = 0, False
        while not is_last:
            is_last = writing.done()
            rows, after = await followed(client, CONVERSIONS, after, per_page=7, **query)
            copy |= {row["id"]: row for row in rows}
        await writing
        listed = (await client.get(CONVERSIONS, params={"per_page": 1000, **query})).json()
        assert len(listed["data"]) == listed["total"] > 50
        assert copy == {row["id"]: row for row in listed["data"]}


async def test_change_feed_tells_what_does_not_go_with_it(database: Settings) -> None:
    await store_conversions(database, [a_conversion(a_row(hash=hash_at(NOON)))])
    table = {
        "updated_after=-1": ["updated_after"],
        "updated_after=x": ["updated_after"],
        "updated_after=1000": ["updated_after"],
        "updated_after=0&page=1": ["page"],
        "updated_after=0&sort=created_at&cursor=x": ["cursor", "sort"],
        "updated_after=0&after_id=0": ["after_id"],
        "updated_after=0&status=approved": ["status"],
        "updated_after=0&exclude_status=approved": ["exclude_status"],
        "updated_after=0&updated_from=2024-01-01": ["updated_from"],
    }
    async with api_of(database, scopes=SCOPES) as client:
        for query, fields in table.items():
            answer = await client.get(f"{CONVERSIONS}?{query}")
            assert (answer.status_code, sorted(answer.json()["errors"])) == (422, fields), query
        assert await polled(client, CONVERSIONS, 0, offer_id=77) == ([], 1)


async def test_partner_follows_its_own_conversions(database: Settings) -> None:
    rows = [
        a_conversion(a_row(hash=hash_at(NOON, n), affiliate_id=513 + n % 2, aff_sub=f"s{n}"))
        for n in range(4)
    ]
    await store_conversions(database, rows)
    await run_sql(database, "INSERT INTO affiliate (id, name) VALUES (513, 'John Doe')")
    assert database.postgres_dsn
    token = await create_token(database.postgres_dsn, ["conversions:read"], affiliate_id=513)
    path = f"{VIEWS['affiliate']}/conversions"
    async with api_of(database, scopes=()) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        found, after = await followed(client, path, 0)
        assert [(row["hash"], row["aff_sub"]) for row in found] == [
            (rows[0]["hash"], "s0"),
            (rows[2]["hash"], "s2"),
        ]
        assert not {"revenue", "version", "ip"} & found[0].keys()
        assert after == 4


async def test_catalogue_feed_has_each_kind_of_object_and_its_end(database: Settings) -> None:
    async with api_of(database, scopes=("offers:read", "offers:write", "money:write")) as client:
        _, start = await followed(client, CATALOGUE, 0)

        async def made(path: str, **fields: Any) -> Any:
            answer = await client.post(f"{ROOT}/{path}", json=fields)
            assert answer.status_code == 201, answer.text
            return answer.json()

        await made("advertisers", name="Shop")
        offer = (await made("offers", name="Sale", advertiser_id=1))["id"]
        await made("affiliates", name="Ann")
        await made(f"offers/{offer}/urls", url="https://shop.example/?t={hash}")
        await made(f"offers/{offer}/affiliates", affiliate_id=1, status="approved")
        await made(f"offers/{offer}/caps", counts="clicks", period="day", amount=5)
        await made("tracking-hosts", host="go.example")
        secret = await made("advertisers/1/postback-secrets", name="first")
        await client.patch(f"{ROOT}/network", json={"fallback_url": "https://shop.example/"})
        rows, after = await followed(client, CATALOGUE, start, per_page=2)
        latest = {row["path"]: row for row in rows}
        goal = next(path for path in latest if "/goals/" in path)
        expected = {
            *("advertisers/1", f"offers/{offer}", "affiliates/1", f"offers/{offer}/urls/1", "network", goal),
            *(f"offers/{offer}/affiliates/1", f"offers/{offer}/caps/1", "tracking-hosts/go.example"),
            "advertisers/1/postback-secrets/1",
        }
        assert latest.keys() == expected
        assert [row["version"] for row in rows] == sorted(row["version"] for row in rows)
        for path, row in latest.items():
            if "postback-secrets" not in path or row["object"]:
                shown = await client.get(f"{ROOT}/{path}")
                assert (shown.status_code, shown.json(), row["is_deleted"]) == (200, row["object"], False)
        assert secret["secret"] not in str(rows)

        for path in (
            "advertisers/1/postback-secrets/1",
            f"offers/{offer}/affiliates/1",
            f"offers/{offer}/urls/1",
        ):
            assert (await client.delete(f"{ROOT}/{path}")).status_code == 204
        assert (await client.delete(f"{ROOT}/tracking-hosts/go.example")).status_code == 204
        gone, last = await followed(client, CATALOGUE, after)
        assert [(row["path"], row["is_deleted"], row["object"] is None) for row in gone] == [
            ("advertisers/1/postback-secrets/1", True, True),
            (f"offers/{offer}/affiliates/1", True, True),
            (f"offers/{offer}/urls/1", False, False),
            ("tracking-hosts/go.example", True, True),
        ]
        assert gone[2]["object"]["is_archived"] is True
        only, _ = await followed(client, CATALOGUE, start, resource=["offer", "cap"])
        assert {row["resource"] for row in only} == {"offer", "cap"}
        for query in ({"updated_after": last + 1}, {"resource": "click"}, {"updated_after": ""}):
            assert (await client.get(CATALOGUE, params=query)).status_code == 422, query


def test_catalogue_feed_follows_every_table_of_the_catalogue() -> None:
    scripts = " ".join(
        script.read_text()
        for script in (files("tracker.store") / "migrations").iterdir()
        if "follow_changes" in script.name or "follow_changes(" in script.read_text()
    )
    for resource in RESOURCES:
        place = "{" + ",".join(resource.table.fixed) + "}"
        assert f"('{resource.table.name}', '{place}')" in scripts, resource.table.name


async def edit_catalogue(settings: Settings, seed: int) -> None:
    """Transactions by SQL that make, change and delete caps, some of them undone."""
    draw = random.Random(seed)
    connection = await connected(settings)
    for _ in range(25):
        whole = connection.transaction()
        await whole.start()
        for _ in range(draw.randint(1, 3)):
            await connection.execute(draw.choice(EDITS), str(draw.random()))
            await asyncio.sleep(draw.random() / 100)
        await (whole.rollback() if draw.random() < 0.2 else whole.commit())
    await connection.close()


SOME_BLOCKS = "id IN (SELECT id FROM block ORDER BY md5(id::text || $1) LIMIT 2 FOR UPDATE SKIP LOCKED)"
EDITS = (
    "INSERT INTO block (field, value) SELECT 'ip', '192.0.2.' || n || $1 FROM generate_series(1, 3) AS n",
    f"UPDATE block SET value = value || 'x' WHERE {SOME_BLOCKS}",
    f"DELETE FROM block WHERE {SOME_BLOCKS}",
)


async def test_poller_of_the_catalogue_ends_with_its_tables(database: Settings) -> None:
    copy: dict[str, Any] = {}
    async with api_of(database, scopes=SCOPES) as client:
        writing = asyncio.gather(*(edit_catalogue(database, seed) for seed in range(6)))
        after, is_last = 0, False
        while not is_last:
            is_last = writing.done()
            rows, after = await followed(client, CATALOGUE, after, per_page=3, resource="block")
            for row in rows:
                copy[row["path"]] = row["object"]
        await writing
        listed = (await client.get(f"{ROOT}/blocks", params={"per_page": 1000})).json()["data"]
        assert len(listed) > 20
        assert {path: row for path, row in copy.items() if row} == {
            f"blocks/{row['id']}": row for row in listed
        }
