"""Partial refunds and reversals: the booked sum is the sum owed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories.clicks import HASH, a_click, a_row
from tests.field.money_stories import (
    A_BROWSER,
    BY_API,
    COMING,
    OTHER_HASH,
    Book,
    connection,
    dsn,
    entries,
    history,
)
from tests.integration.api_client import api_of, run_sql, store
from tests.integration.test_api_conversions import listed
from tests.integration.test_manual_conversions import clicks
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.conversions.status_upload import UPLOADS
from tracker.domain.postback import ConversionStatus, Source
from tracker.settings import Settings
from tracker.store.conversions.apply_postback import amend
from tracker.store.conversions.status import set_status
from tracker.store.db import Connection

__all__ = ["clicks", "connection", "dsn"]
pytestmark = pytest.mark.anyio

PERCENT = """
UPDATE goal SET multiple = true WHERE id = 30;
UPDATE goal_price SET (payout_type, payout, revenue_type, revenue) = ('percent', 10, 'percent', 20)
"""
SOLD = {"order_id": "o", "sale_amount": "100", "currency": "EUR"}
UPDATED, UNCHANGED = ("updated", ""), "unchanged"


def refund(amount: str = "", id_: str = "", status: str = "rejected", **more: str) -> dict[str, Any]:
    said = {"order_id": "o", "status": status, "refund_amount": amount, "refund_id": id_, **more}
    return {name: text for name, text in said.items() if text}


# Postbacks, results, and booked payouts.
STORIES: dict[str, tuple[list[dict[str, Any]], list[tuple[str, str]], list[str]]] = {
    "all of it": ([SOLD, refund()], [("stored", ""), UPDATED], ["10", "-10"]),
    "a part": ([SOLD, refund("40")], [("stored", ""), UPDATED], ["10", "-4"]),
    "a part, then more": (
        [SOLD, refund("40"), refund("60")],
        [("stored", ""), UPDATED, UPDATED],
        ["10", "-4", "-2"],
    ),
    "a part, then all": (
        [SOLD, refund("40"), refund("100")],
        [("stored", ""), UPDATED, UPDATED],
        ["10", "-4", "-6"],
    ),
    "a part, then all by its status": (
        [SOLD, refund("40"), refund()],
        [("stored", ""), UPDATED, UPDATED],
        ["10", "-4", "-6"],
    ),
    "the same again": (
        [SOLD, refund("40"), refund("40.00")],
        [("stored", ""), UPDATED, (UNCHANGED, "40.00 of it is refunded already")],
        ["10", "-4"],
    ),
    "an older total comes late": (
        [SOLD, refund("40"), refund("30")],
        [("stored", ""), UPDATED, (UNCHANGED, "40.00 of it is refunded already")],
        ["10", "-4"],
    ),
    "nothing of it": (
        [SOLD, refund("0")],
        [("stored", ""), (UNCHANGED, "0.00 of it is refunded already")],
        ["10"],
    ),
    "nothing of what is pending, which is declined": (
        [{**SOLD, "status": "pending"}, refund("0.00"), {**SOLD, "status": "approved"}],
        [("stored", ""), UPDATED, (UNCHANGED, "it stays rejected")],
        [],
    ),
    "nothing of what is on hold, which is approved": (
        [{**SOLD, "status": "hold"}, refund("0", status="approved")],
        [("stored", ""), UPDATED],
        ["10"],
    ),
    "nothing, as each sale says": ([{**SOLD, "refund_amount": "0"}], [("stored", "")], ["10"]),
    "nothing of what is not there, which is declined": (
        [refund("0", "r1"), SOLD],
        [
            ("stored", "a percentage of no sale_amount"),
            (UNCHANGED, "sale_amount 100.00 EUR changes nothing: it is rejected with none"),
        ],
        [],
    ),
    "steps": (
        [SOLD, refund("40", "r1"), refund("20", "r2"), refund("40", "r1"), refund("40", "r3")],
        [("stored", ""), UPDATED, UPDATED, (UNCHANGED, "refund r1 was applied before"), UPDATED],
        ["10", "-4", "-2", "-4"],
    ),
    "two steps of one amount": (
        [SOLD, refund("25", "r1"), refund("25", "r2")],
        [("stored", ""), UPDATED, UPDATED],
        ["10", "-2.5", "-2.5"],
    ),
    "more than the sale": (
        [SOLD, refund("100.01")],
        [("stored", ""), ("held", "100.01 EUR is more than its order of 100.00")],
        ["10"],
    ),
    "steps that are more than the sale": (
        [SOLD, refund("90", "r1"), refund("20", "r2")],
        [("stored", ""), UPDATED, ("held", "110.00 EUR is more than its order of 100.00")],
        ["10", "-9"],
    ),
    "in another currency": (
        [SOLD, refund("40", currency="USD")],
        [("stored", ""), ("held", "the refund is in USD, its order in EUR")],
        ["10"],
    ),
    "in the same currency": ([SOLD, refund("40", currency="EUR")], [("stored", ""), UPDATED], ["10", "-4"]),
    "without a status": ([SOLD, refund("40", status="")], [("stored", ""), UPDATED], ["10", "-4"]),
    "together with the approval": (
        [{**SOLD, "status": "pending"}, refund("40", status="approved")],
        [("stored", ""), UPDATED],
        ["10", "-4"],
    ),
    "together with the sale": ([{**SOLD, **refund("40", status="approved")}], [UPDATED], ["10", "-4"]),
    "of what was rejected": (
        [{**SOLD, "status": "rejected"}, refund("40")],
        [("stored", ""), (UNCHANGED, "it stays rejected")],
        [],
    ),
    "by a browser": (
        [SOLD, {**refund("40"), **A_BROWSER}],
        [("stored", ""), (UNCHANGED, "a browser changes nothing")],
        ["10"],
    ),
    "over the API": ([SOLD, {**refund("40"), **BY_API}], [("stored", ""), UPDATED], ["10", "-4"]),
    "with texts": ([SOLD, refund("40", sale_status="returned")], [("stored", ""), UPDATED], ["10", "-4"]),
    "of a sale that nobody named": (
        [{"order_id": "o", "payout": "3", "source": Source.API}, refund("1")],
        [("stored", "a percentage of no sale_amount"), ("held", "its order is not approved: it is hold")],
        [],
    ),
}


@pytest.mark.parametrize("story", STORIES)
async def test_refund_changes_the_conversion(connection: Connection, story: str) -> None:
    said, expected, booked = STORIES[story]
    await connection.execute(PERCENT + "; UPDATE goal SET pixel = true")
    assert await Book(connection).tell(*said) == expected
    assert [payout for _, payout in await entries(connection)] == list(map(Decimal, booked))


# Postbacks before the approval, and the payouts booked with it.
EARLY: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "of what is pending": ([{**SOLD, "status": "pending"}, refund("40")], ["10", "-4"]),
    "of what is on hold, in steps": (
        [{**SOLD, "status": "hold"}, refund("40", "a"), refund("10", "b")],
        ["10", "-4", "-1"],
    ),
    "of what is not there": ([refund("40"), {**SOLD, "status": "pending"}], ["10", "-4"]),
    "totals of what is not there": (
        [refund("40"), refund("70"), {**SOLD, "status": "pending"}],
        ["10", "-4", "-3"],
    ),
    "more than the sale that was told first": (
        [{**SOLD, "sale_amount": "50", "status": "pending"}, refund("70"), {**SOLD, "status": "pending"}],
        ["10", "-7"],
    ),
}


@pytest.mark.parametrize("by", ["the advertiser", "the operator"])
@pytest.mark.parametrize("story", EARLY)
async def test_refund_is_held_until_the_approval(connection: Connection, story: str, by: str) -> None:
    early, booked = EARLY[story]
    await connection.execute(PERCENT)
    book = Book(connection)
    results = await book.tell(*early)
    assert {result for (result, _), said in zip(results, early, strict=True) if "refund_amount" in said} == {
        "held"
    }
    assert await entries(connection) == []
    if by == "the operator":
        ids = [id_ for (id_,) in await book.shown("id")]
        await set_status(connection, ids, ConversionStatus.APPROVED, source=Source.UPLOAD, author="ann")
    else:
        await book.tell({"order_id": "o", "status": "approved"})
    assert [payout for _, payout in await entries(connection)] == list(map(Decimal, booked))
    assert "held" not in {result for result, _ in await book.log()}


async def test_refund_of_a_click_that_is_not_stored_waits_in_line(connection: Connection) -> None:
    await connection.execute(PERCENT)
    book = Book(connection)
    await book.tell({**SOLD, "click_id": COMING}, refund("40", click_id=COMING))
    await book.click(COMING)
    await book.look()
    assert [payout for _, payout in await entries(connection)] == [10, -4]


async def test_refund_takes_no_order_from_another_click(connection: Connection) -> None:
    await connection.execute(PERCENT)
    book = Book(connection)
    done = await book.tell(SOLD, {**refund("40"), "click_id": OTHER_HASH})
    assert done == [("stored", ""), ("rejected", "the order id is of another click")]


async def test_refund_does_not_approve_a_browsers_conversion(connection: Connection) -> None:
    await connection.execute(PERCENT + "; UPDATE goal SET pixel = true")
    book = Book(connection)
    done = await book.tell({**SOLD, **A_BROWSER}, refund("40"), {**SOLD, "status": "approved"})
    assert [result for result, _ in done] == ["stored", "held", "updated"]
    assert [payout for _, payout in await entries(connection)] == [10, -4]


@pytest.mark.parametrize(
    ("case", "said", "after"),
    [
        ("a fixed payout stays", {}, ("2", "3")),
        ("a named revenue stays", {"revenue": "15"}, ("2", "15")),
    ],
)
async def test_fixed_payout_stays_until_the_full_refund(
    connection: Connection, case: str, said: dict[str, Any], after: tuple[str, str]
) -> None:
    book = Book(connection)
    await book.tell({**SOLD, **said}, refund("40"))
    assert await book.shown("payout", "revenue", "refunded", "status") == [
        (*map(Decimal, after), Decimal(40), "approved")
    ], case
    await book.tell(refund("100"))
    assert await book.shown("refunded", "status") == [(Decimal(40), "rejected")]
    assert sum(payout for _, payout in await entries(connection)) == 0
    assert [change[1] for change in await history(connection)] == ["approved", "rejected"]


# What was told before the operator approves it again, what is told then, what is refunded, and the payouts.
AGAIN: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], str, list[str]]] = {
    "all, then a part": ([refund("100")], [refund("40")], "40", ["10", "-10", "10", "-4"]),
    "all by its status": ([refund()], [refund("40")], "40", ["10", "-10", "10", "-4"]),
    "a part, then all": ([refund("40"), refund("100")], [], "40", ["10", "-4", "-6", "6"]),
    "a part, then all, then more": (
        [refund("40"), refund("100")],
        [refund("40"), refund("60")],
        "60",
        ["10", "-4", "-6", "6", "-2"],
    ),
    "in steps": (
        [refund("40", "r1"), refund("60", "r2")],
        [refund("60", "r2"), refund("20", "r3")],  # r2 is what the operator has decided about
        "60",
        ["10", "-4", "-6", "6", "-2"],
    ),
    "all once more": ([refund("100")], [refund("100")], "0", ["10", "-10", "10", "-10"]),
}


@pytest.mark.parametrize("by", ["its status", "its sale"])
@pytest.mark.parametrize("story", AGAIN)
async def test_refund_of_what_the_operator_approved_again(
    connection: Connection, story: str, by: str
) -> None:
    before, then, refunded, booked = AGAIN[story]
    await connection.execute(PERCENT)
    book = Book(connection)
    await book.tell(SOLD, *before)
    await approve_again(book, by)
    await book.tell(*then)
    assert [payout for _, payout in await entries(connection)] == list(map(Decimal, booked))
    assert await book.shown("refunded") == [(Decimal(refunded),)]


@pytest.mark.parametrize("by", ["its status", "its sale"])
async def test_imported_refund_of_all_is_forgotten_once_it_is_approved_again(
    connection: Connection, by: str
) -> None:
    await connection.execute(PERCENT)
    book = Book(connection)
    await book.tell({**SOLD, "status": "rejected"})
    await connection.execute("UPDATE conversion SET refunded = sale_amount")
    await approve_again(book, by)
    await book.tell(refund("40"))
    assert [payout for _, payout in await entries(connection)] == [10, -4]


async def approve_again(book: Book, by: str) -> None:
    """What the operator does by PATCH, with a sale_amount or without."""
    ((id_, status),) = await book.shown("id", "status")
    assert status == "rejected"
    if by == "its sale":
        said = {"source": Source.API, "sale_amount": "100", "currency": "EUR", "status": "approved"}
        await amend(book.connection, book.postback(**said, goal_id="30"), id_, "ann")
    else:
        await set_status(book.connection, [id_], ConversionStatus.APPROVED, source=Source.API, author="ann")


_STEPS = st.one_of(
    st.fixed_dictionaries({"status": st.sampled_from(list(ConversionStatus))}),
    st.fixed_dictionaries(
        {
            "refund_amount": st.decimals(0, 130, places=2).map(str),
            "refund_id": st.sampled_from(["", "r1", "r2", "r3"]),
            "status": st.sampled_from(["rejected", ""]),
        }
    ),
    st.fixed_dictionaries(
        {"sale_amount": st.decimals(0, 200, places=3).map(str), "status": st.just("pending")}
    ),
    st.sampled_from([*ConversionStatus]).map(lambda status: {"operator": status}),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_STEPS, max_size=12), st.sampled_from(["EUR", "JPY", "KWD"]), st.decimals(0, 100, places=3))
async def test_sum_of_the_book_is_the_amount_owed(
    connection: Connection, steps: list[dict[str, Any]], currency: str, percentage: Decimal
) -> None:
    """Any postbacks in any order: approved conversions are owed their amounts, others 0."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(PERCENT)
        await connection.execute("UPDATE goal_price SET payout = $1::text::numeric", str(percentage))
        book = Book(connection)
        await book.tell({**SOLD, "currency": currency, "status": "pending"})
        for step in steps:
            if "operator" in step:
                ((id_,),) = await book.shown("id")
                await set_status(connection, [id_], step["operator"], source=Source.API, author="ann")
            else:
                await book.tell({"order_id": "o", **{name: text for name, text in step.items() if text}})
        ((status, payout, revenue, refunded, sale),) = await book.shown(
            "status", "payout", "revenue", "refunded", "sale_amount"
        )
        sums = await connection.fetchrow(
            "SELECT coalesce(sum(payout), 0), coalesce(sum(revenue), 0), count(DISTINCT payout_currency)"
            " FROM conversion_entry"
        )
        owed = (payout, revenue) if status == "approved" else (0, 0)
        assert tuple(sums)[:2] == owed
        assert sums[2] <= 1
        assert 0 <= refunded <= sale
    finally:
        await transaction.rollback()


