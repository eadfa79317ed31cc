"""The effect of postbacks on the tables, a line a sequence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib.resources import files
from typing import Any

import asyncpg
import orjson
import pytest

from tests.conftest import Engines
from tests.factories.clicks import HASH, a_click, a_row
from tests.factories.clicks import store as store_rows
from tests.factories.conversions import NOT_AS_CLICK
from tests.factories.postbacks import AN_HOUR, a_postback, hash_after
from tracker import store
from tracker.domain.click_fields import FROZEN
from tracker.domain.click_id import millis_of
from tracker.domain.conversion import BROWSERS_SALE, Refusal
from tracker.domain.postback import ConversionStatus, Postback, Result, Source
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.clicks import insert as clicks
from tracker.store.clicks import kept
from tracker.store.conversions import lock as conversion_lock
from tracker.store.conversions.apply_postback import take
from tracker.store.conversions.results import Applied
from tracker.store.conversions.sql import FOUND
from tracker.store.conversions.status import Changed, set_status
from tracker.store.db import Connection, connect

pytestmark = pytest.mark.anyio

PENDING, HOLD, APPROVED, REJECTED = ConversionStatus
OTHER_HASH = HASH[:-1] + "2"
ANOTHER_OFFERS = HASH[:-1] + "3"
TEST_HASH = HASH[:-1] + "4"
REJECTED_HASH = HASH[:-1] + "5"
ABSENT = HASH[:-1] + "f"
OK, OVER = ("approved", False), ("hold", True)
UNSOLD = "a percentage of no sale_amount"
CLICK = a_row(aff_sub="a", aff_sub20="t", external_id="x", requested_offer_id=4, aff_group_id=7, city="Delft")
MIGRATIONS = files(store) / "migrations"
GOALS = """
UPDATE goal SET id = 30, payout = 2, revenue = 3, currency = 'EUR' WHERE offer_id = 3;
INSERT INTO goal (id, offer_id, name, multiple, parent_goal_id) VALUES
    (31, 3, 'Level', true, NULL), (32, 3, 'Purchase', false, 31), (33, 4, 'Shoes', false, NULL);
