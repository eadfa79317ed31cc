"""Counts the clicks again, day by day, and corrects click_count, click_minute and report_count.

Clicks and their counts are committed together, so they agree in every snapshot, deltas included. A
difference in one snapshot is an error, and stays the same while writers add clicks. So a wrong count is
corrected by its difference. Writers do not wait.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from tracker.domain.click_id import first_hash_at
from tracker.store import adding_up, locks, time_span
from tracker.store.clicks import counts as click_counts
from tracker.store.clicks import kept, partitions
from tracker.store.clicks.deltas import adding
from tracker.store.db import Connection

_DAY_MILLIS = 86_400_000
_SLOTS_A_DAY = time_span.SLOTS_A_DAY
_MINUTES_A_DAY = 1440

_DAYS = f"""
SELECT DISTINCT slot / {_SLOTS_A_DAY} AS day FROM {click_counts.CLICK_COUNTS}
UNION SELECT minute / {_MINUTES_A_DAY} FROM {click_counts.MINUTE_COUNTS}
UNION SELECT slot / {_SLOTS_A_DAY} FROM {click_counts.REPORT_COUNTS}
"""  # noqa: S608
# Partitions are made ahead, and a month's has days before its first click.
_ONE_CLICK = "SELECT hash FROM click WHERE hash >= $1 AND hash < $2 LIMIT 1"

# A row of zeros is as good as none: a click was taken back, and its delta is not added up yet.
_WRONG = f"""
WITH clicks AS NOT MATERIALIZED (
    SELECT {click_counts.COUNTED} FROM click WHERE hash >= $1 AND hash < $2
), quarters AS ({click_counts.quarters_of("clicks")}
), wrong_counts AS (
    SELECT dimension, key, slot, stored.clicks AS said, recounted.clicks AS found
    FROM ({click_counts.counts_of("quarters")}) AS recounted
    FULL JOIN (
        SELECT dimension, key, slot, sum(clicks)::bigint AS clicks FROM {click_counts.CLICK_COUNTS}
        WHERE slot >= $3 AND slot < $4 GROUP BY dimension, key, slot HAVING sum(clicks) <> 0
    ) AS stored USING (dimension, key, slot)
    WHERE stored.clicks IS DISTINCT FROM recounted.clicks
), wrong_minutes AS (
    SELECT minute, stored.stored AS said, recounted.stored AS found
    FROM ({click_counts.minutes_of("clicks")}) AS recounted
    FULL JOIN (
        SELECT minute, sum(stored)::bigint AS stored FROM {click_counts.MINUTE_COUNTS}
        WHERE minute >= $5 AND minute < $6 GROUP BY minute HAVING sum(stored) <> 0
    ) AS stored USING (minute)
    WHERE stored.stored IS DISTINCT FROM recounted.stored
), wrong_reports AS (
    SELECT quarters, dimension, key, slot, measure, said, found
    FROM ({click_counts.reports_of("quarters")}) AS recounted
    FULL JOIN (
        SELECT quarters, dimension, key, slot, sum(gross)::bigint AS gross, sum(clicks)::bigint AS clicks,
               sum(uniques)::bigint AS uniques
        FROM {click_counts.REPORT_COUNTS} WHERE slot >= $3 AND slot < $4
        GROUP BY quarters, dimension, key, slot HAVING (sum(gross), sum(clicks), sum(uniques)) <> (0, 0, 0)
    ) AS stored USING (quarters, dimension, key, slot)
    CROSS JOIN LATERAL (VALUES
        ('gross', stored.gross, recounted.gross),
        ('clicks', stored.clicks, recounted.clicks),
        ('uniques', stored.uniques, recounted.uniques)
    ) AS of (measure, said, found)
    WHERE said IS DISTINCT FROM found
)"""  # noqa: S608

_COMPARE = f"""{_WRONG}
SELECT replace(dimension, '{click_counts.A_DAY}', ', a day') AS dimension, key,
       slot * {time_span.SLOT_MILLIS}::bigint AS millis, said, found
FROM wrong_counts
UNION ALL SELECT 'minute', 0, minute * 60000, said, found FROM wrong_minutes
ORDER BY millis, dimension, key
"""  # noqa: S608
_COMPARE_REPORTS = f"""{_WRONG}
SELECT measure || ' by ' || dimension || CASE quarters WHEN 1 THEN '' ELSE ', a day' END AS dimension, key,
       slot * {time_span.SLOT_MILLIS}::bigint AS millis, said, found
