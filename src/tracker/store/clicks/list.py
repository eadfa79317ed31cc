"""Reads clicks: filters as SQL, pages, the walk by cursor, the feed by id.

Every list is in the order of the hash, which is time order, and starts at a position in it. Only shallow
pages, and pages within one quarter-hour of click_count, skip rows by OFFSET.
"""

from __future__ import annotations

from asyncio import timeout
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import tzinfo
from typing import Final, NamedTuple

import asyncpg

from tracker.domain.click_fields import COLUMN_FILTERS, OF_CONVERSIONS
from tracker.domain.click_id import first_hash_at, millis_of
from tracker.store import feeds
from tracker.store.clicks import columns as click_columns
from tracker.store.clicks import counts as click_counts
from tracker.store.clicks import kept
from tracker.store.clicks.columns import Viewer
from tracker.store.clicks.counts import CountScope, condition_of
from tracker.store.conditions import Among, Equals, Further, among, check, columns_of, equal, single
from tracker.store.db import Connection, Pool
from tracker.store.paging import MAX_OFFSET, Order, Page, Row, TooDeepError, reading
from tracker.store.time_span import ALL_TIME, Span
from tracker.store.token_owner import Owner

FILTERS: Final = frozenset(COLUMN_FILTERS)
_OWN: Final = {column: column for column in COLUMN_FILTERS}
_TALLIES: Final = {"offer_id": "offer", "affiliate_id": "affiliate"}

# Clicks are found one by one from the few conversions: GROUP BY keeps the planner from scanning all clicks.
# OFFSET 0 would do so too, and Citus refuses it. A page looks up its own clicks only if the conversions come
# in its order.
_CONVERTED = """
(SELECT click.*, click_hash
 FROM (SELECT DISTINCT click_hash FROM conversion ORDER BY click_hash {}) AS converted
      CROSS JOIN LATERAL (SELECT * FROM click WHERE hash = click_hash GROUP BY hash) AS click) AS click"""
_IS_INVALID = f"({condition_of('gross')} AND NOT ({condition_of('clicks')}))"
_HAS_NO_CONVERSION = "NOT EXISTS (SELECT FROM conversion WHERE click_hash = click.hash OFFSET 0)"


class ClickFilter(NamedTuple):
    """A filter of clicks."""

    span: Span = ALL_TIME
    equals: Equals = ()
    has_conversions: bool | None = None  # None: both
    owner: Owner | None = None  # the viewer if it is bound to an owner, None: the network
    further: Further = ()
    is_invalid: bool | None = None  # whether reports count them as invalid. None: both

    @property
    def tally(self) -> CountScope | None:
        """The counts that cover these clicks, if any do."""
        if (self.has_conversions, self.is_invalid) != (None, None):
            return None
        if not self.columns:
            return click_counts.ALL_CLICKS
        only = self.only
        if only is None or only.is_excluded or only.column not in _TALLIES:
            return None
        return CountScope(_TALLIES[only.column], tuple(int(value) for value in only.values))

    @property
    def only(self) -> Among | None:
        """The condition on a column, if these clicks are filtered by nothing else than it and their time."""
        return single(self.equals, self.further)

    @property
    def columns(self) -> frozenset[str]:
        """The columns of clicks that are compared."""
        return columns_of(self.equals, self.further)

    @property
    def place(self) -> str:
        """The column for time and order."""
        return "click_hash" if self.has_conversions else "hash"

    @property
    def is_of_conversions(self) -> bool:
        """Whether conversions alone decide which clicks match, so that other clicks need no look-up."""
        return (
            bool(self.has_conversions) and self.is_invalid is None and self.columns <= OF_CONVERSIONS.keys()
        )

    @property
    def source(self) -> str:
        """The subject of the condition: clicks, or conversions that lead to clicks."""
        return self.source_in("ASC")

    def source_in(self, direction: str) -> str:
        """The source in the order of time, ASC or DESC, if it is conversions."""
        return _CONVERTED.format(direction) if self.has_conversions else "click"


class Chosen(NamedTuple):
    """Some clicks in SQL: a query, their order, the parameters, and the viewer."""

    clicks: str
    sort: str
    values: Sequence[object]
    viewer: Viewer | None  # the viewer, None: the network


Count = Callable[[Connection, ClickFilter], Awaitable[int]]


class Feed(NamedTuple):
    """Clicks by id. `upto` stays below `given` while a writer's transaction holds the feed back."""

    rows: list[Row]
    given: int  # the highest id at the time of the read
    upto: int  # every click with an id up to this one is stored


