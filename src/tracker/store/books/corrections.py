"""Corrections: amounts of conversions that the operator sets, with the difference in the book."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from tracker.domain.conversion import Amounts, Correction, corrected
from tracker.domain.money import show
from tracker.domain.normalise import trim
from tracker.domain.postback import ConversionStatus
from tracker.store.books.manual_entries import RefusedError
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Change, Row, Table
from tracker.store.conversions import booking, goal_prices
from tracker.store.conversions.booking import Booked
from tracker.store.conversions.caps import CapBook
from tracker.store.conversions.goal_prices import SoldAmounts
from tracker.store.db import Connection, Pool
from tracker.store.paging import Page, reading

TABLE = Table("conversion_correction", (), is_log=True)
"""The resource of corrections in the audit trail."""

_CONVERSIONS = """
SELECT id, status, is_test, refunded, advertiser_id, offer_id, affiliate_id, created_at
FROM conversion WHERE id = ANY ($1)
"""
_BY_ORDER = """
SELECT id, order_id, advertiser_id FROM conversion WHERE order_id = ANY ($1) ORDER BY id
"""
_UPDATE = """
UPDATE conversion SET payout = line.payout, revenue = line.revenue, sale_amount = line.sale_amount,
    sale_by_browser = line.sale_by_browser, is_unpriced = is_unpriced AND NOT line.is_priced,
    corrected = ARRAY(
        SELECT DISTINCT unnest(conversion.corrected || string_to_array(line.names, ',')) ORDER BY 1),
    updated_at = clock_timestamp()
FROM unnest($1::bigint[], $2::numeric[], $3::numeric[], $4::numeric[], $5::boolean[], $6::boolean[],
    $7::text[]) AS line (id, payout, revenue, sale_amount, sale_by_browser, is_priced, names)
WHERE conversion.id = line.id
"""
_NOTE = """
INSERT INTO conversion_correction (author, conversion_id, payout_before, payout, revenue_before, revenue,
    sale_amount_before, sale_amount, reason)
SELECT $1, id, payout_before, payout, revenue_before, revenue, sale_amount_before, sale_amount, reason
FROM unnest($2::bigint[], $3::numeric[], $4::numeric[], $5::numeric[], $6::numeric[], $7::numeric[],
    $8::numeric[], $9::text[]) WITH ORDINALITY AS line (id, payout_before, payout, revenue_before, revenue,
    sale_amount_before, sale_amount, reason, place)
ORDER BY place RETURNING id
"""
_LIST = """
FROM conversion_correction AS correction JOIN conversion ON conversion.id = conversion_id
WHERE ($1::bigint IS NULL OR conversion_id = $1) AND ($2::bigint IS NULL OR affiliate_id = $2)
    AND ($3::bigint IS NULL OR advertiser_id = $3)
