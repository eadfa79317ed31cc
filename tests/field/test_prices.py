"""Prices: a set 0 is a price, an unset row is not, and old clicks get the first price."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any

import asyncpg
import pytest

from tests.conftest import Engines
from tests.factories.clicks import a_click, a_row
from tests.field.money_stories import HASH, Book, connection, dsn, entries
from tests.integration.api_client import api_of, run_sql, store
from tests.integration.importing import Importer, importer
from tests.integration.test_api_conversions import listed
from tests.integration.test_catalogue_command import Tracker, tracker
from tracker import store as package
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.domain.conversion import NO_PRICE
from tracker.domain.postback import ConversionStatus, Source
from tracker.ops.doctor import report
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.conversions.status import set_status
from tracker.store.db import Connection, connect
from tracker.store.migrate import migrate

__all__ = ["connection", "dsn", "importer", "tracker"]
pytestmark = pytest.mark.anyio

GOALS = "/backend/open-api/v1/users/offers/3/goals"
SCOPES = ("offers:read", "offers:write", "money:write", "conversions:read", "conversions:write", "admin")
UNSET = "UPDATE goal SET (payout, revenue, is_priced) = (0, 0, false) WHERE id = 30; DELETE FROM goal_price;"
AT = "'2024-01-01'"  # before the click of the stories, which is of June 2024
SINCE = "'2024-09-01'"  # after it
NOTE = """
INSERT INTO goal_price (goal_id, affiliate_id, country_code, valid_from, payout_type, payout, revenue_type,
    revenue, currency)
