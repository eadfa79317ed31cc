"""Daily partitions of the click table as ranges of the hash. Imported history has monthly ones.

A query without a time range searches each partition, so years of days would make it slow. A day's partition
exists before its clicks do. Rows outside every range (a clock ahead, a backfill, a spool drained late) go to
click_default. They move when their day's partition is created, because Postgres refuses a range with rows in
the DEFAULT partition.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from tracker.store import locks
from tracker.store.clicks import kept
from tracker.store.db import Connection
from tracker.store.locks import Lock

DAYS_AHEAD = 7

_DAY = "click_%Y%m%d"
_MONTH = "click_%Y%m"

_EXISTING = """
SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
WHERE inhparent = 'click'::regclass
"""
_STRAY_DAYS = "SELECT DISTINCT (click_time(hash) AT TIME ZONE 'UTC')::date FROM click_default"


async def create_ahead(connection: Connection, today: date | None = None) -> list[str]:
    """Create missing partitions from yesterday to DAYS_AHEAD days from now, and for rows in click_default.

    Returns the names of the created partitions.
    """
    today = today or datetime.now(UTC).date()
    days = {today + timedelta(days=ahead) for ahead in range(-1, DAYS_AHEAD + 1)}
    async with _creating(connection):
        return await _create_missing(connection, days | await _stray_days(connection))


async def create_history(connection: Connection, days: Collection[date]) -> None:
    """Create missing partitions of some days. Do not call it within a transaction.

    A past month without daily partitions gets one for the whole month.
    """
    this_month = datetime.now(UTC).date().replace(day=1)
    async with _creating(connection):
        there = await _days_there(connection)
        begun = {day.replace(day=1) for day in there}
        months = {day.replace(day=1) for day in days} - begun
        for month in sorted(month for month in months if month < this_month):
            await _create(connection, month.strftime(_MONTH), month, _next_month(month))
        await _create_missing(connection, days)


async def keep(connection: Connection) -> None:
    """Prevent the creation of partitions until this connection closes.

    Creation would wait for any open transaction that has read click_default, and later readers would wait
    behind it.
    """
    await locks.take(connection, Lock.PARTITIONS)


@asynccontextmanager
async def _creating(connection: Connection) -> AsyncIterator[None]:
    await locks.take(connection, Lock.PARTITIONS)
    try:
        yield
    finally:
        await locks.release(connection, Lock.PARTITIONS)


async def _stray_days(connection: Connection) -> set[date]:
    return {row[0] for row in await connection.fetch(_STRAY_DAYS)}


async def _create_missing(connection: Connection, days: Collection[date]) -> list[str]:
    missing = sorted(set(days) - await _days_there(connection))
    for day in missing:
        await _create(connection, name_of(day), day, day + timedelta(days=1))
    return [name_of(day) for day in missing]


class Partition(NamedTuple):
    """A partition of a day or a month."""

    name: str
    days: list[date]

    @property
    def end(self) -> date:
        """The day after its last one."""
        return self.days[-1] + timedelta(days=1)


async def all_of(connection: Connection) -> list[Partition]:
    """All partitions with days of their own, the oldest first."""
    names = {row[0] for row in await connection.fetch(_EXISTING)} - {"click_default"}
    return sorted((Partition(name, _days_of(name)) for name in names), key=lambda one: one.days[0])


async def days(connection: Connection) -> set[date]:
    """The days that have a partition, and the days of rows without one."""
    return await _days_there(connection) | await _stray_days(connection)


async def days_ahead(connection: Connection, today: date | None = None) -> int:
    """How many of the coming days in a row have a partition."""
    day, there = today or datetime.now(UTC).date(), await _days_there(connection)
    ahead = 0
    while day + timedelta(days=ahead + 1) in there:
        ahead += 1
    return ahead


def name_of(day: date) -> str:
    return day.strftime(_DAY)


async def _days_there(connection: Connection) -> set[date]:
    """The days that have a partition, their own or their month's."""
    return {day for partition in await all_of(connection) for day in partition.days}


def _days_of(name: str) -> list[date]:
    if len(name) == len("click_YYYYMMDD"):
        return [datetime.strptime(name, _DAY).replace(tzinfo=UTC).date()]
    month = datetime.strptime(name, _MONTH).replace(tzinfo=UTC).date()
    return [month + timedelta(days=number) for number in range((_next_month(month) - month).days)]


def _next_month(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


async def _create(connection: Connection, name: str, first: date, end: date) -> None:
    low, high = kept.hash_at(first), kept.hash_at(end)
    async with connection.transaction():
        # Before click_default, as a writer of late rows does, which locks the table and then inserts.
        await connection.execute("LOCK TABLE ONLY click IN SHARE UPDATE EXCLUSIVE MODE")
        # Writers wait here for the short time in which rows are in neither partition.
        await connection.execute("LOCK TABLE click_default IN SHARE ROW EXCLUSIVE MODE")
        await connection.execute(f"CREATE TABLE {name} (LIKE click INCLUDING DEFAULTS INCLUDING INDEXES)")
        await connection.execute(
            f"WITH moved AS (DELETE FROM click_default WHERE hash >= '{low}' AND hash < '{high}' RETURNING *)"  # noqa: S608
            f" INSERT INTO {name} SELECT * FROM moved"
        )
        await connection.execute(
            f"ALTER TABLE click ATTACH PARTITION {name} FOR VALUES FROM ('{low}') TO ('{high}')"
        )
