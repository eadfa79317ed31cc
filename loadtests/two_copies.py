"""Measure what TRACKER_COPIES=2 costs: calls to a Valkey that wait for its replica, and calls that do not.

Both servers run on this machine. So the way to the replica takes no time, and its work takes the same cores.
Rounds take turns. The best of each figure counts, because neighbours only make it worse. Exit code 0: it was
measured; 2: it could not be.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import uvloop

from loadtests.bench import cpu_of
from loadtests.memory import first_clicks
from loadtests.subjects import CannotMeasure
from tests.integration.replicas import Pair, a_pair
from tracker.errors import CannotStartError
from tracker.stream.appender import Appender, Lane
from tracker.stream.record import Entry

_BATCH = 32
_DAY = 86_400_000
_MICROS = 1_000_000
_PATIENCE = 2.0
_WIDTHS = "{:10}{:>12}{:>9}{:>9}{:>12}{:>12}{:>12}"


class Round(NamedTuple):
    """Batches a second, milliseconds of one, and µs of CPU that each process spent on one."""

    rate: float
    p50: float
    p99: float
    primary: float
    replica: float
    edge: float


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.two_copies", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=3, help="of each kind (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a round (%(default)s)")
    chosen = parser.parse_args(argv)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_measure(max(chosen.rounds, 1), max(chosen.seconds, 0.1)))
    except (CannotMeasure, CannotStartError, TimeoutError, KeyboardInterrupt) as error:
        print(f"two_copies: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2
    return 0


async def _measure(rounds: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory(prefix="tracker-copies-") as directory:
        async with a_pair(Path(directory)) as pair:
            batch = next(first_clicks(_BATCH, 1_800_000_000_000 // _DAY * _DAY, _DAY))
            measured: dict[int, list[Round]] = {1: [], 2: []}
            for _ in range(rounds):
                for copies, those in measured.items():
                    those.append(await _round(pair, batch, copies, seconds))
    print(f"batches of {_BATCH} clicks, one call at a time; the best of {rounds} rounds of {seconds:g} s")
    print(_WIDTHS.format("copies", "batches/s", "p50 ms", "p99 ms", "primary µs", "replica µs", "edge µs"))
    for copies, those in measured.items():
        rates, *costs = zip(*those, strict=True)
        print(_WIDTHS.format(copies, f"{max(rates):.0f}", *(f"{min(cost):.2f}" for cost in costs)))


async def _round(pair: Pair, batch: list[Entry], copies: int, seconds: float) -> Round:
    appender, lane = Appender(pair.primary.url, copies=copies), Lane()
    pids = (pair.primary.pid, pair.replica.pid, os.getpid())
    try:
        await appender.append(lane, batch, _PATIENCE)  # opens the connection
        before, until, times = [cpu_of(pid) for pid in pids], monotonic() + seconds, list[float]()
        while (began := monotonic()) < until:
            lane.next()
            receipt = await appender.append(lane, batch, _PATIENCE)
            times.append(monotonic() - began)
            if not receipt.is_copied:
                raise CannotMeasure("the replica does not keep up")
        spent = [cpu_of(pid) - start for pid, start in zip(pids, before, strict=True)]
    finally:
        await appender.close()
        await pair.primary.ask("DEL", "clicks:{0}")
    times.sort()
    millis = (1000 * times[len(times) * share // 100] for share in (50, 99))
    return Round(len(times) / seconds, *millis, *(_MICROS * cpu / len(times) for cpu in spent))


if __name__ == "__main__":
    sys.exit(main())
