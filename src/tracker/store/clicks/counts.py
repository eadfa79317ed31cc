"""Exact totals and the start of deep pages, from the counts per quarter-hour and day (UTC).

A time span has a head and a tail, each less than a quarter-hour, which are counted in the click table. The
whole quarter-hours and days between them are counted by the transactions that store clicks. All parts are
read in one REPEATABLE READ snapshot so that they fit together.

Only this module defines the counts: MEASURES says what is counted, in SQL and by store.clicks.tally.
store.clicks.deltas adds to them, store.clicks.recount recounts them, store.reports.report adds up those of
reports. Readers read the views CLICK_COUNTS, MINUTE_COUNTS and REPORT_COUNTS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tracker.domain.click_fields import DIMENSIONS
from tracker.domain.click_id import first_hash_at
from tracker.domain.model import Status
from tracker.store.db import Connection
from tracker.store.time_span import SLOT_MILLIS, SLOTS_A_DAY, Span

CLICK_COUNTS, MINUTE_COUNTS, REPORT_COUNTS = "click_count_part", "click_minute_part", "report_count_part"
"""The views of all counts. Rows of one key must be added up: writers' deltas are among them."""

REPORTED: Mapping[str, str] = {
    dimension: DIMENSIONS[dimension].name for dimension in DIMENSIONS if DIMENSIONS[dimension].is_counted
}
"""The dimensions of report_count besides 'all', and their columns. A key is a column's text, '' for null."""

_GROSS: Mapping[str, bool | str] = {"is_test": False}
_CLICKS = {**_GROSS, "status": Status.ACCEPTED.value, "is_bot": False}
MEASURES: Mapping[str, Mapping[str, bool | str]] = {
    "stored": {},
    "gross": _GROSS,
    "clicks": _CLICKS,  # accepted, by people. All others of gross are invalid
    "uniques": {**_CLICKS, "is_unique": True},
}
"""What is counted of clicks, and the values that a click's columns must have to be counted."""

DECIDING = tuple(dict.fromkeys(column for wanted in MEASURES.values() for column in wanted))
"""The columns that decide which measures count a click."""

MINUTE_MILLIS = 60_000

COUNTED = ", ".join(f"click.{column}" for column in dict.fromkeys(("hash", *REPORTED.values(), *DECIDING)))
"""The columns of clicks that the counts need. The queries below take a relation with them."""
COUNTED += ", click_millis(click.hash) AS millis"

A_DAY = "_day"
"""The ending of a day's dimension in click_count."""


def condition_of(measure: str) -> str:
    """SQL: whether a measure counts a click."""
    return " AND ".join(f"{column} = '{value}'" for column, value in MEASURES[measure].items()) or "true"


def quarters_of(clicks: str) -> str:
    """A query of the counts of each quarter-hour, by dimension. Days are sums of them."""
    dimensions = " ".join(
        f"WHEN GROUPING({column}) = 0 THEN '{dimension}'" for dimension, column in REPORTED.items()
    )
    keys = " ".join(
        f"WHEN GROUPING({column}) = 0 THEN coalesce({column}::text, '')" for column in REPORTED.values()
    )
    # Grouping sets take a third of the time of one grouping by (dimension, key).
    sums = ", ".join(f"count(*) FILTER (WHERE {condition_of(measure)}) AS {measure}" for measure in MEASURES)
    sets = ", ".join(f"(slot, {column})" for column in REPORTED.values())
    return f"""
    SELECT CASE {dimensions} ELSE 'all' END AS dimension, CASE {keys} ELSE '' END COLLATE "C" AS key, slot,
           {sums}
    FROM (SELECT *, (millis / {SLOT_MILLIS})::integer AS slot FROM {clicks}) AS each
    GROUP BY GROUPING SETS ((slot), {sets})"""  # noqa: S608


def counts_of(quarters: str) -> str:
    """A query of the rows of click_count, from a relation with the rows of `quarters_of`."""
    return f"""
    WITH quarter AS (
        SELECT dimension, CASE dimension WHEN 'all' THEN 0 ELSE key::bigint END AS key, slot, stored AS clicks
        FROM {quarters} WHERE dimension IN ('all', 'offer', 'affiliate')
    )
    SELECT dimension, key, slot, clicks FROM quarter
    UNION ALL
    SELECT dimension || '{A_DAY}', key, slot / {SLOTS_A_DAY} * {SLOTS_A_DAY}, sum(clicks)::bigint
    FROM quarter GROUP BY dimension, key, slot / {SLOTS_A_DAY}"""  # noqa: S608


def minutes_of(clicks: str) -> str:
    """A query of the rows of click_minute."""
    return f"SELECT millis / {MINUTE_MILLIS} AS minute, count(*) AS stored FROM {clicks} GROUP BY minute"  # noqa: S608


def reports_of(quarters: str) -> str:
    """A query of the rows of report_count, from a relation with the rows of `quarters_of`."""
    return f"""
    WITH quarter AS (SELECT * FROM {quarters} WHERE (gross, clicks, uniques) <> (0, 0, 0))
    SELECT 1 AS quarters, dimension, key, slot, gross, clicks, uniques FROM quarter
    UNION ALL
    SELECT {SLOTS_A_DAY}, dimension, key, slot / {SLOTS_A_DAY} * {SLOTS_A_DAY},
           sum(gross)::bigint, sum(clicks)::bigint, sum(uniques)::bigint
    FROM quarter GROUP BY dimension, key, slot / {SLOTS_A_DAY}"""  # noqa: S608


class CountScope(NamedTuple):
    """The scope of a count: all clicks, those of some offers or of some affiliates."""

    dimension: str  # all, offer or affiliate
    keys: tuple[int, ...]  # 0 for all


ALL_CLICKS = CountScope("all", (0,))


