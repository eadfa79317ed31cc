"""Statements: balances of parties by currency, their groups and lines, in JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from httpx import AsyncClient

from tests.factories.clicks import a_click, a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import api_of, hash_at, run_sql, store
from tracker.api.conversions.period_closes import PATH as CLOSES
from tracker.api.http.auth import VIEWS
from tracker.api.statements import PATH as STATEMENTS
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.tokens import create_token

pytestmark = pytest.mark.anyio

BALANCE = ("opening", "booked", "adjustments", "bonus", "fee", "chargeback", "payment")
_APPROVED = """
INSERT INTO conversion_entry (conversion_id, booked_at, kind, is_adjustment, offer_id, advertiser_id,
    affiliate_id, payout, payout_currency, revenue, revenue_currency)
SELECT id, created_at, 'approval', false, offer_id, advertiser_id, affiliate_id, payout, payout_currency,
    revenue, revenue_currency
FROM conversion WHERE status = 'approved'
"""


def at(text: str) -> int:
    """Unix milliseconds of a UTC time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
async def booked(database: Settings) -> Settings:
    """Approved conversions of September and October in three currencies, and a pending one."""
    await load_demo(database.postgres_dsn or "")
    times = ("2024-09-30 21:59:59", "2024-09-30 22:30:00", "2024-10-15 12:00:00", "2024-10-31 22:59:59")
    clicks = [a_row(a_click(hash=hash_at(at(time) - 60_000, n))) for n, time in enumerate(times)]
    other = a_row(a_click(hash=hash_at(at(times[2]), 9), affiliate_id=514))
    await store(database, [*clicks, other])
    rows = [
        a_conversion(click, goal_id=3, millis=at(time), payout=payout, payout_currency=currency)
        for click, time in zip(clicks, times, strict=True)
        for payout, currency in (("2.50", "EUR"), ("100", "JPY"), ("1.5", "KWD"))
    ]
    rows.append(a_conversion(other, goal_id=3, payout="0.0000015", revenue="0"))
    rows.append(a_conversion(other, goal_id=3, status="pending"))
    await store_conversions(database, rows)
    await run_sql(database, _APPROVED)
    return database


@pytest.fixture
async def client(booked: Settings) -> AsyncIterator[AsyncClient]:
    async with api_of(booked, scopes=("money:read", "money:write", "admin")) as client:
        yield client


async def statements(client: AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get(STATEMENTS, params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    for row in body["data"]:
        assert sum(Decimal(row[name]) for name in BALANCE) == Decimal(row["closing"])
        assert sum(Decimal(part["amount"]) for part in row["adjusted"]) == Decimal(row["adjustments"])
        if "groups" in row:
            assert sum(Decimal(part["amount"]) for part in row["groups"]) == Decimal(row["booked"])
    return body


def balances(body: dict[str, Any]) -> dict[tuple[int, str], tuple[str, ...]]:
    """Opening, booked and closing by party and currency."""
    party = body["party"]
    return {
        (row[f"{party}_id"], row["currency"]): (row["opening"], row["booked"], row["closing"])
        for row in body["data"]
    }


OCTOBER = {"from": "2024-10-01", "to": "2024-10-31"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (OCTOBER, {(513, "EUR"): ("5.00", "5.00", "10.00"), (513, "JPY"): ("200", "200", "400")}),
        ({"from": "2024-10", "to": "2024-10"}, {(513, "KWD"): ("3.000", "3.000", "6.000")}),
        ({"from": "2024-10", "until": "2024-11-01"}, {(513, "KWD"): ("3.000", "3.000", "6.000")}),
        (OCTOBER | {"tz": "Europe/Berlin"}, {(513, "EUR"): ("2.50", "7.50", "10.00")}),
        ({"from": "2024-11", "to": "2024-11"}, {(513, "EUR"): ("10.00", "0.00", "10.00")}),
        ({"from": "9998-12", "to": "9998-12", "tz": "Asia/Tokyo"}, {(513, "JPY"): ("400", "0", "400")}),
        ({"from": "0001-01", "to": "0001-01", "tz": "Asia/Tokyo", "group_by": "day"}, {}),
        (OCTOBER, {(514, "USD"): ("0.00", "0.000002", "0.000002")}),
    ],
)
async def test_statement_of_affiliates(
    client: AsyncClient, query: dict[str, str], expected: dict[tuple[int, str], tuple[str, ...]]
) -> None:
    found = balances(await statements(client, party="affiliate", **query))
    assert list(found) == sorted(found)
    assert {key: found[key] for key in expected} == expected


async def test_statement_of_advertisers_has_revenues(client: AsyncClient) -> None:
    body = await statements(client, party="advertiser", **OCTOBER)
    assert balances(body) == {(1, "USD"): ("12.00", "12.00", "24.00")}
    assert body["data"][0]["advertiser_name"]
    facts = {name: body[name] for name in ("party", "from", "to", "tz", "is_final")}
    assert facts == {"party": "advertiser", **OCTOBER, "tz": "UTC", "is_final": False}


async def test_party_without_entries_and_balance_is_left_out(client: AsyncClient) -> None:
    body = await statements(client, party="affiliate", **{"from": "2024-09-01", "to": "2024-09-29"})
    assert body["data"] == []
    body = await statements(client, party="affiliate", affiliate_id=514, **OCTOBER)
    assert list(balances(body)) == [(514, "USD")]
    body = await statements(client, party="affiliate", affiliate_id=515, **OCTOBER)
    assert body["data"] == []


GROUPS: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
    ("offer", {}, [{"offer_id": 3, "offer_name": "Test Offer", "entries": 2, "amount": "5.00"}]),
    ("goal", {}, [{"goal_id": 3, "goal_name": "Conversion", "entries": 2, "amount": "5.00"}]),
    ("kind", {}, [{"kind": "approval", "entries": 2, "amount": "5.00"}]),
    ("month", {}, [{"month": "2024-10", "entries": 2, "amount": "5.00"}]),
    (
        "day",
        {"tz": "Europe/Berlin"},
        [
            {"day": "2024-10-01", "entries": 1, "amount": "2.50"},
            {"day": "2024-10-15", "entries": 1, "amount": "2.50"},
            {"day": "2024-10-31", "entries": 1, "amount": "2.50"},
        ],
    ),
]


