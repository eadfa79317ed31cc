"""Rollups: the clicks of finished days (UTC), added up by several columns at once.

Housekeeping builds them from the click table, so writers do nothing for them. A rollup answers for a day if
nothing has changed there since it was built. The worker that adds deltas up forgets the days of the deltas,
and readers leave out the days of deltas that are not added up yet. Such a day is read click by click until
it is built again.

The first rollup with all columns of a report answers, so the smaller ones come first.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime
from typing import NamedTuple

import asyncpg

from tracker.domain.click_id import first_hash_at
from tracker.store import locks, time_span
from tracker.store.clicks import kept
from tracker.store.clicks.counts import REPORT_COUNTS, condition_of
from tracker.store.db import Connection
from tracker.store.locks import Lock
from tracker.store.time_span import SLOT_MILLIS, SLOTS_A_DAY, Span

_OF_OFFER = ("offer_id", "requested_offer_id", "advertiser_id", "brand_id")
_OF_AFFILIATE = ("affiliate_id", "aff_group_id")
_OF_VISITOR = ("country_code", "device_type")
_ALWAYS = ("status", "reason")


class Rollup(NamedTuple):
    """A table, and the columns of clicks that it has besides `day` (since 1970) and the sums."""

    table: str
    columns: tuple[str, ...]
    larger: str = ""
    """The rollup that it is added up from. It is added up from the clicks if this is empty."""
    is_answering: str = "is_built"
    """The condition of the days in rolled_up_day that it answers for."""


_WITH_VISITORS = "is_built AND has_visitors"
"""A worker of the release before builds days without the visitors' rollups."""
ROLLUPS = (
    Rollup("offer_day", (*_OF_OFFER, *_ALWAYS), "offer_affiliate_day"),
    Rollup("affiliate_day", (*_OF_AFFILIATE, *_ALWAYS), "offer_affiliate_day"),
    Rollup("visitor_day", (*_OF_VISITOR, *_ALWAYS), "offer_visitor_day", _WITH_VISITORS),
    Rollup("offer_affiliate_day", (*_OF_OFFER, *_OF_AFFILIATE, *_ALWAYS)),
    Rollup("offer_visitor_day", (*_OF_OFFER, *_OF_VISITOR, *_ALWAYS), "", _WITH_VISITORS),
    Rollup("affiliate_visitor_day", (*_OF_AFFILIATE, *_OF_VISITOR, *_ALWAYS), "", _WITH_VISITORS),
)

SUMS = ("gross", "clicks", "uniques")
"""The sums of a row."""
_DAY_MILLIS = SLOT_MILLIS * SLOTS_A_DAY

# The deltas that are not added up yet are few: of the last seconds.
_CHANGING = f"""
SELECT slot / {SLOTS_A_DAY} FROM quarter_delta CROSS JOIN LATERAL unnest(slots) AS each (slot)
WHERE dimension = 'all'"""  # noqa: S608
_BUILT = f"""
SELECT day FROM rolled_up_day WHERE {{}} AND day >= $1 AND day < $2
EXCEPT {_CHANGING}
ORDER BY day"""  # noqa: S608
_DUE = f"""
SELECT DISTINCT slot / {SLOTS_A_DAY} AS day FROM {REPORT_COUNTS}
WHERE quarters = {SLOTS_A_DAY} AND dimension = 'all' AND slot < $1 * {SLOTS_A_DAY}
    AND slot >= coalesce({kept.FIRST_DAY} - date '1970-01-01', 0) * {SLOTS_A_DAY}
EXCEPT SELECT day FROM rolled_up_day WHERE {_WITH_VISITORS}
EXCEPT {_CHANGING}
ORDER BY day DESC"""  # noqa: S608

_LACKS = f"""
SELECT EXISTS (
    (SELECT slot / {SLOTS_A_DAY} FROM {REPORT_COUNTS}
     WHERE quarters = {SLOTS_A_DAY} AND dimension = 'all'
        AND slot >= $1 * {SLOTS_A_DAY} AND slot < $2 * {SLOTS_A_DAY}
     GROUP BY slot HAVING sum(gross) <> 0)
    EXCEPT ({_BUILT.format(_WITH_VISITORS)}))"""  # noqa: S608

