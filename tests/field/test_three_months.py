"""Three months of a network: list, reports, statements, files and book agree to the cent."""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest
from httpx import AsyncClient

from tests.factories.clicks import a_click, a_row
from tests.integration.api_client import api_of, hash_at, run_sql, store
from tests.integration.test_statements import at, statements
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.conversions.period_closes import PATH as CLOSES
from tracker.api.conversions.status_upload import UPLOADS
from tracker.api.manual_entries import PATH as ENTRIES
from tracker.api.reports import PATH as REPORTS
from tracker.api.statements import PATH as STATEMENTS
from tracker.domain.money import in_unit
from tracker.domain.postback import Source, read_postback
from tracker.settings import Settings
from tracker.store.books import months
from tracker.store.catalogue.demo import load_demo
from tracker.store.conversions.apply_postback import take
from tracker.store.db import Connection, connect

pytestmark = pytest.mark.anyio

MONTHS = ("2024-08", "2024-09", "2024-10", "2024-11")
PARTIES = {"affiliate": "payout", "advertiser": "revenue"}
Key = tuple[int, str]
"""A party and a currency."""

# The database's clock is the play's: pg_catalog comes after its schema.
_CLOCK = """
CREATE SCHEMA play;
CREATE TABLE play.clock (at timestamptz NOT NULL);
INSERT INTO play.clock VALUES ('2024-08-01');
CREATE FUNCTION play.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT at FROM play.clock';
ALTER DATABASE {} SET search_path = play, pg_catalog, public;
"""
_GOALS = """
UPDATE goal SET multiple = true, click_window = NULL;
UPDATE goal SET (id, payout, revenue, currency) = (30, 2.5, 4, 'EUR') WHERE offer_id = 3;
UPDATE goal SET (id, payout_type, payout, revenue_type, revenue, currency)
    = (40, 'percent', 10, 'percent', 12.5, 'JPY') WHERE offer_id = 4;
UPDATE goal SET (id, payout, revenue, currency) = (50, 1.125, 2.25, 'KWD') WHERE offer_id = 5;
UPDATE goal_price SET valid_from = '2024-01-01';
"""
_BOOK = """
SELECT {party}_id, {side}_currency, sum({side}) FROM conversion_entry
WHERE booked_at >= $1 AND booked_at < $2 GROUP BY 1, 2 HAVING sum({side}) <> 0
"""


