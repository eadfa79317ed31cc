"""Measure what two cores carry from the click to the table: the load that the writer keeps up with.

Edge, Valkey, worker and PostgreSQL share the machine's cores with a load generator of constant rate, whose
own CPU is deducted. Exit code 0: measured; 2: it could not be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import asyncpg

from loadtests import sizing
from loadtests.bench import Load, cpu_of, cpu_of_family
from loadtests.contenders import BARE, HERE, OURS, CannotMeasure, Contender, Cores, House
from tracker.children import CannotStart

BUDGET = 0.4
SHARES = (0.5, 0.7, 0.9)
"""Parts of the load that is kept up with at which latencies are told."""
_TRIAL_SECONDS = 8.0
_LESS = 0.92  # what is tried after a load that was too much
_MOST_TRIALS = 12
_LAG_SECONDS = 1.0  # a writer keeps up that is no more than so much behind
_DRAINED_SECONDS = 120.0
_ENOUGH = 200  # clicks on the stream, to tell what each takes there
_LOG = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"
_STORED = """
SELECT (SELECT count(*) FROM click),
    (SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'click'::regclass)
"""


class Bytes(NamedTuple):
    """Of one click."""

    stream: float
    table: float
    wal: float


class Run(NamedTuple):
    """A while of constant load."""

    rate: float  # asked for, clicks a second
    told: dict[str, float]  # as loadtests.steady prints it
    left: int  # clicks on the stream at its end
    cpu: dict[str, float]  # µs a click, by process

    @property
    def is_kept_up_with(self) -> bool:
        late = self.told["seconds"] * self.rate > self.told["requests"] * 1.05
        return not self.told["failed"] and not late and self.left <= self.rate * _LAG_SECONDS

    @property
    def generator_cores(self) -> float:
        return self.told["cpu"] / self.told["seconds"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.end_to_end", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="that a load has to last (%(default)s)")
    try:
        print(asyncio.run(_measure(parser.parse_args(argv).seconds)))
    except (CannotMeasure, CannotStart, TimeoutError, KeyboardInterrupt) as error:
        print(f"end-to-end: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2
    return 0


async def _measure(seconds: float) -> str:
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="tracker-bench-"))
        os.chmod(directory, 0o755)  # noqa: S103 - root's engines run as somebody else
        house = House(stack, Path(directory), Cores(None, None))
        await house.start_engines()
        await house.start_pair()
        trial = Trial(house)
        await trial.begin()
        bare = await trial.bare_rate()
        first = await trial.run(bare * BUDGET, _TRIAL_SECONDS)
        kept = await trial.most(_guess(first), seconds)
        levels = [await trial.run(kept.rate * share, _TRIAL_SECONDS * 2) for share in SHARES]
        bytes_ = await trial.prove()
    said = report(bare, kept, levels, os.cpu_count() or 1)
    writer = kept.cpu["worker"] + kept.cpu["PostgreSQL"]
    taken = sizing.Taken(kept.cpu["edge"], kept.cpu["Valkey"], writer, *bytes_)
    return f"{said}\n\n{_bytes(bytes_)}\n{sizing.table(taken)}"


def _guess(run: Run) -> float:
    """What all cores together would carry, by what a click costs."""
    cores = os.cpu_count() or 1
    per_click = sum(run.cpu.values()) / 1e6 + run.told["cpu"] / run.told["requests"]
    return cores / per_click


class Trial:
    """Loads on one house, one after the other."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._first = 0
        self._answered = 0
        by_name = {contender.name: contender for contender in house.contenders}
        self._bare, self._ours = by_name[BARE], by_name[OURS]
        self._stream_bytes = 0.0

    async def begin(self) -> None:
        """Note how far PostgreSQL's log is: what it was begun with is no click's."""
        connection = await asyncpg.connect(self._house.dsn("tracker"))
        try:
            self._log_before = await connection.fetchval(_LOG)
        finally:
            await connection.close()

    async def bare_rate(self) -> float:
        """Requests a second a bare uvicorn answers with one core, at full load: each costs least then."""
        load = Load("own", Cores(None, None))
        await load.run(self._bare, 1.0)
        return 1e6 / (await load.measure(self._bare, 5.0)).cpu

    async def run(self, rate: float, seconds: float) -> Run:
        before = self._cpu()
        told = await self._steady(self._ours, rate, seconds)
        left = await self._house.backlog()
        if left > _ENOUGH:
            self._stream_bytes = await self._house.stream_bytes()
        after = self._cpu()
        self._answered += int(told["requests"] - told["failed"])
        await self._drained()
        cpu = {name: (after[name] - before[name]) / told["requests"] * 1e6 for name in before}
        return Run(rate, told, left, cpu)

    async def most(self, guess: float, seconds: float) -> Run:
        """The load that is kept up with, from a guess downwards, the last time for so many seconds."""
        rate = guess
        for _ in range(_MOST_TRIALS):
            run = await self.run(rate, _TRIAL_SECONDS)
            print(_line(run), flush=True)
            if run.is_kept_up_with:
                run = await self.run(rate, seconds)
                print(_line(run), flush=True)
                if run.is_kept_up_with:
                    return run
            rate *= _LESS
        raise CannotMeasure(f"not even {rate:,.0f} clicks a second are kept up with: is the machine in use?")

    async def prove(self) -> Bytes:
        """As many clicks are in the table as were answered; returns the bytes that each takes."""
        connection = await asyncpg.connect(self._house.dsn("tracker"))
        try:
            stored, table = await connection.fetchrow(_STORED)
            log = await connection.fetchval(_LOG) - self._log_before
        finally:
            await connection.close()
        if stored != self._answered:
            raise CannotMeasure(f"{self._answered:,} clicks were answered, and {stored:,} are stored")
        print(f"{self._answered:,} clicks answered, and {stored:,} stored", flush=True)
        return Bytes(self._stream_bytes, float(table) / stored, float(log) / stored)

    def _cpu(self) -> dict[str, float]:
        house = self._house
        return {
            "edge": cpu_of(self._ours.pid),
            "Valkey": cpu_of(house.valkey.process.pid),
            "worker": cpu_of(house.worker_pid),
            "PostgreSQL": cpu_of_family(house.postgres.process.pid),
        }

    async def _steady(self, contender: Contender, rate: float, seconds: float) -> dict[str, float]:
        self._first += 10_000_000
        words = map(str, (contender.port, rate, seconds, contender.requests, self._first))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loadtests.steady", *words),
            stdout=asyncio.subprocess.PIPE,
            cwd=HERE.parent,
        )
        said, _ = await process.communicate()
        if process.returncode != 0:
            raise CannotMeasure("the load generator failed, see above")
        told: dict[str, float] = json.loads(said)
        return told

    async def _drained(self) -> None:
        async with asyncio.timeout(_DRAINED_SECONDS):
            while await self._house.backlog():  # noqa: ASYNC110 - another process drains it
                await asyncio.sleep(0.1)


