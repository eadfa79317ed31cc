"""Exact totals, and the places of deep pages, out of the counts per quarter-hour.

A time span is a head and a tail, each less than a quarter-hour and counted in the click table itself, with
whole quarter-hours between them, whose counts are kept in click_count by the transaction that stores a click.
Read within one REPEATABLE READ snapshot, so that the parts fit together.

What is counted of clicks is said here alone: store.clicks keeps these counts, store.recount makes them anew,
store.reports adds up those of report_count.
"""

from __future__ import annotations

from typing import NamedTuple

from tracker.clickhash import first_hash_at
from tracker.store.pool import Connection

SLOT_MILLIS = 900_000
"""A quarter-hour: the offsets of all time zones in use are whole numbers of them."""

END_OF_TIME = (1 << 48) // SLOT_MILLIS * SLOT_MILLIS
"""Unix milliseconds past every hash (the year 10889), at the start of a quarter-hour."""


SLOTS_A_DAY = 96

COUNTED = ", ".join(
    f"click.{column}"
    for column in (
        *("hash", "offer_id", "offer_url_id", "affiliate_id", "country_code", "device_type", "device_os"),
        *("browser", "status", "reason", "is_unique", "is_bot", "is_test"),
    )
)
"""What the counts are made of: the queries below take a relation with these columns of clicks."""
COUNTED += ", click_millis(click.hash) AS millis"

REPORTED = {
    "offer": "offer_id",
    "offer_url": "offer_url_id",
    "affiliate": "affiliate_id",
    "country": "country_code",
    "device_type": "device_type",
    "os": "device_os",
    "browser": "browser",
    "status": "status",
    "reason": "reason",
}
"""The dimensions of report_count besides 'all', and their columns; a key is a column's text, '' for null."""

IS_CLICK = "status = 'accepted' AND NOT is_bot"
"""What reports call a click; all others that are no tests are invalid."""


def counts_of(clicks: str) -> str:
    """A query of the rows of click_count."""
    return f"""
    SELECT CASE WHEN GROUPING(offer_id) = 0 THEN 'offer'
                WHEN GROUPING(affiliate_id) = 0 THEN 'affiliate'
                ELSE 'all' END AS dimension,
           coalesce(offer_id, affiliate_id, 0) AS key, slot, count(*) AS clicks
    FROM (SELECT offer_id, affiliate_id, (millis / {SLOT_MILLIS})::integer AS slot FROM {clicks}) AS each
    GROUP BY GROUPING SETS ((slot), (slot, offer_id), (slot, affiliate_id))"""  # noqa: S608


def minutes_of(clicks: str) -> str:
    """A query of the rows of click_minute."""
    return f"SELECT millis / 60000 AS minute, count(*) AS stored FROM {clicks} GROUP BY minute"  # noqa: S608


def reports_of(clicks: str) -> str:
    """A query of the rows of report_count."""
    dimensions = " ".join(
        f"WHEN GROUPING({column}) = 0 THEN '{dimension}'" for dimension, column in REPORTED.items()
    )
    keys = " ".join(
        f"WHEN GROUPING({column}) = 0 THEN coalesce({column}::text, '')" for column in REPORTED.values()
    )
    # Grouping sets take a third of the time of one grouping by (dimension, key).
    sets = ", ".join(f"(slot, {column})" for column in REPORTED.values())
    return f"""
    WITH quarter AS (
        SELECT CASE {dimensions} ELSE 'all' END AS dimension, CASE {keys} ELSE '' END AS key, slot,
               count(*) AS gross, count(*) FILTER (WHERE is_click) AS clicks,
               count(*) FILTER (WHERE is_click AND is_unique) AS uniques
        FROM (SELECT *, (millis / {SLOT_MILLIS})::integer AS slot, {IS_CLICK} AS is_click
              FROM {clicks} WHERE NOT is_test) AS each
        GROUP BY GROUPING SETS ((slot), {sets})
    )
    SELECT 1 AS quarters, dimension, key, slot, gross, clicks, uniques FROM quarter
    UNION ALL
    SELECT {SLOTS_A_DAY}, dimension, key, slot / {SLOTS_A_DAY} * {SLOTS_A_DAY},
           sum(gross)::bigint, sum(clicks)::bigint, sum(uniques)::bigint
    FROM quarter GROUP BY dimension, key, slot / {SLOTS_A_DAY}"""  # noqa: S608


class Span(NamedTuple):
    """A range of Unix milliseconds, without its end."""

    low: int
    high: int


ALL_TIME = Span(0, END_OF_TIME)


class Tally(NamedTuple):
    """Whose clicks are counted: everybody's, an offer's or an affiliate's."""

    dimension: str  # all, offer or affiliate
    key: int  # 0 for all


