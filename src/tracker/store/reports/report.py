"""Reports: clicks and their conversions, added up by groups.

store.reports.sources decides where clicks come from. Conversions come from conversion_count where that covers
them. One statement adds all of them up, in one snapshot, so that they fit together. A comparison adds up the
same groups of another span, and moves its times to those of the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tracker.store.clicks.counts import REPORT_COUNTS
from tracker.store.db import Connection, Pool
from tracker.store.paging import reading
from tracker.store.reports import sources
from tracker.store.reports.closes import ChangedSinceClose, changed_since_close
from tracker.store.reports.conversions import Basis
from tracker.store.reports.groups import DIMENSIONS, keys_of
from tracker.store.reports.request import ReportRequest
from tracker.store.reports.sources import Plan
from tracker.store.reports.statement import statement
from tracker.store.reports.sums import FIELDS, Columns, columns_of
from tracker.store.time_span import SLOT_MILLIS, SLOTS_A_DAY, Span
from tracker.store.token_owner import Owner, visible_offers

_SLOT_SECONDS = SLOT_MILLIS // 1000


class Report(NamedTuple):
    """A report. The first row of its columns is of the totals."""

    keys: Sequence[Sequence[Any]]  # of the other rows, in the order of the groups. An hour has two
    own: Columns
    compared: Columns | None  # None: without a comparison
    names: Mapping[str, Mapping[str, str]]  # of what has names, by dimension and key
    changed: ChangedSinceClose | None  # None: no period of it is closed
    is_whole: bool  # the rows have all of the totals
    is_approximate: bool  # some clicks of the rows are only in the totals


async def extent(pool: Pool, basis: Basis) -> Span:
    """From the first day (UTC) with a click, conversion or entry to the last."""
    async with reading(pool, "read_committed") as connection:
        first, last = await connection.fetchrow(_EXTENTS[basis])
    return Span(first * SLOT_MILLIS, last * SLOT_MILLIS)


async def read(pool: Pool, asked: ReportRequest) -> Report:
    """Compute the report.

    Raises:
        TOO_SLOW: too many clicks had to be read one by one. Never raised if `is_kept`.
    """
    keys = keys_of(asked.wanted.groups)
    async with reading(pool, "repeatable_read") as connection:
        plans = [await sources.plan(connection, side) for side in asked.sides]
        rows = await _rows(connection, asked, plans)
        of_groups = list(zip(*(row[: len(keys)] for row in rows[1:]), strict=True)) or [()] * len(keys)
        names = {
            key.group: await _names(connection, key.group, asked.wanted.clicks.owner, texts)
            for key, texts in zip(keys, of_groups, strict=True)
            if key.group in DIMENSIONS and DIMENSIONS[key.group].names
        }
        changed = await _changed(connection, asked)
    sides = [
        columns_of([row[first : first + len(FIELDS)] for row in rows])
        for first in range(len(keys), len(rows[0]), len(FIELDS))
    ]
    is_cut = any(plan.is_cut for plan in plans)
    is_whole = asked.is_whole and len(rows) <= asked.limit and not is_cut
    other = sides[1] if asked.compared else None
    return Report(of_groups, sides[0], other, names, changed, is_whole, is_cut)


async def _changed(connection: Connection, asked: ReportRequest) -> ChangedSinceClose | None:
    """Nothing in the book of a closed period changes."""
    if asked.basis == "booked":
        return None
    return await changed_since_close(connection, asked.wanted.clicks, asked.basis)


async def _rows(connection: Connection, asked: ReportRequest, plans: Sequence[Plan]) -> list[tuple[Any, ...]]:
    """The totals, and the rows in order: keys, and FIELDS of each side."""
    query, values = statement(asked, plans)
    return list(map(tuple, await connection.fetch(query, *values)))


def is_kept(asked: ReportRequest) -> bool:
    """Whether report_count covers the report, so that more clicks hardly take longer."""
    return all(sources.counted_dimension(side) is not None for side in asked.sides)


_EXTENT = f"""
SELECT coalesce(min(slot), 0), coalesce(max(slot) + {SLOTS_A_DAY}, 0)
FROM {REPORT_COUNTS} WHERE quarters = {SLOTS_A_DAY} AND dimension = 'all'
"""  # noqa: S608
_EXTENT_WITH = f"""
WITH of_clicks (low, high) AS (
    SELECT min(slot), max(slot) + {SLOTS_A_DAY}
    FROM {REPORT_COUNTS} WHERE quarters = {SLOTS_A_DAY} AND dimension = 'all'
), of_conversions (low, high) AS (
    SELECT extract(epoch FROM min({{time}})), extract(epoch FROM max({{time}})) FROM {{table}}
), either (low, high) AS (
    SELECT low, high FROM of_clicks
    UNION ALL
    SELECT floor(low / {_SLOT_SECONDS})::integer, floor(high / {_SLOT_SECONDS})::integer + 1
    FROM of_conversions
)
SELECT coalesce(min(low), 0), coalesce(max(high), 0) FROM either
"""  # noqa: S608
_EXTENTS: Mapping[Basis, str] = {
    "click": _EXTENT,
    "conversion": _EXTENT_WITH.format(time="created_at", table="conversion"),
    "booked": _EXTENT_WITH.format(time="booked_at", table="conversion_entry"),
}


async def _names(
    connection: Connection, group: str, owner: Owner | None, texts: Iterable[str]
) -> dict[str, str]:
    table = DIMENSIONS[group].names
    of_ids = f"SELECT id, name FROM {table} WHERE id = ANY ($1::bigint[])"  # noqa: S608
    ids = {int(text) for text in texts if text}
    rows = await connection.fetch(f"{of_ids} AND {_seen(table, owner)}", ids)
    return {str(row["id"]): row["name"] for row in rows}


def _seen(table: str, owner: Owner | None) -> str:
    """SQL: whether the viewer may see a name."""
    if table == "goal":
        return f"EXISTS (SELECT FROM offer WHERE offer.id = goal.offer_id AND {visible_offers(owner)})"
    return visible_offers(owner) if table == "offer" else "true"
