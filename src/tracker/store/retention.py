"""Drops the rows of old clicks by whole partitions, the oldest first. Their counts stay.

A partition goes if all its days are old enough, their counts agree with their clicks, and reports have what
they add up from clicks. Days go in their order, so one date says which rows are kept (store.clicks.kept). A
day that must stay holds back all later ones.

PostgreSQL cannot detach a partition concurrently beside a DEFAULT partition. So the table is locked for the
few milliseconds of the drop. All others wait for that lock at most LOCK_SECONDS, and it is tried again later.
"""

from __future__ import annotations

from asyncio import sleep
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from types import ModuleType
from typing import NamedTuple

import asyncpg

from tracker.store import locks
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Table
from tracker.store.clicks import kept, partitions, recount
from tracker.store.clicks.counts import CLICK_COUNTS
from tracker.store.clicks.partitions import Partition
from tracker.store.db import Connection, Pool
from tracker.store.locks import Lock
from tracker.store.reports import rollup_check, rollups, sub_id_pieces
from tracker.store.time_span import SLOTS_A_DAY, Span, number_of

OF_ROWS: tuple[ModuleType, ...] = (recount, rollup_check, sub_id_pieces)
"""The counts that are made of rows of clicks. Each compares, and corrects, a day."""

LOCK_SECONDS = 0.1
"""The longest that a try to drop a partition keeps writers and readers waiting."""

TRIES = 20
"""Tries to get the lock, before the partition is left for the next round."""

MOST_A_ROUND = 8
"""Partitions of one round of housekeeping. The first time there may be years of days."""

_PAUSE_SECONDS = 0.5
_WRONG_AGAIN = timedelta(days=1)  # counting a day again takes a while
_BUSY_AGAIN = timedelta(0)

_TABLE = Table("dropped_partition", ("name", "first_day", "days", "clicks", "bytes"), key="name")
_AUTHOR = Author(None, "retention")

_CLICKS = f"""
SELECT coalesce(sum(clicks), 0)::bigint FROM {CLICK_COUNTS}
WHERE dimension = 'all_day' AND key = 0 AND slot >= $1 * {SLOTS_A_DAY} AND slot < $2 * {SLOTS_A_DAY}
"""  # noqa: S608
_BYTES = "SELECT pg_total_relation_size($1::text::regclass)"
_NOTE = """
INSERT INTO dropped_partition (name, first_day, days, clicks, bytes) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) DO UPDATE SET clicks = dropped_partition.clicks + excluded.clicks,
    bytes = dropped_partition.bytes + excluded.bytes, dropped_at = excluded.dropped_at
"""
_HOLD = """
UPDATE kept_days SET held_since = CASE held_day WHEN $1 THEN held_since ELSE clock_timestamp() END,
    held_day = $1, held_why = $2, held_until = clock_timestamp() + $3::interval, is_wrong = $4
"""
_LET_GO = """
UPDATE kept_days SET (held_day, held_why, held_since, held_until, is_wrong) = (NULL, '', NULL, NULL, false)
WHERE held_day IS NOT NULL
"""
_HELD = """
SELECT held_day, held_why, is_wrong OR held_since < clock_timestamp() - interval '1 day',
    held_until > clock_timestamp()
FROM kept_days WHERE held_day IS NOT NULL
"""
_DROPPED = "SELECT coalesce(sum(days), 0)::bigint, coalesce(sum(bytes), 0)::bigint FROM dropped_partition"

# A role without pg_monitor sees of walsenders only that they are there. A replay_lsn is null for programs
# that only keep the log.
_STANDBYS = """
SELECT coalesce(nullif(application_name, ''), client_addr::text, pid::text) AS name,
    state IS NULL AS is_hidden, pg_wal_lsn_diff($1::text::pg_lsn, replay_lsn)::bigint AS behind
FROM pg_stat_replication
WHERE state IS NULL OR state <> 'backup' AND replay_lsn < $1::text::pg_lsn
ORDER BY behind DESC NULLS FIRST LIMIT 1
"""
_LSN = "SELECT pg_current_wal_lsn()::text"
_BASE_BACKUP = "SELECT EXISTS (SELECT FROM pg_stat_progress_basebackup)"

_BUSY = "a backup, a rebuild of counts or another round of housekeeping needs the partitions"


class Step(NamedTuple):
    """What became of a partition, or what would become of it."""

    name: str
    first_day: date
    days: int
    clicks: int  # by their counts
    bytes: int  # with indexes
    why: str = ""  # why it stays. Empty: it goes
    is_wrong: bool = False  # its counts differ from its clicks


class Held(NamedTuple):
    """A day that cannot be dropped, and holds back all later ones."""

    day: date
    why: str
    needs_operator: bool  # its counts differ, or it has been held for a day
    is_waiting: bool  # the next round does not look at it yet


class Dropped(NamedTuple):
    """What is dropped so far."""

    days: int
    bytes: int


def end_of(keep_days: int, today: date | None = None) -> date:
    """The first day that is to be kept, of a number of whole days before today (UTC)."""
    return (today or datetime.now(UTC).date()) - timedelta(days=keep_days)


async def due(connection: Connection, end: date) -> list[Partition]:
    """The partitions whose days are all before a day, the oldest first."""
    return [one for one in await partitions.all_of(connection) if one.end <= end]


async def held(source: Connection | Pool) -> Held | None:
    row = await source.fetchrow(_HELD)
    return row and Held(*row)