async def test_reversal_takes_back_the_booked_amount(connection: Connection) -> None:
    book = Book(connection)
    await book.tell({})
    await connection.execute("UPDATE conversion SET payout = 99, payout_currency = 'USD'")
    await book.tell({"status": "rejected"})
    rows = await connection.fetch("SELECT payout, payout_currency FROM conversion_entry ORDER BY id")
    assert list(map(tuple, rows)) == [(2, "EUR"), (-2, "EUR")]


async def test_refund_at_the_doors_of_the_api(clicks: Settings) -> None:
    await run_sql(clicks, "UPDATE goal_price SET (payout_type, payout) = ('percent', 10)")
    scopes = ("conversions:read", "conversions:write", "money:read")
    async with api_of(clicks, scopes=scopes) as client:
        told = {"click_id": HASH, "order_id": "o", "sale_amount": "100", "status": "pending"}
        back = {
            "click_id": HASH,
            "order_id": "o",
            "refund_amount": "40",
            "refund_id": "r",
            "status": "rejected",
        }
        answer = await client.post(CONVERSIONS, json={"conversions": [told, back]})
        assert [one["result"] for one in answer.json()["data"]] == ["stored", "held"]
        upload = await client.post(
            UPLOADS, content="order_id,status\no,approved\n", headers={"Content-Type": "text/csv"}
        )
        assert upload.json()["changed"] == 1
        (row,) = (await listed(client, f"{CONVERSIONS}/1"))["data"]
        assert (row["payout"], row["refunded"], row["sale_amount"]) == ("6.00", "40.00", "100.00")
        booked = [(entry["kind"], entry["payout"]) for entry in row["entries"]]
        assert booked == [("approval", "10.00"), ("correction", "-4.00")]
        assert (await client.post(CONVERSIONS, json=back)).json()["reason"] == "refund r was applied before"
        refused = await client.post(CONVERSIONS, json={**back, "refund_amount": "-1"})
        assert refused.status_code == 422


