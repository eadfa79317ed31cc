"""Reports: clicks and their conversions, added up by one or two groups.

Clicks come from REPORT_COUNTS, conversions from conversion_count. What these do not cover is read one by one.

report_count covers one dimension, alone or by time, for all clicks or for those with one key. The time span
is cut into whole days, whole quarter-hours at their ends, and the remaining clicks. One statement adds all of
them up, so that they fit together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from tracker.domain import click_fields
from tracker.domain.click_id import first_hash_at
from tracker.store.clicks.counts import REPORT_COUNTS, REPORTED, condition_of
from tracker.store.clicks.list import ClickFilter, where
from tracker.store.conversions.list import Basis
from tracker.store.db import Connection, Pool
from tracker.store.paging import reading
from tracker.store.reports.closes import ChangedSinceClose, changed_since_close
from tracker.store.reports.conversion_counts import COUNTED
from tracker.store.reports.conversions import (
    COUNTS,
    MONEY,
    Kept,
    conversions_parts,
    money_of,
    summed_part,
)
from tracker.store.time_span import SLOT_MILLIS, SLOTS_A_DAY, Span
from tracker.store.token_owner import visible_offers

MOST_ROWS = 10_000
"""Most groups of a report, those with the most clicks first. The totals cover all."""

DIMENSIONS = {dimension: field.name for dimension, field in click_fields.DIMENSIONS.items()}
"""The groups of clicks and their columns. A key is its text, '' for null."""

TIMES = {
    "day": ("(second + ahead) / 86400",),
    "hour": ("(second + ahead) / 3600", "ahead"),
}
"""The groups of time and their keys: the local days or hours since 1970, and an hour's offset."""

_DIMENSION_OF = {column: dimension for dimension, column in REPORTED.items()}
_NAMED = ("offer", "affiliate")
_NOTHING = Decimal(0)
_SLOT_SECONDS = SLOT_MILLIS // 1000
_DAY_MILLIS = SLOT_MILLIS * SLOTS_A_DAY


class Offset(NamedTuple):
    """A period with one offset of a zone from UTC (Unix seconds, without the end)."""

    low: int
    high: int
    seconds: int


class ReportRequest(NamedTuple):
    """A report to compute."""

    clicks: ClickFilter
    groups: Sequence[str]  # of DIMENSIONS and TIMES
    offsets: Sequence[Offset] = ()  # all groups of the span, if it is grouped by time
    basis: Basis = "click"  # the time that selects conversions and decides their group

    @property
    def dimensions(self) -> list[str]:
        return [group for group in self.groups if group in DIMENSIONS]


Money = Mapping[tuple[str, str], Decimal]
"""Sums by kind and currency."""


class Sums(NamedTuple):
    gross: int = 0
    clicks: int = 0  # accepted, by people
    uniques: int = 0
    approved: int = 0
    pending: int = 0
    hold: int = 0
    rejected: int = 0
    over_cap: int = 0
    money: Money = {}  # noqa: RUF012 - a constant mapping


def added_up(parts: Iterable[Sums]) -> Sums:
    """The sums of several groups together."""
    *counts, moneys = zip(Sums(), *parts, strict=True)
    total: dict[tuple[str, str], Decimal] = {}
    for money in moneys:
        for key, amount in money.items():
            total[key] = total.get(key, _NOTHING) + amount
    return Sums._make((*map(sum, counts), total))


class Group(NamedTuple):
    keys: tuple[str | int, ...]  # in the order of the groups, with two numbers for an hour
    sums: Sums


class Report(NamedTuple):
    groups: list[Group]
    totals: Sums
    names: Mapping[str, Mapping[str, str]]  # of offers and affiliates, by dimension and key
    changed: ChangedSinceClose | None  # None: no period of it is closed


async def extent(pool: Pool, basis: Basis) -> Span:
    """From the first day (UTC) with a click or conversion to the last."""
    async with reading(pool, "read_committed") as connection:
        first, last = await connection.fetchrow(_EXTENT if basis == "click" else _EXTENT_OF_CONVERSIONS)
    return Span(first * SLOT_MILLIS, last * SLOT_MILLIS)