async def dropped(source: Connection | Pool) -> Dropped:
    return Dropped(*await source.fetchrow(_DROPPED))


async def steps(
    connection: Connection,
    end: date,
    most: int | None = None,
    *,
    is_trial: bool = False,
    author: Author = _AUTHOR,
    pause: Callable[[float], Awaitable[None]] = sleep,
) -> AsyncIterator[Step]:
    """Drop the partitions before a day, at most some, each in a transaction. It ends at the first that stays.

    `is_trial`: only look. Then it goes on, so that all wrong days are named.
    """
    for one in (await due(connection, end))[:most]:
        async with _alone(connection, Lock.PARTITIONS) as is_ours:
            step = await _look(connection, one) if is_ours else await _described(connection, one, _BUSY)
            if not (step.why or is_trial):
                step = await _drop(connection, one, step, author, pause)
        if not is_trial:
            await _remember(connection, step)
        yield step
        if step.why and not is_trial:
            return


async def _remember(connection: Connection, step: Step) -> None:
    if step.why:
        again = _WRONG_AGAIN if step.is_wrong else _BUSY_AGAIN
        await connection.execute(_HOLD, step.first_day, step.why, again, step.is_wrong)
    else:
        await connection.execute(_LET_GO)


async def _described(
    connection: Connection, one: Partition, why: str = "", *, is_wrong: bool = False
) -> Step:
    clicks = await connection.fetchval(_CLICKS, number_of(one.days[0]), number_of(one.end))
    size = await connection.fetchval(_BYTES, one.name)
    return Step(one.name, one.days[0], len(one.days), clicks, size, why, is_wrong)


async def _look(connection: Connection, one: Partition) -> Step:
    for day in one.days:
        if wrong := sum([1 for of in OF_ROWS async for _ in of.differences(connection, day)]):
            why = (
                f"{wrong} of its counts differ from its clicks: tracker rebuild-stats --from {day} --to {day}"
            )
            return await _described(connection, one, why, is_wrong=True)
    return await _described(connection, one, await _needed_by(connection, one))


async def _needed_by(connection: Connection, one: Partition) -> str:
    """Who needs the rows of a partition still. Empty: nobody."""
    if await rollups.lacks(connection, Span(kept.millis_at(one.days[0]), kept.millis_at(one.end))):
        return "its sums by offer and affiliate are not made yet: a worker makes them"
    if any([await sub_id_pieces.due(connection, day, 0) for day in one.days]):
        return "its sums by sub id are not made yet: a worker makes them"
    if await connection.fetchval(_BASE_BACKUP):
        return "a base backup is under way"
    return await _standby(connection)


async def _standby(connection: Connection) -> str:
    """Which standby has not replayed all that was written so far."""
    written = await connection.fetchval(_LSN)
    for _ in range(TRIES):
        found = await connection.fetchrow(_STANDBYS, written)
        if found is None or found["is_hidden"]:
            break
        await sleep(_PAUSE_SECONDS)
    if found is None:
        return ""
    if found["is_hidden"]:
        return "a standby's progress is hidden from this user: GRANT pg_monitor TO it"
    return f"standby {found['name']} is {found['behind']:,} bytes behind"


async def _drop(
    connection: Connection,
    one: Partition,
    step: Step,
    author: Author,
    pause: Callable[[float], Awaitable[None]],
) -> Step:
    why = ""
    for number in range(TRIES):
        if number:
            await pause(_PAUSE_SECONDS)
        why = await _try_to_drop(connection, one, step, author)
        if not why:
            break
    return step._replace(why=why)


async def _try_to_drop(connection: Connection, one: Partition, step: Step, author: Author) -> str:
    """Drop a partition in one transaction. Returns why not, or nothing.

    Those who add up old days begin under their locks and see that a day is not kept.
    """
    async with _alone(connection, Lock.ROLLUPS, Lock.SUB_IDS) as is_ours:
        if not is_ours:
            return "sums of reports are being made"
        await sub_id_pieces.forget_changed(connection)
        if why := await _needed_by(connection, one):  # a late click may have come meanwhile
            return why
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS * 1000:.0f}ms'")
                # The audit trail is in the order of commits.
                await connection.execute("SELECT pg_advisory_xact_lock($1)", Lock.CATALOGUE)
                await connection.execute("LOCK TABLE ONLY click IN ACCESS EXCLUSIVE MODE")
                await kept.begin_at(connection, one.end)
                await connection.execute(f"DROP TABLE {one.name}")
                await connection.execute(_NOTE, *step[:5])
                told = {**step._asdict(), "first_day": str(step.first_day)}
                after = {name: told[name] for name in _TABLE.columns}
                await edit.note(connection, author, _TABLE, f"dropped-days/{step.first_day}", None, after)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            return "others read or write clicks without a pause: a long report, an export, or pg_dump"
        except asyncpg.CheckViolationError:
            return "older clicks have come, which have no partition yet: housekeeping makes one"
    return ""


@asynccontextmanager
async def _alone(connection: Connection, *wanted: Lock) -> AsyncIterator[bool]:
    """Whether some locks could be had. They are held in the context."""
    async with AsyncExitStack() as taken:
        for lock in wanted:
            if not await locks.try_to_take(connection, lock):
                yield False
                return
            taken.push_async_callback(locks.release, connection, lock)
        yield True