FORGET_CHANGED = f"""
DELETE FROM rolled_up_day WHERE day IN (SELECT slot / {SLOTS_A_DAY} FROM {{}})"""  # noqa: S608
"""SQL: the days of the slots of a relation must be built again."""

_BEGIN = """
INSERT INTO rolled_up_day (day, is_built) VALUES ($1, false)
ON CONFLICT (day) DO UPDATE SET is_built = false, has_visitors = false"""
_END = "UPDATE rolled_up_day SET is_built = true, has_visitors = true WHERE day = $1 RETURNING day"
"""It fails if deltas of the day were added up since the snapshot, and matches nothing if just before."""


def covering(columns: AbstractSet[str]) -> Rollup | None:
    """The smallest rollup with some columns."""
    return next((rollup for rollup in ROLLUPS if columns <= set(rollup.columns)), None)


async def days_of(connection: Connection, rollup: Rollup, span: Span) -> list[Span]:
    """The runs of days of a span of whole days that a rollup answers for, in order."""
    runs: list[Span] = []
    days = (span.low // _DAY_MILLIS, span.high // _DAY_MILLIS)
    for (day,) in await connection.fetch(_BUILT.format(rollup.is_answering), *days):
        low = day * _DAY_MILLIS
        if runs and runs[-1].high == low:
            low = runs.pop().low
        runs.append(Span(low, (day + 1) * _DAY_MILLIS))
    return runs


async def lacks(connection: Connection, span: Span) -> bool:
    """Whether some rollup does not answer for a day with clicks of a span of whole days."""
    days = (span.low // _DAY_MILLIS, span.high // _DAY_MILLIS)
    return bool(await connection.fetchval(_LACKS, *days))


def of_clicks(rollup: Rollup) -> str:
    """A query of a day's rows, from the clicks. Its parameters from $2 on are the day's hashes."""
    columns = ", ".join(rollup.columns)
    sums = ", ".join(f"count(*) FILTER (WHERE {condition_of(name)}) AS {name}" for name in SUMS)
    return f"""
    SELECT {columns}, {sums} FROM click
    WHERE hash >= $2::uuid AND hash < $3::uuid AND {condition_of("gross")} GROUP BY {columns}"""  # noqa: S608


def _of_larger(rollup: Rollup) -> str:
    """The same, from the rows of the larger rollup."""
    columns = ", ".join(rollup.columns)
    sums = ", ".join(f"sum({name})::bigint" for name in SUMS)
    return f"SELECT {columns}, {sums} FROM {rollup.larger} WHERE day = $1 GROUP BY {columns}"  # noqa: S608


async def build_missing(connection: Connection, today: date | None = None) -> int:
    """Build the finished days that are not built, the latest first. Returns how many."""
    if not await locks.try_to_take(connection, Lock.ROLLUPS):
        return 0
    try:
        end = time_span.number_of(today or datetime.now(UTC).date())
        return sum([await build(connection, row["day"]) for row in await connection.fetch(_DUE, end)])
    finally:
        await locks.release(connection, Lock.ROLLUPS)


async def build(connection: Connection, day: int) -> bool:
    """Build the rows of a day (since 1970). False if its clicks changed meanwhile."""
    await connection.execute(_BEGIN, day)
    try:
        async with connection.transaction(isolation="repeatable_read"):
            for rollup in ROLLUPS:
                await connection.execute(f"DELETE FROM {rollup.table} WHERE day = $1", day)  # noqa: S608
            for rollup in sorted(ROLLUPS, key=lambda rollup: rollup.larger):  # those of clicks go first
                if rollup.larger:
                    await _insert(connection, rollup, _of_larger(rollup), day)
                else:
                    await _insert(connection, rollup, of_clicks(rollup), day, *hashes_of(day))
            return await connection.fetchval(_END, day) is not None
    except asyncpg.SerializationError:
        return False


async def _insert(connection: Connection, rollup: Rollup, rows: str, *values: object) -> None:
    columns = ", ".join((*rollup.columns, *SUMS))
    statement = f"INSERT INTO {rollup.table} (day, {columns}) SELECT $1, * FROM ({rows}) AS each"  # noqa: S608
    await connection.execute(statement, *values)


def hashes_of(day: int) -> tuple[str, str]:
    """The bounds of a day's hashes."""
    return first_hash_at(day * _DAY_MILLIS), first_hash_at((day + 1) * _DAY_MILLIS)
