"""Reads conversions: filters as SQL, pages, the walk by cursor, the feed, the export, one with its history.

They are in the order of (created_at, id). Ids are in commit order, so a feed by id misses none.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Final, Literal, NamedTuple
from uuid import UUID

import asyncpg

from tracker.domain.click_fields import ADV_SUBS, BY_NAME, FIELDS
from tracker.domain.click_id import first_hash_at, millis_of
from tracker.domain.money import show
from tracker.domain.normalise import trim
from tracker.store import feeds, legacy_clicks, table_pages
from tracker.store.clicks import columns as click_columns
from tracker.store.clicks.columns import local_second
from tracker.store.conditions import Among, Equals, Further, among, check, columns_of, equal
from tracker.store.db import Pool
from tracker.store.json_chunks import Block, blocks_of
from tracker.store.paging import Order, Page, Row, Value, reading
from tracker.store.table_pages import PagedTable
from tracker.store.time_span import ALL_TIME, Span
from tracker.store.token_owner import Owner

SECONDS_FROM_CLICK: Final = "floor(extract(epoch FROM created_at))::bigint - click_second"
"""The whole seconds from a click to its conversion. Negative if an import puts it before its click."""

Basis = Literal["click", "conversion"]
"""The meaning of a time range: of conversions or of their clicks."""
_PLACES: Final[dict[Basis, str]] = {"click": "click_hash", "conversion": "created_at"}


class ConversionFilter(NamedTuple):
    """A filter of conversions."""

    span: Span = ALL_TIME
    basis: Basis = "conversion"
    equals: Equals = ()  # columns of FILTERS
    owner: Owner | None = None  # the viewer if it is bound to an owner, None: the network
    updated: Span = ALL_TIME  # of the last change
    further: Further = ()
    seconds: tuple[int | None, int | None] = (None, None)  # from the click: the fewest and the most


class Changes(NamedTuple):
    """Changed conversions, as they are now."""

    rows: list[Row]
    upto: int  # the version to go on from


def _name(table: str) -> str:
    # A look-up for each row of the page. The planner cannot turn it into a scan of all affiliates.
    return f"(SELECT name FROM {table} WHERE {table}.id = c.{table}_id)"  # noqa: S608


_FIRST_COLUMNS: Final[dict[str, str]] = {
    "id": "id",
    "hash": "hash",
    "click_id": "click_id",
    "click_hash": "click_hash",
    "offer_id": "offer_id",
    "offer_name": _name("offer"),
    "offer_url_id": "offer_url_id",
    "goal_id": "goal_id",
    "goal_name": _name("goal"),
    "advertiser_id": "advertiser_id",
    "advertiser_name": _name("advertiser"),
    "affiliate_id": "affiliate_id",
    "affiliate_name": _name("affiliate"),
    "order_id": "order_id",
    "status": "status",
    "is_over_cap": "is_over_cap",
    "sale_status": "sale_status",
    "sale_amount": "sale_amount",
    "sale_currency": "sale_currency",
    "refunded": "refunded",
    "payout": "payout",
    "payout_currency": "payout_currency",
    "revenue": "revenue",
    "revenue_currency": "revenue_currency",
    "advertiser_external_id": "NULLIF(advertiser_external_id, '')",
    **{name: f"NULLIF({name}, '')" for name in ADV_SUBS},
    "country_code": "country_code",
    "device_type": "NULLIF(device_type, '')",
    "device_os": "device_os",
    "browser": "NULLIF(browser, '')",
    "affiliate_source": "affiliate_source",
    "is_test": "is_test",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "click_created_at": "NULL::text",  # the time in the click's hash
}
OF_CLICK: Final = tuple(field.name for field in FIELDS if field.frozen and field.name not in _FIRST_COLUMNS)
"""Further keys that are a click's. They follow the keys that clients have known for longer."""
_COLUMNS: Final = {
    **_FIRST_COLUMNS,
    **{name: click_columns.column(BY_NAME[name]) for name in OF_CLICK},
    "click_legacy_id": "earlier.legacy_id",
    "legacy_id": "c.legacy_id",
    "is_unproven": "is_unproven",
    "click_legacy_source": "earlier.legacy_source",
    "legacy_source": "CASE WHEN c.legacy_id IS NOT NULL THEN coalesce(c.legacy_source, c.import_source) END",
    "seconds_from_click": SECONDS_FROM_CLICK,
}

KEYS = tuple(_COLUMNS)
"""The keys of a row, in their order."""

MONEY_KEYS: Final = frozenset(
    {
        *("sale_amount", "sale_currency", "refunded", "payout", "payout_currency", "revenue"),
        *("revenue_currency", "entries", "corrections"),
    }
)
"""The keys of amounts, of one conversion, too."""

