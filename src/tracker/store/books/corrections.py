"""Corrections: amounts of conversions that the operator sets, with the difference in the book."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from tracker.domain.conversion import Amounts, Correction, corrected
from tracker.domain.money import show
from tracker.domain.normalise import trim
from tracker.domain.postback import ConversionStatus
from tracker.store.books.manual_entries import RefusedError
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Row, Table
from tracker.store.conversions import booking, goal_prices
from tracker.store.conversions.caps import CapBook
from tracker.store.conversions.goal_prices import SoldAmounts
from tracker.store.db import Connection

TABLE = Table("conversion_correction", (), is_log=True)
"""The resource of corrections in the audit trail."""

_CONVERSIONS = """
SELECT id, status, is_test, refunded, offer_id, affiliate_id, created_at FROM conversion WHERE id = ANY ($1)
"""
_BY_ORDER = """
SELECT id, order_id, advertiser_id FROM conversion WHERE order_id = ANY ($1) ORDER BY id
"""
_UPDATE = """
UPDATE conversion SET payout = $2, revenue = $3, sale_amount = $4, sale_by_browser = $5,
    is_unpriced = is_unpriced AND NOT $6,
    corrected = ARRAY(SELECT DISTINCT unnest(corrected || $7::text[]) ORDER BY 1),
    updated_at = clock_timestamp()
WHERE id = $1
"""
_NOTE = """
INSERT INTO conversion_correction (conversion_id, payout_before, payout, revenue_before, revenue,
    sale_amount_before, sale_amount, reason, author)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id
"""


class Wanted(NamedTuple):
    """A correction of one conversion: of an id, or of the only conversion of an order."""

    conversion_id: int | None
    order_id: str | None
    advertiser_id: int | None
    correction: Correction
    reason: str


class _Conversion(NamedTuple):
    id: int
    status: ConversionStatus
    is_test: bool
    refunded: Decimal
    offer_id: int
    affiliate_id: int
    created_at: datetime


async def correct(connection: Connection, author: Author, wanted: Sequence[Wanted]) -> list[Row]:
    """Correct conversions, all or none. Call it within a transaction of `booking`.

    The difference of approved conversions is booked. Other conversions only have other amounts then.

    Raises:
        RefusedError: a conversion is unknown or corrected twice, or an amount is impossible.
    """
    ids = await _ids(connection, wanted)
    known = {
        row[0]: _Conversion(row[0], ConversionStatus(row[1]), *row[2:])
        for row in map(tuple, await connection.fetch(_CONVERSIONS, ids))
    }
    sold = await goal_prices.amounts_of(connection, ids)
    _check(wanted, ids, known, sold)
    rows = [
        await _correct(connection, author, known[id_], sold[id_], one)
        for id_, one in zip(ids, wanted, strict=True)
    ]
    await _book(connection, author, [known[id_] for id_ in ids], [one.reason for one in wanted])
    grown = [
        known[row["conversion_id"]]
        for row in rows
        if row["payout"] > row["payout_before"] or row["revenue"] > row["revenue_before"]
    ]
    counted = [one for one in grown if one.status is not ConversionStatus.REJECTED and not one.is_test]
    await CapBook(connection).close_full([one[4:] for one in counted])
    return [{name: _shown(value) for name, value in row.items()} for row in rows]


async def _ids(connection: Connection, wanted: Sequence[Wanted]) -> list[int]:
    """The conversion of each.

    Raises:
        RefusedError: an order is of no conversion, or of several.
    """
    orders = {text for one in wanted if one.order_id for text in (one.order_id, trim(one.order_id))}
    found: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for id_, order_id, advertiser_id in await connection.fetch(_BY_ORDER, list(orders)) if orders else ():
        found[order_id].append((id_, advertiser_id))
    ids, faults = [], {}
    for place, one in enumerate(wanted):
        matches = [] if one.conversion_id is None else [one.conversion_id]
        if one.order_id:
            named = found.get(one.order_id) or found.get(trim(one.order_id), [])
            matches = [id_ for id_, advertiser_id in named if one.advertiser_id in (None, advertiser_id)]
        if len(matches) != 1:
            why = f"is of {len(matches)} conversions: give conversion_id instead"
            faults[place] = ("order_id", why if matches else "matches no conversion")
        ids.append(matches[0] if matches else 0)
    if faults:
        raise RefusedError(faults)
    return ids


def _check(
    wanted: Sequence[Wanted],
    ids: Sequence[int],
    known: Mapping[int, _Conversion],
    sold: Mapping[int, SoldAmounts],
) -> None:
    faults: dict[int, tuple[str, str]] = {}
    earlier: set[int] = set()
    for place, (id_, one) in enumerate(zip(ids, wanted, strict=True)):
        name = "order_id" if one.order_id else "conversion_id"
        if id_ not in known:
            faults[place] = (name, "does not exist")
        elif id_ in earlier:
            faults[place] = (name, "is of a conversion that is corrected here already")
        elif why := _wrong_sale(one.correction, known[id_], sold[id_].money):
            faults[place] = ("sale_amount", why)
        earlier.add(id_)
    if faults:
        raise RefusedError(faults)


def _wrong_sale(correction: Correction, conversion: _Conversion, money: Amounts) -> str:
    if correction.sale_amount is None:
        return ""
    if money.sale_amount is None:
        return "cannot be corrected: the conversion has none. Correct payout and revenue"
    if correction.sale_amount < conversion.refunded:
        return f"is too low: {show(conversion.refunded)} of it is refunded"
    return ""


async def _correct(
    connection: Connection, author: Author, conversion: _Conversion, sold: SoldAmounts, wanted: Wanted
) -> dict[str, Any]:
    before, correction = sold.money, wanted.correction
    after = corrected(before, sold.price, conversion.refunded, correction, sold.corrected)
    is_priced = not correction.names.isdisjoint(("payout", "revenue"))
    sale = after.sale_amount, after.sale_by_browser
    names = sorted(correction.names)
    await connection.execute(_UPDATE, conversion.id, after.payout, after.revenue, *sale, is_priced, names)
    row: dict[str, Any] = {
        "conversion_id": conversion.id,
        "status": conversion.status,
        "payout_before": before.payout,
        "payout": after.payout,
        "payout_currency": after.payout_currency,
        "revenue_before": before.revenue,
        "revenue": after.revenue,
        "revenue_currency": after.revenue_currency,
        "sale_amount_before": before.sale_amount,
        "sale_amount": after.sale_amount,
        "sale_currency": after.sale_currency,
        "reason": wanted.reason,
        "author": author.token_name,
    }
    amounts = [row[f"{name}{end}"] for name in Correction._fields for end in ("_before", "")]
    id_ = await connection.fetchval(_NOTE, conversion.id, *amounts, wanted.reason, author.token_name)
    sides = [{name: _shown(row[f"{name}{end}"]) for name in Correction._fields} for end in ("_before", "")]
    sides[1]["reason"] = wanted.reason
    await edit.note(connection, author, TABLE, f"conversions/{conversion.id}/corrections/{id_}", *sides)
    return row


async def _book(
    connection: Connection, author: Author, conversions: Iterable[_Conversion], reasons: Iterable[str]
) -> None:
    """Book the differences, with the reason of each."""
    alike: defaultdict[str, list[int]] = defaultdict(list)
    for conversion, reason in zip(conversions, reasons, strict=True):
        if conversion.status is ConversionStatus.APPROVED:
            alike[reason].append(conversion.id)
    for reason, ids in alike.items():
        await booking.correct(connection, ids, author.token_name, reason)


def _shown(value: object) -> object:
    return show(value) if isinstance(value, Decimal) else value
