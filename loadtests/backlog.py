"""Drain a long backlog at full speed: python -m loadtests.backlog [--clicks 5000000].

Clicks are put on the stream by the real append script while no worker runs; then a real `tracker worker` is
started, and each tenth of them is told how fast it was stored and how much memory the worker has. It all
happens in a temporary directory, which gets some 2 KB a click, and Valkey takes 1 KB of memory for each.
Exit code 0: drained, each click stored once, in constant memory; 1: the worker grew; 2: not measured.
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

_MIB = 1 << 20
_BATCH = 512
_PATIENCE = 30.0  # seconds
_PARTS = 10
_STALLED_SECONDS = 60.0
_LOG = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"


class Mark(NamedTuple):
    """How far a drain was at some moment."""

    seconds: float
    left: int
    memory: int  # bytes of the worker


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.backlog", description=(__doc__ or "").partition(":")[0] + "."
    )
    parser.add_argument("--clicks", type=int, default=5_000_000, help="of the backlog (%(default)s)")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            grown = runner.run(_measure(max(parser.parse_args(argv).clicks, _PARTS * _BATCH)))
    except (CannotMeasure, CannotStartError, KeyboardInterrupt) as error:
        print(f"backlog: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2
    print(f"after the first tenth the worker grew by {grown / _MIB:.1f} MiB (at most {MOST_GROWTH // _MIB})")
    return int(grown > MOST_GROWTH)


async def _measure(clicks: int) -> int:
    async with open_house() as house:
        print(f"putting {clicks:,} clicks on the stream …", flush=True)
        appended = await _fill(house, clicks)
        waiting = await house.stream_bytes()
        log_before, spent_before = await _told(house, _LOG), cpu_of_family(house.postgres.process.pid)
        pid = (await house.spawn("tracker", "worker", env=house.environ("tracker"))).pid
        marks = await _watch(house, pid, clicks)
        spent = cpu_of(pid), cpu_of_family(house.postgres.process.pid) - spent_before
        log = await _told(house, _LOG) - log_before
        stored = await _told(house, "SELECT count(*) FROM click")
    if stored != clicks:
        raise CannotMeasure(f"{clicks:,} clicks waited, and {stored:,} are stored")
    seconds = marks[-1].seconds
    print(f"{clicks:,} clicks stored, each once, in {seconds:.0f} s: {clicks / seconds:,.0f} a second")
    print("CPU µs a click: worker {:.1f}, PostgreSQL {:.1f}".format(*(each / clicks * 1e6 for each in spent)))
    print(
        f"bytes a click: {waiting:,.0f} of Valkey's memory, {appended / clicks:,.0f} of its append-only "
        f"file, {float(log) / clicks:,.0f} of PostgreSQL's log"
    )
    return max(mark.memory for mark in marks) - marks[1].memory


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


async def _watch(house: House, pid: int, clicks: int) -> list[Mark]:
    """A mark as the first click is stored, and one for each tenth of them."""
    while await house.backlog() == clicks:  # noqa: ASYNC110 - another process drains it
        await asyncio.sleep(0.02)
    begun = changed = perf_counter()
    marks = [Mark(0.0, await house.backlog(), resident(pid))]
    left = marks[0].left
    while left:
        await asyncio.sleep(0.1)
        now, was, left = perf_counter(), left, await house.backlog()
        changed = now if left < was else changed
        if now - changed > _STALLED_SECONDS:
            raise CannotMeasure(f"{left:,} clicks are left, and none was stored for {_STALLED_SECONDS:.0f} s")
        if left <= clicks * (_PARTS - len(marks)) // _PARTS:
            marks.append(Mark(now - begun, left, resident(pid)))
            _tell(*marks[-2:])
    return marks


def _tell(before: Mark, now: Mark) -> None:
    rate = (before.left - now.left) / (now.seconds - before.seconds)
    print(f"{now.left:12,} left; {rate:8,.0f} a second; worker {now.memory / _MIB:.1f} MiB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
