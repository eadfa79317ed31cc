"""From which day (UTC) on the rows of clicks are kept. Retention drops earlier rows, and their counts stay.

A click of a dropped day that comes late fits no partition but click_default, and a constraint there refuses
it. So no writer stores it, and no writer has to ask.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time

from tracker.domain.click_id import first_hash_at
from tracker.store.db import Connection, Pool
from tracker.store.time_span import Span

CONSTRAINT = "clicks_of_that_day_are_not_kept_any_more"
"""The constraint's name. It is in the reason of dead letters."""

FIRST_DAY = "(SELECT first_day FROM kept_days)"
"""SQL: the first day that is kept. Null: all are."""


async def first_day(source: Connection | Pool) -> date | None:
    """The first day that is kept. None: all are."""
    day: date | None = await source.fetchval(f"SELECT {FIRST_DAY}")
    return day


async def since(source: Connection | Pool) -> int:
    """The first millisecond (Unix) that is kept. 0: all are."""
    day = await first_day(source)
    return 0 if day is None else millis_at(day)


async def is_kept(connection: Connection, day: date) -> bool:
    """Whether the rows of a day are kept."""
    first = await first_day(connection)
    return first is None or day >= first


def millis_at(day: date) -> int:
    """The first millisecond (Unix) of a day."""
    return int(datetime.combine(day, time(), UTC).timestamp() * 1000)


def hash_at(day: date) -> str:
    """The first hash of a day."""
    return first_hash_at(millis_at(day))


def within(span: Span, kept_since: int) -> Span:
    """The part of a span whose rows are kept."""
    low = max(span.low, kept_since)
    return Span(low, max(span.high, low))


async def begin_at(connection: Connection, day: date) -> None:
    """Keep rows from a day on. Call it in the transaction that drops the partitions before it.

    Raises:
        asyncpg.CheckViolationError: click_default has earlier rows.
    """
    await connection.execute(
        f"ALTER TABLE click_default DROP CONSTRAINT IF EXISTS {CONSTRAINT},"
        f" ADD CONSTRAINT {CONSTRAINT} CHECK (hash >= '{hash_at(day)}')"
    )
    await connection.execute("UPDATE kept_days SET first_day = $1", day)