FROM wrong_reports ORDER BY millis, 1, key
"""  # noqa: S608


def _by_how_much(measure: str) -> str:
    wrong_by = "coalesce(found, 0) - coalesce(said, 0)"
    return f"coalesce(sum({wrong_by}) FILTER (WHERE measure = '{measure}'), 0)::bigint"


_MISSING_COUNTS = (
    "SELECT dimension, key, slot, coalesce(found, 0) - coalesce(said, 0) AS clicks FROM wrong_counts"
)
_MISSING_MINUTES = (
    "SELECT minute, coalesce(found, 0) - coalesce(said, 0) AS stored, 0 AS imported FROM wrong_minutes"
)
_MISSING_REPORTS = f"""
SELECT quarters, dimension, key, slot, {_by_how_much("gross")} AS gross, {_by_how_much("clicks")} AS clicks,
       {_by_how_much("uniques")} AS uniques
FROM wrong_reports GROUP BY quarters, dimension, key, slot"""  # noqa: S608
_MEND = f"""{_WRONG}, {adding(_MISSING_COUNTS, _MISSING_MINUTES, _MISSING_REPORTS)}
SELECT (SELECT count(*) FROM wrong_counts) + (SELECT count(*) FROM wrong_minutes)
    + (SELECT count(*) FROM wrong_reports)
"""  # noqa: S608
_FORGET_EMPTY_MINUTES = """
DELETE FROM click_minute WHERE (stored, imported) = (0, 0) AND minute >= $1 AND minute < $2"""
_FORGET_EMPTY_REPORTS = """
DELETE FROM report_count WHERE (gross, clicks, uniques) = (0, 0, 0) AND slot >= $1 AND slot < $2"""
_FORGET_EMPTY = "DELETE FROM click_count WHERE clicks = 0 AND slot >= $1 AND slot < $2"


class Difference(NamedTuple):
    """A count that differs from the clicks, or a sum that differs from the conversions."""

    dimension: str
    """all, offer, affiliate, minute, or a report's such as "uniques by country". Days end in "…, a day"."""
    key: int | str  # the offer's or affiliate's id or 0, or a report's key
    millis: int  # start of its time
    said: int | Decimal | None  # None = no row
    found: int | Decimal | None
    unit: str = "clicks"  # or conversions, or a currency


async def begin(connection: Connection) -> None:
    """Prevent other corrections, and moves of rows between partitions, until this connection closes."""
    await locks.take(connection, locks.Lock.RECOUNT)
    await partitions.keep(connection)


async def days(connection: Connection, first: date = date.min, last: date = date.max) -> list[date]:
    """The days from `first` to `last` that have clicks or counts, except those whose rows are not kept."""
    kept_from = await kept.first_day(connection)
    first = first if kept_from is None else max(first, kept_from)
    counted = time_span.dates(row["day"] for row in await connection.fetch(_DAYS))
    maybe = await partitions.days(connection) - counted
    uncounted = {day for day in maybe if await connection.fetchval(_ONE_CLICK, *_hashes(day)) is not None}
    return sorted(day for day in counted | uncounted if first <= day <= last)


async def differences(connection: Connection, day: date) -> AsyncIterator[Difference]:
    """The wrong counts of a day. None of a day whose rows are not kept."""
    if not await kept.is_kept(connection, day):
        return
    async with connection.transaction():
        for compare in (_COMPARE, _COMPARE_REPORTS):
            async for row in connection.cursor(compare, *_hashes(day), *_slots(day), *_minutes(day)):
                yield Difference(*row)


async def correct(connection: Connection, day: date) -> int:
    """Correct the counts of a day, and return how many were wrong. Those of days without rows stay."""
    if not await kept.is_kept(connection, day):
        return 0
    async with adding_up.correcting(connection):
        wrong = int(await connection.fetchval(_MEND, *_hashes(day), *_slots(day), *_minutes(day)))
        if wrong:
            await connection.execute(_FORGET_EMPTY_MINUTES, *_minutes(day))
            await connection.execute(_FORGET_EMPTY_REPORTS, *_slots(day))
            await connection.execute(_FORGET_EMPTY, *_slots(day))
        return wrong


def _hashes(day: date) -> tuple[str, str]:
    low, high = _span(day, 1)
    return first_hash_at(low * _DAY_MILLIS), first_hash_at(high * _DAY_MILLIS)


def _slots(day: date) -> tuple[int, int]:
    return _span(day, _SLOTS_A_DAY)


def _minutes(day: date) -> tuple[int, int]:
    return _span(day, _MINUTES_A_DAY)


def _span(day: date, parts: int) -> tuple[int, int]:
    number = time_span.number_of(day)
    return number * parts, (number + 1) * parts
