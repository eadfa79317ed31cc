"""Measure what several partitions of one server cost: Valkey's CPU a click, beside that of one partition.

Two edges take turns, one with a single partition and one with several. Both get the same clicks: so many at a
time, of visitors that come again, and the next ones once all are answered. Each round gives a ratio, and the
median of the ratios counts. Exit code 0: it was measured; 2: it could not be.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import median
from time import monotonic
from typing import NamedTuple

import uvloop
from redis.asyncio import Redis

from loadtests.bench import cpu_of
from loadtests.subjects import CannotMeasure
from tests.factories.clicks import a_click, pending
from tracker.domain.click_id import Mint
from tracker.edge.record.identity import EdgeId
from tracker.edge.record.partitioned import PartitionedRecorder
from tracker.errors import CannotStartError
from tracker.processes.children import Claim
from tracker.processes.engines.engine import resolve
from tracker.processes.engines.valkey import start_valkey
from tracker.settings import Settings
from tracker.stream.record import millis_of_entry

_VISITORS = 1024
_MICROS = 1_000_000
_PATIENCE_MS = 10_000
_WIDTHS = "{:12}{:>12}{:>22}{:>22}"


class Round(NamedTuple):
    """Clicks a second, and µs of CPU that Valkey and this process spent on a click."""

    rate: float
    valkey: float
    edge: float


class Edge:
    """An edge's recorders, and the clicks that they get."""

    def __init__(self, settings: Settings, partitions: int, together: int) -> None:
        self.partitions = partitions
        self._mint = Mint()
        self._recorder = PartitionedRecorder(
            replace(settings, partitions=partitions), EdgeId(partitions, f"{partitions:016x}"), self._mint
        )
        chance = Random(1)
        high = [chance.getrandbits(48) << 16 for _ in range(_VISITORS)]  # names the bucket of a visitor
        self._visits = [a_click(visitor_key=key + number) for number, key in enumerate(high)]
        self._together, self._at = together, 0
        self.start, self.stop = self._recorder.start, self._recorder.stop

    async def warm_up(self) -> None:
        """Let each visitor come once. First clicks cost more."""
        for _ in range(0, len(self._visits), self._together):
            await self.record()

    async def record(self) -> int:
        """Record the next clicks, and wait until all are on disk. Returns their number."""
        visits = self._visits[self._at : self._at + self._together]
        self._at = (self._at + len(visits)) % len(self._visits)
        clicks = [pending(visit._replace(hash=self._mint.hash())) for visit in visits]
        batches = self._recorder.batches(clicks)
        await asyncio.gather(*(batch.recorder.record(batch.entries) for batch in batches))
        for batch in batches:
            batch.recorder.answered([millis_of_entry(entry) // 60_000 for entry in batch.entries])
        return len(visits)

    def check(self) -> None:
        if self._recorder.spooled:
            raise CannotMeasure("clicks went to the spool: the machine is too busy")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.partitions", description=(__doc__ or "").partition(":")[0] + "."
    )
    parser.add_argument("--partitions", type=int, default=8, help="of the second edge (%(default)s)")
    parser.add_argument("--clicks", type=int, default=32, help="at a time (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of each kind (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a round (%(default)s)")
    chosen = parser.parse_args(argv)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_measure(chosen.partitions, chosen.clicks, chosen.rounds, chosen.seconds))
    except (CannotMeasure, CannotStartError, TimeoutError, KeyboardInterrupt) as error:
        print(f"partitions: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2
    return 0


async def _measure(partitions: int, together: int, rounds: int, seconds: float) -> None:
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="tracker-partitions-"))
        os.chmod(directory, 0o755)  # noqa: S103 - root's Valkey runs as somebody else
        settings = resolve(Settings(data_dir=Path(directory), append_timeout=_PATIENCE_MS / 1000))
        claim = await Claim.take(settings.data_dir)
        stack.push_async_callback(claim.release)
        valkey = await start_valkey(settings, claim)
        stack.push_async_callback(valkey.stop)
        edges = [Edge(settings, number, together) for number in (1, partitions)]
        for edge in edges:
            await edge.start()
            stack.push_async_callback(edge.stop)
            await edge.warm_up()
        measured: list[list[Round]] = [[], []]
        for _ in range(rounds):
            for edge, those in zip(edges, measured, strict=True):
                those.append(await _round(edge, valkey.process.pid, seconds))
                await _empty(valkey.url)
    print(f"{together} clicks at a time, medians of {rounds} rounds of {seconds:g} s")
    print(_WIDTHS.format("partitions", "clicks/s", "Valkey, µs a click", "edge, µs a click"))
    for edge, those in zip(edges, measured, strict=True):
        rate, *costs = (median(each) for each in zip(*those, strict=True))
        print(_WIDTHS.format(edge.partitions, f"{rate:.0f}", *(f"{cost:.1f}" for cost in costs)))
    ratios = sorted(several.valkey / one.valkey for one, several in zip(*measured, strict=True))
    print(f"Valkey's CPU a click: {median(ratios):.2f} times as much ({ratios[0]:.2f} to {ratios[-1]:.2f})")


async def _round(edge: Edge, valkey: int, seconds: float) -> Round:
    pids = (valkey, os.getpid())
    before, clicks = [cpu_of(pid) for pid in pids], 0
    until = (began := monotonic()) + seconds
    while monotonic() < until:
        clicks += await edge.record()
    took = monotonic() - began
    costs = [_MICROS * (cpu_of(pid) - start) / clicks for pid, start in zip(pids, before, strict=True)]
    edge.check()
    return Round(clicks / took, *costs)


async def _empty(url: str) -> None:
    async with Redis.from_url(url) as client:
        async for key in client.scan_iter("clicks:*"):
            await client.xtrim(key, maxlen=0, approximate=False)


if __name__ == "__main__":
    sys.exit(main())
