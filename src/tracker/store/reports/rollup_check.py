"""Compares the rollups with the clicks, day by day, and builds wrong days again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date

from tracker.store import time_span
from tracker.store.clicks import kept
from tracker.store.clicks.recount import Difference
from tracker.store.db import Connection
from tracker.store.reports import rollups
from tracker.store.reports.rollups import ROLLUPS, SUMS, Rollup
from tracker.store.time_span import SLOT_MILLIS, SLOTS_A_DAY, Span

_DAY_MILLIS = SLOT_MILLIS * SLOTS_A_DAY


def _compare(rollup: Rollup) -> str:
    # Texts of rows, because a full join cannot compare columns that may be null.
    key = f"row({', '.join(rollup.columns)})::text AS key"
    values = ", ".join(f"('{name}', stored.{name}, recounted.{name})" for name in SUMS)
    return f"""
SELECT measure || ' of {rollup.table}', key, $1::bigint * {_DAY_MILLIS}, said, found
FROM (SELECT {key}, {", ".join(SUMS)} FROM {rollup.table} WHERE day = $1) AS stored
FULL JOIN (
    SELECT {key}, {", ".join(SUMS)} FROM ({rollups.of_clicks(rollup)}) AS each
) AS recounted USING (key)
CROSS JOIN LATERAL (VALUES {values}) AS of (measure, said, found)
WHERE said IS DISTINCT FROM found ORDER BY 1, key
"""  # noqa: S608


async def days(connection: Connection, first: date, last: date) -> list[date]:
    """The days (UTC) from `first` to `last` that rollups answer for."""
    rows = await connection.fetch("SELECT day FROM rolled_up_day WHERE is_built")
    found = time_span.dates(row["day"] for row in rows)
    return sorted(day for day in found if first <= day <= last)


async def differences(connection: Connection, day: date) -> AsyncIterator[Difference]:
    """The wrong sums of a day, if rollups answer for it and its rows are kept."""
    if not await kept.is_kept(connection, day):
        return
    number = time_span.number_of(day)
    low = number * _DAY_MILLIS
    async with connection.transaction(isolation="repeatable_read"):
        for rollup in ROLLUPS:
            if await rollups.days_of(connection, rollup, Span(low, low + _DAY_MILLIS)):
                async for row in connection.cursor(_compare(rollup), number, *rollups.hashes_of(number)):
                    yield Difference(*row)


async def correct(connection: Connection, day: date) -> int:
    """Build a wrong day again, and return how many sums were wrong."""
    wrong = sum([1 async for _ in differences(connection, day)])
    if wrong:
        await rollups.build(connection, time_span.number_of(day))
    return wrong
