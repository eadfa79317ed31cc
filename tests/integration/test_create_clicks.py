"""Clicks created through the API, over real engines and the real writer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import time
from typing import Any

import pytest
from httpx import AsyncClient, HTTPError, Response

from tests.e2e.running import free_port
from tests.integration.api_client import CLICKS, api_of, api_process, run_sql
from tests.integration.edge_client import PATIENCE, edge_of
from tracker.api.clicks import creator
from tracker.api.clicks.create_schema import CREATED_EXAMPLE, NewClick
from tracker.domain.click_id import millis_of
from tracker.ops import ledger
from tracker.settings import Settings
from tracker.store import db
from tracker.store.catalogue.demo import load_demo
from tracker.store.clicks import partitions
from tracker.store.tokens import create_token
from tracker.stream.client import open_client
from workers import click_writer

pytestmark = pytest.mark.anyio

SCOPES = ("clicks:write", "clicks:backfill", "clicks:read")
DESKTOP = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/141.0.0.0 Safari/537.36"
CLICK: dict[str, Any] = {"offer_id": 3, "affiliate_id": 513, "ip": "127.0.0.1", "user_agent": DESKTOP}
KEYS = [
    *("id", "hash", "group_hash", "is_unique", "status", "reason", "redirected_link", "created_at"),
    "duplicate",
]
DAY = timedelta(days=1)


@pytest.fixture
async def demo(database: Settings) -> Settings:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    return replace(database, geoip_db=())


@asynccontextmanager
async def writing(settings: Settings) -> AsyncIterator[None]:
    """The real writer, running in a loop."""

    done = asyncio.Event()

    async def write() -> None:
        while not done.is_set():
            await click_writer.run(settings, burst=True)
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        yield
        done.set()


@asynccontextmanager
async def api(settings: Settings) -> AsyncIterator[AsyncClient]:
    async with writing(settings), api_of(settings, scopes=SCOPES) as client:
        yield client


async def create(client: AsyncClient, *clicks: dict[str, Any], **headers: str) -> list[dict[str, Any]]:
    """Create clicks as a list."""
    answer = await client.post(CLICKS, json={"clicks": clicks}, headers=headers)
    assert answer.status_code == 201, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


async def create_one(client: AsyncClient, **changes: Any) -> dict[str, Any]:
    (created,) = await create(client, {**CLICK, **changes})
    return created


async def listed(client: AsyncClient) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = (await client.get(CLICKS, params={"sort": "created_at"})).json()["data"]
    return data


async def assert_balanced(settings: Settings, clicks: int) -> None:
    """Check the ledger: the number recorded, all stored and answered."""
    now = int(time())
    for first, last in ((now - 600, now), (0, 600)):  # the second: of unreadable hashes
        told, _ = await ledger.ask(settings, ledger.minutes_between(first, last), verify=True)
        assert not told.unbalanced
    totals = ledger.totals((await ledger.ask(settings, ledger.minutes_between(now - 600, now)))[0])
    assert (totals["recorded"], totals["stored"], totals["answered"]) == (clicks, clicks, clicks)
    assert (totals["duplicates"], totals["dead"]) == (0, 0)


def assert_problem(answer: Response, status: int, *fields: str) -> None:
    assert (answer.status_code, list(answer.json()["errors"])) == (status, list(fields)), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_clicks_are_created_one_by_one_or_as_a_list(demo: Settings) -> None:
    async with api(demo) as client:
        answer = await client.post(CLICKS, json=CLICK)
        assert answer.status_code == 201
        one = answer.json()
        assert list(one) == KEYS
        assert (one["is_unique"], one["status"], one["reason"]) == (True, "accepted", 0)
        assert (one["group_hash"], one["duplicate"]) == (one["hash"], False)
        assert one["redirected_link"] == f"https://ad.example/land?click_id={one['hash']}&aff_id=513&sub="
        two = await create(client, CLICK, CLICK | {"ip": "192.0.2.8"})
        assert [(click["is_unique"], click["group_hash"]) for click in two] == [
            (False, one["hash"]),
            (True, two[1]["hash"]),
        ]
        rows = await listed(client)
        created = [{key: row.get(key, False) for key in KEYS} for row in rows]
        assert created == [one, *two]
        feed = (await client.get(CLICKS, params={"after_id": 0})).json()["data"]
        assert [row["id"] for row in feed] == [one["id"], *(click["id"] for click in two)]
        await assert_balanced(demo, 3)


async def test_created_click_equals_a_followed_one(demo: Settings) -> None:
    subs = {"aff_sub": " ü\x07+" + "x" * 600, "aff_sub20": "z", "adv_sub5": "a", "external_id": "e"}
    query = {"affiliate_id": "513", "url_id": "133", "source": "news", **subs}
    headers = {"User-Agent": DESKTOP, "Referer": "https://blog.test/"}
    async with edge_of(demo, demo=False) as edge, api(demo) as client:
        assert (await edge.get("/offer/3", params=query, headers=headers)).status_code == 302
        own = {"url_id": 133, "affiliate_source": "news", "referrer": "https://blog.test/", **subs}
        created = await create_one(client, **own)
        followed, found = await listed(client)
    assert (followed["is_unique"], found["is_unique"]) == (True, False)
    assert found["group_hash"] == followed["hash"]
    assert found["hash"] == created["hash"]
    assert found["redirected_link"] == followed["redirected_link"].replace(followed["hash"], found["hash"])
    differing = {name for name in found if found[name] != followed[name]}
    by_itself = {"id", "hash", "is_unique", "redirected_link", "requested_link", "host", "created_at"}
    assert differing <= by_itself


REFUSALS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("UPDATE offer SET status = 'paused'", {}, {"status": "rejected", "reason": 10, "redirected_link": None}),
    (
        "UPDATE offer SET status = 'paused', fallback_offer_id = 1 WHERE id = 3",
        {},
        {"status": "forwarded", "reason": 10},
    ),
    ("UPDATE deployment SET fallback_url = 'https://x.test/'", {"affiliate_id": 598}, {"reason": 20}),
    ("INSERT INTO block (field, value) VALUES ('ip', '127.0.0.0/8')", {}, {"reason": 52}),
    (
        "INSERT INTO block (affiliate_id, field, value) VALUES (513, 'source', 'bad')",
        {"affiliate_source": "bad"},
        {"reason": 50},
    ),
    ("INSERT INTO cap (offer_id, period, amount) VALUES (3, 'day', 0)", {}, {"reason": 17}),
    (
        "UPDATE offer SET visibility = 'private'; "
        "INSERT INTO offer_affiliate (offer_id, affiliate_id) VALUES (3, 513)",
        {},
        {"reason": 0},
    ),
    ("UPDATE offer SET visibility = 'private'", {}, {"reason": 22}),
    ("SELECT", {"affiliate_id": 599}, {"status": "accepted", "is_unique": False, "group_hash": None}),
    ("SELECT", {"user_agent": "Googlebot/2.1"}, {"status": "accepted", "is_unique": False}),
    ("SELECT", {"user_agent": ""}, {"status": "accepted", "is_unique": False}),
]


@pytest.mark.parametrize(("statement", "changes", "expected"), REFUSALS)
async def test_refusal_by_the_rules_is_a_result(
    demo: Settings, statement: str, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    await run_sql(demo, statement)
    async with api(demo) as client:
        created = await create_one(client, **changes)
    assert {name: created[name] for name in expected} == expected


async def test_unknown_visitor_is_neither_bot_nor_duplicate(demo: Settings) -> None:
    unknown = {"offer_id": 3, "affiliate_id": 513}
    async with api(demo) as client:
        created = await create(client, unknown, unknown, unknown | {"ip": None, "user_agent": None})
        assert [click["is_unique"] for click in created] == [True, True, True]
        rows = await listed(client)
    assert [(row["is_bot"], row["user_agent"], row["ip"]) for row in rows] == [(False, None, None)] * 3


@pytest.mark.parametrize("number", [1, 3])
async def test_caps_hold_over_partitions(demo: Settings, number: int) -> None:
    demo = replace(demo, partitions=number)
    await run_sql(demo, "INSERT INTO cap (offer_id, period, amount) VALUES (3, 'total', 2)")
    async with api(demo) as client:
        statuses = [
            (await create_one(client, ip=f"192.0.2.{n}", user_agent=f"{DESKTOP} {n}"))["status"]
            for n in range(5)
        ]
        assert statuses == ["accepted", "accepted", "rejected", "rejected", "rejected"]
        await assert_balanced(demo, 5)


async def test_backfilled_click_has_its_own_time(demo: Settings) -> None:
    async with api(demo) as client:
        now = await create_one(client)
        params = {"tz": "Europe/Berlin"}
        old = CLICK | {"created_at": "2024-07-08 13:40:00"}
        clicks = [old, old, old | {"created_at": "2024-07-09 13:39:59"}, old | {"created_at": "2024-07-10"}]
        answer = await client.post(CLICKS, json={"clicks": clicks}, params=params)
        data = answer.json()["data"]
        assert [click["created_at"] for click in data] == [
            *("2024-07-08 13:40:00", "2024-07-08 13:40:00", "2024-07-09 13:39:59", "2024-07-10 00:00:00"),
        ]
        assert [click["is_unique"] for click in data] == [True, False, False, True]
        assert {click["group_hash"] for click in data[:3]} == {data[0]["hash"]}
        assert datetime.fromtimestamp(millis_of(data[0]["hash"]) / 1000, UTC) == datetime(
            2024, 7, 8, 11, 40, tzinfo=UTC
        )
        assert now["hash"] == now["group_hash"]
        connection = await db.connect(demo.postgres_dsn or "")
        assert "click_20240708" in {partitions.name_of(day) for day in await partitions.days(connection)}
        await partitions.create_ahead(connection)
        assert await connection.fetchval("SELECT count(*) FROM ONLY click_20240708") == 2
        assert await connection.fetchval("SELECT count(*) FROM ONLY click_default") == 0
        await connection.close()
        assert [row["hash"] for row in await listed(client)] == [*(c["hash"] for c in data), now["hash"]]


def _in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%d %H:%M:%S")


FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"offer_id": "3"}, "offer_id"),
    ({"offer_id": 3.0}, "offer_id"),
    ({"offer_id": True}, "offer_id"),
    ({"offer_id": 0}, "offer_id"),
    ({"offer_id": 10**18}, "offer_id"),
    ({"offer_id": 10**30}, "offer_id"),
    ({"offer_id": None}, "offer_id"),
    ({"offer_id": 77}, "offer_id"),
    ({"affiliate_id": 77}, "affiliate_id"),
    ({"url_id": "x"}, "url_id"),
    ({"ip": "300.0.0.1"}, "ip"),
    ({"ip": ""}, "ip"),
    ({"ip": 1}, "ip"),
    ({"user_agent": 1}, "user_agent"),
    ({"aff_sub": ["x"]}, "aff_sub"),
    ({"created_at": "yesterday"}, "created_at"),
    ({"created_at": "2024-02-30"}, "created_at"),
    ({"created_at": 1_720_000_000}, "created_at"),
    ({"created_at": "1999-12-31"}, "created_at"),
    ({"created_at": "9999-12-31"}, "created_at"),
    ({"dedupe_key": ""}, "dedupe_key"),
    ({"dedupe_key": "x" * 201}, "dedupe_key"),
    ({"legacy_id": "a\x00b"}, "legacy_id"),
    ({"payout": 1}, "payout"),
    ({"hash": "x"}, "hash"),
]


async def test_unreadable_field_is_named_and_no_click_is_created(demo: Settings) -> None:
    async with api(demo) as client:
        for changes, field in [*FIELDS, ({"created_at": _in_an_hour()}, "created_at")]:
            bad = CLICK | changes
            assert_problem(await client.post(CLICKS, json=bad), 422, field)
            assert_problem(await client.post(CLICKS, json={"clicks": [CLICK, bad]}), 422, f"clicks.1.{field}")
        assert_problem(await client.post(CLICKS, json={"offer_id": 3}), 422, "affiliate_id")
        both = {"clicks": [CLICK | {"offer_id": 77, "affiliate_id": 78}, {}]}
        assert_problem(
            await client.post(CLICKS, json=both), 422, "clicks.1.offer_id", "clicks.1.affiliate_id"
        )
        twice = [CLICK | {"dedupe_key": "k", "legacy_id": "l"}] * 2
        assert_problem(
            await client.post(CLICKS, json={"clicks": twice}),
            422,
            *("clicks.1.dedupe_key", "clicks.1.legacy_id"),
        )
        assert await listed(client) == []
        assert (await create_one(client, dedupe_key="k", legacy_id="l"))["id"] == 1


BODIES: list[tuple[bytes, dict[str, str], int, list[str]]] = [
    (b"", {}, 422, ["body"]),
    (b"{", {}, 422, ["body"]),
    (b"[]", {}, 422, ["body"]),
    (b'{"clicks": []}', {}, 422, ["clicks"]),
    (b'{"clicks": {}}', {}, 422, ["clicks"]),
    (b'{"clicks": [1]}', {}, 422, ["clicks.0"]),
    (b'{"clicks": [' + b",".join([b"{}"] * 101) + b"]}", {}, 422, ["clicks"]),
    (b'{"offer_id": 3, "affiliate_id": 513, "aff_sub": "\\ud800"}', {}, 422, ["body"]),
    (b'{"offer_id": 3, "affiliate_id": 513, "aff_sub": "\xff"}', {}, 422, ["body"]),
    (b"[" * 100_000, {}, 422, ["body"]),
    (b'{"a": "' + b"x" * (1 << 20) + b'"}', {}, 413, []),
    (b"offer_id=3", {"Content-Type": "application/x-www-form-urlencoded"}, 415, []),
    (b"{}", {"Content-Type": ""}, 415, []),
    (b"{}", {"Content-Encoding": "gzip"}, 415, []),
    (b"{}", {"Idempotency-Key": ""}, 422, ["Idempotency-Key"]),
    (b"{}", {"Idempotency-Key": "k" * 201}, 422, ["Idempotency-Key"]),
]


async def test_other_bodies_are_refused(demo: Settings) -> None:
    async with api_of(demo, scopes=SCOPES) as client:
        for body, headers, status, fields in BODIES:
            sent = {"Content-Type": "application/json"} | headers
            answer = await client.post(CLICKS, content=body, headers=sent)
            assert_problem(answer, status, *fields)
        assert_problem(await client.post(f"{CLICKS}?x=1", json=CLICK), 422, "x")
        answer = await client.put(CLICKS, json=CLICK)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.parametrize(
    ("scopes", "changes", "missing"),
    [
        (("clicks:read", "clicks:backfill"), {}, "clicks:write"),
        (("clicks:write",), {"created_at": "2024-07-08"}, "clicks:backfill"),
    ],
)
async def test_token_needs_the_scopes(
    demo: Settings, scopes: tuple[str, ...], changes: dict[str, Any], missing: str
) -> None:
    async with api_of(demo, scopes=scopes) as client:
        answer = await client.post(CLICKS, json=CLICK | changes)
    assert answer.status_code == 403
    assert f'scope="{missing}"' in answer.headers["www-authenticate"]


async def test_repeated_request_gets_the_first_answer(demo: Settings) -> None:
    async with api(demo) as client:
        first = await create(client, CLICK, CLICK | {"dedupe_key": "d"}, **{"Idempotency-Key": "k"})
        for _ in range(2):
            again = await create(client, CLICK, CLICK | {"dedupe_key": "d"}, **{"Idempotency-Key": "k"})
            assert again == first
        other = await client.post(CLICKS, json=CLICK, headers={"Idempotency-Key": "k"})
        assert_problem(other, 422, "Idempotency-Key")
        assert len(await listed(client)) == 2
        await assert_balanced(demo, 2)


async def test_click_is_the_same_under_its_own_key(demo: Settings) -> None:
    async with api(demo) as client:
        one = await create_one(client, dedupe_key="one")
        old = await create_one(client, legacy_id="old", ip="192.0.2.9")
        again = await create(
            client,
            CLICK | {"dedupe_key": "two"},
            CLICK | {"dedupe_key": "one"},
            CLICK | {"legacy_id": "old", "ip": "192.0.2.9"},
        )
        assert again[1:] == [one | {"duplicate": True}, old | {"duplicate": True}]
        assert again[0]["hash"] not in (one["hash"], old["hash"])
        for changes, field in (
            ({"dedupe_key": "one", "aff_sub": "x"}, "dedupe_key"),
            ({"dedupe_key": "new", "legacy_id": "old"}, "legacy_id"),
            ({"legacy_id": "old"}, "legacy_id"),
        ):
            answer = await client.post(CLICKS, json={"clicks": [CLICK, CLICK | changes]})
            assert_problem(answer, 422, f"clicks.1.{field}")
        assert len(await listed(client)) == 3
    connection = await db.connect(demo.postgres_dsn or "")
    rows = await connection.fetch("SELECT legacy_id, hash FROM legacy_click")
    await connection.close()
    assert [(row["legacy_id"], row["hash"].hex) for row in rows] == [("old", old["hash"])]


async def test_idempotency_keys_belong_to_a_token(demo: Settings) -> None:
    async with api(demo) as client, api_of(demo, scopes=SCOPES) as other:
        one = await create_one(client, dedupe_key="one")
        assert (await create_one(other, dedupe_key="one"))["hash"] != one["hash"]
        taken = await other.post(CLICKS, json=CLICK | {"legacy_id": "old"})
        assert taken.status_code == 201
        assert_problem(await client.post(CLICKS, json=CLICK | {"legacy_id": "old"}), 422, "legacy_id")


async def test_simultaneous_equal_requests_create_one_click(demo: Settings) -> None:
    async with api(demo) as client:
        clicks = [CLICK | {"ip": f"192.0.2.{n}", "dedupe_key": f"{n}"} for n in range(10)]
        answers = await asyncio.gather(
            *(create(client, *clicks, **{"Idempotency-Key": "k"}) for _ in range(8)),
            *(create(client, *clicks[n:], *clicks[:n]) for n in range(8)),
        )
        hashes = {click["hash"] for click in answers[0]}
        assert all({click["hash"] for click in answer} == hashes for answer in answers)
        assert {row["hash"] for row in await listed(client)} == hashes
        await assert_balanced(demo, 10)


async def test_repeated_request_creates_while_the_stream_is_away(demo: Settings) -> None:
    away = replace(demo, redis_url="redis://127.0.0.1:1")
    headers = {"Authorization": f"Bearer {await create_token(demo.postgres_dsn or '', SCOPES)}"}
    headers["Idempotency-Key"] = "k"
    async with api_of(away, scopes=()) as client:
        answer = await client.post(CLICKS, json=CLICK, headers=headers)
        assert_problem(answer, 503)
        assert answer.headers["retry-after"] == "1"
    async with writing(demo), api_of(demo, scopes=()) as client:
        answer = await client.post(CLICKS, json=CLICK, headers=headers)
        assert (answer.status_code, answer.json()["duplicate"]) == (201, False)
        await assert_balanced(demo, 1)


async def test_repeated_request_has_its_answer_without_a_worker(
    demo: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    click = CLICK | {"dedupe_key": "k"}
    async with api_of(demo, scopes=SCOPES) as client:
        monkeypatch.setattr(creator, "_STORED_SECONDS", 0.1)
        for _ in range(3):
            answer = await client.post(CLICKS, json=click)
            assert_problem(answer, 503)
            assert answer.headers["retry-after"] == "1"
        monkeypatch.setattr(creator, "_STORED_SECONDS", PATIENCE)
        async with writing(demo):
            first, again = await create(client, click), await create(client, click)
            assert [first[0]["is_unique"], first[0]["duplicate"]] == [True, False]
            assert again == [first[0] | {"duplicate": True}]
            assert len(await listed(client)) == 1
            await assert_balanced(demo, 1)


@asynccontextmanager
async def held(client: Any, *, hold: bool) -> AsyncIterator[None]:
    """A stream that stops the API at its call of the script."""
    if hold:
        await client.execute_command("CLIENT", "PAUSE", int(PATIENCE * 1000), "WRITE")
    try:
        yield
    finally:
        await client.execute_command("CLIENT", "UNPAUSE")


async def reserved(settings: Settings, _: Any) -> bool:
    connection = await db.connect(settings.postgres_dsn or "")
    try:
        return bool(await connection.fetchval("SELECT count(*) FROM create_request"))
    finally:
        await connection.close()


async def appended(_: Settings, client: Any) -> bool:
    return bool(await client.xlen("clicks:{0}") == 2)


@pytest.mark.parametrize(("hold", "reached"), [(True, reserved), (False, appended)])
async def test_repeated_request_finishes_the_work_of_a_killed_api(
    demo: Settings, hold: bool, reached: Callable[[Settings, Any], Awaitable[bool]]
) -> None:
    assert demo.redis_url
    token, port = await create_token(demo.postgres_dsn or "", SCOPES), free_port()
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "k"}
    body = {"clicks": [CLICK, CLICK]}
    async with (
        open_client(demo.redis_url) as stream,
        api_process(demo, port) as process,
        held(stream, hold=hold),
        AsyncClient(timeout=PATIENCE) as client,
    ):
        asked = asyncio.create_task(
            client.post(f"http://127.0.0.1:{port}{CLICKS}", json=body, headers=headers)
        )
        async with asyncio.timeout(PATIENCE):
            while not await reached(demo, stream):
                await asyncio.sleep(0.01)
        process.kill()
        with pytest.raises(HTTPError):
            await asked
    async with writing(demo), api_of(demo, scopes=()) as client:
        answer = await client.post(CLICKS, json=body, headers=headers)
        assert answer.status_code == 201
        assert [click["is_unique"] for click in answer.json()["data"]] == [True, False]
        await assert_balanced(demo, 2)


async def test_document_describes_both_shapes(database: Settings) -> None:
    async with api_of(database, scopes=()) as client:
        spec = (await client.get("/openapi.json")).json()
    operation, schemas = spec["paths"][CLICKS]["post"], spec["components"]["schemas"]
    assert operation["responses"].keys() == {"201", "400", "401", "403", "413", "415", "422", "429", "503"}
    assert [item["name"] for item in operation["parameters"]] == ["tz", "Idempotency-Key"]
    shapes = [{"$ref": f"#/components/schemas/{name}"} for name in ("NewClick", "NewClicks")]
    assert schemas["CreateClicks"]["anyOf"] == shapes
    new = schemas["NewClick"]
    assert new["required"] == ["offer_id", "affiliate_id"]
    assert all("description" in field and "type" in field for field in new["properties"].values())
    assert NewClick.model_validate(new["examples"][0]).offer_id == 3
    assert CREATED_EXAMPLE.keys() == schemas["CreatedClick"]["properties"].keys() == set(KEYS)