@pytest.mark.parametrize(("group", "query", "expected"), GROUPS, ids=[group for group, *_ in GROUPS])
async def test_booked_part_is_split_into_groups(
    client: AsyncClient, group: str, query: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    asked = {"party": "affiliate", "group_by": group, **OCTOBER, **query}
    (row, *_) = (await statements(client, **asked))["data"]
    assert (row["currency"], row["groups"]) == ("EUR", expected)
    rows = await file(client, STATEMENTS, **asked, format="csv")
    assert [{name: str(value) for name, value in one.items()} for one in expected] == [
        {name: each[name] for name in expected[0]} for each in rows if each["currency"] == "EUR"
    ]


async def file(client: AsyncClient, path: str, **query: Any) -> list[dict[str, str]]:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))


async def test_file_has_the_balances_of_the_answer(client: AsyncClient) -> None:
    body = await statements(client, party="affiliate", **OCTOBER)
    for format_ in ("csv", "excel"):
        rows = await file(client, STATEMENTS, party="affiliate", format=format_, **OCTOBER)
        assert rows == [
            {name: str(value) for name, value in row.items() if name != "adjusted"} for row in body["data"]
        ]


async def test_lines_add_up_to_the_statement(client: AsyncClient) -> None:
    asked = {"party": "affiliate", "tz": "Europe/Berlin", **OCTOBER}
    body = await statements(client, **asked)
    rows = await file(client, f"{STATEMENTS}/lines", **asked, format="csv")
    answer = await client.get(f"{STATEMENTS}/lines", params=asked)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["entry_id"] for line in lines] == [int(row["entry_id"]) for row in rows]
    assert lines == sorted(lines, key=lambda line: (line["booked_at"], line["entry_id"]))
    for row in body["data"]:
        own = [
            Decimal(line["amount"])
            for line in lines
            if (line["affiliate_id"], line["currency"]) == (row["affiliate_id"], row["currency"])
        ]
        assert sum(own) == Decimal(row["closing"]) - Decimal(row["opening"])


REFUSED: list[tuple[dict[str, str], list[str]]] = [
    ({}, ["from", "party"]),
    ({"party": "affiliate", "from": "2024-10-01"}, ["to"]),
    ({"party": "affiliate", **OCTOBER, "until": "2024-11-01"}, ["to"]),
    ({"party": "affiliate", "from": "2024-10-02", "to": "2024-10-01"}, ["to"]),
    ({"party": "affiliate", "from": "2024-10-02", "until": "2024-10-02"}, ["until"]),
    ({"party": "affiliate", "from": "1990-01-01", "to": "2024-10-01"}, ["from"]),
    ({"party": "affiliate", "from": "9999-12", "to": "9999-12", "tz": "Asia/Tokyo"}, ["to"]),
    ({"party": "affiliate", "from": "2024-10-01 12:00:00", "to": "2024-10-32"}, ["from", "to"]),
    ({"party": "everybody", **OCTOBER}, ["party"]),
    ({"party": "affiliate", "advertiser_id": "1", **OCTOBER}, ["advertiser_id"]),
    ({"party": "affiliate", "affiliate_id": "999", **OCTOBER}, ["affiliate_id"]),
    ({"party": "advertiser", "advertiser_id": "999", **OCTOBER}, ["advertiser_id"]),
    ({"party": "affiliate", "group_by": "affiliate", **OCTOBER}, ["group_by"]),
    ({"party": "affiliate", "separator": ";", **OCTOBER}, ["separator"]),
]


