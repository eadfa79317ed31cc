"""Days of clicks, and a database that keeps only some of them."""

from __future__ import annotations

from datetime import date, timedelta

from tests.factories.clicks import a_row
from tests.factories.clicks import store as store_rows
from tests.integration.stream_client import DAY, hash_at
from tracker.store import retention
from tracker.store.clicks import deltas, kept, partitions
from tracker.store.db import Connection
from tracker.store.reports import rollups
from tracker.store.retention import Step

FIRST = date(2026, 3, 1)
A_DAY = 24
"""Clicks of each day."""


async def store_days(connection: Connection, days: int) -> list[str]:
    """Store clicks of each hour of some days from FIRST on, in daily partitions. Returns their hashes."""
    rows = [
        a_row(
            hash=hash_at(kept.millis_at(FIRST) + day * DAY + hour * 3_600_000, 100 * day + hour),
            offer_id=3 + hour % 2,
            affiliate_id=513 + hour % 3,
            aff_sub=f"s{hour % 4}",
        )
        for day in range(days)
        for hour in range(A_DAY)
    ]
    await store_rows(connection, rows)
    await partitions.create_ahead(connection)
    await deltas.add_up(connection)
    return [row.hash for row in rows]


def day_at(number: int) -> date:
    return FIRST + timedelta(days=number)


async def drop_before(connection: Connection, day: date, *, is_trial: bool = False) -> list[Step]:
    """Drop the rows before a day, as housekeeping does."""
    await rollups.build_missing(connection)
    return [step async for step in retention.steps(connection, day, is_trial=is_trial, pause=_at_once)]


async def _at_once(_: float) -> None: ...