_OWN_FILTERS = (
    *("id", "hash", "click_id", "click_hash", "offer_id", "goal_id", "advertiser_id", "affiliate_id"),
    *("order_id", "status", "is_over_cap", "is_unproven", "is_test", "sale_status", "advertiser_external_id"),
    *("country_code", "affiliate_source"),
)
FILTERS_OF_CLICK: Final = tuple(
    field.name for field in FIELDS if field.frozen and field.filter and field.name not in _OWN_FILTERS
)
FILTERS: Final = (*_OWN_FILTERS, *FILTERS_OF_CLICK)
"""Columns for filters of conversions."""

_EARLIER = legacy_clicks.JOINED.format("c.click_hash")

_NAMES_OF_OFFER = ("offer_name", "goal_name")
"""Keys that are null for viewers who may not see the offer."""
_SEES_OFFER = "EXISTS (SELECT FROM offer WHERE offer.id = c.offer_id AND {})"

_INSTANT = "to_timestamp(${}::bigint / 1000.0)"
_NEWEST_VERSION = "SELECT max(version) FROM conversion"
_HASH_OF_ID = "SELECT encode(uuid_send(hash), 'hex') FROM conversion WHERE id = $1"
_NEWEST = "SELECT coalesce(max(id), 0) FROM conversion"
_CHANGES = """
SELECT conversion_id, at, status_before, status_after, source, author, postback_hash
FROM conversion_change WHERE conversion_id = ANY ($1) ORDER BY id
"""
_ENTRIES = """
SELECT conversion_id, id, booked_at, kind, is_adjustment, payout, payout_currency, revenue, revenue_currency,
    author, reason
FROM conversion_entry WHERE conversion_id = ANY ($1) ORDER BY id
"""

_CORRECTIONS = """
SELECT conversion_id, at, payout_before, payout, revenue_before, revenue, sale_amount_before, sale_amount,
    reason, author
FROM conversion_correction WHERE conversion_id = ANY ($1) ORDER BY id
"""
_HISTORY: Final = {"changes": _CHANGES, "entries": _ENTRIES, "corrections": _CORRECTIONS}


MOST_SORTED: Final = 100_000
"""Most conversions that are sorted by the time from their click. No index has it. They take 64 ms of CPU."""


async def page(pool: Pool, conversions: ConversionFilter, order: Order, number: int, per_page: int) -> Page:
    """Page `number`, from 1.

    Raises:
        TooDeepError: the page is more than MAX_OFFSET rows deep.
        TooManyToSortError: the order has no index, and there are more than MOST_SORTED.
    """
    part = await table_pages.page(pool, _walked(conversions, order), number, per_page)
    return Page(_rows(part.records, order.zone), part.total, part.has_more)


async def page_after(
    pool: Pool,
    conversions: ConversionFilter,
    order: Order,
    last_hash: str,
    per_page: int,
    total: int | None,
) -> Page:
    """The page after the conversion `last_hash`. Counts them unless their total is known.

    Raises:
        TooManyToSortError: the order has no index, and there are more than MOST_SORTED.
    """
    part = await table_pages.page_after(pool, _walked(conversions, order), last_hash, per_page, total)
    return Page(_rows(part.records, order.zone), part.total, part.has_more)


async def one(
    pool: Pool, hash_: str, zone: tzinfo, narrow: Callable[[ConversionFilter], ConversionFilter]
) -> Row | None:
    """The conversion with a hash, if the filter includes it, with history and entries."""
    found = await whole(pool, narrow(ConversionFilter(equals=(("hash", hash_),))), zone, 1)
    return found.rows[0] if found.rows else None


async def whole(pool: Pool, conversions: ConversionFilter, zone: tzinfo, most: int) -> Page:
    """The newest conversions of a filter, each with history and entries. At most so many."""
    walked = _walked(conversions, Order(True, zone))
    async with reading(pool, "repeatable_read") as connection:
        total = await table_pages.count(connection, walked)
        rows = _rows(await table_pages.read(connection, walked, most), zone)
        ids = [row["id"] for row in rows]
        for key, statement in _HISTORY.items():
            of: dict[object, list[Row]] = {id_: [] for id_ in ids}
            for record in await connection.fetch(statement, ids):
                noted = shown(record, zone)
                of[noted.pop("conversion_id")].append(noted)
            for row in rows:
                row[key] = of[row["id"]]
    return Page(rows, total, len(rows) < total)


async def hash_of(pool: Pool, id_: int) -> str | None:
    """The hash of the conversion with an id."""
    hash_: str | None = await pool.fetchval(_HASH_OF_ID, id_)
    return hash_


async def feed(
    pool: Pool, conversions: ConversionFilter, zone: tzinfo, after_id: int, limit: int
) -> list[Row]:
    """Conversions with ids above `after_id`, in the order of ids."""
    walked = _walked(conversions, Order(False, zone), f"id > {int(after_id)}")._replace(place=("id",))
    async with reading(pool, "read_committed") as connection:
        return _rows(await table_pages.read(connection, walked, limit), zone)