async def read(pool: Pool, asked: ReportRequest) -> Report:
    """Compute the report.

    Raises:
        TOO_SLOW: too many clicks had to be read one by one. Never raised if `is_kept`.
    """
    async with reading(pool, "repeatable_read") as connection:
        groups = await _groups(connection, asked)
        if len(groups) < MOST_ROWS:
            totals = added_up(group.sums for group in groups)
        else:
            ((_, totals),) = await _groups(connection, asked._replace(groups=(), offsets=()))
        names = {
            name: await _names(connection, name, asked, groups) for name in _NAMED if name in asked.groups
        }
        changed = await changed_since_close(connection, asked.clicks, asked.basis)
    return Report(groups, totals, names, changed)


async def _groups(connection: Connection, asked: ReportRequest) -> list[Group]:
    statement, values = _statement(asked)
    rows = [tuple(row) for row in await connection.fetch(statement, *values)]
    width = len(Sums._fields)
    return [Group(row[:-width], Sums._make((*row[-width:-1], money_of(row[-1])))) for row in rows]


def is_kept(asked: ReportRequest) -> bool:
    """Whether report_count covers the report, so that more clicks hardly take longer."""
    return _kept_dimension(asked) is not None


_EXTENT = f"""
SELECT coalesce(min(slot), 0), coalesce(max(slot) + {SLOTS_A_DAY}, 0)
FROM {REPORT_COUNTS} WHERE quarters = {SLOTS_A_DAY} AND dimension = 'all'
"""  # noqa: S608
_EXTENT_OF_CONVERSIONS = f"""
WITH of_clicks (low, high) AS (
    SELECT min(slot), max(slot) + {SLOTS_A_DAY}
    FROM {REPORT_COUNTS} WHERE quarters = {SLOTS_A_DAY} AND dimension = 'all'
), of_conversions (low, high) AS (
    SELECT extract(epoch FROM min(created_at)), extract(epoch FROM max(created_at)) FROM conversion
), either (low, high) AS (
    SELECT low, high FROM of_clicks
    UNION ALL
    SELECT floor(low / {_SLOT_SECONDS})::integer, floor(high / {_SLOT_SECONDS})::integer + 1
    FROM of_conversions
)
SELECT coalesce(min(low), 0), coalesce(max(high), 0) FROM either
"""  # noqa: S608


def _kept_dimension(asked: ReportRequest) -> str | None:
    equals = asked.clicks.equals
    is_other = asked.clicks.has_conversions is not None or bool(asked.clicks.further)
    if is_other or len(equals) > 1 or not _are_of_quarters(asked.offsets):
        return None
    wanted = {*asked.dimensions, *(_DIMENSION_OF.get(column, column) for column, _ in equals)} or {"all"}
    return wanted.pop() if len(wanted) == 1 and wanted <= {"all", *REPORTED} else None


def _kept_conversions(asked: ReportRequest) -> Kept | None:
    """What conversion_count has of the report: whole days, or all conversions by quarter-hours."""
    dimension, has_days = _kept_dimension(asked), _may_read_days(asked)
    if dimension not in ("all", *COUNTED) or not (has_days or dimension == "all"):
        return None
    quarters = SLOTS_A_DAY if has_days else 1
    return Kept(dimension, quarters, _whole(asked.clicks.span, quarters * SLOT_MILLIS))


def _are_of_quarters(offsets: Sequence[Offset]) -> bool:
    """Long ago clocks had other offsets, and changed at other times, than quarter-hours."""
    changes = [offset.low for offset in offsets[1:]]
    return not any(n % _SLOT_SECONDS for n in (*changes, *(offset.seconds for offset in offsets)))


