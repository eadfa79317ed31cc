"""The book of money: every sum is right after each entry, and no entry is changed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.field.money_stories import Book, connection, conversions, dsn, entries
from tracker.domain.conversion import Correction
from tracker.domain.money import unit
from tracker.domain.postback import ConversionStatus, Source
from tracker.store.books.corrections import Wanted, correct
from tracker.store.catalogue.edit import Author
from tracker.store.conversions.status import set_status
from tracker.store.db import Connection

__all__ = ["connection", "dsn"]
pytestmark = pytest.mark.anyio

ANN = Author(None, "ann")
CURRENCIES = ("EUR", "JPY", "KWD")

# As earlier versions stored them: without author and reason.
_OLD_ENTRY = """
INSERT INTO conversion_entry (conversion_id, booked_at, kind, is_adjustment, offer_id, advertiser_id,
    affiliate_id, payout, payout_currency, revenue, revenue_currency)
SELECT id, created_at, 'approval', false, offer_id, advertiser_id, affiliate_id, $1::text::numeric, $2,
    $3::text::numeric, $4
FROM conversion
"""
_SUMS = """
SELECT payout_currency, revenue_currency, sum(payout), sum(revenue) FROM conversion_entry GROUP BY 1, 2
"""


async def sums(connection: Connection) -> dict[tuple[str, str], tuple[Decimal, Decimal]]:
    """What is booked, by the currencies of payout and revenue, without sums of 0."""
    rows = await connection.fetch(_SUMS)
    return {tuple(row[:2]): tuple(row[2:]) for row in rows if any(row[2:])}


_AMOUNTS = st.integers(-(10**9), 10**9).map(lambda micros: str(Decimal(micros).scaleb(-6)))
_OLD = st.tuples(_AMOUNTS, st.sampled_from(CURRENCIES), _AMOUNTS, st.sampled_from(CURRENCIES))
_PART = st.none() | st.decimals(0, 100, places=6)
_STEPS = st.one_of(
    st.sampled_from([*ConversionStatus]).map(lambda status: {"operator": status}),
    st.sampled_from([*ConversionStatus]).map(lambda status: {"status": status}),
    st.fixed_dictionaries({"refund_amount": st.sampled_from(["1", "30.5", "99"]), "status": st.just("")}),
    st.builds(Correction, _PART, _PART, st.none() | st.decimals(99, 300, places=3)).map(
        lambda correction: {"correction": correction}
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_OLD, max_size=3), st.lists(_STEPS, max_size=8), st.sampled_from(CURRENCIES))
async def test_book_of_any_history_agrees_with_its_conversion(
    connection: Connection, old: list[tuple[str, ...]], steps: list[dict[str, Any]], currency: str
) -> None:
    """Even if earlier entries left a rest: rejected conversions sum to 0, approved ones to their amounts."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("UPDATE goal_price SET (payout_type, payout) = ('percent', 12.5)")
        book = Book(connection)
        sale = {"order_id": "o", "sale_amount": "99", "currency": currency}
        await book.tell({**sale, "status": "pending"})
        for entry in old:
            await connection.execute(_OLD_ENTRY, *entry)
        for step in [*steps, {"status": "approved"}, {"operator": ConversionStatus.APPROVED}]:
            ((id_,),) = await book.shown("id")
            if "operator" in step:
                await set_status(connection, [id_], step["operator"], source=Source.API, author="ann")
            elif "correction" in step:
                await correct(connection, ANN, [Wanted(id_, None, None, step["correction"], "r")])
            else:
                await book.tell({"order_id": "o", **{name: text for name, text in step.items() if text}})
            (row,) = await conversions(connection)
            owed = {}
            if row["status"] == "approved" and (row["payout"] or row["revenue"]):
                owed = {(row["payout_currency"], row["revenue_currency"]): (row["payout"], row["revenue"])}
            if row["status"] in ("approved", "rejected"):
                assert await sums(connection) == owed
        assert row["corrected"] or row["payout"] % unit(currency) == 0
    finally:
        await transaction.rollback()


async def test_entries_have_their_author_and_reason(connection: Connection) -> None:
    await connection.execute("UPDATE goal_price SET (payout_type, payout) = ('percent', 10)")
    book = Book(connection)
    await book.tell(
        {"order_id": "o", "sale_amount": "100", "currency": "EUR"},
        {"order_id": "o", "refund_amount": "40", "status": "rejected"},
    )
    ((id_,),) = await book.shown("id")
    await set_status(connection, [id_], ConversionStatus.REJECTED, source=Source.API, author="ann")
    rows = await connection.fetch("SELECT kind, payout, author, reason FROM conversion_entry ORDER BY id")
    assert list(map(tuple, rows)) == [
        ("approval", 10, "", ""),
        ("correction", -4, "", "refund"),
        ("reversal", -6, "ann", ""),
    ]


@pytest.mark.parametrize("table", ["conversion_entry", "period_close"])
@pytest.mark.parametrize("change", ["UPDATE {} SET author = ''", "DELETE FROM {}", "TRUNCATE {}"])
async def test_book_is_never_changed(connection: Connection, table: str, change: str) -> None:
    await Book(connection).tell({})
    before = await entries(connection)
    with pytest.raises(asyncpg.RestrictViolationError, match=f"rows of {table} are never changed"):
        async with connection.transaction():
            await connection.execute(change.format(table))
    assert await entries(connection) == before
