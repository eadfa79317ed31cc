"""Reports: clicks added up by one or two groups, out of report_count or, where that cannot tell, the clicks.

report_count tells of one dimension, by itself or by time, of all clicks or of those with one key in it. A
time span is then cut into whole days, whole quarter-hours at their ends, and the clicks of what is left; one
statement adds them all up, so that they fit together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tracker.clickhash import first_hash_at
from tracker.store.click_counts import IS_CLICK, REPORTED, SLOT_MILLIS, SLOTS_A_DAY, Span
from tracker.store.click_list import ClickFilter, reading, where
from tracker.store.pool import Connection, Pool

MOST_ROWS = 10_000
"""Groups that a report shows, those with the most clicks first; it has totals of all."""

DIMENSIONS = {**REPORTED, "affiliate_source": "affiliate_source"}
"""What clicks can be grouped by, and the column; a key is its text, '' for null."""

TIMES = {
    "day": ("(second + ahead) / 86400",),
    "hour": ("(second + ahead) / 3600", "ahead"),
}
"""The groups of time, and what tells one: the local days or hours since 1970, and an hour's offset."""

_DIMENSION_OF = {
    "offer_id": "offer",
    "offer_url_id": "offer_url",
    "affiliate_id": "affiliate",
    "country_code": "country",
    "status": "status",
}
_NAMED = ("offer", "affiliate")
_SLOT_SECONDS = SLOT_MILLIS // 1000
_DAY_MILLIS = SLOT_MILLIS * SLOTS_A_DAY


class Offset(NamedTuple):
    """How far a zone's clocks are ahead of UTC for a while (Unix seconds, without the end)."""

    low: int
    high: int
    seconds: int


class Asked(NamedTuple):
    """A report that is asked for."""

    clicks: ClickFilter
    groups: Sequence[str]  # of DIMENSIONS and TIMES
    offsets: Sequence[Offset] = ()  # all of the span's, if it is grouped by time

    @property
    def dimensions(self) -> list[str]:
        return [group for group in self.groups if group in DIMENSIONS]


class Sums(NamedTuple):
    gross: int
    clicks: int  # accepted, of people
    uniques: int


class Group(NamedTuple):
    keys: tuple[str | int, ...]  # in the order of the groups; an hour is two numbers
    sums: Sums


class Report(NamedTuple):
    groups: list[Group]
    totals: Sums
    names: Mapping[str, Mapping[str, str]]  # of offers and affiliates, by dimension and key


async def extent(pool: Pool) -> Span:
    """From the first day (UTC) with a click to report of to the last."""
    async with reading(pool, "read_committed") as connection:
        first, last = await connection.fetchrow(_EXTENT)
    return Span(first * SLOT_MILLIS, (last + SLOTS_A_DAY) * SLOT_MILLIS)


async def read(pool: Pool, asked: Asked) -> Report:
    """The report.

    Raises:
        TOO_SLOW: too many clicks had to be read one by one; never where `is_kept`.
    """
    statement, values = _statement(asked)
    async with reading(pool, "read_committed") as connection:
        rows = [tuple(row) for row in await connection.fetch(statement, *values)]
        groups = [Group(row[:-6], Sums(*row[-6:-3])) for row in rows]
        names = {
            name: await _names(connection, name, asked, groups) for name in _NAMED if name in asked.groups
        }
    return Report(groups, Sums(*rows[0][-3:]) if rows else Sums(0, 0, 0), names)


def is_kept(asked: Asked) -> bool:
    """Whether report_count tells, so that more clicks take hardly longer."""
    return _kept_dimension(asked) is not None


_EXTENT = f"""
SELECT coalesce(min(slot), 0), coalesce(max(slot), 0)
FROM report_count WHERE quarters = {SLOTS_A_DAY} AND dimension = 'all'
"""  # noqa: S608


def _kept_dimension(asked: Asked) -> str | None:
    equals = asked.clicks.equals
    if asked.clicks.has_conversions is not None or len(equals) > 1 or not _are_of_quarters(asked.offsets):
        return None
    wanted = {*asked.dimensions, *(_DIMENSION_OF.get(column, column) for column, _ in equals)} or {"all"}
    return wanted.pop() if len(wanted) == 1 and wanted <= {"all", *REPORTED} else None


def _are_of_quarters(offsets: Sequence[Offset]) -> bool:
    """Long ago clocks were also off by, and changed at, other times than quarter-hours."""
    changes = [offset.low for offset in offsets[1:]]
    return not any(n % _SLOT_SECONDS for n in (*changes, *(offset.seconds for offset in offsets)))