@pytest.mark.parametrize(("query", "fields"), REFUSED)
async def test_wrong_parameter_is_named(
    client: AsyncClient, query: dict[str, str], fields: list[str]
) -> None:
    answer = await client.get(STATEMENTS, params=query)
    assert (answer.status_code, sorted(answer.json()["errors"])) == (422, fields), answer.text


async def test_closed_span_is_final(client: AsyncClient) -> None:
    assert (await client.post(CLOSES, json={"until": "2024-11-01T00:00:00+00:00"})).status_code == 201
    for query, is_final in (
        (OCTOBER, True),
        ({"from": "2024-10", "until": "2024-11-02"}, False),
        (OCTOBER | {"tz": "America/New_York"}, False),
    ):
        assert (await statements(client, party="affiliate", **query))["is_final"] is is_final


PARTNERS: list[tuple[str, dict[str, Any], list[tuple[str, str]], set[str]]] = [
    ("affiliate", {"affiliate_id": 514}, [("USD", "0.000002")], {"order_id", "author"}),
    ("advertiser", {"advertiser_id": 1}, [("USD", "24.00")], {"author"}),
    ("advertiser", {"advertiser_id": 2}, [], {"author"}),
]


@pytest.mark.parametrize(("kind", "owner", "expected", "hidden"), PARTNERS)
async def test_partner_reads_its_own_statement(
    booked: Settings, kind: str, owner: dict[str, int], expected: list[tuple[str, str]], hidden: set[str]
) -> None:
    path = f"{VIEWS[kind]}/statements"
    async with api_of(booked, scopes=()) as client:
        token = await create_token(booked.postgres_dsn or "", ["money:read"], **owner)
        client.headers["Authorization"] = f"Bearer {token}"
        body = (await client.get(path, params=OCTOBER | {"group_by": "goal"})).json()
        assert [(row["currency"], row["closing"]) for row in body["data"]] == expected
        for row in body["data"]:
            assert row[f"{kind}_id"] == owner[f"{kind}_id"]
            assert not any(name.startswith({"affiliate": "adv", "advertiser": "aff"}[kind]) for name in row)
        lines = (await client.get(f"{path}/lines", params=OCTOBER | {"format": "csv"})).text
        assert not hidden & {*lines.splitlines()[0].split(",")}
        for refused in ("party", "affiliate_id", "advertiser_id"):
            answer = await client.get(path, params=OCTOBER | {refused: "999"})
            assert (answer.status_code, list(answer.json()["errors"])) == (422, [refused])
        assert (await client.get(STATEMENTS, params={"party": kind, **OCTOBER})).status_code == 403


async def test_partner_sees_no_name_of_a_hidden_offer(booked: Settings) -> None:
    await run_sql(booked, "UPDATE offer SET visibility = 'private' WHERE id = 3")
    async with api_of(booked, scopes=()) as client:
        token = await create_token(booked.postgres_dsn or "", ["money:read"], affiliate_id=513)
        client.headers["Authorization"] = f"Bearer {token}"
        for group in ("offer", "goal"):
            query = OCTOBER | {"group_by": group}
            (row, *_) = (await client.get(f"{VIEWS['affiliate']}/statements", params=query)).json()["data"]
            assert row["groups"][0][f"{group}_name"] is None
        lines = await client.get(f"{VIEWS['affiliate']}/statements/lines", params=OCTOBER)
        assert {json.loads(line)["offer_name"] for line in lines.text.splitlines()} == {None}


async def test_statements_need_money_read(booked: Settings) -> None:
    async with api_of(booked, scopes=("conversions:read", "reports:read", "money:write")) as client:
        for path in (STATEMENTS, f"{STATEMENTS}/lines"):
            answer = await client.get(path, params={"party": "affiliate", **OCTOBER})
            assert answer.status_code == 403