class Counted(NamedTuple):
    """How many clicks lie in each part of a span."""

    head: int
    slots: int
    tail: int

    @property
    def total(self) -> int:
        return self.head + self.slots + self.tail


class _Parts(NamedTuple):
    head: Span
    first_slot: int
    end_slot: int
    tail: Span


_SLOTS = "FROM click_count WHERE dimension = $1 AND key = $2 AND slot >= $3 AND slot < $4"
_SUM = f"SELECT coalesce(sum(clicks), 0)::bigint {_SLOTS}"
# Streams over the primary key and stops at the slot sought.
_LOCATE = f"""
SELECT slot, clicks, (upto - clicks)::bigint AS before
FROM (SELECT slot, clicks, sum(clicks) OVER (ORDER BY slot {{direction}}) AS upto {_SLOTS}) AS slots
WHERE upto > $5::bigint ORDER BY slot {{direction}} LIMIT 1
"""  # noqa: S608
_CONDITIONS = {"all": "$3::bigint = 0", "offer": "offer_id = $3", "affiliate": "affiliate_id = $3"}


async def count(connection: Connection, tally: Tally, span: Span) -> Counted:
    """How many clicks a span has; at most two quarter-hours of the click table are read."""
    parts = _parts(span)
    slots = await connection.fetchval(_SUM, *tally, parts.first_slot, parts.end_slot)
    head = await _count_rows(connection, tally, parts.head)
    return Counted(head, slots, await _count_rows(connection, tally, parts.tail))


async def locate(
    connection: Connection,
    tally: Tally,
    span: Span,
    counted: Counted,
    rows: range,
    *,
    newest_first: bool,
) -> tuple[Span, int]:
    """Where some rows of a span are, by their numbers from 0, all less than the total.

    Returns the quarter-hours from the first of these rows to the last, and how many rows are to be skipped
    in them: fewer than the first quarter-hour has.
    """
    start, before, clicks = await _quarter_of(connection, tally, span, counted, rows[0], newest_first)
    end = start
    if rows[-1] >= before + clicks:
        end, _, _ = await _quarter_of(connection, tally, span, counted, rows[-1], newest_first)
    enclosing = Span(end.low, start.high) if newest_first else Span(start.low, end.high)
    return enclosing, rows[0] - before


async def reach(
    connection: Connection, tally: Tally, span: Span, millis: int, rows: int, *, newest_first: bool
) -> Span:
    """The span, cut off where it surely has enough rows after those of the millisecond.

    A bound on both sides spares the planner the partitions beyond.
    """
    here, parts = millis // SLOT_MILLIS, _parts(span)
    slots = (parts.first_slot, min(parts.end_slot, here)) if newest_first else (here + 1, parts.end_slot)
    row = await connection.fetchrow(_locating(newest_first), *tally, *slots, rows - 1)
    if row is None:
        return span
    start = row["slot"] * SLOT_MILLIS
    return Span(start, span.high) if newest_first else Span(span.low, start + SLOT_MILLIS)


async def _quarter_of(
    connection: Connection, tally: Tally, span: Span, counted: Counted, number: int, newest_first: bool
) -> tuple[Span, int, int]:
    """The part of a span that has a row, at most a quarter-hour; the rows before it, and those in it."""
    parts = _parts(span)
    near, far = (parts.tail, parts.head) if newest_first else (parts.head, parts.tail)
    in_near = counted.tail if newest_first else counted.head
    if number < in_near:
        return near, 0, in_near
    if number >= in_near + counted.slots:
        return far, in_near + counted.slots, counted.total - in_near - counted.slots
    slots = (parts.first_slot, parts.end_slot)
    row = await connection.fetchrow(_locating(newest_first), *tally, *slots, number - in_near)
    start = row["slot"] * SLOT_MILLIS
    return Span(start, start + SLOT_MILLIS), in_near + row["before"], row["clicks"]


def _locating(newest_first: bool) -> str:
    return _LOCATE.format(direction="DESC" if newest_first else "ASC")


def _parts(span: Span) -> _Parts:
    first, end = -(-span.low // SLOT_MILLIS), span.high // SLOT_MILLIS
    if first > end:  # within one quarter-hour
        return _Parts(span, first, first, Span(span.high, span.high))
    head = Span(span.low, first * SLOT_MILLIS)
    return _Parts(head, first, end, Span(end * SLOT_MILLIS, span.high))


async def _count_rows(connection: Connection, tally: Tally, span: Span) -> int:
    if span.low >= span.high:
        return 0
    statement = (
        f"SELECT count(*) FROM click WHERE hash >= $1 AND hash < $2 AND {_CONDITIONS[tally.dimension]}"  # noqa: S608
    )
    bounds = (first_hash_at(span.low), first_hash_at(span.high))
    return int(await connection.fetchval(statement, *bounds, tally.key))