"""
_LISTED = """
correction.id, to_jsonb(at) #>> '{}' AS at, conversion_id, offer_id, affiliate_id, advertiser_id,
payout_before, correction.payout, payout_currency, revenue_before, correction.revenue, revenue_currency,
sale_amount_before, correction.sale_amount, sale_currency, reason, author
"""
FILTERS = ("conversion_id", "affiliate_id", "advertiser_id")
"""The filters of a list of corrections."""
_CURRENCIES = {"payout": "payout_currency", "revenue": "revenue_currency", "sale_amount": "sale_currency"}


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
    advertiser_id: int
    offer_id: int
    affiliate_id: int
    created_at: datetime


class _Corrected(NamedTuple):
    """A conversion with its money before and after its correction."""

    conversion: _Conversion
    wanted: Wanted
    before: Amounts
    after: Amounts

    @property
    def update(self) -> tuple[object, ...]:
        """Its line of _UPDATE."""
        names, money = self.wanted.correction.names, self.after
        sale = money.sale_amount, money.sale_by_browser
        is_priced = not names.isdisjoint(("payout", "revenue"))
        return self.conversion.id, money.payout, money.revenue, *sale, is_priced, ",".join(names)

    @property
    def note(self) -> tuple[object, ...]:
        """Its line of _NOTE."""
        sides = (self.before, self.after)
        amounts = [getattr(side, name) for name in Correction._fields for side in sides]
        return self.conversion.id, *amounts, self.wanted.reason

    @property
    def sides(self) -> tuple[Row, Row]:
        """Before and after, as the audit trail has them."""
        before, after = (
            {name: _shown(getattr(side, name)) for name in Correction._fields}
            for side in (self.before, self.after)
        )
        return before, {**after, "reason": self.wanted.reason}

    @property
    def counts_for_caps(self) -> bool:
        is_more = self.after.payout > self.before.payout or self.after.revenue > self.before.revenue
        return is_more and not self.conversion.is_test and self.conversion.status != ConversionStatus.REJECTED

    def row(self, author: Author, booked: Iterable[Booked]) -> Row:
        """The correction as it is shown, with its entries in the book."""
        amounts: Row = {}
        for name, currency in _CURRENCIES.items():
            amounts[f"{name}_before"] = _shown(getattr(self.before, name))
            amounts[name] = _shown(getattr(self.after, name))
            amounts[currency] = getattr(self.after, currency)
        who = {"reason": self.wanted.reason, "author": author.token_name}
        entries = [_entry(each) for each in booked]
        what: Row = {"conversion_id": self.conversion.id, "status": self.conversion.status}
        what |= {name: getattr(self.conversion, name) for name in ("affiliate_id", "advertiser_id")}
        return {**what, **amounts, **who, "booked": entries}


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
    done = [_corrected(known[id_], sold[id_], one) for id_, one in zip(ids, wanted, strict=True)]
    await connection.execute(_UPDATE, *_arrays(each.update for each in done))
    notes = await connection.fetch(_NOTE, author.token_name, *_arrays(each.note for each in done))
    changes = [
        Change(f"conversions/{each.conversion.id}/corrections/{id_}", *each.sides)
        for (id_,), each in zip(notes, done, strict=True)
    ]
    await edit.note_all(connection, author, TABLE, changes)
    reasons = {
        each.conversion.id: each.wanted.reason
        for each in done
        if each.conversion.status is ConversionStatus.APPROVED
    }
    booked = await booking.correct(connection, reasons, author.token_name)
    await CapBook(connection).close_full([each.conversion[5:] for each in done if each.counts_for_caps])
    return [each.row(author, booked.get(each.conversion.id, ())) for each in done]


async def page(pool: Pool, wanted: Mapping[str, int | None], number: int, per_page: int) -> Page:
    """A page of corrections, the latest first. `wanted`: a value or None for each of FILTERS."""
    offset, values = (number - 1) * per_page, [wanted[name] for name in FILTERS]
    async with reading(pool, "repeatable_read") as connection:
        total = await connection.fetchval(f"SELECT count(*) {_LIST}", *values)
        statement = f"SELECT {_LISTED} {_LIST} ORDER BY correction.id DESC LIMIT $4 OFFSET $5"
        rows = [_listed(row) for row in await connection.fetch(statement, *values, per_page, offset)]
    return Page(rows, total, offset + len(rows) < total)


def _listed(record: Any) -> Row:
    row = dict(record)
    for name in _CURRENCIES:
        for key in (f"{name}_before", name):
            row[key] = _shown(row[key])
    return row


def _corrected(conversion: _Conversion, sold: SoldAmounts, wanted: Wanted) -> _Corrected:
    after = corrected(sold.money, sold.price, conversion.refunded, wanted.correction, sold.corrected)
    return _Corrected(conversion, wanted, sold.money, after)


def _arrays(rows: Iterable[tuple[object, ...]]) -> Iterator[list[object]]:
    """The columns of rows, for unnest."""
    return map(list, zip(*rows, strict=True))


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


def _entry(booked: Booked) -> Row:
    amounts = {side: show(getattr(booked, side)) for side in ("payout", "revenue")}
    return {**booked._asdict(), **amounts, "booked_at": booked.booked_at.astimezone(UTC).isoformat()}


def _shown(amount: Decimal | None) -> str | None:
    return None if amount is None else show(amount)