class Bucket(NamedTuple):
    """The number of clicks in a span."""

    span: Span
    clicks: int


class _Parts(NamedTuple):
    head: Span
    slots: range
    tail: Span


_SLOTS = f"FROM {CLICK_COUNTS} WHERE dimension = $1 AND key = ANY ($2::bigint[]) AND slot >= $3 AND slot < $4"
# The clicks of groups of slots, in order.
_SUMS = f"SELECT slot / $5 AS step, sum(clicks)::bigint AS clicks {_SLOTS} GROUP BY step ORDER BY step"
_CONDITIONS = {
    "all": "$3::bigint[] = '{0}'",
    "offer": "offer_id = ANY ($3::bigint[])",
    "affiliate": "affiliate_id = ANY ($3::bigint[])",
}


async def count(connection: Connection, tally: CountScope, span: Span) -> int:
    """The number of clicks in a span. At most two quarter-hours of the click table are read."""
    return sum([stretch.clicks for stretch in await days(connection, tally, span)])


async def days(connection: Connection, tally: CountScope, span: Span) -> list[Bucket]:
    """The days (UTC) of a span with clicks, in order, and the partial quarter-hours at its ends."""
    head, slots, tail = _parts(span)
    ends = [Bucket(end, await _count_rows(connection, tally, end)) for end in (head, tail)]
    whole = _whole_days(slots)
    counted = [
        *await _sums(connection, tally, range(slots.start, whole.start), SLOTS_A_DAY),
        *await _sums(connection, tally._replace(dimension=tally.dimension + A_DAY), whole, SLOTS_A_DAY),
        *await _sums(connection, tally, range(whole.stop, slots.stop), SLOTS_A_DAY),
    ]
    return [stretch for stretch in (ends[0], *counted, ends[1]) if stretch.clicks]


async def locate(
    connection: Connection, tally: CountScope, counted: Sequence[Bucket], rows: range, *, newest_first: bool
) -> tuple[Span, int]:
    """The span of some rows of counted days, by their numbers from 0 (less than the total).

    Returns the span from the quarter-hour of the first row to the day of the last row. It also returns how
    many rows to skip in it: fewer than that quarter-hour has.
    """
    ordered = _ordered(counted, newest_first)
    first, skipped = _find(ordered, rows[0])
    last, _ = _find(ordered, rows[-1])
    near, far = ordered[first].span, ordered[last].span
    if skipped and near.high - near.low > SLOT_MILLIS:
        quarters = _ordered(await _sums(connection, tally, _parts(near).slots, 1), newest_first)
        first, skipped = _find(quarters, skipped)
        near = quarters[first].span
    return (Span(far.low, near.high) if newest_first else Span(near.low, far.high)), skipped


def reach(span: Span, counted: Sequence[Bucket], millis: int, rows: int, *, newest_first: bool) -> Span:
    """The span, cut off where it has enough rows after those of the millisecond.

    A bound on both sides lets the planner skip the partitions beyond.
    """
    for (low, high), clicks in _ordered(counted, newest_first):
        if (high <= millis) if newest_first else (low > millis):
            rows -= clicks
        if rows <= 0:
            return Span(low, span.high) if newest_first else Span(span.low, high)
    return span


def cut(span: Span, counted: Iterable[Bucket], rows: int) -> list[Span]:
    """The whole span in pieces with this many rows and less than a day more, except the last piece."""
    pieces, low, clicks = [], span.low, 0
    for day in counted:
        clicks += day.clicks
        if clicks >= rows:
            pieces.append(Span(low, day.span.high))
            low, clicks = day.span.high, 0
    return [*pieces, Span(low, span.high)]


def _ordered(stretches: Sequence[Bucket], newest_first: bool) -> Sequence[Bucket]:
    return stretches[::-1] if newest_first else stretches


def _find(stretches: Sequence[Bucket], number: int) -> tuple[int, int]:
    """The bucket that contains a row, and the row's number in it."""
    place = 0
    while number >= stretches[place].clicks:
        number -= stretches[place].clicks
        place += 1
    return place, number


async def _sums(connection: Connection, tally: CountScope, slots: range, step: int) -> list[Bucket]:
    if not slots:
        return []
    rows = await connection.fetch(_SUMS, *tally, slots.start, slots.stop, step)
    return [Bucket(_span(range(n * step, (n + 1) * step), slots), clicks) for n, clicks in rows]


def _span(wanted: range, within: range) -> Span:
    start, stop = max(wanted.start, within.start), min(wanted.stop, within.stop)
    return Span(start * SLOT_MILLIS, stop * SLOT_MILLIS)


def _whole_days(slots: range) -> range:
    start, stop = -(-slots.start // SLOTS_A_DAY) * SLOTS_A_DAY, slots.stop // SLOTS_A_DAY * SLOTS_A_DAY
    return range(start, stop) if start <= stop else range(slots.stop, slots.stop)


def _parts(span: Span) -> _Parts:
    first, end = -(-span.low // SLOT_MILLIS), span.high // SLOT_MILLIS
    if first > end:  # within one quarter-hour
        return _Parts(span, range(first, first), Span(span.high, span.high))
    head = Span(span.low, first * SLOT_MILLIS)
    return _Parts(head, range(first, end), Span(end * SLOT_MILLIS, span.high))


async def _count_rows(connection: Connection, tally: CountScope, span: Span) -> int:
    if span.low >= span.high:
        return 0
    statement = (
        f"SELECT count(*) FROM click WHERE hash >= $1 AND hash < $2 AND {_CONDITIONS[tally.dimension]}"  # noqa: S608
    )
    bounds = (first_hash_at(span.low), first_hash_at(span.high))
    return int(await connection.fetchval(statement, *bounds, tally.keys))