class Network:
    """The network, played against the API and the tables."""

    def __init__(self, settings: Settings, client: AsyncClient, connection: Connection) -> None:
        self.settings = settings
        self.client = client
        self.connection = connection
        self.final: dict[tuple[str, str], list[Any]] = {}  # statements of closed months, by party and month
        self._number = 0

    async def go_to(self, time: str) -> None:
        await self.connection.execute(
            "UPDATE play.clock SET at = $1", datetime.fromisoformat(f"{time}+00:00")
        )

    async def click(self, offer: int, affiliate: int, time: str) -> str:
        self._number += 1
        hash_ = hash_at(at(time), self._number)
        click = a_click(hash=hash_, affiliate_id=affiliate)
        await store(self.settings, [a_row(click, offer_id=offer, advertiser_id=1 if offer == 3 else 2)])
        return hash_

    async def tell(self, time: str, click: str, **said: str) -> int:
        """A postback of an order that arrives at a time. Returns its conversion."""
        self._number += 1
        hash_ = hash_at(at(time), self._number)
        postback = read_postback(hash_, Source.API, "", None, {"click_id": click, "order_id": click, **said})
        async with self.connection.transaction():
            (applied,) = await take(self.connection, [postback], None)
        assert applied.conversion_id is not None, applied
        return applied.conversion_id

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self.client.post(path, json={"reason": "play", **body})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def set_status(self, conversion: int, status: str) -> None:
        answer = await self.client.patch(f"{CONVERSIONS}/{conversion}", json={"status": status})
        assert answer.status_code == 200, answer.text

    async def correct(self, conversion: int, **amounts: str) -> None:
        await self.post(f"{CONVERSIONS}/{conversion}/corrections", amounts)

    async def close(self, month: str) -> None:
        """Close a month. From then on its statements stay as they are."""
        until = f"{following(month)}-01T00:00:00+00:00"
        answer = await self.client.post(CLOSES, json={"until": until})
        assert answer.status_code == 201, answer.text
        for party in PARTIES:
            body = await self.statement(party, month)
            assert body["is_final"]
            self.final[party, month] = body["data"]

    async def statement(self, party: str, month: str, **query: Any) -> dict[str, Any]:
        return await statements(self.client, party=party, **{"from": month, "to": month, **query})

    async def check(self) -> None:
        """See that everything agrees about everything."""
        for party, side in PARTIES.items():
            await self._check_months(party, side)
            await self._check_now(party, side)
        for (party, month), data in self.final.items():
            assert (await self.statement(party, month))["data"] == data, "a closed month never changes"

    async def _check_months(self, party: str, side: str) -> None:
        """Statements follow each other. They are what the book, the files, lines and reports have."""
        closing: dict[Key, Decimal] = {}
        adjusted: Counter[tuple[Key, str]] = Counter()
        booked: dict[str, dict[Key, Decimal]] = {}
        for month in MONTHS:
            rows = (await self.statement(party, month, group_by="goal"))["data"]
            sums = {key_of(row, party): row for row in rows}
            assert {key: Decimal(row["opening"]) for key, row in sums.items() if Decimal(row["opening"])} == {
                key: amount for key, amount in closing.items() if amount
            }
            closing = {key: Decimal(row["closing"]) for key, row in sums.items()}
            booked[month] = {key: Decimal(row["booked"]) for key, row in sums.items()}
            for key, row in sums.items():
                for part in row["adjusted"]:
                    adjusted[key, part["until"][:7]] += Decimal(part["amount"])  # type: ignore[assignment]
            book = await self._book(party, side, month)
            assert await self._report(party, side, month, "booked") == book
            assert book == {
                key: amount
                for key, row in sums.items()
                if (amount := Decimal(row["booked"]) + Decimal(row["adjustments"]))
            }
            await self._check_files(party, month, rows)
        for month in MONTHS:
            live = await self._report(party, side, month, "conversion")
            now = {key: amount + adjusted[key, following(month)] for key, amount in booked[month].items()}
            for (key, until), amount in adjusted.items():
                if until == following(month):
                    now.setdefault(key, Decimal(amount))
            assert {key: amount for key, amount in now.items() if amount} == live, (party, month)

    async def _check_files(self, party: str, month: str, rows: list[Any]) -> None:
        path = f"{STATEMENTS}?party={party}&from={month}&to={month}"
        file = read_csv((await self.client.get(f"{path}&format=csv")).text)
        left = ("adjusted", "groups")
        assert file == [{name: str(row[name]) for name in row if name not in left} for row in rows]
        lines = read_csv((await self.client.get(path.replace("?", "/lines?") + "&format=csv")).text)
        moved: defaultdict[Key, Decimal] = defaultdict(Decimal)
        for line in lines:
            moved[int(line[f"{party}_id"]), line["currency"]] += Decimal(line["amount"])
        assert {key: amount for key, amount in moved.items() if amount} == {
            key_of(row, party): change
            for row in rows
            if (change := Decimal(row["closing"]) - Decimal(row["opening"]))
        }

    async def _check_now(self, party: str, side: str) -> None:
        """All approved conversions of the list are all that is booked. Rejected ones sum to 0."""
        listed: defaultdict[Key, Decimal] = defaultdict(Decimal)
        answer = await self.client.get(f"{CONVERSIONS}/export", params={"format": "csv"})
        for row in read_csv(answer.text):
            if row["status"] == "approved":
                listed[int(row[f"{party}_id"]), row[f"{side}_currency"]] += Decimal(row[side])
        book = await self._book(party, side, MONTHS[0], MONTHS[-1])
        assert book == {key: amount for key, amount in listed.items() if amount}
        unpaid = await self.connection.fetch(
            f"SELECT conversion_id FROM conversion_entry JOIN conversion ON conversion.id = conversion_id"
            f" WHERE status <> 'approved' GROUP BY 1 HAVING sum(conversion_entry.{side}) <> 0"
        )
        assert unpaid == []

    async def _book(self, party: str, side: str, first: str, last: str = "") -> dict[Key, Decimal]:
        span = [
            datetime.fromisoformat(f"{text}-01T00:00:00+00:00") for text in (first, following(last or first))
        ]
        rows = await self.connection.fetch(_BOOK.format(party=party, side=side), *span)
        return {(row[0], row[1]): row[2] for row in rows}

    async def _report(self, party: str, side: str, month: str, basis: str) -> dict[Key, Decimal]:
        """What a report says now about the conversions of a month, or about its part of the book."""
        last = (datetime.fromisoformat(f"{following(month)}-01") - timedelta(days=1)).date().isoformat()
        query = {
            "group_by": "affiliate" if party == "affiliate" else "offer",
            "date_basis": basis,
            "created_from": f"{month}-01",
            "created_to": last,
        }
        answer = await self.client.get(REPORTS, params=query)
        assert answer.status_code == 200, answer.text
        found: defaultdict[Key, Decimal] = defaultdict(Decimal)
        for row in answer.json()["data"]:
            id_ = row["affiliate_id"] if party == "affiliate" else (1 if row["offer_id"] == 3 else 2)
            for currency, amount in row[side].items():
                found[id_, currency] += Decimal(amount)
        return {key: amount for key, amount in found.items() if amount}


