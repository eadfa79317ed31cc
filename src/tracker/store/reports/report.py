"""Reports: clicks and their conversions, added up by groups.

store.reports.sources decides where clicks come from. Conversions come from conversion_count where that covers
them. One statement adds all of them up, in one snapshot, so that they fit together. A comparison adds up the
same groups of another span, and moves its times to those of the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tracker.store.clicks.counts import REPORT_COUNTS
from tracker.store.conversions.list import Basis
from tracker.store.db import Connection, Pool
from tracker.store.paging import reading
from tracker.store.reports import sources
from tracker.store.reports.closes import ChangedSinceClose, changed_since_close
from tracker.store.reports.conversions import money_of
from tracker.store.reports.groups import DIMENSIONS, keys_of
from tracker.store.reports.request import ReportRequest
from tracker.store.reports.sources import Plan, Wanted
from tracker.store.reports.statement import statement
from tracker.store.reports.sums import Sums
from tracker.store.time_span import SLOT_MILLIS, SLOTS_A_DAY, Span
from tracker.store.token_owner import Owner, visible_offers

_SLOT_SECONDS = SLOT_MILLIS // 1000


class Group(NamedTuple):
    keys: tuple[str | int, ...]  # in the order of the groups, with two numbers for an hour
    sums: Sums
    compared: Sums | None  # None: without a comparison


class Report(NamedTuple):
    groups: list[Group]
    totals: Group
    names: Mapping[str, Mapping[str, str]]  # of what has names, by dimension and key
    changed: ChangedSinceClose | None  # None: no period of it is closed
    is_whole: bool  # the groups have all of the totals
    is_approximate: bool  # some clicks of the groups are only in the totals


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
        plans = [await sources.plan(connection, side) for side in asked.sides]
        totals, *groups = await _groups(connection, asked, plans)
        names = {
            group: await _names(connection, group, asked.wanted, groups)
            for group in asked.wanted.dimensions
            if DIMENSIONS[group].names
        }
        changed = await changed_since_close(connection, asked.wanted.clicks, asked.basis)
    is_cut = any(plan.is_cut for plan in plans)
    is_whole = asked.is_whole and len(groups) < asked.limit and not is_cut
    return Report(groups, totals, names, changed, is_whole, is_cut)


async def _groups(connection: Connection, asked: ReportRequest, plans: Sequence[Plan]) -> list[Group]:
    """The totals, and the groups in order."""
    query, values = statement(asked, plans)
    width = len(Sums._fields)
    first = len(keys_of(asked.wanted.groups))
    groups = []
    for record in await connection.fetch(query, *values):
        row = tuple(record)
        own = Sums._make((*row[first : first + width - 1], money_of(row[first + width - 1])))
        other = Sums._make((*row[first + width : -1], money_of(row[-1]))) if asked.compared else None
        groups.append(Group(row[:first], own, other))
    return groups


def is_kept(asked: ReportRequest) -> bool:
    """Whether report_count covers the report, so that more clicks hardly take longer."""
    return all(sources.counted_dimension(side) is not None for side in asked.sides)


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


async def _names(
    connection: Connection, group: str, wanted: Wanted, groups: Iterable[Group]
) -> dict[str, str]:
    place = [key.group for key in keys_of(wanted.groups)].index(group)
    ids = {int(found.keys[place]) for found in groups if found.keys[place]}
    table = DIMENSIONS[group].names
    of_ids = f"SELECT id, name FROM {table} WHERE id = ANY ($1::bigint[])"  # noqa: S608
    rows = await connection.fetch(f"{of_ids} AND {_seen(table, wanted.clicks.owner)}", ids)
    return {str(row["id"]): row["name"] for row in rows}


def _seen(table: str, owner: Owner | None) -> str:
    """SQL: whether the viewer may see a name."""
    if table == "goal":
        return f"EXISTS (SELECT FROM offer WHERE offer.id = goal.offer_id AND {visible_offers(owner)})"
    return visible_offers(owner) if table == "offer" else "true"