VALUES """


def row(since: str, payout: int | None, affiliate: str = "NULL", country: str = "NULL") -> str:
    amounts = "NULL, 'fixed', NULL" if payout is None else f"{payout}, 'fixed', 1"
    return f"(30, {affiliate}, {country}, {since}, 'fixed', {amounts}, 'EUR')"


@pytest.mark.parametrize(
    ("case", "noted", "payout"),
    [
        ("nothing was ever set", [], None),
        ("set before the click", [row(AT, 2)], 2),
        ("0 that somebody set", [row(AT, 0)], 0),
        ("set after the click", [row(SINCE, 12)], 12),
        ("the first of two that were set later", [row(SINCE, 12), row("'2025-01-01'", 5)], 12),
        ("0 that was set later", [row(SINCE, 0), row("'2025-01-01'", 5)], 0),
        ("the last of those before it", [row(AT, 1), row("'2024-02-01'", 2), row(SINCE, 3)], 2),
        ("two of one moment: the later row", [row(SINCE, 1), row(SINCE, 2)], 2),
        ("taken back before the click", [row("'2023-01-01'", 2), row(AT, None)], None),
        ("taken back after it", [row(AT, 2), row(SINCE, None)], 2),
        ("terms noted with the first price", [row(SINCE, 2), row(SINCE, 5, "513")], 5),
        ("terms noted after it", [row(SINCE, 2), row("'2024-09-02'", 5, "513")], 2),
        ("only terms, and later", [row(SINCE, 5, "513")], 5),
        ("only terms of another", [row(SINCE, 5, "514"), row(AT, 6, country="'DE'")], None),
        ("a country's terms noted first", [row(SINCE, 6, country="'NL'"), row("'2024-10-01'", 2)], 6),
    ],
)
async def test_price_of_a_click(
    connection: Connection, case: str, noted: list[str], payout: int | None
) -> None:
    await connection.execute(UNSET)
    for one in noted:
        await connection.execute(NOTE + one)
    book = Book(connection)
    reason = NO_PRICE if payout is None else ""
    assert await book.tell({"order_id": "o"}) == [("stored", reason)], case
    status = "hold" if payout is None else "approved"
    assert await book.shown("status", "payout") == [(status, payout or 0)]


@pytest.mark.parametrize(
    ("case", "first", "named", "status", "amounts"),
    [
        ("a payout that the goal takes", {"payout": "3", "currency": "EUR"}, "payout", "approved", (3, 0)),
        ("a revenue alone pays the affiliate nothing", {"revenue": "9"}, "", "hold", (0, 9)),
        ("told over the API with a payout", {"payout": "3", "source": Source.API}, "", "approved", (3, 0)),
        ("told over the API without one", {"source": Source.API}, "", "hold", (0, 0)),
        ("pending stays so", {"status": "pending"}, "", "pending", (0, 0)),
        ("by a browser", {"source": Source.PIXEL}, "", "pending", (0, 0)),
    ],
)
async def test_conversion_without_a_price(
    connection: Connection,
    case: str,
    first: dict[str, Any],
    named: str,
    status: str,
    amounts: tuple[int, int],
) -> None:
    await connection.execute(UNSET + f"UPDATE goal SET pixel = true, takes_payout = {named == 'payout'}")
    book = Book(connection)
    await book.tell(first)
    assert await book.shown("status", "payout", "revenue", "is_unpriced") == [
        (status, *amounts, case not in ("a payout that the goal takes", "told over the API with a payout"))
    ]


async def test_conversion_on_hold_gets_the_price_that_is_set_later(connection: Connection) -> None:
    await connection.execute(UNSET + "UPDATE goal SET multiple = true WHERE id = 30")
    book = Book(connection)
    await book.tell({"order_id": "a", "revenue": "9"}, {"order_id": "b"}, {"order_id": "c"})
    ids = [id_ for (id_,) in await book.shown("id")]
    assert await book.tell({"order_id": "b", "status": "approved"}) == [
        ("unchanged", f"it stays hold: {NO_PRICE}")
    ]
    held = await set_status(connection, ids, ConversionStatus.APPROVED, source=Source.UPLOAD, author="ann")
    assert {(each.after, each.doubt) for each in held} == {("hold", NO_PRICE)}
    assert await entries(connection) == []
    await connection.execute("UPDATE goal SET payout = 12, revenue = 15, currency = 'EUR' WHERE id = 30")
    assert await book.tell({"order_id": "b", "status": "approved"}) == [("updated", "")]
    await set_status(connection, [ids[0]], ConversionStatus.APPROVED, source=Source.API, author="ann")
    await connection.execute(NOTE + row("now() + interval '1 hour'", 5))
    await set_status(connection, [ids[2]], ConversionStatus.APPROVED, source=Source.API, author="ann")
    assert await book.shown("status", "payout", "revenue", "is_unpriced") == [
        ("approved", 12, 9, False),
        ("approved", 12, 15, False),
        ("approved", 12, 15, False),
    ]


# Fields sent, and whether the price is set.
BODIES: list[tuple[list[dict[str, Any]], bool]] = [
    ([{}], False),
    ([{"payout": "12"}], True),
    ([{"payout": "0"}], True),
    ([{"payout": "0.00"}], True),
    ([{"revenue": "0"}], True),
    ([{}, {"payout": None}], False),
    ([{"payout_type": "percent"}], False),
    ([{}, {"name": "Renamed", "currency": "EUR"}], False),
    ([{}, {"revenue": "1.5"}], True),
    ([{}, {"payout": "0"}], True),
    ([{"payout": "1"}, {"payout": "0"}], True),
    ([{"payout": "1"}, {"payout": None, "is_priced": False}], False),
    ([{"payout": "1"}, {"is_priced": False}], True),  # an amount is a price
    ([{"is_priced": True}], True),
]


async def test_price_is_set_by_any_amount(database: Settings) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    async with api_of(database, scopes=SCOPES) as client:
        for n, (bodies, is_priced) in enumerate(BODIES):
            answer = await client.post(GOALS, json={"name": f"Goal {n}", **bodies[0]})
            for body in bodies[1:]:
                answer = await client.patch(f"{GOALS}/{answer.json()['id']}", json=body)
            goal = answer.json()
            assert goal["is_priced"] is is_priced, (bodies, goal)
            again = await client.patch(f"{GOALS}/{goal['id']}", json=goal)
            assert again.json() == goal, "what was read may be sent back"


# Amounts saved for a goal in EUR, and the fields that are too fine.
TOO_FINE: list[tuple[dict[str, Any], list[str]]] = [
    ({"payout": "1.005"}, ["payout: 1.005 EUR is finer than the currency's unit of 0.01"]),
    ({"payout": "1.5", "currency": "JPY"}, ["payout: 1.50 JPY is finer than the currency's unit of 1"]),
    ({"payout": "1.005", "currency": "KWD"}, []),
    (
        {"revenue": "0.0001", "currency": "KWD"},
        ["revenue: 0.0001 KWD is finer than the currency's unit of 0.001"],
    ),
    ({"payout": "7.125", "payout_type": "percent"}, []),
    ({"payout": "2.50"}, []),
]


async def test_saving_an_unpayable_amount_warns(database: Settings) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    async with api_of(database, scopes=SCOPES) as client:
        for n, (price, warnings) in enumerate(TOO_FINE):
            new = {"name": f"Goal {n}", "currency": "EUR"}
            made = (await client.post(GOALS, json={**new, **price})).json()
            assert made.get("warnings", []) == warnings, price
            plain = (await client.post(GOALS, json={**new, "name": f"Plain {n}"})).json()
            changed = (await client.patch(f"{GOALS}/{plain['id']}", json=price)).json()
            assert changed.get("warnings", []) == warnings, price
            named = await client.patch(f"{GOALS}/{made['id']}", json={"name": f"Other {n}"})
            assert "warnings" not in named.json(), "a change of something else"
            terms = f"/backend/open-api/v1/users/goals/{made['id']}/terms"
            amounts = {name: price[name] for name in ("payout", "revenue") if name in price}
            of_terms = await client.post(terms, json={"country_code": "DE", **amounts})
            assert of_terms.json().get("warnings", []) == warnings, of_terms.text


async def test_scope_of_offers_sets_no_price(database: Settings) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    async with api_of(database, scopes=("offers:read", "offers:write")) as client:
        goal = (await client.post(GOALS, json={"name": "G", "payout": "0"})).json()
        assert goal["is_priced"] is False
        assert (await client.patch(f"{GOALS}/{goal['id']}", json={"is_priced": True})).status_code == 403


async def test_price_is_set_on_the_command_line(tracker: Tracker) -> None:
    await tracker("offers", "add", "name=New", "advertiser_id=1")
    goal = (await tracker("goals", "list", "1001", "--json")).json()
    assert goal["is_priced"] is False
    set_ = await tracker("goals", "set", "1001", str(goal["id"]), "payout=0", "--json")
    assert set_.json()["is_priced"] is True


CATALOGUE = """
offers:
  - id: 3
    name: Puzzle Quest
    goals:
      - {is_base: true, PRICE}
      - {name: Deposit, payout: "5"}
      - {name: Visit}