_FIRSTS = "SELECT DISTINCT group_hash FROM ({}) AS c WHERE group_hash <> hash"
_OWN_FIRSTS = "SELECT hash FROM click WHERE hash = ANY ($1::uuid[]) AND {} = ANY ($2::bigint[])"
_HASH_OF_ID = "SELECT encode(uuid_send(hash), 'hex') FROM click WHERE id = $1"


async def is_ready(pool: Pool) -> bool:
    """Whether Postgres answers and is migrated."""
    try:
        async with timeout(5):
            await pool.fetchval("SELECT last_value FROM click_id")
    except asyncpg.PostgresError:
        return False
    return True


async def page(
    pool: Pool,
    clicks: ClickFilter,
    order: Order,
    number: int,
    per_page: int,
    counted_by: Count | None = None,
) -> Page:
    """Page `number`, from 1. `counted_by`: a faster way to count the clicks.

    Raises:
        TooDeepError: the page is more than MAX_OFFSET rows deep, and the counts do not cover its clicks.
    """
    offset = (number - 1) * per_page
    if clicks.tally is None and offset > MAX_OFFSET:
        raise TooDeepError(f"these filters allow pages only up to {MAX_OFFSET:,} rows deep")
    async with reading(pool, "repeatable_read") as connection:
        clicks = await kept_of(connection, clicks)
        if clicks.tally is None:
            total = await (counted_by or count)(connection, clicks)
        else:
            counted = await click_counts.days(connection, clicks.tally, clicks.span)
            total = sum(day.clicks for day in counted)
        numbers = range(offset, min(offset + per_page, total))
        if not numbers:
            return Page([], total, False)
        if clicks.tally is not None:
            span, offset = await click_counts.locate(
                connection, clicks.tally, counted, numbers, newest_first=order.newest_first
            )
            clicks = clicks._replace(span=span)
        chosen = await choose(connection, clicks, order, len(numbers), offset=offset)
        found = await rows(connection, chosen, order.zone)
    return Page(found, total, numbers.stop < total)


async def page_after(
    pool: Pool, clicks: ClickFilter, order: Order, last_hash: str, per_page: int, total: int | None
) -> Page:
    """The page after the click `last_hash`. Counts the clicks unless their total is known."""
    async with reading(pool, "repeatable_read") as connection:
        clicks = await kept_of(connection, clicks)
        if clicks.tally is not None:
            counted = await click_counts.days(connection, clicks.tally, clicks.span)
            total = sum(day.clicks for day in counted)
            span = click_counts.reach(
                clicks.span, counted, millis_of(last_hash), per_page + 1, newest_first=order.newest_first
            )
            clicks = clicks._replace(span=span)
        elif total is None:
            total = await count(connection, clicks)
        chosen = await choose(connection, clicks, order, per_page + 1, after=last_hash)
        found = await rows(connection, chosen, order.zone)
    return Page(found[:per_page], total, len(found) > per_page)


async def one(
    pool: Pool, hash_: str, zone: tzinfo, narrow: Callable[[ClickFilter], ClickFilter]
) -> Row | None:
    """The click with a hash, if the filter includes it."""
    async with reading(pool, "repeatable_read") as connection:
        clicks = narrow(ClickFilter(equals=(("hash", hash_),)))
        chosen = await choose(connection, clicks, Order(True, zone), 1)
        found = await rows(connection, chosen, zone)
    return found[0] if found else None


async def hash_of(pool: Pool, id_: int) -> str | None:
    """The hash of the click with an id."""
    async with reading(pool, "read_committed") as connection:
        # An id has no partition: planning for all of them takes several times as long as searching each. So
        # a connection plans this five times. Citus refuses to plan for a value that it does not know.
        await connection.execute("SET LOCAL plan_cache_mode = auto")
        hash_: str | None = await connection.fetchval(_HASH_OF_ID, id_)
    return hash_


async def feed(pool: Pool, clicks: ClickFilter, zone: tzinfo, after_id: int, limit: int) -> Feed:
    """Clicks with ids above `after_id` in the order of ids, below the lowest id that may still commit."""
    async with reading(pool, "read_committed") as connection:
        given, upto = await feeds.reach(connection, feeds.CLICKS)
        condition, values = where(clicks)
        values += [after_id, upto]
        condition += f" AND id > ${len(values) - 1} AND id <= ${len(values)}"
        some = _some(f"SELECT * FROM {clicks.source}", condition, "id ASC", values, limit)  # noqa: S608
        chosen = await _seen(connection, clicks, some, "id ASC", values)
        return Feed(await rows(connection, chosen, zone), given, upto)


async def kept_of(connection: Connection, clicks: ClickFilter) -> ClickFilter:
    """The clicks of a filter whose rows are kept. So a total counts what a list can show."""
    since = await kept.since(connection)
    return clicks._replace(span=kept.within(clicks.span, since)) if since else clicks


