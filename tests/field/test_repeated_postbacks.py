"""Repeated postbacks change nothing, and the log names the reason."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories.clicks import HASH
from tests.field.money_stories import A_BROWSER, AN_HOUR, BY_API, Book, connection, dsn, entries
from tests.integration.api_client import api_of, run_sql
from tests.integration.importing import Importer, importer
from tests.integration.test_api_conversions import listed
from tests.integration.test_manual_conversions import clicks
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.domain.conversion import NO_PRICE, NO_SALE
from tracker.domain.postback import ConversionStatus, Source
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.conversions.status import set_status
from tracker.store.db import Connection

__all__ = ["clicks", "connection", "dsn", "importer"]
pytestmark = pytest.mark.anyio

DAY = 24 * AN_HOUR
SALE = {"order_id": "o", "sale_amount": "100", "currency": "EUR"}
LATE = "changes nothing: it is approved with"


@pytest.mark.parametrize(
    ("first", "then", "reason"),
    [
        (SALE, {**SALE, "sale_amount": "60"}, f"sale_amount 60.00 EUR {LATE} 100.00 EUR"),
        (
            {**SALE, "sale_amount": "0"},
            {**SALE, "sale_amount": "49.99"},
            f"sale_amount 49.99 EUR {LATE} 0.00 EUR",
        ),
        ({"order_id": "o"}, SALE, f"sale_amount 100.00 EUR {LATE} none"),
        (SALE, {**SALE, "currency": "USD"}, f"sale_amount 100.00 USD {LATE} 100.00 EUR"),
        (SALE, {"order_id": "o", "revenue": "9"}, f"revenue 9.00 EUR {LATE} 3.00 EUR"),
        (
            SALE,
            {**SALE, "sale_amount": "1", "revenue": "9"},
            f"sale_amount 1.00 EUR {LATE} 100.00 EUR; revenue 9.00 EUR {LATE} 3.00 EUR",
        ),
        (SALE, {**SALE, "status": "pending"}, "it stays approved"),
        (
            SALE,
            {**SALE, "status": "pending", "sale_amount": "60"},
            f"it stays approved; sale_amount 60.00 EUR {LATE} 100.00 EUR",
        ),
        (SALE, SALE, "nothing new"),
        (SALE, {**SALE, "sale_amount": "100.000"}, "nothing new"),
        (SALE, {**SALE, "payout": "7"}, "nothing new"),  # the goal takes none
        (SALE, {**SALE, **A_BROWSER, "sale_amount": "60"}, "a browser changes nothing"),
        (SALE, {**SALE, **BY_API, "payout": "7"}, f"payout 7.00 EUR {LATE} 2.00 EUR"),
    ],
)
async def test_log_names_the_postback_and_why_it_changed_nothing(
    connection: Connection, first: dict[str, Any], then: dict[str, Any], reason: str
) -> None:
    await connection.execute("UPDATE goal SET pixel = true")
    book = Book(connection)
    assert await book.tell(first, then) == [("stored", ""), ("unchanged", reason)]
    booked = await entries(connection)
    assert await book.tell({**then, "sale_status": "x"}) == (
        [("unchanged", reason)]
        if "source" in then and then["source"] is Source.PIXEL
        else [("updated", "" if reason == "nothing new" else reason)]
    )
    assert await entries(connection) == booked


FULL_CAP = "INSERT INTO cap (offer_id, counts, period, amount) VALUES (3, 'conversions', 'total', 0)"
PERCENT = "UPDATE goal_price SET payout_type = 'percent', payout = 10"
UNPRICED = (
    "DELETE FROM goal_price; UPDATE goal SET (payout, revenue, is_priced) = (0, 0, false) WHERE id = 30"
)
UNSEEN = "UPDATE goal SET initial_status = 'hold' WHERE id = 30"


@pytest.mark.parametrize("door", [BY_API, {}], ids=["API", "postback"])
@pytest.mark.parametrize(
    ("hand", "status", "doubt"),
    [(FULL_CAP, "hold", "over a cap"), (PERCENT, "hold", NO_SALE), (UNPRICED, "hold", NO_PRICE)],
)
async def test_doubtful_approval_may_be_repeated(
    connection: Connection, door: dict[str, Any], hand: str, status: str, doubt: str
) -> None:
    await connection.execute(hand)
    book = Book(connection)
    again = ("unchanged", f"it stays hold: {doubt}")
    told = {**door, "status": "approved"}
    assert await book.tell(told, told, told) == [("stored", doubt), again, again]
    assert await book.shown("status") == [(status,)]
    assert await entries(connection) == []


@pytest.mark.parametrize("source", [Source.API, Source.UPLOAD])
async def test_rejection_of_the_operator_stands(connection: Connection, source: Source) -> None:
    book = Book(connection)
    await book.tell({**BY_API, "status": "approved"})
    ((id_,),) = await book.shown("id")
    await set_status(connection, [id_], ConversionStatus.REJECTED, source=source, author="ann")
    assert await book.tell({**BY_API, "status": "approved", "payout": "9"}) == [
        (
            "unchanged",
            "it stays rejected; payout 9.00 EUR changes nothing: it is rejected with 2.00 EUR",
        )
    ]
    await set_status(connection, [id_], ConversionStatus.APPROVED, source=source, author="ann")
    assert [kind for kind, _ in await entries(connection)] == ["approval", "reversal", "approval"]


async def test_approval_of_the_operator_needs_patch(clicks: Settings) -> None:
    """The same status by two endpoints: POST as a postback, PATCH as a decision."""
    await run_sql(clicks, FULL_CAP)
    said = {"click_id": HASH, "status": "approved"}
    async with api_of(clicks, scopes=("conversions:read", "conversions:write", "money:read")) as client:
        for result in ("stored", "unchanged", "unchanged"):
            assert (await client.post(CONVERSIONS, json=said)).json()["result"] == result
            (row,) = (await listed(client, f"{CONVERSIONS}/1"))["data"]
            assert (row["status"], row["entries"]) == ("hold", [])
        assert (await client.patch(f"{CONVERSIONS}/1", json={"status": "approved"})).status_code == 200
        await client.patch(f"{CONVERSIONS}/1", json={"status": "rejected"})
        told = (await client.post(CONVERSIONS, json=said)).json()
        assert (told["result"], told["reason"]) == ("unchanged", "it stays rejected")
        amended = await client.patch(f"{CONVERSIONS}/1", json={"status": "approved", "sale_amount": "5"})
        assert amended.json()["data"][0]["status"] == "approved"


async def test_operator_cannot_approve_without_a_price(clicks: Settings) -> None:
    await run_sql(clicks, UNPRICED)
    async with api_of(clicks, scopes=("conversions:read", "conversions:write", "money:read")) as client:
        await client.post(CONVERSIONS, json={"click_id": HASH})
        for body in ({"status": "approved"}, {"status": "approved", "sale_amount": "5"}):
            answer = await client.patch(f"{CONVERSIONS}/1", json=body)
            assert answer.status_code == 409
            assert NO_PRICE in answer.json()["detail"]
        (row,) = (await listed(client, f"{CONVERSIONS}/1"))["data"]
        assert (row["status"], row["entries"]) == ("hold", [])


@pytest.mark.parametrize(
    ("goal", "after", "result"),
    [
        ("click_window = 60", 59_000, ("stored", "")),
        ("click_window = 60", 61_000, ("rejected", "after the goal's window")),
        ("click_window = NULL", 900 * DAY, ("stored", "")),
        ("click_window = 2592000", 31 * DAY, ("rejected", "after the goal's window")),
    ],
)
async def test_window_of_a_child_counts_from_the_click(
    connection: Connection, goal: str, after: int, result: tuple[str, str]
) -> None:
    await connection.execute(f"UPDATE goal SET {goal} WHERE id = 32")
    book = Book(connection)
    await book.tell({"goal_id": "31", "after": 0})
    assert await book.tell({"goal_id": "32", "after": after}) == [result]


CHILD = """
offers:
  - id: 3
    name: Puzzle Quest
    goals:
      - {name: Deposit, parent_goal: Conversion}
      - {name: Bonus, parent_goal: Deposit, click_window: 60}