async def changes(pool: Pool, conversions: ConversionFilter, zone: tzinfo, after: int, limit: int) -> Changes:
    """Conversions that are new or changed after a version, in the order of versions.

    Raises:
        AheadError: there has been no such version.
    """
    async with reading(pool, "read_committed") as connection:
        upto = await feeds.upto(connection, feeds.CONVERSIONS, after)
        further = f"version > {int(after)} AND version <= {upto}"
        walked = _walked(conversions, Order(False, zone), further)
        walked = walked._replace(select=f"{walked.select}, version", place=("version",))
        records = await table_pages.read(connection, walked, limit)
        newest = await connection.fetchval(_NEWEST_VERSION)
    rows = _rows(records, zone)
    for row in rows:
        del row["version"]
    is_full = len(records) == limit
    return Changes(rows, records[-1]["version"] if is_full else max(after, min(upto, newest or 0)))


async def export(
    pool: Pool, conversions: ConversionFilter, order: Order, keys: Sequence[str]
) -> AsyncGenerator[Iterable[Block], None]:
    """All conversions of a filter that are stored at the first chunk, in chunks."""
    async with reading(pool, "read_committed") as connection:
        newest_id = await connection.fetchval(_NEWEST)
    async with aclosing(
        table_pages.chunks(pool, _walked(conversions, order, f"id <= {newest_id}"))
    ) as chunks:
        async for records in chunks:
            yield blocks_of(_rows(records, order.zone), keys)


def _walked(conversions: ConversionFilter, order: Order, further: str = "true") -> PagedTable:
    condition, values = where(conversions)
    place: tuple[str, ...] = ("created_at", "id")
    most: int | None = None
    if order.by == "seconds_from_click":
        place, most = (SECONDS_FROM_CLICK, *place), MOST_SORTED
    return PagedTable(
        "conversion",
        _select(conversions.owner),
        place,
        order.newest_first,
        f"{condition} AND {further}",
        tuple(values),
        _EARLIER,
        most,
    )


def _select(owner: Owner | None) -> str:
    columns = _COLUMNS
    if owner is not None:
        seen = _SEES_OFFER.format(owner.offers)
        own = {key: f"CASE WHEN {seen} THEN {_COLUMNS[key]} END" for key in _NAMES_OF_OFFER}
        columns = {**_COLUMNS, **own}
    return ", ".join(f"{expression} AS {key}" for key, expression in columns.items())


def where(conversions: ConversionFilter) -> tuple[str, list[object]]:
    """The condition of a filter, and its parameters from $1 on."""
    check(columns_of(conversions.equals, conversions.further), FILTERS)
    values: list[object] = []
    conditions = [
        "true",
        *(_equal(column, value, values) for column, value in conversions.equals),
        *(among(_in_all_forms(one), values) for one in conversions.further),
    ]
    ranges = bounds(_PLACES[conversions.basis], conversions.span, values)
    ranges += bounds("updated_at", conversions.updated, values) + _within(conversions.seconds, values)
    return " AND ".join(conditions) + ranges, values


def _equal(column: str, value: Value, values: list[object]) -> str:
    is_order = column == "order_id"
    return among(_in_all_forms(Among(column, (value,))), values) if is_order else equal(column, value, values)


def _in_all_forms(one: Among) -> Among:
    """An order id may be stored as given, or trimmed."""
    if one.column != "order_id":
        return one
    forms = (form for value in map(str, one.values) for form in (value, trim(value)))
    return one._replace(values=tuple(dict.fromkeys(forms)))


def bounds(column: str, span: Span, values: list[object]) -> str:
    """Further conditions: the time range of a column. Appends their parameters."""
    conditions = ""
    for operator, millis, everything in zip((">=", "<"), span, ALL_TIME, strict=True):
        if millis != everything:
            is_hash = column == "click_hash"
            values.append(first_hash_at(millis) if is_hash else millis)
            conditions += f" AND {column} {operator} {('${}' if is_hash else _INSTANT).format(len(values))}"
    return conditions


def _within(seconds: tuple[int | None, int | None], values: list[object]) -> str:
    """Further conditions: the time from the click. Appends their parameters."""
    conditions = ""
    for operator, limit in zip((">=", "<="), seconds, strict=True):
        if limit is not None:
            values.append(limit)
            conditions += f" AND {SECONDS_FROM_CLICK} {operator} ${len(values)}"
    return conditions


def _rows(records: Iterable[asyncpg.Record], zone: tzinfo) -> list[Row]:
    return [_row(record, zone) for record in records]


def _row(record: asyncpg.Record, zone: tzinfo) -> Row:
    row = shown(record, zone)
    row["click_created_at"] = local_second(millis_of(str(row["click_hash"])) // 1000, zone)
    return row


def shown(record: asyncpg.Record, zone: tzinfo) -> Row:
    """A record for a response: hashes, times and money as texts."""
    return {name: _shown(value, zone) for name, value in record.items()}


def _shown(value: object, zone: tzinfo) -> object:
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, Decimal):
        return show(value)
    return local_second(value.timestamp(), zone) if isinstance(value, datetime) else value
