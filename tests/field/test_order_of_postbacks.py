"""Postbacks are applied in the order of the stream, even if their click is stored later."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.factories.clicks import a_click, a_row
from tests.factories.clicks import store as store_rows
from tests.factories.postbacks import a_postback
from tests.field.money_stories import (
    A_BROWSER,
    A_STRANGER,
    BY_API,
    COMING,
    COMING_TOO,
    OTHER_HASH,
    Book,
    connection,
    dsn,
)
from tests.integration.test_conversion_writer import append, connected, left, results
from tracker.domain.click_id import Mint, millis_of
from tracker.domain.postback import Postback, Source, read_postback
from tracker.settings import Settings
from tracker.store.conversions import postback_line
from tracker.store.conversions.apply_postback import WAITS, take
from tracker.store.db import Connection
from workers import conversion_writer

__all__ = ["connection", "dsn"]
pytestmark = pytest.mark.anyio

FIRST = {"click_id": COMING, "order_id": "o", "sale_amount": "100", "status": "pending"}
THEN = {"click_id": COMING, "order_id": "o", "status": "approved"}
NOT_STORED = ("parked", "its click is not stored yet")

# Postbacks before the click is stored, after it, and (status, sale_amount) of each conversion.
STORIES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], list[tuple[str, int | None]]]] = {
    "pending, then approved": ([FIRST], [THEN], [("approved", 100)]),
    "approved, then rejected": (
        [{**FIRST, "status": "approved"}],
        [{**THEN, "status": "rejected"}],
        [("rejected", 100)],
    ),
    "three of one order": ([FIRST, {**FIRST, "sale_amount": "90"}], [THEN], [("approved", 90)]),
    "without an order id": (
        [{"click_id": COMING, "status": "hold", "sale_amount": "5"}],
        [{"click_id": COMING, "status": "approved"}],
        [("approved", 5)],
    ),
    "the click's hash in capitals and with hyphens": (
        [FIRST],
        [{**THEN, "click_id": f"{COMING[:8]}-{COMING[8:]}".upper()}],
        [("approved", 100)],
    ),
    "told over the API": ([{**FIRST, **BY_API}], [{**THEN, **BY_API}], [("approved", 100)]),
    "a browser, then the advertiser": (
        [{**FIRST, **A_BROWSER, "status": ""}],
        [THEN],
        [("approved", 100)],
    ),
    "a goal and its child": (
        [{"click_id": COMING, "goal_id": "31"}],
        [{"click_id": COMING, "goal_id": "32"}],
        [("approved", None), ("approved", None)],
    ),
    "a goal and its child, both early": (
        [{"click_id": COMING, "goal_id": "31"}, {"click_id": COMING, "goal_id": "32"}],
        [],
        [("approved", None), ("approved", None)],
    ),
    "a refund of what is not there yet": (
        [{**FIRST, "status": "approved"}],
        [{**THEN, "status": "rejected", "refund_amount": "40"}],
        [("approved", 100)],
    ),
}


@pytest.mark.parametrize("story", STORIES)
async def test_postback_of_a_click_follows_the_parked_ones(connection: Connection, story: str) -> None:
    early, late, expected = STORIES[story]
    book = Book(connection)
    await connection.execute("UPDATE goal SET pixel = true")
    assert await book.tell(*early) == [NOT_STORED] * len(early)
    await book.click(COMING)
    if late:
        await book.tell(*late)
    else:
        await book.look()
    shown = [(status, sale) for status, sale in await book.shown("status", "sale_amount")]
    assert shown == [(status, None if sale is None else Decimal(sale)) for status, sale in expected]
    first, *others = [result for result, _ in await book.log()]
    assert first == "stored"
    assert "parked" not in others


async def test_order_is_that_of_the_stream_and_not_of_the_edges_clocks(connection: Connection) -> None:
    book = Book(connection)
    await book.tell({**FIRST, "n": 900}, {**THEN, "n": 1})
    await book.click(COMING)
    await book.look()
    assert await book.shown("status", "sale_amount") == [("approved", 100)]


async def test_order_of_another_click_is_waited_for_with_its_secret(connection: Connection) -> None:
    book = Book(connection)
    other = {"click_id": OTHER_HASH, "order_id": "o"}
    assert await book.tell(FIRST, other) == [NOT_STORED, ("parked", WAITS)]
    assert await book.tell({"click_id": OTHER_HASH, "sale_status": "x"}) == [("parked", WAITS)]
    await book.look()
    assert await book.log() == [NOT_STORED, ("parked", WAITS), ("parked", WAITS)]
    await book.click(COMING)
    await book.look()
    assert [result for result, _ in await book.log()] == ["stored", "rejected", "stored"]
    assert await book.shown("click_hash", "order_id") == [
        (row[0], order) for row, order in zip(await book.shown("click_hash"), ("o", None), strict=True)
    ]


async def test_order_of_a_missing_click_is_applied_in_the_end(connection: Connection) -> None:
    book = Book(connection)
    await book.tell(FIRST, {"click_id": OTHER_HASH, "order_id": "o"})
    await book.look(millis_of(COMING) + 1)
    assert await book.log() == [("rejected", "unknown click"), ("stored", "")]


@pytest.mark.parametrize(
    ("why", "parked", "told"),
    [
        ("another order", FIRST, {"order_id": "p"}),
        ("no order", FIRST, {}),
        ("another goal of it", {**FIRST, "goal_id": "31"}, {"order_id": "o", "goal_id": "30"}),
        ("another advertiser's secret", {**FIRST, "advertiser_id": 2}, {"order_id": "o"}),
        ("no secret", {**FIRST, **A_STRANGER}, {"order_id": "o"}),
        ("a browser", {**FIRST, **A_BROWSER}, {"order_id": "o"}),
        ("told over the API", {**FIRST, **BY_API}, {"order_id": "o"}),
        ("what it says itself over the API", FIRST, {"order_id": "o", **BY_API}),
    ],
)
async def test_postbacks_wait_only_for_their_click_or_parent(
    connection: Connection, why: str, parked: dict[str, Any], told: dict[str, Any]
) -> None:
    book = Book(connection)
    assert await book.tell(parked) == [NOT_STORED]
    assert await book.tell(told) == [("stored", "")], why


@pytest.mark.parametrize("is_stored", [True, False])
async def test_postbacks_of_strangers_block_no_other(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, is_stored: bool
) -> None:
    """Any number of postbacks for a known click, with any secret."""
    monkeypatch.setattr(postback_line, "MOST_BESIDE", 3)
    book = Book(connection)
    flood = [{**FIRST, **A_STRANGER}] * 8 + [{**FIRST, "advertiser_id": 2}] * 8
    assert await book.tell(*flood, FIRST) == [NOT_STORED] * 17
    if is_stored:
        await book.click(COMING)
        assert await book.tell(THEN) == [("updated", "")]
        assert await book.shown("status", "sale_amount") == [("approved", 100)]
    else:
        assert await book.tell({"order_id": "o2"}, {"click_id": OTHER_HASH, "goal_id": "31"}) == [
            ("stored", ""),
            ("stored", ""),
        ]


async def test_postbacks_beyond_a_batch_keep_their_order(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postback_line, "MOST_BESIDE", 3)
    book = Book(connection)
    sales = [{**FIRST, "sale_amount": str(n)} for n in range(1, 9)]
    await book.tell(*sales)
    await book.click(COMING)
    assert await book.tell(THEN) == [("parked", WAITS)]
    for _ in range(4):
        await book.look()
    assert [result for result, _ in await book.log()] == ["stored", *["updated"] * 8]
    assert await book.shown("status", "sale_amount") == [("approved", 8)]


async def test_waiting_goes_through_orders_and_clicks(connection: Connection) -> None:
    """A waits for its click, B of its order for A, and C of B's click for B."""
    book = Book(connection)
    await book.tell(
        FIRST, {"click_id": COMING_TOO, "order_id": "o"}, {"click_id": COMING_TOO, "order_id": "p"}
    )
    await book.click(COMING_TOO)
    assert await book.tell({"click_id": COMING_TOO, "order_id": "q"}) == [("parked", WAITS)]
    await book.click(COMING)
    assert await book.tell({"click_id": COMING_TOO, "order_id": "r"}) == [
        ("rejected", "the goal takes one conversion a click")
    ]
    assert [result for result, _ in await book.log()] == [
        "stored",
        "rejected",
        "stored",
        "rejected",
        "rejected",
    ]