@pytest.mark.parametrize(
    ("sale", "status", "payout"),
    [("120", 200, "8.00"), ("100", 200, "6.00"), ("40", 200, "0.00"), ("39.99", 409, "6.00")],
)
async def test_operators_sale_amount_is_reduced_by_the_refund(
    clicks: Settings, sale: str, status: int, payout: str
) -> None:
    await run_sql(clicks, "UPDATE goal_price SET (payout_type, payout) = ('percent', 10)")
    async with api_of(clicks, scopes=("conversions:read", "conversions:write", "money:read")) as client:
        order = {"click_id": HASH, "order_id": "o"}
        steps = ({"sale_amount": "100"}, {"refund_amount": "40"}, {"status": "chargeback"})
        await client.post(CONVERSIONS, json={"conversions": [order | step for step in steps]})
        patch = {"status": "approved", "sale_amount": sale}
        answer = await client.patch(f"{CONVERSIONS}/1", json=patch)
        assert answer.status_code == status, answer.text
        assert status == 200 or "40.00 of it is refunded, which is more" in answer.json()["message"]
        (row,) = (await listed(client, f"{CONVERSIONS}/1"))["data"]
        assert (row["payout"], row["refunded"]) == (payout, "40.00")
        owed = sum(Decimal(entry["payout"]) for entry in row["entries"])
        assert owed == (Decimal(payout) if status == 200 else 0)