async def count(connection: Connection, clicks: ClickFilter) -> int:
    """The number of clicks of a filter: from click_count if it covers them, or one by one."""
    if clicks.tally is not None:
        return await click_counts.count(connection, clicks.tally, clicks.span)
    if clicks.has_conversions is False:
        everything = await count(connection, clicks._replace(has_conversions=None))
        return everything - await count(connection, clicks._replace(has_conversions=True))
    condition, values = _where(clicks)
    counted = (
        "count(DISTINCT click_hash) FROM conversion"
        if clicks.is_of_conversions
        else (f"count(*) FROM {clicks.source}")
    )
    statement = f"SELECT {counted} WHERE {condition}"
    return int(await connection.fetchval(statement, *values))


async def choose(
    connection: Connection,
    clicks: ClickFilter,
    order: Order,
    limit: int,
    *,
    offset: int = 0,
    after: str | None = None,
    newest_id: int | None = None,
) -> Chosen:
    """Clicks from a position on. `after`: a hash. `newest_id`: the highest id to include."""
    condition, values = _where(clicks)
    if after is not None:
        values.append(after)
        condition += f" AND {clicks.place} {'<' if order.newest_first else '>'} ${len(values)}"
    if newest_id is not None:
        values.append(newest_id)
        condition += f" AND {'click_id' if clicks.is_of_conversions else 'id'} <= ${len(values)}"
    direction = "DESC" if order.newest_first else "ASC"
    sort = f"{clicks.place} {direction}"
    if clicks.is_of_conversions:
        converted = _some(
            "SELECT DISTINCT click_hash FROM conversion", condition, sort, values, limit, offset
        )
        values = [[row["click_hash"] for row in await connection.fetch(converted, *values)]]
        some, sort = "SELECT * FROM click WHERE hash = ANY ($1::uuid[])", sort.removeprefix("click_")
    else:
        source = clicks.source_in(direction)
        some = _some(f"SELECT * FROM {source}", condition, sort, values, limit, offset)  # noqa: S608
    return await _seen(connection, clicks, some, sort, values)


async def _seen(
    connection: Connection, clicks: ClickFilter, some: str, sort: str, values: list[object]
) -> Chosen:
    """Some clicks for a viewer. An owner's own clicks among the visitors' first clicks are looked up ahead.

    A subquery could not skip any partition, and would be planned for all.
    """
    owner = clicks.owner
    if owner is None:
        return Chosen(some, sort, values, None)
    firsts = [row["group_hash"] for row in await connection.fetch(_FIRSTS.format(some), *values)]
    own = await connection.fetch(_OWN_FIRSTS.format(owner.column), firsts, owner.ids)
    values = [*values, [row["hash"] for row in own]]
    return Chosen(some, sort, values, Viewer(owner, f"${len(values)}::uuid[]"))


async def rows(connection: Connection, chosen: Chosen, zone: tzinfo) -> list[Row]:
    records = await connection.fetch(
        click_columns.select(chosen.clicks, chosen.sort, chosen.viewer), *chosen.values
    )
    return [click_columns.row(record, zone) for record in records]


def _where(clicks: ClickFilter) -> tuple[str, list[object]]:
    """The condition for conversions, if they alone decide, or else for the source of the filter."""
    return where(clicks, columns=OF_CONVERSIONS if clicks.is_of_conversions else _OWN)


def where(
    clicks: ClickFilter, before: int = 0, columns: Mapping[str, str] = _OWN
) -> tuple[str, list[object]]:
    """The condition of a filter, and its parameters, which follow earlier ones.

    `columns`: the name of each column in the table that is read.
    """
    check(clicks.columns, FILTERS)
    values: list[object] = []
    conditions = [
        _HAS_NO_CONVERSION if clicks.has_conversions is False else "true",
        "true" if clicks.is_invalid is None else f"{_IS_INVALID} = {clicks.is_invalid}",
        *(equal(columns[column], value, values, before) for column, value in clicks.equals),
        *(among(one._replace(column=columns[one.column]), values, before) for one in clicks.further),
    ]
    for operator, bound, everything in zip((">=", "<"), clicks.span, ALL_TIME, strict=True):
        if bound != everything:
            values.append(first_hash_at(bound))
            conditions.append(f"{clicks.place} {operator} ${before + len(values)}")
    return " AND ".join(conditions), values


def _some(select: str, where: str, sort: str, values: list[object], limit: int, offset: int = 0) -> str:
    """The statement of some rows. Appends its parameters."""
    values += [limit, offset]
    return f"{select} WHERE {where} ORDER BY {sort} LIMIT ${len(values) - 1} OFFSET ${len(values)}"