mint = Mint()


def of(click: str, hash_: str, **said: str) -> Postback:
    return read_postback(hash_, Source.POSTBACK, "198.51.100.9", 1, {"click_id": click} | said)


async def test_writer_keeps_the_order_over_kills(database: Settings) -> None:
    """After a kill between commit and acknowledgement all postbacks come again and are applied once."""
    db = await connected(database)
    click, early, late = mint.hash(), mint.hash(), mint.hash()
    first = of(click, late, order_id="o", sale_amount="100", status="pending")
    then = of(click, early, order_id="o", status="approved")
    await append(database, first)
    await conversion_writer.run(database, burst=True)
    await append(database, first, then)
    await store_rows(db, [a_row(a_click(hash=click))])
    await conversion_writer.run(database, burst=True)
    assert await left(database) == (0, 0)
    assert sorted(await results(db)) == [("stored", ""), ("updated", "")]
    assert await Book(db).shown("status", "sale_amount") == [("approved", 100)]
    await db.close()


async def test_repeated_postback_keeps_its_parked_place(connection: Connection) -> None:
    book = Book(connection)
    first, then = a_postback(n=5, **FIRST), a_postback(n=2, **THEN)
    await take(connection, [first], None)
    await take(connection, [then, first], None)
    await book.click(COMING)
    await take(connection, [then], None)
    assert await book.shown("status", "sale_amount") == [("approved", 100)]
