"""Drain a long backlog at full speed: python -m loadtests.backlog [--clicks 5000000] [--writers 2].

Clicks are put on the stream by the real append script while no worker runs; then a real `tracker worker` is
started, and each tenth of them is told how fast it was stored and how much memory the worker has. With
`--writers 2` two workers then store as many clicks of one day, to tell whether they wait for each other.
It all happens in a temporary directory, which gets some 2 KB a click. Valkey takes 1 KB of memory for each.
Exit code 0: drained, each click stored once, within the limits; 1: a worker grew, or two disturb each other;
2: not measured.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from time import perf_counter, time
from typing import Any, NamedTuple

import asyncpg
import uvloop
from redis.asyncio import Redis

from loadtests.bench import cpu_of, cpu_of_family
from loadtests.memory import first_clicks
from loadtests.subjects import CannotMeasure, House, open_house, resident
from tracker.errors import CannotStartError
from tracker.stream.appender import Appender, Lane

MOST_GROWTH = 16 << 20
"""Bytes that a worker may have grown by between the first tenth of a backlog and its end."""
MOST_WAITING = 0.02
"""Share of several workers' time that may be spent waiting for locks."""
MOST_DEARER = 1.1
"""PostgreSQL's CPU a click with several workers, divided by that with one."""

_MIB = 1 << 20
_BATCH = 512
_PATIENCE = 30.0  # seconds
_PARTS = 10
_STALLED_SECONDS = 60.0
_LOG = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"
_WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tracker' AND wait_event_type = 'Lock'"
)
_LOOK_SECONDS = 0.02  # between looks for workers that wait


class Mark(NamedTuple):
    """How far a drain was at some moment."""

    seconds: float
    left: int
    memory: int  # bytes of the largest worker


class Drained(NamedTuple):
    """What a drain took."""

    growth: int  # bytes of the largest worker, after the first tenth
    postgres: float  # CPU microseconds a click
    waiting: float  # share of the workers' time in which they waited for locks


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.backlog", description=(__doc__ or "").partition(":")[0] + "."
    )
    parser.add_argument("--clicks", type=int, default=5_000_000, help="of the backlog (%(default)s)")
    parser.add_argument(
        "--writers", type=int, default=1, help="workers of the second drain (%(default)s: none)"
    )
    given = parser.parse_args(argv)
    clicks = max(given.clicks, _PARTS * _BATCH)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            alone = runner.run(_measure(clicks, 1))
            together = runner.run(_measure(clicks, given.writers)) if given.writers > 1 else alone
    except (CannotMeasure, CannotStartError, KeyboardInterrupt) as error:
        print(f"backlog: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2
    grown = max(alone.growth, together.growth)
    print(f"after the first tenth a worker grew by {grown / _MIB:.1f} MiB (at most {MOST_GROWTH // _MIB})")
    if together is alone:
        return int(grown > MOST_GROWTH)
    dearer = together.postgres / alone.postgres
    print(f"{given.writers} workers waited for locks {together.waiting:.1%} of their time", end=" ")
    print(f"(at most {MOST_WAITING:.0%})")
    print(f"PostgreSQL's CPU a click, {given.writers} workers ÷ one: {dearer:.2f} (at most {MOST_DEARER})")
    return int(grown > MOST_GROWTH or together.waiting > MOST_WAITING or dearer > MOST_DEARER)


async def _measure(clicks: int, writers: int) -> Drained:
    async with open_house() as house:
        print(f"putting {clicks:,} clicks on the stream …", flush=True)
        appended = await _fill(house, clicks)
        waiting = await house.stream_bytes()
        log_before, spent_before = await _told(house, _LOG), cpu_of_family(house.postgres.process.pid)
        workers = [
            await house.spawn("tracker", "worker", "--slot", str(slot), env=house.environ("tracker"))
            for slot in range(writers)
        ]
        pids = [worker.pid for worker in workers]
        looking = asyncio.create_task(_waiting_share(house, writers))
        marks = await _watch(house, pids, clicks)
        looking.cancel()
        waiting_share = await looking
        spent = sum(map(cpu_of, pids)), cpu_of_family(house.postgres.process.pid) - spent_before
        log = await _told(house, _LOG) - log_before
        stored = await _told(house, "SELECT count(*) FROM click")
    if stored != clicks:
        raise CannotMeasure(f"{clicks:,} clicks waited, and {stored:,} are stored")
    seconds = marks[-1].seconds
    print(f"{clicks:,} clicks stored, each once, in {seconds:.0f} s: {clicks / seconds:,.0f} a second")
    of_worker, of_postgres = (each / clicks * 1e6 for each in spent)
    print(f"CPU µs a click: {writers} worker(s) {of_worker:.1f}, PostgreSQL {of_postgres:.1f}")
    print(
        f"bytes a click: {waiting:,.0f} of Valkey's memory, {appended / clicks:,.0f} of its append-only "
        f"file, {float(log) / clicks:,.0f} of PostgreSQL's log"
    )
    growth = max(mark.memory for mark in marks) - marks[1].memory
    return Drained(growth, of_postgres, waiting_share)


async def _fill(house: House, clicks: int) -> int:
    """Put clicks of new visitors on the stream; returns the bytes that the append-only file took."""
    appender, lane = Appender(house.valkey.url), Lane()
    written = last = 0
    async with Redis.from_url(house.valkey.url) as client:
        for batch in first_clicks(clicks, int(time() * 1000), 1):
            await appender.append(lane, batch, _PATIENCE)
            lane.next()
            size = int((await client.info("persistence"))["aof_current_size"])
            written += max(size - last, 0)  # it is smaller after it was rewritten
            last = size
    await appender.close()
    return written


async def _told(house: House, statement: str) -> Any:
    connection = await asyncpg.connect(house.dsn("tracker"))
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def _waiting_share(house: House, workers: int) -> float:
    """Look until cancelled how many workers wait for locks. Returns the share of their time."""
    connection = await asyncpg.connect(house.dsn("tracker"))
    looks = waiting = 0
    try:
        while True:
            waiting += await connection.fetchval(_WAITING)
            looks += 1
            await asyncio.sleep(_LOOK_SECONDS)
    except asyncio.CancelledError:
        return waiting / max(looks, 1) / workers
    finally:
        connection.terminate()


async def _watch(house: House, pids: Sequence[int], clicks: int) -> list[Mark]:
    """A mark as the first click is stored, and one for each tenth of them."""
    while await house.backlog() == clicks:  # noqa: ASYNC110 - another process drains it
        await asyncio.sleep(0.02)
    begun = changed = perf_counter()
    marks = [Mark(0.0, await house.backlog(), max(map(resident, pids)))]
    left = marks[0].left
    while left:
        await asyncio.sleep(0.1)
        now, was, left = perf_counter(), left, await house.backlog()
        changed = now if left < was else changed
        if now - changed > _STALLED_SECONDS:
            raise CannotMeasure(f"{left:,} clicks are left, and none was stored for {_STALLED_SECONDS:.0f} s")
        if left <= clicks * (_PARTS - len(marks)) // _PARTS:
            marks.append(Mark(now - begun, left, max(map(resident, pids))))
            _tell(*marks[-2:])
    return marks


def _tell(before: Mark, now: Mark) -> None:
    rate = (before.left - now.left) / (now.seconds - before.seconds)
    print(f"{now.left:12,} left; {rate:8,.0f} a second; worker {now.memory / _MIB:.1f} MiB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