"""


@pytest.mark.parametrize(
    ("price", "status", "payout"),
    [
        ('payout: "12", currency: USD', "approved", "12.00"),
        ('payout: "0.00"', "approved", "0.00"),
        ("multiple: false", "hold", "0.00"),
    ],
)
async def test_imported_click_is_paid_by_the_imported_catalogue(
    importer: Importer, price: str, status: str, payout: str
) -> None:
    """Its postback is late, and so is the conversion by the API."""
    await importer.catalogue()
    path = importer.file("goals.yaml", CATALOGUE.replace("PRICE", price))
    done = await importer.run("catalogue", path)
    assert done.code == 0, done.err
    again = await importer.run("catalogue", path, "--json")
    assert (again.json["created"], again.json["changed"]) == ([], {})
    clicks = "legacy_id,offer_id,affiliate_id,created_at\nc1,3,513,2026-07-08 13:40:00\n"
    done = await importer.run("clicks", importer.file("clicks.csv", clicks), "--tz", "UTC")
    assert done.code == 0, done.err
    async with api_of(importer.settings, scopes=SCOPES) as client:
        goals = {goal["name"]: goal["id"] for goal in (await client.get(GOALS)).json()["data"]}
        await run_sql(importer.settings, "UPDATE goal SET click_window = NULL")
        for goal in (None, goals["Deposit"], goals["Visit"]):
            answer = await client.post(CONVERSIONS, json={"click_id": "c1", "goal_id": goal})
            assert answer.status_code == 200, answer.text
        rows = (await listed(client, sort="created_at"))["data"]
    told = {row["goal_name"]: (row["status"], row["payout"]) for row in rows}
    assert told == {
        "Conversion": (status, payout),
        "Deposit": ("approved", "5.00"),
        "Visit": ("hold", "0.00"),
    }


async def test_doctor_names_goals_without_a_price(database: Settings) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    assert [one.level for one in await report.examine(database, "catalogue")] == ["ok"]
    await run_sql(database, "UPDATE goal SET is_priced = false WHERE offer_id = 3")
    await run_sql(database, "UPDATE goal SET payout = 1.005, payout_type = 'fixed' WHERE offer_id = 4")
    await store(database, [a_row(a_click(hash=HASH))])
    connection = await connect(database.postgres_dsn)
    await connection.execute("DELETE FROM goal_price")
    await Book(connection).tell({})
    await connection.close()
    _, *found = await report.examine(database, "catalogue")
    assert [(one.text, one.advice) for one in found] == [
        (
            "goal 3 (Conversion) of offer 3 (Test Offer) has no price: 1 conversions wait for it",
            "set one (0 is a price) and then approve them: tracker goals set 3 3 payout=…",
        ),
        (
            "goal 4: payout 1.005 USD is finer than the currency's unit of 0.01",
            "set an amount that its currency has: booked amounts stay",
        ),
    ]


@pytest.fixture
async def earlier(engines: Engines, maintenance: asyncpg.Connection) -> AsyncIterator[Connection]:
    """A database of the version before set prices."""
    await maintenance.execute("CREATE DATABASE earlier OWNER tracker")
    connection = await connect(engines.dsn_of("earlier"))
    await connection.execute(
        "CREATE TABLE migration (name text PRIMARY KEY, applied_at timestamptz DEFAULT now())"
    )
    migrations = files(package) / "migrations"
    for name in sorted(one.name for one in migrations.iterdir() if one.name < "0023"):
        await connection.execute((migrations / name).read_text())
        await connection.execute("INSERT INTO migration (name) VALUES ($1)", name)
    yield connection
    await connection.close()
    await maintenance.execute("DROP DATABASE earlier WITH (FORCE)")


# By offer: change of its base goal, whether its price is set, and the note.
LEGACY: list[tuple[str, bool, list[int]]] = [
    ("SELECT", False, []),
    ("UPDATE goal SET payout = 12 WHERE offer_id = {}", True, [12]),
    ("UPDATE goal SET name = 'Sale', payout = payout WHERE offer_id = {}", False, []),  # as a rename did
    (
        "UPDATE goal SET payout = payout WHERE offer_id = {0}; "
        "UPDATE goal SET payout = 3 WHERE offer_id = {0}; "
        "UPDATE goal SET payout = 0 WHERE offer_id = {0}",
        True,
        [3, 0],
    ),
    ("UPDATE goal SET revenue = 4 WHERE offer_id = {}", True, [0]),
]


async def test_prices_of_an_earlier_version(earlier: Connection, engines: Engines) -> None:
    """Rows of the trigger are not prices. A goal made by hand keeps its 0."""
    await earlier.execute("INSERT INTO advertiser (id, name) VALUES (1, 'A')")
    for n, (statement, *_) in enumerate(LEGACY, 1):
        await earlier.execute(f"INSERT INTO offer (id, name, advertiser_id) VALUES ({n}, 'O', 1)")
        await earlier.execute(statement.format(n))
    await earlier.execute(
        "INSERT INTO goal (id, offer_id, name, parent_goal_id, click_window) VALUES"
        " (90, 1, 'Visit', NULL, 2592000), (91, 1, 'Deposit', 1, 2592000), (92, 1, 'Bonus', 1, 60)"
    )
    await migrate(engines.dsn_of("earlier"))
    for n, (statement, is_priced, noted) in enumerate(LEGACY, 1):
        goal = await earlier.fetchrow("SELECT id, is_priced FROM goal WHERE offer_id = $1 AND is_base", n)
        assert goal["is_priced"] is is_priced, statement
        prices = await earlier.fetch(
            "SELECT payout FROM goal_price WHERE goal_id = $1 ORDER BY id", goal["id"]
        )
        assert [payout for (payout,) in prices] == noted, statement
    made = await earlier.fetch("SELECT id, is_priced, click_window FROM goal WHERE id >= 90 ORDER BY id")
    assert list(map(tuple, made)) == [(90, True, 2_592_000), (91, True, None), (92, True, 60)]