def _bytes(taken: Bytes) -> str:
    return (
        f"bytes a click: {taken.stream:,.0f} on the stream, "
        f"{taken.table:,.0f} in PostgreSQL with its indexes, {taken.wal:,.0f} of its log"
    )


def _line(run: Run) -> str:
    told = run.told
    word = "kept up with" if run.is_kept_up_with else "too much"
    return (
        f"{run.rate:8,.0f} clicks/s for {told['seconds']:3.0f} s: {word}; {run.left:,} left on the stream; "
        f"p50 {told['p50_ms']:.1f}, p99 {told['p99_ms']:.1f}, p99.9 {told['p999_ms']:.1f} ms"
    )


def report(bare: float, kept: Run, levels: Sequence[Run], cores: int) -> str:
    deducted = kept.rate * cores / (cores - kept.generator_cores)
    ratio = deducted / bare
    costs = ", ".join(f"{name} {cost:.0f}" for name, cost in kept.cpu.items())
    lines = [
        "",
        f"a bare uvicorn answers {bare:,.0f} requests/s with one core",
        f"kept up with for {kept.told['seconds']:.0f} s: {kept.rate:,.0f} clicks/s on {cores} cores, "
        f"of which the generator took {kept.generator_cores:.2f}",
        f"without it: {deducted:,.0f} clicks/s = {ratio:.2f} of the bare rate "
        f"(budget {BUDGET}: {'pass' if ratio >= BUDGET else 'OVER'})",
        f"CPU µs a click: {costs}",
        *(f"at {share:.0%}: {_line(run)}" for share, run in zip(SHARES, levels, strict=True)),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