def following(month: str) -> str:
    return f"{month[:5]}{int(month[5:]) + 1:02}"


def key_of(row: dict[str, Any], party: str) -> Key:
    return row[f"{party}_id"], row["currency"]


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
async def network(database: Settings) -> AsyncIterator[Network]:
    await load_demo(database.postgres_dsn or "")
    await run_sql(database, _CLOCK.format(urlsplit(database.postgres_dsn or "").path.removeprefix("/")))
    await run_sql(database, _GOALS)
    connection = await connect(database.postgres_dsn or "")
    scopes = ("conversions:read", "conversions:write", "money:read", "money:write", "reports:read", "admin")
    async with api_of(database, scopes=scopes) as client:
        yield Network(database, client, connection)
    await connection.close()


async def test_three_months_of_one_affiliate(network: Network) -> None:
    """Every amount of the statements, written by hand."""
    await network.go_to("2024-08-31 12:00:00")
    fixed = [await network.click(3, 513, "2024-08-10 10:00:00") for _ in range(3)]
    sold = [await network.click(4, 513, "2024-08-11 10:00:00") for _ in range(2)]
    small = await network.click(5, 513, "2024-08-12 10:00:00")
    sale = {"sale_amount": "1005", "currency": "JPY"}
    first = await network.tell("2024-08-10 11:00:00", fixed[0])
    second = await network.tell("2024-08-10 11:00:00", fixed[1], status="pending")
    third = await network.tell("2024-08-31 23:59:59", fixed[2], status="hold")
    fourth = await network.tell("2024-08-11 11:00:00", sold[0], **sale)
    await network.tell("2024-08-11 11:00:00", sold[1], **sale, status="rejected")
    fifth = await network.tell("2024-08-12 11:00:00", small)
    await network.post(ENTRIES, entry("bonus", "10", "EUR", "2024-08-31"))
    await network.check()
    await network.close("2024-08")

    await network.go_to("2024-09-03 09:00:00")
    await network.set_status(second, "approved")  # late: an adjustment of August
    await network.set_status(first, "rejected")
    await network.correct(fifth, payout="0.5")
    await network.tell("2024-09-02 10:00:00", sold[0], refund_amount="505", status="rejected")  # 101 - 50
    payment = await network.post(ENTRIES, entry("payment", "12.5", "EUR", "2024-09-03"))
    await network.post(ENTRIES, entry("payment", "101", "JPY", "2024-09-03"))
    await network.tell("2024-09-04 10:00:00", await network.click(3, 513, "2024-09-04 09:00:00"))
    await network.check()
    await network.close("2024-09")

    await network.go_to("2024-10-05 09:00:00")
    await network.post(f"{ENTRIES}/{payment['id']}/reverse", {})
    await network.post(ENTRIES, entry("fee", "0.25", "EUR", "2024-10-05"))
    await network.post(ENTRIES, entry("chargeback", "0.125", "KWD", "2024-10-05"))
    await network.tell("2024-10-05 10:00:00", sold[0], status="refunded")  # all of it
    lines = "order_id,status\n" + f"{fixed[2]},approved\n"
    uploaded = await network.client.post(UPLOADS, content=lines, headers={"Content-Type": "text/csv"})
    assert uploaded.json()["changed"] == 1, third
    await network.check()
    await network.close("2024-10")
    await network.check()

    eur = {month: await one(network, month, "EUR") for month in MONTHS}
    assert eur["2024-08"] == ("0.00", "2.50", "0.00", "10.00", "0.00", "0.00", "0.00", "12.50")
    assert eur["2024-09"] == ("12.50", "2.50", "0.00", "0.00", "0.00", "0.00", "-12.50", "2.50")
    assert eur["2024-10"] == ("2.50", "0.00", "2.50", "0.00", "-0.25", "0.00", "12.50", "17.25")
    assert eur["2024-11"] == ("17.25", "0.00", "0.00", "0.00", "0.00", "0.00", "0.00", "17.25")
    jpy = {month: await one(network, month, "JPY") for month in MONTHS[:3]}
    assert jpy["2024-08"] == ("0", "101", "0", "0", "0", "0", "0", "101")
    assert jpy["2024-09"] == ("101", "0", "-51", "0", "0", "0", "-101", "-51")
    assert jpy["2024-10"] == ("-51", "0", "-50", "0", "0", "0", "0", "-101")
    kwd = {month: await one(network, month, "KWD") for month in MONTHS[:3]}
    assert kwd["2024-08"] == ("0.000", "1.125", "0.000", "0.000", "0.000", "0.000", "0.000", "1.125")
    assert kwd["2024-09"] == ("1.125", "0.000", "-0.625", "0.000", "0.000", "0.000", "0.000", "0.500")
    assert kwd["2024-10"] == ("0.500", "0.000", "0.000", "0.000", "0.000", "-0.125", "0.000", "0.375")
    assert fourth


