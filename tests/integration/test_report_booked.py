"""Reports of the book: their money is that of the statements of the same days, to the cent."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from httpx import AsyncClient

from tests.factories.clicks import a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import api_of, hash_at, run_sql, store
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.conversions.period_closes import PATH as CLOSES
from tracker.api.http.auth import VIEWS
from tracker.api.reports import PATH as REPORTS
from tracker.api.statements import PATH as STATEMENTS
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.conversions import booking
from tracker.store.db import connect
from tracker.store.tokens import create_token

pytestmark = pytest.mark.anyio

SCOPES = ("reports:read", "money:read", "money:write", "conversions:read", "conversions:write", "admin")
SIDES = {"affiliate": "payout", "advertiser": "revenue"}
BOOKED = {"date_basis": "booked"}
CURRENCIES = ("EUR", "JPY", "KWD")
DECIMALS = {"EUR": 2, "JPY": 0, "KWD": 3}
CLOSED = ("2024-08-01", "2024-09-01")
SPANS = (
    {"from": "2024-07-01", "to": "2024-07-31"},
    {"from": "2024-08-01", "to": "2024-08-31", "tz": "Europe/Berlin"},
    {"from": "2024-07-15", "to": "2024-09-02", "tz": "Asia/Kathmandu"},
    {"from": "2024-09-01", "to": "2026-12-31", "tz": "America/St_Johns"},
    {"from": "2024-07-01", "to": "2039-12-31"},
)
AUTUMN_2030 = "INSERT INTO period_close (until, author) VALUES ('2030-10-01', 'test')"


@pytest.fixture
async def client(database: Settings) -> AsyncIterator[AsyncClient]:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    async with api_of(database, scopes=SCOPES) as client:
        yield client


def millis(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


async def converts(database: Settings, rows: list[dict[str, Any]]) -> list[int]:
    """Store conversions. Those that are approved are booked."""
    ids = await store_conversions(database, rows)
    connection = await connect(database.postgres_dsn or "")
    approved = [id_ for id_, row in zip(ids, rows, strict=True) if row["status"] == "approved"]
    await booking.approve(connection, approved)
    await connection.close()
    return ids


def amount(draw: random.Random, currency: str) -> str:
    return str(Decimal(draw.randrange(10**6)).scaleb(-DECIMALS[currency]))


def random_conversions(draw: random.Random) -> list[dict[str, Any]]:
    """Of three affiliates and two advertisers, in July to September."""
    rows = []
    for number in range(90):
        at = millis("2024-07-01") + draw.randrange(92 * 86_400_000)
        click = a_row(
            hash=hash_at(at, number),
            offer_id=draw.randint(3, 5),
            affiliate_id=draw.choice((513, 514, 515)),
            advertiser_id=draw.randint(1, 2),
            country_code=draw.choice((None, "NL", "DE")),
            aff_sub=draw.choice(("", "a")),
        )
        payout, revenue = draw.choice(CURRENCIES), draw.choice(CURRENCIES)
        rows.append(
            a_conversion(
                click,
                millis=at + draw.randrange(86_400_000),
                goal_id=3,
                status=draw.choice(("approved", "approved", "pending", "rejected")),
                payout=amount(draw, payout),
                payout_currency=payout,
                revenue=amount(draw, revenue),
                revenue_currency=revenue,
            )
        )
    return rows


async def change(draw: random.Random, client: AsyncClient, id_: int, row: dict[str, Any]) -> None:
    """A decision of the operator, early or late, or another amount."""
    if draw.random() < 0.6:
        status = draw.choice(("approved", "rejected"))
        answer = await client.patch(f"{CONVERSIONS}/{id_}", json={"status": status})
        assert answer.status_code == 200, answer.text
        return
    side = draw.choice(("payout", "revenue"))
    body = {side: amount(draw, row[f"{side}_currency"]), "reason": "r"}
    answer = await client.post(f"{CONVERSIONS}/{id_}/corrections", json=body)
    assert answer.status_code == 201, answer.text


async def plays(draw: random.Random, database: Settings, client: AsyncClient) -> list[dict[str, Any]]:
    """A history: decisions and corrections before, between and after closes, one of which is in 2030."""
    rows = random_conversions(draw)
    ids = await converts(database, rows)
    for closed in (*CLOSED, None):
        for _ in range(40):
            place = draw.randrange(len(ids))
            await change(draw, client, ids[place], rows[place])
        if closed:
            answer = await client.post(CLOSES, json={"until": f"{closed}T00:00:00+00:00"})
            assert answer.status_code == 201, answer.text
    await run_sql(database, AUTUMN_2030)
    for id_, row in zip(ids[:20], rows, strict=False):
        await change(draw, client, id_, row)
    return rows


async def got(client: AsyncClient, path: str, **query: Any) -> dict[str, Any]:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def asked(span: dict[str, str]) -> dict[str, str]:
    """The report of the days of a statement."""
    zone = {"tz": span["tz"]} if "tz" in span else {}
    return {"created_from": span["from"], "created_to": span["to"], **zone, **BOOKED}


Sums = dict[tuple[Any, ...], Decimal]


def money(rows: list[dict[str, Any]], side: str, *keys: str) -> Sums:
    """The amounts of rows by some keys and currency, without those of 0."""
    sums: Sums = defaultdict(Decimal)
    for row in rows:
        for currency, text in row[side].items():
            sums[(*(row[key] for key in keys), currency)] += Decimal(text)
    return {key: total for key, total in sums.items() if total}


@pytest.mark.parametrize("seed", range(2))
async def test_money_is_that_of_the_statements(database: Settings, client: AsyncClient, seed: int) -> None:
    await plays(random.Random(seed), database, client)
    seen = set()
    for span in SPANS:
        query = asked(span)
        for party, side in SIDES.items():
            body = await got(client, STATEMENTS, party=party, **span)
            stated: Sums = defaultdict(Decimal)
            for row in body["data"]:
                lines = Decimal(row["booked"]) + Decimal(row["adjustments"])
                stated[row[f"{party}_id"], row["currency"]] += lines
                seen |= {name for name in ("booked", "adjustments") if Decimal(row[name])}
            expected = {key: total for key, total in stated.items() if total}
            for groups in (party, f"{party},month", f"hour,{party},country"):
                rows = (await got(client, REPORTS, group_by=groups, **query))["data"]
                assert money(rows, side, f"{party}_id") == expected, (span, groups)
            totals = (await got(client, REPORTS, group_by="offer", limit=1, **query))["totals"]
            of_all: Sums = defaultdict(Decimal)
            for (_, currency), total in expected.items():
                of_all[(currency,)] += total
            assert money([totals], side) == {key: total for key, total in of_all.items() if total}
    assert seen == {"booked", "adjustments"}


async def test_whole_book_is_what_stands(database: Settings, client: AsyncClient) -> None:
    """All that was ever booked sums up to the conversions that are approved now."""
    await plays(random.Random(2), database, client)
    groups = ("affiliate_id", "aff_sub")
    counts = {}
    for basis in ("conversion", "booked"):
        rows = (await got(client, REPORTS, group_by="affiliate,aff_sub", date_basis=basis))["data"]
        sides = [money(rows, side, *groups) for side in ("payout", "revenue")]
        counts[basis] = (
            sides,
            {
                tuple(row[name] for name in groups): row["conversions_approved"]
                for row in rows
                if row["conversions_approved"]
            },
        )
    assert counts["booked"] == counts["conversion"]


ENTRIES = """
SELECT entry.*, country_code, aff_sub, click_hash FROM conversion_entry AS entry
JOIN conversion ON conversion.id = conversion_id ORDER BY entry.id
"""


def recounted(
    entries: list[asyncpg.Record], zone: ZoneInfo, days: tuple[date, date], filters: dict[str, Any]
) -> tuple[Sums, dict[Any, int]]:
    """Payouts by day, country and currency, and approvals less reversals by day and country."""
    payouts: Sums = defaultdict(Decimal)
    counts: dict[Any, int] = defaultdict(int)
    for entry in entries:
        day = entry["booked_at"].astimezone(zone).date()
        if days[0] <= day <= days[1] and all(entry[name] == value for name, value in filters.items()):
            group = (day.isoformat(), entry["country_code"])
            payouts[*group, entry["payout_currency"]] += entry["payout"]
            counts[group] += {"approval": 1, "reversal": -1, "correction": 0}[entry["kind"]]
    return (
        {key: total for key, total in payouts.items() if total},
        {key: count for key, count in counts.items() if count},
    )


async def test_groups_and_filters_are_those_of_the_conversions(
    database: Settings, client: AsyncClient
) -> None:
    draw = random.Random(11)
    rows = await plays(draw, database, client)
    await store(database, [a_row(hash=row["click_hash"], affiliate_id=row["affiliate_id"]) for row in rows])
    connection = await connect(database.postgres_dsn or "")
    entries = await connection.fetch(ENTRIES)
    await connection.close()
    spans = ((date(2024, 7, 1), date(2024, 8, 15)), (date(2024, 8, 30), date(2031, 1, 1)))
    filters: list[dict[str, Any]] = [{}, {"affiliate_id": 513}, {"offer_id": 4, "aff_sub": "a"}]
    for zone in ("UTC", "Pacific/Chatham"):
        for days in spans:
            for one in filters:
                query = {"created_from": str(days[0]), "created_to": str(days[1]), "tz": zone, **one}
                body = await got(client, REPORTS, group_by="day,country", **BOOKED, **query)
                keys = ("day", "country_code")
                counts = {
                    tuple(row[key] for key in keys): row["conversions_approved"]
                    for row in body["data"]
                    if row["conversions_approved"]
                }
                found = money(body["data"], "payout", *keys), counts
                assert found == recounted(entries, ZoneInfo(zone), days, one), (days, query)


@pytest.fixture
async def corrected(database: Settings, client: AsyncClient) -> AsyncClient:
    """Two conversions of July, a close, then one is corrected and the other rejected. One click each."""
    clicks = [a_row(hash=hash_at(millis("2024-07-10"), n), affiliate_id=513 + n) for n in range(2)]
    await store(database, clicks)
    rows = [a_conversion(click, goal_id=3, payout="2.50", revenue="4") for click in clicks]
    first, second = await converts(database, rows)
    answer = await client.post(CLOSES, json={"until": "2024-08-01T00:00:00+00:00"})
    assert answer.status_code == 201, answer.text
    body = {"payout": "1.5", "reason": "wrong price"}
    assert (await client.post(f"{CONVERSIONS}/{first}/corrections", json=body)).status_code == 201
    await client.patch(f"{CONVERSIONS}/{second}", json={"status": "rejected"})
    return client


JULY = {"created_from": "2024-07-01", "created_to": "2024-07-31"}
LATER = {"created_from": "2024-08-01", "created_to": "2039-12-31"}


async def test_closed_period_stays_and_later_ones_have_what_changed(corrected: AsyncClient) -> None:
    body = await got(corrected, REPORTS, group_by="affiliate", **BOOKED, **JULY)
    assert "changed_since_close" not in body, "nothing in the book of a closed period changes"
    assert [(row["affiliate_id"], row["conversions_approved"], row["payout"]) for row in body["data"]] == [
        (513, 1, {"USD": "2.50"}),
        (514, 1, {"USD": "2.50"}),
    ]
    assert {name: body["totals"][name] for name in ("clicks", "epc", "rpc", "profit", "margin")} == {
        "clicks": 2,
        "epc": {"USD": "2.500000"},
        "rpc": {"USD": "4.000000"},
        "profit": {"USD": "3.00"},
        "margin": {"USD": "0.375000"},
    }
    body = await got(corrected, REPORTS, group_by="affiliate", **BOOKED, **LATER)
    assert [
        (row["affiliate_id"], row["clicks"], row["conversions_approved"], row["payout"], row["revenue"])
        for row in body["data"]
    ] == [(513, 0, 0, {"USD": "-1.00"}, {"USD": "0.00"}), (514, 0, -1, {"USD": "-2.50"}, {"USD": "-4.00"})]


async def test_correction_alone_is_a_row_and_a_part_of_the_others(corrected: AsyncClient) -> None:
    query = {"group_by": "affiliate", "sort": "-payout_USD", **BOOKED, **LATER}
    for further in ({}, {"with_conversions": "true"}, {"group_by": "affiliate,status"}):
        body = await got(corrected, REPORTS, **query | further)
        assert [row["payout"]["USD"] for row in body["data"]] == ["-1.00", "-2.50"]
        assert body["other"] is None
    body = await got(corrected, REPORTS, **query | {"sort": "payout_USD", "limit": "1"})
    assert (body["other"]["conversions_approved"], body["other"]["payout"]) == (0, {"USD": "-1.00"})


async def test_compared_span_is_booked_too(corrected: AsyncClient) -> None:
    compare = {"compare": "custom", "compare_from": "2024-07-01", "compare_to": "2024-07-31"}
    body = await got(corrected, REPORTS, group_by="affiliate", **BOOKED, **LATER, **compare)
    assert [(row["payout"]["USD"], row["compared"]["payout"]["USD"]) for row in body["data"]] == [
        ("-1.00", "2.50"),
        ("-2.50", "2.50"),
    ]
    assert body["totals"]["compared"]["payout"] == {"USD": "5.00"}


async def test_partners_see_their_side_of_the_book(corrected: AsyncClient, database: Settings) -> None:
    for owner, seen, hidden in (
        ({"affiliate_id": 513}, ("payout", "-1.00"), {"revenue", "profit", "rpc", "margin"}),
        ({"advertiser_id": 1}, ("revenue", "-4.00"), {"payout", "profit", "epc", "margin"}),
    ):
        token = await create_token(database.postgres_dsn or "", ["reports:read"], **owner)
        (name,) = owner
        answer = await corrected.get(
            f"{VIEWS[name.removesuffix('_id')]}/reports",
            params={"group_by": "offer", **BOOKED, **LATER},
            headers={"Authorization": f"Bearer {token}"},
        )
        totals = answer.json()["totals"]
        assert totals[seen[0]] == {"USD": seen[1]}
        assert hidden.isdisjoint(totals)


async def test_only_what_the_book_knows_is_shown(corrected: AsyncClient) -> None:
    answer = await corrected.get(REPORTS, params={"group_by": "offer", "format": "csv", **BOOKED, **JULY})
    assert answer.text.splitlines()[0] == (
        "offer_id,offer_name,clicks,uniques,duplicates,invalid,gross,conversions_approved,invalid_rate,"
        "payout_USD,revenue_USD,epc_USD,rpc_USD,profit_USD,margin_USD"
    )
    refused = {
        REPORTS: ({"measures": "clicks,cr"}, {"sort": "-pending_payout_USD"}, {"sort": "time_to_conversion"}),
        CONVERSIONS: ({"date_basis": "booked"},),
        f"{CONVERSIONS}/export": ({"date_basis": "booked"},),
    }
    for path, queries in refused.items():
        for query in queries:
            shared = {"group_by": "offer", **BOOKED} if path == REPORTS else {}
            answer = await corrected.get(path, params=shared | query)
            assert (answer.status_code, [*answer.json()["errors"]]) == (422, [*query]), answer.text