"""


async def test_child_goal_has_a_window_only_if_set(importer: Importer) -> None:
    await importer.catalogue()
    path = importer.file("goals.yaml", CHILD)
    for _ in range(2):
        done = await importer.run("catalogue", path)
        assert done.code == 0, done.err
        assert await importer.fetch("SELECT name, click_window FROM goal WHERE offer_id = 3 ORDER BY id") == [
            ("Conversion", 2_592_000),
            ("Deposit", None),
            ("Bonus", 60),
        ]


@pytest.mark.parametrize(
    ("bodies", "window"),
    [
        ([{}, {"parent_goal_id": 3}], None),
        ([{}, {"parent_goal_id": 3, "click_window": 60}], 60),
        ([{"click_window": 60}, {"parent_goal_id": 3}], 60),
        ([{"parent_goal_id": 3}, {"parent_goal_id": None}], 2_592_000),
        ([{"parent_goal_id": 3}, {"click_window": 2_592_000}, {"name": "B"}], 2_592_000),
    ],
)
async def test_window_goes_with_the_parent(
    database: Settings, bodies: list[dict[str, Any]], window: int
) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    goals = "/backend/open-api/v1/users/offers/3/goals"
    async with api_of(database, scopes=("offers:read", "offers:write")) as client:
        answer = await client.post(goals, json={"name": "A", **bodies[0]})
        for body in bodies[1:]:
            answer = await client.patch(f"{goals}/{answer.json()['id']}", json=body)
        assert answer.json()["click_window"] == window