def entry(kind: str, amount: str, currency: str, booked_at: str) -> dict[str, Any]:
    return {"affiliate_id": 513, "kind": kind, "amount": amount, "currency": currency, "booked_at": booked_at}


async def one(network: Network, month: str, currency: str) -> tuple[str, ...]:
    """The lines of an affiliate's statement in a currency, from opening to closing."""
    data = (await network.statement("affiliate", month, affiliate_id=513))["data"]
    (row,) = [row for row in data if row["currency"] == currency]
    names = ("opening", "booked", "adjustments", "bonus", "fee", "chargeback", "payment", "closing")
    return tuple(row[name] for name in names)


STATUSES = ("pending", "hold", "approved", "approved", "rejected")
OFFERS = {3: "EUR", 4: "JPY", 5: "KWD"}


@pytest.mark.parametrize("seed", [1, 2])
async def test_three_months_of_a_network_agree(network: Network, seed: int) -> None:
    random = Random(seed)
    conversions: list[tuple[int, str, int]] = []
    for month in MONTHS[:3]:
        for day in sorted(random.sample(range(2, 28), 8)):
            offer, affiliate = random.choice(list(OFFERS)), random.choice([513, 514, 515])
            time = f"{month}-{day:02} 10:00:00"
            click = await network.click(offer, affiliate, f"{month}-{day:02} 09:00:00")
            said = {"status": random.choice(STATUSES), "currency": OFFERS[offer]}
            said["sale_amount"] = in_unit(Decimal(random.randint(100, 9999)), OFFERS[offer])
            conversions.append((await network.tell(time, click, **said), click, offer))
        for day in (28, 29):
            await network.go_to(f"{month}-{day} 12:00:00")
            for conversion, click, _ in random.sample(conversions, len(conversions) // 2):
                await happen(network, random, conversion, click, f"{month}-{day} 13:00:00")
            await by_hand(network, random, f"{month}-{day}")
            if day == 28:
                await months.carry(network.connection)
        await network.check()
        await network.go_to(f"{following(month)}-01 08:00:00")
        await network.close(month)
    await network.check()
    rows = await network.connection.fetch("SELECT DISTINCT kind, is_adjustment FROM conversion_entry")
    played = {(kind, is_late) for kind in ("approval", "reversal", "correction") for is_late in (False, True)}
    assert {tuple(row) for row in rows} == played, "everything happened"


async def happen(network: Network, random: Random, conversion: int, click: str, time: str) -> None:
    """Something happens to a conversion, where it is possible."""
    row = (await network.client.get(f"{CONVERSIONS}/{conversion}")).json()["data"][0]
    match random.choice(("status", "refund", "refund", "correct", "sale", "advertiser")):
        case "status":
            decided = {"approved": ["rejected"], "rejected": ["approved"]}
            choice = random.choice(decided.get(row["status"], ["approved", "rejected"]))
            await network.set_status(conversion, choice)
        case "refund" if row["status"] == "approved":
            part = Decimal(row["sale_amount"]) * random.choice([1, 3, 10]) / 10
            await network.tell(time, click, refund_amount=str(part), status="rejected")
        case "correct":
            await network.correct(conversion, payout=str(Decimal(random.randint(0, 10**6)).scaleb(-6)))
        case "sale":
            sale = Decimal(row["refunded"]) + random.randint(0, 500)
            await network.correct(conversion, sale_amount=str(sale), revenue=str(sale / 8))
        case "advertiser":
            await network.tell(time, click, status=random.choice(STATUSES))


async def by_hand(network: Network, random: Random, day: str) -> None:
    for kind in ("bonus", "fee", "chargeback", "payment"):
        party, id_ = random.choice([("affiliate_id", 513), ("affiliate_id", 514), ("advertiser_id", 2)])
        amount = str(Decimal(random.randint(1, 10**8)).scaleb(-3))
        currency = random.choice(list(OFFERS.values()))
        body = {party: id_, "kind": kind, "amount": amount, "currency": currency, "booked_at": day}
        made = await network.post(ENTRIES, body)
        if random.random() < 0.3:
            await network.post(f"{ENTRIES}/{made['id']}/reverse", {"booked_at": day})