def _statement(asked: Asked) -> tuple[str, list[object]]:
    values: list[object] = []
    dimension = _kept_dimension(asked)
    parts = [_clicks_part(asked, values)] if dimension is None else _parts(asked, dimension, values)
    keys = [key for group in asked.groups for key in TIMES.get(group, (group,))]
    numbers = ", ".join(str(n + 1) for n in range(len(keys)))
    return (
        f"""
WITH part AS ({" UNION ALL ".join(parts)}), summed AS (
    SELECT {", ".join(f"{key} AS key{n}" for n, key in enumerate(keys))},
           sum(gross)::bigint AS gross, sum(clicks)::bigint AS clicks, sum(uniques)::bigint AS uniques
    FROM part {_zone(asked.offsets)} GROUP BY {numbers}
)
SELECT *, sum(gross) OVER ()::bigint, sum(clicks) OVER ()::bigint, sum(uniques) OVER ()::bigint
FROM summed ORDER BY gross DESC, {numbers} LIMIT {MOST_ROWS}
""",  # noqa: S608
        values,
    )


def _zone(offsets: Iterable[Offset]) -> str:
    rows = ", ".join(f"({low}::bigint, {high}::bigint, {seconds})" for low, high, seconds in offsets)
    return (
        f"JOIN (VALUES {rows}) AS zone (low, high, ahead) ON second >= low AND second < high" if rows else ""
    )


def _parts(asked: Asked, dimension: str, values: list[object]) -> list[str]:
    """Whole days where they will do, quarter-hours before and after them, clicks before and after these."""
    span = asked.clicks.span
    quarters = _whole(span, SLOT_MILLIS)
    days = _whole(quarters, _DAY_MILLIS) if _may_read_days(asked) else Span(quarters.high, quarters.high)
    kept = [(1, Span(quarters.low, days.low)), (SLOTS_A_DAY, days), (1, Span(days.high, quarters.high))]
    parts = []
    if quarters != span:
        outside = f"(hash < '{first_hash_at(quarters.low)}' OR hash >= '{first_hash_at(quarters.high)}')"
        parts.append(_clicks_part(asked, values, outside))
    condition = f"dimension = '{dimension}'"
    if asked.clicks.equals:
        values.append(str(asked.clicks.equals[0][1]))
        condition += f" AND key = ${len(values)}"
    return [*parts, *(_kept_part(asked, condition, *each) for each in kept)]


def _may_read_days(asked: Asked) -> bool:
    return TIMES.keys().isdisjoint(asked.groups) or (
        "hour" not in asked.groups and not any(offset.seconds for offset in asked.offsets)
    )


def _whole(span: Span, unit: int) -> Span:
    """The whole units of a span, of milliseconds."""
    low = -(-span.low // unit) * unit
    return Span(low, max(low, span.high // unit * unit))


def _kept_part(asked: Asked, condition: str, quarters: int, span: Span) -> str:
    keys = "".join(f"key AS {name}, " for name in asked.dimensions)
    return (
        f"SELECT {keys}slot * {_SLOT_SECONDS}::bigint AS second, gross, clicks, uniques FROM report_count"  # noqa: S608
        f" WHERE quarters = {quarters} AND {condition}"
        f" AND slot >= {span.low // SLOT_MILLIS} AND slot < {span.high // SLOT_MILLIS}"
    )


def _clicks_part(asked: Asked, values: list[object], which: str = "true") -> str:
    condition, given = where(asked.clicks)
    values += given
    keys = "".join(f"coalesce({DIMENSIONS[name]}::text, '') AS {name}, " for name in asked.dimensions)
    return (
        f"SELECT {keys}click_millis(hash) / 1000 AS second, 1 AS gross, ({IS_CLICK})::int AS clicks,"  # noqa: S608
        f" ({IS_CLICK} AND is_unique)::int AS uniques"
        f" FROM {asked.clicks.source} WHERE {condition} AND {which} AND NOT is_test"
    )


async def _names(connection: Connection, table: str, asked: Asked, groups: Iterable[Group]) -> dict[str, str]:
    place = [key for group in asked.groups for key in TIMES.get(group, (group,))].index(table)
    ids = {int(group.keys[place]) for group in groups}
    rows = await connection.fetch(f"SELECT id, name FROM {table} WHERE id = ANY ($1::bigint[])", ids)  # noqa: S608
    return {str(row["id"]): row["name"] for row in rows}