async def test_test_clicks_book_no_refund(clicks: Settings) -> None:
    await run_sql(clicks, "UPDATE goal_price SET (payout_type, payout) = ('percent', 10)")
    test = HASH[:-1] + "9"
    await store(clicks, [a_row(a_click(hash=test, is_test=True))])
    async with api_of(clicks, scopes=("conversions:write", "conversions:read", "money:read")) as client:
        sale = {"click_id": test, "order_id": "t", "sale_amount": "100"}
        back = {"click_id": test, "order_id": "t", "refund_amount": "40"}
        await client.post(CONVERSIONS, json={"conversions": [sale, back]})
        (row,) = (await listed(client, f"{CONVERSIONS}/1"))["data"]
        assert (row["payout"], row["entries"]) == ("6.00", [])


@pytest.mark.parametrize(
    ("said", "result", "reason"),
    [
        ({"refund_amount": "4O"}, "rejected", "refund_amount must be an amount like 12.50"),
        ({"refund_amount": "-40"}, "rejected", "refund_amount must be an amount like 12.50"),
        ({"refund_amount": "40", "currency": "EURO"}, "rejected", "currency must be a currency of ISO 4217"),
        ({"refund_amount": " 40.0 ", "refund_id": " r1 "}, "updated", ""),
        ({"refund_amount": "4E1"}, "updated", ""),
        ({"refund_amount": "40", "refund_id": "{refund_id}"}, "updated", ""),
        ({"refund_amount": "{refund_amount}"}, "updated", ""),  # absent: all of it
    ],
)
async def test_unreadable_part_is_not_taken_for_the_whole(
    connection: Connection, said: dict[str, str], result: str, reason: str
) -> None:
    await connection.execute(PERCENT)
    book = Book(connection)
    ((_, _), (found, why)) = await book.tell(SOLD, {"order_id": "o", "status": "refunded", **said})
    assert (found, why[: len(reason)]) == (result, reason)
    owed = {"rejected": 10, "updated": 0 if "{refund_amount}" in said.values() else 6}[result]
    assert sum(payout for _, payout in await entries(connection)) == owed
    assert (await book.tell({**SOLD, "status": "refunded", "refund_amount": "40", "refund_id": "r1"}))[0][
        0
    ] in ({"rejected": ("updated",), "updated": ("unchanged", "updated")}[result])