def _statement(asked: ReportRequest) -> tuple[str, list[object]]:
    values: list[object] = []
    dimension = _kept_dimension(asked)
    parts = [_clicks_part(asked, values)] if dimension is None else _parts(asked, dimension, values)
    named = {name: DIMENSIONS[name] for name in asked.dimensions}
    converted = conversions_parts(asked.clicks, asked.basis, named, _kept_conversions(asked), values)
    told = [key for group in asked.groups for key in TIMES.get(group, (group,))]
    keys = [f"key{n}" for n in range(len(told))]
    named_keys = "".join(f"{expression} AS {key}, " for expression, key in zip(told, keys, strict=True))
    shown = "".join(f"{key}, " for key in keys)
    zone = _zone(asked.offsets)
    counts = Sums._fields[:-1]
    return (
        f"""
WITH converted AS ({summed_part(named_keys, keys, f"({' UNION ALL '.join(converted)}) AS conversion {zone}")}
), of_conversions ({shown}{", ".join(COUNTS)}, money) AS (
    SELECT {shown}{", ".join(COUNTS.values())}, {MONEY} FROM converted GROUP BY {_list(keys)}
), of_clicks ({shown}gross, clicks, uniques) AS (
    SELECT {named_keys}sum(gross), sum(clicks), sum(uniques)
    FROM ({" UNION ALL ".join(parts)}) AS part {zone} GROUP BY {_list(keys)}
    HAVING sum(gross) <> 0  -- deltas of a click that was taken back add up to nothing
)
SELECT {shown}{", ".join(f"coalesce({count}, 0)::bigint AS {count}" for count in counts)}, money
FROM of_clicks FULL JOIN of_conversions {f"USING ({_list(keys)})" if keys else "ON true"}
ORDER BY gross DESC, approved DESC{"".join(f", {key}" for key in keys)} LIMIT {MOST_ROWS}
""",  # noqa: S608
        values,
    )


def _list(keys: Sequence[str]) -> str:
    return ", ".join(keys) or "()"


def _zone(offsets: Sequence[Offset]) -> str:
    """The join from `ahead` to rows with a `second`."""
    if not offsets:
        return ""
    *earlier, last = offsets
    cases = "".join(f"WHEN second < {offset.high} THEN {offset.seconds} " for offset in earlier)
    ahead = f"CASE {cases}ELSE {last.seconds} END" if cases else f"{last.seconds}"
    return f"CROSS JOIN LATERAL (SELECT {ahead} AS ahead) AS zone"


def _parts(asked: ReportRequest, dimension: str, values: list[object]) -> list[str]:
    """Whole days if possible, quarter-hours around them, clicks around these."""
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


def _may_read_days(asked: ReportRequest) -> bool:
    return TIMES.keys().isdisjoint(asked.groups) or (
        "hour" not in asked.groups and not any(offset.seconds for offset in asked.offsets)
    )


def _whole(span: Span, unit: int) -> Span:
    """The whole units of a span in milliseconds. Empty at its end if it has none."""
    low, high = -(-span.low // unit) * unit, span.high // unit * unit
    return Span(low, high) if low < high else Span(span.high, span.high)


def _kept_part(asked: ReportRequest, condition: str, quarters: int, span: Span) -> str:
    keys = "".join(f"key AS {name}, " for name in asked.dimensions)
    return (
        f"SELECT {keys}slot * {_SLOT_SECONDS}::bigint AS second, gross, clicks, uniques FROM {REPORT_COUNTS}"  # noqa: S608
        f" WHERE quarters = {quarters} AND {condition}"
        f" AND slot >= {span.low // SLOT_MILLIS} AND slot < {span.high // SLOT_MILLIS}"
    )


def _clicks_part(asked: ReportRequest, values: list[object], which: str = "true") -> str:
    condition, given = where(asked.clicks)
    values += given
    keys = "".join(f"coalesce({DIMENSIONS[name]}::text, '') AS {name}, " for name in asked.dimensions)
    clicks, uniques = (f"({condition_of(name)})::int AS {name}" for name in ("clicks", "uniques"))
    return (
        f"SELECT {keys}click_millis(hash) / 1000 AS second, 1 AS gross, {clicks}, {uniques}"  # noqa: S608
        f" FROM {asked.clicks.source} WHERE {condition} AND {which} AND {condition_of('gross')}"
    )


async def _names(
    connection: Connection, table: str, asked: ReportRequest, groups: Iterable[Group]
) -> dict[str, str]:
    place = [key for group in asked.groups for key in TIMES.get(group, (group,))].index(table)
    ids = {int(group.keys[place]) for group in groups}
    seen = visible_offers(asked.clicks.owner) if table == "offer" else "true"
    statement = f"SELECT id, name FROM {table} WHERE id = ANY ($1::bigint[]) AND {seen}"  # noqa: S608
    rows = await connection.fetch(statement, ids)
    return {str(row["id"]): row["name"] for row in rows}