UPDATE goal_price SET valid_from = '2024-01-01';
"""


async def prepare(dsn: str) -> None:
    """Clicks of offers 3 and 4, a test click, a rejected click, and goals of both offers."""
    await load_demo(dsn)
    connection = await connect(dsn)
    await clicks.prepare(connection)
    rows = [
        CLICK,
        a_row(a_click(hash=OTHER_HASH, affiliate_id=514)),
        a_row(a_click(hash=ANOTHER_OFFERS), offer_id=4, advertiser_id=2),
        a_row(a_click(hash=TEST_HASH, is_test=True)),
        a_row(a_click(hash=REJECTED_HASH), status="rejected"),
    ]
    await store_rows(connection, rows)
    await connection.execute(GOALS)
    await connection.close()


@pytest.fixture(scope="module")
async def dsn(engines: Engines, maintenance: asyncpg.Connection) -> AsyncIterator[str]:
    """One database for all sequences. Each is rolled back."""
    await maintenance.execute("CREATE DATABASE stories TEMPLATE migrated_template OWNER tracker")
    await prepare(engines.dsn_of("stories"))
    yield engines.dsn_of("stories")
    await maintenance.execute("DROP DATABASE stories WITH (FORCE)")


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[Connection]:
    connection = await connect(dsn)
    transaction = connection.transaction()
    await transaction.start()
    await clicks.prepare(connection)
    yield connection
    await transaction.rollback()
    await connection.close()


async def taken(
    connection: Connection, *postbacks: Postback, complete_until: int | None = None
) -> list[Applied]:
    async with connection.transaction():
        return await take(connection, postbacks, complete_until)


async def told(connection: Connection, *said: dict[str, Any]) -> list[tuple[Result, str]]:
    """The results of postbacks applied one by one."""
    postbacks = [a_postback(n=n, **one) for n, one in enumerate(said)]
    return [(one.result, one.reason) for one in await taken(connection, *postbacks)]


@pytest.mark.parametrize("changes", [{}, {"is_unique": False}, {"is_bot": True}, {"status": "forwarded"}])
async def test_conversion_has_the_values_of_its_click(
    connection: Connection, changes: dict[str, Any]
) -> None:
    click = a_row(a_click(hash=ABSENT), country_code="NL", **changes)
    await store_rows(connection, [click])
    assert await told(connection, {"click_id": ABSENT}) == [(Result.STORED, "")]
    assert await connection.fetchval(NOT_AS_CLICK) == 0


MORE_CONVERSIONS = """
INSERT INTO conversion (hash, click_hash, order_id, {columns})
SELECT gen_random_uuid(), CASE WHEN n > 500 THEN gen_random_uuid() ELSE click_hash END, 'o-' || n, {columns}
FROM conversion, generate_series(1, 3000) AS n
"""
LOOK_UPS = [
    ("an order", 31, "o-7", True, False),
    ("a new order", 31, "o-x", True, False),
    ("an absent order", 31, "-", True, True),
    ("the only one of another goal", 32, "o-7", False, False),
]


@pytest.mark.parametrize("plan", ["generic", "custom"])
async def test_conversion_is_found_among_many_of_its_click(connection: Connection, plan: str) -> None:
    assert await told(connection, {"goal_id": "31"}) == [(Result.STORED, "")]
    columns = await connection.fetchval(
        """SELECT string_agg(column_name, ', ') FROM information_schema.columns
        WHERE table_name = 'conversion' AND is_generated = 'NEVER' AND is_identity = 'NO'
            AND column_name NOT IN ('hash', 'click_hash', 'order_id', 'version')"""
    )
    await connection.execute(MORE_CONVERSIONS.format(columns=columns))
    await connection.execute("ANALYZE conversion")
    await connection.execute(f"SET LOCAL plan_cache_mode = force_{plan}_plan")
    await connection.execute(f"PREPARE found (bigint, bigint, text[], uuid, boolean, boolean) AS {FOUND}")
    for what, goal_id, order_id, multiple, is_absent in LOOK_UPS:
        ((plan_of,),) = await connection.fetch(
            f"""EXPLAIN (ANALYZE, FORMAT JSON)
            EXECUTE found (1, {goal_id}, '{{{order_id}}}', '{HASH}', {multiple}, {is_absent})"""
        )
        assert rows_read(orjson.loads(plan_of)[0]["Plan"]) < 10, what
    await connection.execute("DEALLOCATE found")


def rows_read(plan: dict[str, Any]) -> float:
    """The rows that a plan and its parts have read."""
    own = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    return float(own + sum(map(rows_read, plan.get("Plans", []))))


async def test_refunds_of_other_orders_are_not_tried_again(connection: Connection) -> None:
    async def statements_of(*said: dict[str, Any]) -> int:
        statements: list[Any] = []
        with connection.query_logger(statements.append):
            await told(connection, *said)
        return len(statements)

    a_refund = {"goal_id": "31", "refund_amount": "1", "refund_id": "r"}
    await told(connection, {"goal_id": "31", "order_id": "prepares statements", "after": 0})
    before = await statements_of({"goal_id": "31", "order_id": "a", "after": 1})
    await told(connection, *({**a_refund, "order_id": f"o-{n}", "after": 2} for n in range(20)))
    assert await statements_of({"goal_id": "31", "order_id": "b", "after": 3}) == before
    sale = {"goal_id": "31", "sale_amount": "9", "status": "approved", "after": 4}
    await told(connection, {**sale, "order_id": "o-3"}, {**sale, "order_id": "c"})
    found = await connection.fetch("SELECT order_id FROM conversion WHERE refunded > 0")
    assert [row["order_id"] for row in found] == ["o-3"]


async def test_migration_adds_the_values_of_clicks(connection: Connection) -> None:
    await connection.execute("UPDATE click SET is_unique = false, status = 'forwarded' WHERE hash = $1", HASH)
    await told(connection, *({"click_id": hash_, "goal_id": "31"} for hash_ in (HASH, HASH, OTHER_HASH)))
    await connection.execute("DELETE FROM click WHERE hash = $1", OTHER_HASH)
    await connection.execute("TRUNCATE conversion_delta")
    await connection.execute("ALTER TABLE conversion DROP click_status, DROP is_unique, DROP is_bot")
    await connection.execute("CREATE INDEX conversion_click ON conversion (click_hash)")
    await connection.execute((MIGRATIONS / "0045_converted_clicks.sql").read_text())
    assert await connection.fetchval(NOT_AS_CLICK) == 0
    found = await connection.fetch("SELECT click_status, is_unique, is_bot FROM conversion ORDER BY id")
    assert [tuple(row) for row in found] == [*[("forwarded", False, False)] * 2, (None, None, None)]
    assert await connection.fetchval("SELECT count(*) FROM conversion_delta") == 0


async def conversions(connection: Connection) -> list[dict[str, Any]]:
    return [dict(row) for row in await connection.fetch("SELECT * FROM conversion ORDER BY id")]


async def entries(connection: Connection) -> list[tuple[str, Decimal]]:
    rows = await connection.fetch("SELECT kind, payout FROM conversion_entry ORDER BY id")
    return [(row["kind"], row["payout"]) for row in rows]


async def history(connection: Connection) -> list[tuple[str | None, str, str]]:
    rows = await connection.fetch(
        "SELECT status_before, status_after, source FROM conversion_change ORDER BY id"
    )
    return [tuple(row) for row in rows]


async def test_postback_makes_a_conversion_out_of_its_click(connection: Connection) -> None:
    postback = a_postback(
        order_id="o-1",
        sale_status="shipped",
        sale_amount="20",
        currency="USD",
        external_id="x",
        adv_sub="a",
        adv_sub5="e",
    )
    (done,) = await taken(connection, postback)
    (conversion,) = await conversions(connection)
    assert done == Applied(postback.hash, Result.STORED, "", conversion["id"])
    expected = {
        "hash": postback.hash,
        "click_hash": HASH,
        "click_id": 1,
        "goal_id": 30,
        "order_id": "o-1",
        "is_repeatable": False,
        "status": "approved",
        "is_over_cap": False,
        "sale_status": "shipped",
        "sale_amount": Decimal(20),
        "sale_currency": "USD",
        "payout": Decimal(2),
        "payout_currency": "EUR",
        "revenue": Decimal(3),
        "revenue_currency": "EUR",
        "advertiser_external_id": "x",
        "adv_sub": "a",
        "adv_sub2": "",
        "adv_sub5": "e",
        "offer_id": 3,
        "advertiser_id": 1,
        "affiliate_id": 513,
        "country_code": "NL",
        "device_type": "desktop",
        "device_os": "Windows",
        "browser": "Chrome",
        "affiliate_source": "",
        "is_test": False,
    }
    shown = conversion | {name: conversion[name].hex for name in ("hash", "click_hash")}
    assert {name: shown[name] for name in expected} == expected
    assert {name: shown[name] for name in FROZEN} == {name: getattr(CLICK, name) for name in FROZEN}
    assert conversion["created_at"].timestamp() * 1000 == pytest.approx(postback.millis)
    assert await entries(connection) == [("approval", Decimal(2))]
    assert await history(connection) == [(None, "approved", "postback")]
    (logged,) = await connection.fetch("SELECT * FROM postback")
    assert (logged["result"], logged["ip"], logged["advertiser_id"]) == ("stored", "198.51.100.9", 1)
    assert '"order_id": "o-1"' in logged["parameters"]


STORED, UPDATED, UNCHANGED = Result.STORED, Result.UPDATED, Result.UNCHANGED
SAME = (UNCHANGED, "nothing new")

STORIES: dict[str, tuple[list[dict[str, Any]], list[tuple[Result, str]], list[str]]] = {
    "the same again": ([{}, {}], [(STORED, ""), SAME], ["approved"]),
    "the same order again": ([{"order_id": "o"}] * 2, [(STORED, ""), SAME], ["approved"]),
    "pending, then approved, then reversed": (
        [{"status": "pending"}, {"status": "approved"}, {"status": "rejected"}],
        [(STORED, ""), (UPDATED, ""), (UPDATED, "")],
        ["rejected"],
    ),
    "pending comes too late": (
        [{"status": "approved"}, {"status": "pending"}],
        [(STORED, ""), (UNCHANGED, "it stays approved")],
        ["approved"],
    ),
    "an advertiser cannot revive": (
        [{"status": "rejected"}, {"status": "approved"}],
        [(STORED, ""), (UNCHANGED, "it stays rejected")],
        ["rejected"],
    ),
    "what the network tells is no decision of the operator": (
        [{"status": "rejected"}, {"status": "approved", "source": Source.API, "advertiser_id": None}],
        [(STORED, ""), (UNCHANGED, "it stays rejected")],
        ["rejected"],
    ),
    "a second order of a goal that takes one": (
        [{"order_id": "a"}, {"order_id": "b"}],
        [(STORED, ""), (Result.REJECTED, Refusal.SECOND)],
        ["approved"],
    ),
    "an order that gets its id later": (
        [
            {"status": "pending"},
            {"order_id": "a"},
            {"order_id": "a", "status": "approved"},
            {"order_id": "b"},
        ],
        [(STORED, ""), (UPDATED, ""), (UPDATED, ""), (Result.REJECTED, Refusal.SECOND)],
        ["approved"],
    ),
    "an order without its id later": (
        [{"order_id": "a", "status": "pending"}, {"status": "approved"}],
        [(STORED, ""), (UPDATED, "")],
        ["approved"],
    ),
    "an order id of another click": (
        [{"order_id": "a"}, {"order_id": "a", "click_id": OTHER_HASH}],
        [(STORED, ""), (Result.REJECTED, Refusal.OTHER_CLICK)],
        ["approved"],
    ),
    "one order of two goals": (
        [{"order_id": "a"}, {"order_id": "a", "goal_id": "31"}],
        [(STORED, ""), (STORED, "")],
        ["approved", "approved"],
    ),
    "a goal that takes several": (
        [
            {"goal_id": "31", "order_id": "a"},
            {"goal_id": "31", "order_id": "b"},
            {"goal_id": "31", "order_id": "a"},
            {"goal_id": "31"},
            {"goal_id": "31"},
        ],
        [(STORED, ""), (STORED, ""), SAME, (STORED, ""), (STORED, "")],
        ["approved"] * 4,
    ),
    "a goal with a parent": (
        [{"goal_id": "32"}, {"goal_id": "31"}, {"goal_id": "32"}],
        [(Result.REJECTED, Refusal.NO_PARENT), (STORED, ""), (STORED, "")],
        ["approved", "approved"],
    ),
    "texts that are told later, and stay": (
        [{"adv_sub": "a"}, {"sale_status": "shipped", "adv_sub2": "b"}, {"adv_sub": ""}],
        [(STORED, ""), (UPDATED, ""), SAME],
        ["approved"],
    ),
    "of a rejected click": (
        [{"click_id": REJECTED_HASH}],
        [(Result.REJECTED, Refusal.REJECTED_CLICK)],
        [],
    ),
    "of an unknown goal": ([{"goal_id": "99"}], [(Result.HELD, Refusal.UNKNOWN_GOAL)], []),
    "of another offer's goal": ([{"goal_id": "33"}], [(Result.REJECTED, Refusal.OTHER_OFFER)], []),
    "of another advertiser": ([{"advertiser_id": 2}], [(Result.REJECTED, Refusal.OTHER_ADVERTISER)], []),
    "of nobody": ([{"advertiser_id": None}], [(Result.REJECTED, Refusal.UNPROVEN)], []),
    "of a browser": ([{"source": Source.PIXEL}], [(Result.REJECTED, Refusal.NO_PIXEL)], []),
    "after the window": ([{"after": 31 * 24 * AN_HOUR}], [(Result.REJECTED, Refusal.LATE)], []),
    "after the window, of what was before it": (
        [{"status": "pending"}, {"status": "approved", "after": 90 * 24 * AN_HOUR}],
        [(STORED, ""), (UPDATED, "")],
        ["approved"],
    ),
    "of an earlier tracker's id that is unknown": (
        [{"click_id": "10278c6ea8b2b8"}],
        [(Result.REJECTED, Refusal.UNKNOWN_CLICK)],
        [],
    ),
    "of a click from the future": (
        [{"click_id": hash_after(100 * AN_HOUR)}],
        [(Result.REJECTED, Refusal.UNKNOWN_CLICK)],
        [],
    ),
    "of a click that is not there yet": (
        [{"click_id": ABSENT}],
        [(Result.PARKED, "its click is not stored yet")],
        [],
    ),
}


@pytest.mark.parametrize("is_one_batch", [True, False], ids=["together", "apart"])
@pytest.mark.parametrize("story", STORIES)
async def test_postbacks_have_their_outcome(connection: Connection, story: str, is_one_batch: bool) -> None:
    said, expected, statuses = STORIES[story]
    postbacks = [a_postback(n=n, **one) for n, one in enumerate(said)]
    if is_one_batch:
        done = await taken(connection, *postbacks)
    else:
        done = [one for postback in postbacks for one in await taken(connection, postback)]
    assert [(one.result, one.reason) for one in done] == expected
    assert [conversion["status"] for conversion in await conversions(connection)] == statuses
    logged = await connection.fetch("SELECT result, reason FROM postback ORDER BY hash")
    assert sorted(map(tuple, logged)) == sorted(expected)
    assert await taken(connection, *postbacks) == done, "a second time it changes nothing"
    assert len(await conversions(connection)) == len(statuses)


async def test_amount_beyond_the_columns_range_is_refused(connection: Connection) -> None:
    await connection.execute("UPDATE goal_price SET payout_type = 'percent', payout = 99999999999999")
    too_much = {"sale_amount": "99999999999999.999999"}
    assert await told(connection, too_much, {"status": "pending"}, too_much) == [
        (Result.REJECTED, Refusal.TOO_MUCH),
        (STORED, UNSOLD),
        (Result.REJECTED, Refusal.TOO_MUCH),
    ]


async def test_percentage_without_an_amount_is_on_hold(connection: Connection) -> None:
    await connection.execute("UPDATE goal_price SET payout_type = 'percent', payout = 10")
    sold = {"sale_amount": "50", "currency": "USD"}
    assert await told(connection, {}, {"status": "approved"}, sold, {"status": "approved"}) == [
        (STORED, UNSOLD),
        (UNCHANGED, f"it stays hold: {UNSOLD}"),
        (UPDATED, ""),
        (UPDATED, ""),
    ]
    assert [status for _, status, _ in await history(connection)] == ["hold", "approved"]
    assert await entries(connection) == [("approval", Decimal(5))]


async def test_operator_approves_a_percentage_without_an_amount(connection: Connection) -> None:
    await connection.execute("UPDATE goal_price SET payout_type = 'percent', payout = 10")
    await told(connection, {})
    (conversion,) = await conversions(connection)
    await set_status(connection, [conversion["id"]], APPROVED, source=Source.API, author="ann")
    assert await entries(connection) == [("approval", Decimal(0))]


async def test_goal_changed_to_multiple_takes_several_conversions(connection: Connection) -> None:
    await told(connection, {"order_id": "a"})
    await connection.execute("UPDATE goal SET multiple = true WHERE id = 30")
    assert await told(connection, {"order_id": "b", "after": 2 * AN_HOUR}) == [(STORED, "")]
    await connection.execute("UPDATE goal SET multiple = false WHERE id = 30")
    assert await told(connection, {"order_id": "c", "after": 3 * AN_HOUR}) == [
        (Result.REJECTED, Refusal.SECOND)
    ]


async def test_approvals_are_booked_and_reversals_taken_back(connection: Connection) -> None:
    said = [{"status": status} for status in ("pending", "hold", "approved", "rejected")]
    await told(connection, *said)
    assert await entries(connection) == [("approval", Decimal(2)), ("reversal", Decimal(-2))]
    assert await history(connection) == [
        (None, "pending", "postback"),
        ("pending", "hold", "postback"),
        ("hold", "approved", "postback"),
        ("approved", "rejected", "postback"),
    ]


async def test_money_changes_until_it_is_approved(connection: Connection) -> None:
    await told(connection, {"status": "pending", "revenue": "5"}, {"revenue": "6"})
    await taken(connection, a_postback(n=7, revenue="7", sale_amount="50", status="approved"))
    await taken(connection, a_postback(n=8, revenue="8", sale_status="late"))
    (conversion,) = await conversions(connection)
    assert (conversion["revenue"], conversion["sale_amount"], conversion["sale_status"]) == (7, 50, "late")
    assert await entries(connection) == [("approval", Decimal(2))]


@pytest.mark.parametrize(
    ("hand", "payout"),
    [
        ("SELECT", 2),
        ("UPDATE goal SET payout = 9 WHERE id = 30", 2),  # later than the click
        ("INSERT INTO goal_terms (goal_id, affiliate_id, payout) VALUES (30, 513, 5)", 2),
        ("{terms} (30, 513, NULL, {then}, 5)", 5),
        ("{terms} (30, NULL, 'NL', {then}, 6)", 6),
        ("{terms} (30, 513, NULL, {then}, 5), (30, NULL, 'NL', {then}, 6)", 5),
        ("{terms} (30, 513, NULL, {then}, 5), (30, 513, 'NL', {then}, 7)", 7),
        ("{terms} (30, 513, NULL, {then}, 5), (30, 513, NULL, {then} + interval '1 day', NULL)", 2),  # ended
        ("{terms} (30, 514, NULL, {then}, 5), (30, NULL, 'DE', {then}, 6)", 2),
        ("UPDATE goal_price SET valid_from = now()", 2),
    ],
)
async def test_conversion_is_paid_by_the_terms_at_its_click(
    connection: Connection, hand: str, payout: int
) -> None:
    terms = """INSERT INTO goal_price (goal_id, affiliate_id, country_code, valid_from, payout,
        payout_type, revenue_type, revenue, currency)
        SELECT goal, affiliate, country, since, payout, 'fixed', 'fixed', 3, 'EUR'
        FROM (VALUES (0, 0::bigint, '', now(), 0),"""
    if "{terms}" in hand:
        hand = f"{hand}) AS v (goal, affiliate, country, since, payout)"
    await connection.execute(hand.format(terms=terms, then="timestamptz '2024-02-01'"))
    await told(connection, {})
    (conversion,) = await conversions(connection)
    assert conversion["payout"] == payout


async def test_postback_waits_for_all_clicks_before_it(connection: Connection) -> None:
    postback = a_postback(click_id=ABSENT)
    for complete_until in (None, millis_of(ABSENT)):
        (done,) = await taken(connection, postback, complete_until=complete_until)
        assert done.result is Result.PARKED
    (done,) = await taken(connection, postback, complete_until=millis_of(ABSENT) + 1)
    assert (done.result, done.reason) == (Result.REJECTED, Refusal.UNKNOWN_CLICK)


async def test_parked_postback_is_stored_when_its_click_is(connection: Connection) -> None:
    postback = a_postback(click_id=ABSENT)
    await taken(connection, postback)
    await store_rows(connection, [a_row(a_click(hash=ABSENT))])
    (done,) = await taken(connection, postback, complete_until=millis_of(ABSENT) + 1)
    assert done.result is Result.STORED
    assert await connection.fetch("SELECT result, reason FROM postback") == [("stored", "")]


async def test_earlier_trackers_id_finds_its_click(connection: Connection) -> None:
    await connection.execute("INSERT INTO legacy_click VALUES ('10278c6ea8b2b8', $1)", HASH)
    assert await told(connection, {"click_id": "10278c6ea8b2b8"}) == [(STORED, "")]


BY_API = {"source": Source.API, "advertiser_id": None}
SEVERAL: list[tuple[dict[str, Any], str, tuple[Result, str]]] = [  # postback, earlier tracker, result
    ({"click_id": "7"}, "", (STORED, "")),
    ({"click_id": " 7 "}, "", (STORED, "")),
    ({"click_id": "7", "advertiser_id": None}, "", (Result.REJECTED, Refusal.AMBIGUOUS_CLICK)),
    ({"click_id": "7", "advertiser_id": 9}, "", (Result.REJECTED, Refusal.UNKNOWN_CLICK)),
    ({"click_id": "7", **BY_API}, "", (Result.REJECTED, Refusal.AMBIGUOUS_CLICK)),
    ({"click_id": "7", **BY_API}, "b", (STORED, "")),
    ({"click_id": "7", **BY_API}, "c", (Result.REJECTED, Refusal.UNKNOWN_CLICK)),
    ({"click_id": "8"}, "", (Result.REJECTED, Refusal.AMBIGUOUS_CLICK)),
    ({"click_id": HASH, **BY_API}, "b", (STORED, "")),
    ({"click_id": "7", "advertiser_id": None}, "b", (Result.REJECTED, Refusal.AMBIGUOUS_CLICK)),
]


@pytest.mark.parametrize(("said", "tracker", "expected"), SEVERAL)
async def test_earlier_id_of_several_clicks_is_never_guessed(
    connection: Connection, said: dict[str, Any], tracker: str, expected: tuple[Result, str]
) -> None:
    """A proven advertiser means its own click. The operator may name the tracker, but no sender may."""
    foreign, own = HASH[:-1] + "d", HASH[:-1] + "e"
    await store_rows(connection, [a_row(a_click(hash=foreign), advertiser_id=2), a_row(a_click(hash=own))])
    for row in (("7", HASH, "a"), ("7", foreign, "b"), ("8", HASH, "a"), ("8", own, "b")):
        await connection.execute("INSERT INTO legacy_click VALUES ($1, $2, $3)", *row)
    postback = a_postback(**said)
    postback = postback._replace(parameters={**postback.parameters, "source": tracker})
    (done,) = await taken(connection, postback)
    assert (done.result, done.reason) == expected


async def test_browsers_conversion_is_pending_and_can_be_changed(connection: Connection) -> None:
    await connection.execute("UPDATE goal SET pixel = true WHERE id = 30")
    browser = {"source": Source.PIXEL, "advertiser_id": None}
    assert await told(
        connection,
        {**browser, "status": "approved"},
        {**browser, "status": "rejected"},
        {"status": "approved"},
    ) == [(STORED, ""), (UNCHANGED, "a browser changes nothing"), (UPDATED, "")]
    assert [change[1:] for change in await history(connection)] == [
        ("pending", "pixel"),
        ("approved", "postback"),
    ]


A_BROWSER = {"source": Source.PIXEL}


@pytest.mark.parametrize(
    ("said", "expected", "orders"),
    [
        (  # a browser sent the order id first: it belongs to the other click
            [{**A_BROWSER, "order_id": "o"}, {"click_id": OTHER_HASH, "order_id": "o"}, {"order_id": "p"}],
            [(STORED, ""), (STORED, ""), (UPDATED, "")],
            [(HASH, "p", "approved"), (OTHER_HASH, "o", "approved")],
        ),
        (  # a browser invented the order id
            [{**A_BROWSER, "order_id": "x"}, {"order_id": "o", "status": "approved"}, {"order_id": "p"}],
            [(STORED, ""), (UPDATED, ""), (Result.REJECTED, Refusal.SECOND)],
            [(HASH, "o", "approved")],
        ),
        (  # after a server postback it is as any other
            [{**A_BROWSER, "order_id": "o"}, {"order_id": "o"}, {"order_id": "p"}],
            [(STORED, ""), (UPDATED, ""), (Result.REJECTED, Refusal.SECOND)],
            [(HASH, "o", "approved")],
        ),
        (  # a refused postback takes nothing from a browser
            [
                {**A_BROWSER, "order_id": "o"},
                {"click_id": OTHER_HASH, "order_id": "o", "after": 31 * 24 * AN_HOUR},
                {"click_id": OTHER_HASH, "order_id": "p"},
                {"click_id": OTHER_HASH, "order_id": "o"},
            ],
            [
                (STORED, ""),
                (Result.REJECTED, Refusal.LATE),
                (STORED, ""),
                (Result.REJECTED, Refusal.SECOND),
            ],
            [(HASH, "o", "pending"), (OTHER_HASH, "p", "approved")],
        ),
        (  # a browser keeps no window open
            [{**A_BROWSER}, {"order_id": "o", "after": 31 * 24 * AN_HOUR}, {"after": 31 * 24 * AN_HOUR}],
            [(STORED, ""), (Result.REJECTED, Refusal.LATE), (UPDATED, "")],
            [(HASH, None, "approved")],
        ),
        (  # a browser takes nothing from anybody
            [{**A_BROWSER, "order_id": "o"}, {**A_BROWSER, "click_id": OTHER_HASH, "order_id": "o"}],
            [(STORED, ""), (Result.REJECTED, Refusal.OTHER_CLICK)],
            [(HASH, "o", "pending")],
        ),
        (
            [{"order_id": "o", "status": "pending"}, {"click_id": OTHER_HASH, "order_id": "o"}],
            [(STORED, ""), (Result.REJECTED, Refusal.OTHER_CLICK)],
            [(HASH, "o", "pending")],
        ),
    ],
)
async def test_server_postback_overrides_a_pixel(
    connection: Connection,
    said: list[dict[str, Any]],
    expected: list[tuple[Result, str]],
    orders: list[tuple[str, str, str]],
) -> None:
    await connection.execute("UPDATE goal SET pixel = true WHERE id = 30")
    assert await told(connection, *said) == expected
    found = [(row["click_hash"].hex, row["order_id"], row["status"]) for row in await conversions(connection)]
    assert found == orders


PERCENT_GOAL = """
UPDATE goal SET pixel = true, takes_payout = true;
UPDATE goal_price SET payout_type = 'percent', payout = 10, revenue_type = 'percent', revenue = 20
"""
FIXED_GOAL = "UPDATE goal SET pixel = true"
FIVE = {"sale_amount": "5", "currency": "EUR"}


@pytest.mark.parametrize(
    ("browser", "server", "expected", "doubt"),
    [
        ({"order_id": "o"}, {"order_id": "o"}, ("hold", 1000, 100), BROWSERS_SALE),
        ({"order_id": "o"}, {"status": "approved"}, ("hold", 1000, 100), BROWSERS_SALE),
        ({"order_id": "o"}, {"currency": "EUR"}, ("hold", 1000, 100), BROWSERS_SALE),
        ({"order_id": "o"}, {"payout": "7"}, ("hold", 1000, 7), BROWSERS_SALE),
        ({"order_id": "o"}, {"payout": "7", "revenue": "8"}, ("approved", 1000, 7), ""),
        ({"order_id": "o"}, {"sale_amount": "1000"}, ("approved", 1000, 100), ""),
        ({"order_id": "o"}, {"order_id": "o", **FIVE}, ("approved", 5, 0.5), ""),
        ({"order_id": "x"}, {"order_id": "o", **FIVE}, ("approved", 5, 0.5), ""),
        ({"order_id": "x"}, {"order_id": "o"}, ("hold", None, 0), UNSOLD),
        ({}, {"order_id": "o", "status": "approved"}, ("hold", None, 0), UNSOLD),
        ({"order_id": "o"}, {"source": Source.API, "status": "approved"}, ("hold", 1000, 100), BROWSERS_SALE),
        ({"order_id": "o"}, {"source": Source.API, "status": "approved", **FIVE}, ("approved", 5, 0.5), ""),
    ],
)
async def test_percentage_of_a_browsers_amount_is_on_hold(
    connection: Connection,
    browser: dict[str, str],
    server: dict[str, Any],
    expected: tuple[str, float | None, float],
    doubt: str,
) -> None:
    await connection.execute(PERCENT_GOAL)
    (_, noted), (_, reason) = await told(connection, {**A_BROWSER, **browser, "sale_amount": "1000"}, server)
    (row,) = await conversions(connection)
    assert (row["status"], row["sale_amount"], row["payout"]) == expected
    assert (noted, reason) == (BROWSERS_SALE, doubt and f"it is on hold: {doubt}")
    assert await entries(connection) == [("approval", row["payout"])] * (expected[0] == "approved")


@pytest.mark.parametrize(
    ("said", "expected", "booked"),
    [
        (  # it stays the browser's amount until it is confirmed
            [{"status": "pending"}, {"status": "approved"}, {"status": "approved", **FIVE}],
            ["", f"it is on hold: {BROWSERS_SALE}", ""],
            [("approval", Decimal("0.5"))],
        ),
        (
            [{"status": "hold"}, {"status": "approved"}, FIVE, {"status": "approved"}],
            ["", f"it stays hold: {BROWSERS_SALE}", "", ""],
            [("approval", Decimal("0.5"))],
        ),
        (  # a payout and a revenue count with the approval itself
            [{"status": "pending", "payout": "7", "revenue": "8"}, {"status": "approved"}, {"payout": "9"}],
            ["", f"it is on hold: {BROWSERS_SALE}", ""],
            [],
        ),
        (
            [
                {"status": "rejected"},
                {"status": "approved"},
                {"source": Source.API, "status": "approved", **FIVE},
            ],
            [
                "",
                "it stays rejected",
                "it stays rejected; sale_amount 5.00 EUR changes nothing: it is rejected with 1000.00 EUR",
            ],
            [],
        ),
    ],
)
async def test_browsers_amount_waits_until_it_is_confirmed(
    connection: Connection, said: list[dict[str, Any]], expected: list[str], booked: list[Any]
) -> None:
    await connection.execute(PERCENT_GOAL)
    _, *done = await told(connection, {**A_BROWSER, "sale_amount": "1000"}, *said)
    assert [reason for _, reason in done] == expected
    assert await entries(connection) == booked


async def test_fixed_price_ignores_a_browsers_amount(connection: Connection) -> None:
    await connection.execute(FIXED_GOAL)
    told_by_both = {**A_BROWSER, "sale_amount": "1000", "currency": "KWD"}, {"revenue": "4"}
    assert await told(connection, *told_by_both) == [(STORED, ""), (UPDATED, "")]
    (row,) = await conversions(connection)
    assert (row["status"], row["payout"], row["payout_currency"]) == ("approved", 2, "EUR")
    assert (row["revenue"], row["revenue_currency"]) == (4, "EUR")


@pytest.mark.parametrize("source", [Source.API, Source.UPLOAD])
@pytest.mark.parametrize(
    ("goal", "before", "after", "doubt"),
    [
        (PERCENT_GOAL, PENDING, HOLD, BROWSERS_SALE),
        (PERCENT_GOAL, HOLD, HOLD, BROWSERS_SALE),
        (PERCENT_GOAL, REJECTED, REJECTED, BROWSERS_SALE),
        (FIXED_GOAL, PENDING, APPROVED, ""),
    ],
)
async def test_status_alone_approves_no_percentage_of_a_browsers_amount(
    connection: Connection,
    source: Source,
    goal: str,
    before: ConversionStatus,
    after: ConversionStatus,
    doubt: str,
) -> None:
    await connection.execute(goal)
    await told(connection, {**A_BROWSER, "sale_amount": "1000"}, {"click_id": OTHER_HASH, "status": "hold"})
    browsers, servers = [row["id"] for row in await conversions(connection)]
    await connection.execute("UPDATE conversion SET status = $2 WHERE id = $1", browsers, before)
    done = await set_status(connection, [browsers, servers], APPROVED, source=source, author="ann")
    assert done == [Changed(browsers, before, after, doubt), Changed(servers, HOLD, APPROVED)]
    statuses = [(old, new) for old, new, by in await history(connection) if by == source]
    assert sorted(statuses) == sorted({(before, after), (HOLD, APPROVED)} - {(after, after)})
    assert len(await entries(connection)) == 1 + (after is APPROVED)


async def test_migration_finds_amounts_sent_only_by_a_browser(connection: Connection) -> None:
    await connection.execute(PERCENT_GOAL)
    sold = {**A_BROWSER, "sale_amount": "1000"}
    stories: list[list[dict[str, Any]]] = [
        [sold],
        [sold, {"status": "pending"}],
        [sold, {"status": "pending"}, FIVE],
        [{**A_BROWSER}, {"status": "approved"}],
        [FIVE],
    ]
    hashes = [HASH[:-1] + digit for digit in "6789a"]
    await store_rows(connection, [a_row(a_click(hash=hash_)) for hash_ in hashes])
    for n, (hash_, story) in enumerate(zip(hashes, stories, strict=True)):
        said = [a_postback(n=10 * n + m, **{**one, "click_id": hash_}) for m, one in enumerate(story)]
        await taken(connection, *said)
    marked = [row["sale_by_browser"] for row in await conversions(connection)]
    assert marked == [True, True, False, False, False]
    await connection.execute("UPDATE conversion SET sale_by_browser = false")
    _, fill = (MIGRATIONS / "0021_sale_by_browser.sql").read_text().split(";", 1)
    await connection.execute(fill)
    assert [row["sale_by_browser"] for row in await conversions(connection)] == marked


async def test_test_clicks_make_unpaid_unsent_conversions(connection: Connection) -> None:
    await told(connection, {"click_id": TEST_HASH}, {"click_id": TEST_HASH, "status": "rejected"})
    (conversion,) = await conversions(connection)
    assert conversion["is_test"]
    assert await entries(connection) == []
    assert await connection.fetchval("SELECT bool_and(is_announced) FROM conversion_change")


async def test_approval_after_the_close_of_its_period_is_an_adjustment(
    connection: Connection,
) -> None:
    await told(connection, {}, {"click_id": OTHER_HASH, "status": "pending"})
    at = datetime.fromtimestamp(a_postback().millis / 1000, UTC)
    await connection.execute(
        "INSERT INTO period_close (until, author) VALUES ($1, 'me')", at + timedelta(days=1)
    )
    await told(connection, {"status": "rejected", "after": 2 * AN_HOUR})
    await told(connection, {"click_id": OTHER_HASH, "status": "approved", "after": 3 * AN_HOUR})
    rows = await connection.fetch(
        "SELECT kind, is_adjustment, booked_at > now() - interval '1 day' FROM conversion_entry ORDER BY id"
    )
    assert list(map(tuple, rows)) == [
        ("approval", False, False),
        ("reversal", True, True),
        ("approval", True, True),
    ]


async def test_closed_period_takes_no_entry_after_a_clock_step_back(connection: Connection) -> None:
    await told(connection, {"status": "pending"})
    await connection.execute(
        "INSERT INTO period_close (until, author) VALUES (now() + interval '1 hour', 'me')"
    )
    await told(connection, {"status": "approved", "after": 2 * AN_HOUR})
    (entry,) = await connection.fetch("SELECT booked_at >= until FROM conversion_entry, period_close")
    assert entry[0]


async def test_operator_sets_statuses(connection: Connection) -> None:
    await told(connection, {"status": "rejected"}, {"click_id": OTHER_HASH})
    ids = [conversion["id"] for conversion in await conversions(connection)]
    async with connection.transaction():
        done = await set_status(
            connection,
            [*ids, 999],
            APPROVED,
            source=Source.API,
            author="ann",
            sale_statuses={ids[0]: "paid", 999: "gone"},
        )
    assert done == [Changed(ids[0], REJECTED, APPROVED), Changed(ids[1], APPROVED, APPROVED)]
    assert [row["sale_status"] for row in await conversions(connection)] == ["paid", ""]
    (change,) = await connection.fetch("SELECT * FROM conversion_change WHERE status_before IS NOT NULL")
    assert (change["status_after"], change["source"], change["author"]) == ("approved", "api", "ann")
    assert await entries(connection) == [("approval", Decimal(2))] * 2


async def test_simultaneous_postbacks_make_one_conversion(database: Settings) -> None:
    assert database.postgres_dsn
    await prepare(database.postgres_dsn)
    connections = [await connect(database.postgres_dsn) for _ in range(4)]
    postbacks = [a_postback(n=n // 2, order_id="o") for n in range(4)]
    done = await asyncio.gather(*map(taken, connections, postbacks))
    assert {one.result for (one,) in done} == {Result.STORED, Result.UNCHANGED}
    assert len(await conversions(connections[0])) == 1
    assert len(await entries(connections[0])) == 1
    assert await connections[0].fetchval("SELECT count(*) FROM postback") == 2
    for connection in connections:
        await connection.close()


async def test_frozen_conversion_writer_delays_the_others_for_a_while_only(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion_lock, "HOLDER_IDLES", "100ms")
    assert database.postgres_dsn
    await prepare(database.postgres_dsn)
    frozen, working = [await connect(database.postgres_dsn) for _ in range(2)]
    await frozen.transaction().start()
    await take(frozen, [a_postback()], None)
    (done,) = await taken(working, a_postback(n=1))
    assert done.result is Result.STORED
    await working.close()
    frozen.terminate()


async def test_ids_are_in_the_order_of_commits(database: Settings) -> None:
    assert database.postgres_dsn
    await prepare(database.postgres_dsn)
    first, second = [await connect(database.postgres_dsn) for _ in range(2)]
    async with first.transaction():
        await take(first, [a_postback()], None)
        waiting = asyncio.create_task(taken(second, a_postback(n=1, click_id=OTHER_HASH)))
        await asyncio.sleep(0.05)
        assert not waiting.done()
    await waiting
    assert [row["affiliate_id"] for row in await conversions(first)] == [513, 514]
    await first.close()
    await second.close()


CAPPED: dict[str, tuple[str, list[dict[str, Any]], list[tuple[str, bool]], str, str]] = {
    # caps, postbacks, (status, over the cap) of conversions, offer closed until, affiliate 513
    "below": ("(3, NULL, 'conversions', 'day', 3, 'close', NULL)", [{}, {}], [OK, OK], "", ""),
    "reached": (
        "(3, NULL, 'conversions', 'day', 2, 'close', NULL)",
        [{}, {}, {}],
        [OK, OK, OVER],
        "2024-06-11",
        "",
    ),
    "reached for good": ("(3, NULL, 'conversions', 'total', 1, 'close', NULL)", [{}], [OK], "9999-12-31", ""),
    "only marked": ("(3, NULL, 'conversions', 'month', 1, 'mark', NULL)", [{}, {}], [OK, OVER], "", ""),
    "each affiliate's": (
        "(3, 0, 'conversions', 'month', 1, 'close', NULL)",
        [{}, {"click_id": OTHER_HASH}],
        [OK, OK],
        "",
        "2024-07-01",
    ),
    "an affiliate's own instead of each one's": (
        "(3, 0, 'conversions', 'day', 1, 'close', NULL), (3, 513, 'conversions', 'day', 2, 'close', NULL)",
        [{}],
        [OK],
        "",
        "",
    ),
    "of payout": (
        "(3, NULL, 'payout', 'hour', 3, 'close', 'EUR')",
        [{}, {}],
        [OK, OVER],
        "2024-06-10 04:00",
        "",
    ),
    "of payout, when an amount grows": (
        "(3, NULL, 'payout', 'hour', 4, 'close', 'EUR')",
        [
            {"order_id": "a", "status": "hold"},
            {"order_id": "a", "payout": "3.5", "currency": "EUR"},
            {"order_id": "a", "payout": "4.1", "currency": "EUR", "status": "approved"},
        ],
        [OVER],
        "2024-06-10 04:00",
        "",
    ),
    "of payout, when an amount shrinks": (
        "(3, NULL, 'payout', 'hour', 4, 'close', 'EUR')",
        [
            {"order_id": "a", "status": "hold", "payout": "3", "currency": "EUR"},
            {"order_id": "a", "payout": "1", "currency": "EUR"},
            {},
        ],
        [("hold", False), OK],
        "",
        "",
    ),
    "of revenue in another currency": ("(3, NULL, 'revenue', 'day', 1, 'close', 'USD')", [{}], [OK], "", ""),
    "rejected ones and tests do not count": (
        "(3, NULL, 'conversions', 'day', 1, 'mark', NULL)",
        [{"status": "rejected"}, {"click_id": TEST_HASH}, {}],
        [("rejected", False), OK, OK],
        "",
        "",
    ),
    "what is pending stays so": (
        "(3, NULL, 'conversions', 'day', 1, 'mark', NULL)",
        [{"status": "pending"}, {"status": "pending"}],
        [("pending", False), ("pending", True)],
        "",
        "",
    ),
}


@pytest.mark.parametrize("name", CAPPED)
async def test_caps_on_conversions_and_money(connection: Connection, name: str) -> None:
    caps, said, expected, offer, affiliate = CAPPED[name]
    await connection.execute(
        "INSERT INTO cap (offer_id, affiliate_id, counts, period, amount, on_reached, currency) "
        f"VALUES {caps}; UPDATE goal SET multiple = true, takes_payout = true WHERE id = 30"
    )
    await told(connection, *said)
    rows = await conversions(connection)
    assert [(row["status"], row["is_over_cap"]) for row in rows] == expected
    closed = "SELECT to_char(max(closed_until) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') FROM "
    offer_closed = await connection.fetchval(f"{closed} offer WHERE id = 3") or ""
    affiliate_closed = await connection.fetchval(f"{closed} offer_affiliate WHERE affiliate_id = 513") or ""
    assert (offer_closed.removesuffix(" 00:00"), affiliate_closed.removesuffix(" 00:00")) == (
        offer,
        affiliate,
    )
    assert len(await entries(connection)) == sum(
        status == "approved" and not row["is_test"] for (status, _), row in zip(expected, rows, strict=True)
    )


async def test_conversion_over_a_cap_waits_for_the_operator(connection: Connection) -> None:
    await connection.execute(
        "INSERT INTO cap (offer_id, counts, period, amount) VALUES (3, 'conversions', 'total', 0)"
    )
    assert await told(connection, {}, {"status": "approved"}) == [
        (STORED, "over a cap"),
        (UNCHANGED, "it stays hold: over a cap"),
    ]
    (conversion,) = await conversions(connection)
    await set_status(connection, [conversion["id"]], APPROVED, source=Source.API, author="ann")
    (conversion,) = await conversions(connection)
    assert (conversion["status"], conversion["is_over_cap"]) == ("approved", True)
    assert await entries(connection) == [("approval", Decimal(2))]


async def test_postbacks_of_a_click_that_is_not_kept_change_its_conversions_alone(
    connection: Connection,
) -> None:
    sale = {"click_id": HASH, "order_id": "o", "sale_amount": "100", "currency": "EUR"}
    assert await told(connection, sale) == [(Result.STORED, "")]
    await connection.execute("DELETE FROM click")
    await kept.begin_at(connection, date(2024, 7, 1))
    later: list[dict[str, Any]] = [
        {"click_id": HASH, "order_id": "o", "refund_amount": "40"},
        {"click_id": HASH, "order_id": "o", "status": "rejected"},
        {"click_id": HASH, "goal": "Level", "order_id": "l"},
        {"click_id": OTHER_HASH, "order_id": "p"},
        {"click_id": ABSENT},
    ]
    done = await taken(connection, *(a_postback(n=n, **one) for n, one in enumerate(later, 1)))
    assert [(one.result, one.reason) for one in done] == [
        *[(Result.UPDATED, "")] * 2,
        (Result.STORED, ""),
        *[(Result.REJECTED, Refusal.NOT_KEPT)] * 2,
    ]
    assert sum(payout for _, payout in await entries(connection)) == sum(
        row["payout"] for row in await conversions(connection) if row["status"] == "approved"
    )
    made = await connection.fetch("SELECT offer_id, affiliate_id, click_id, aff_sub20 FROM conversion")
    assert len(made) == 2
    assert len(set(map(tuple, made))) == 1
