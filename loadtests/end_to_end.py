"""Measure what two cores carry from the click to the table: the load that the writer keeps up with.

Edge, Valkey, worker and PostgreSQL share the machine's cores with a load generator of constant rate, whose
own CPU is deducted. Exit code 0: measured; 2: it could not be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from statistics import mean
from typing import Any, NamedTuple

import asyncpg

from loadtests import budgets, sizing
from loadtests.bench import MOST_NOISE, Load, cpu_of, cpu_of_family
from loadtests.budgets import judge
from loadtests.subjects import HERE, CannotMeasure, Contender, Cores, House, open_house
from tracker.errors import CannotStartError

SHARES = (0.5, budgets.TAIL_SHARE, 0.9)
"""Parts of the load that is kept up with at which latencies are told."""
_TRIAL_SECONDS = 8.0
_STEP = 1.07  # between one load that is tried and the next
_MOST_TRIALS = 12
_LAG_SECONDS = 1.0  # generator and writer keep up if they are no more than so much behind
_DRAINED_SECONDS = 300.0
_FIRST_RATE = 8_000.0
_HELD_RATE = 1_000.0
_LOG = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"
_STORED = """
SELECT (SELECT count(*) FROM click),
    (SELECT bit_xor(('x' || right(replace(hash::text, '-', ''), 16))::bit(64)) FROM click)::text,
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
    told: dict[str, float]  # as loadtests.constant_rate prints it
    left: int  # clicks on the stream at its end
    cpu: dict[str, float]  # µs a click, by process
    stalls: Sequence[Sequence[Any]] = ()  # as loadtests.constant_rate prints them
    lags: Sequence[tuple[float, float]] = ()

    @property
    def is_kept_up_with(self) -> bool:
        late = self.told["seconds"] - self.told["requests"] / self.rate
        return not self.told["failed"] and late <= _LAG_SECONDS and self.left <= self.rate * _LAG_SECONDS

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
    except (CannotMeasure, CannotStartError, KeyboardInterrupt) as error:
        print(f"end-to-end: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2
    return 0


async def _measure(seconds: float) -> str:
    async with open_house() as house:
        trial = Trial(house, *await house.start_pair())
        await trial.begin()
        before = await trial.bare_rate()
        kept = await trial.most(await trial.guess(), seconds)
        after = await trial.bare_rate()
        refuse_noise(before, after)
        levels = [await trial.run(kept.rate * share, seconds / 2) for share in SHARES]
        bytes_ = await trial.prove(await trial.stream_bytes())
    said = report((before, after), kept, levels, os.cpu_count() or 1)
    cpu = kept.cpu
    taken = sizing.Taken(cpu["edge"], cpu["Valkey"], cpu["worker"], cpu["PostgreSQL"], *bytes_)
    return f"{said}\n\n{_bytes(bytes_)}\n{sizing.table(taken)}"


def refuse_noise(before: float, after: float) -> None:
    """A machine on which the bare server itself is not as fast after as before tells nothing of ours."""
    drift = abs(before - after) / min(before, after)
    if drift > MOST_NOISE:
        raise CannotMeasure(
            f"too noisy to tell: the bare server had {before:,.0f} requests/s before, {after:,.0f} after "
            f"({drift:.0%} apart, at most {MOST_NOISE:.0%}); stop what else runs here"
        )


class Trial:
    """Loads on one house, one after the other."""

    def __init__(self, house: House, bare: Contender, edge: Contender) -> None:
        self._house = house
        self._first = 0
        self._answered = 0
        self._bare, self._edge = bare, edge
        self._hashes = 0

    async def begin(self) -> None:
        """Note how far PostgreSQL's log is: what it was begun with is no click's."""
        connection = await asyncpg.connect(self._house.dsn("tracker"))
        try:
            self._log_before = await connection.fetchval(_LOG)
        finally:
            await connection.close()

    async def bare_rate(self) -> float:
        """Requests a second a bare uvicorn answers with one core, at full load: each costs least then."""
        load = Load("own", Cores())
        await load.run(self._bare, 1.0)
        return 1e6 / (await load.measure(self._bare, 5.0)).cpu

    async def run(self, rate: float, seconds: float) -> Run:
        before = self._cpu()
        told = await self._steady(self._edge, rate, seconds)
        left = await self._house.backlog()
        after = self._cpu()
        await self._drained()
        cpu = {name: (after[name] - before[name]) / told["requests"] * 1e6 for name in before}
        return Run(rate, told, left, cpu, told.pop("stalls"), told.pop("lags"))

    async def guess(self) -> float:
        """What all cores together would carry, by the CPU that a click takes."""
        run = await self.run(_FIRST_RATE, _TRIAL_SECONDS)
        cpu = sum(run.cpu.values()) / 1e6 + run.told["cpu"] / run.told["requests"]
        return (os.cpu_count() or 1) / cpu

    async def most(self, guess: float, seconds: float) -> Run:
        """The highest load that is kept up with so long: from a guess upwards by short trials, then down."""
        rate = guess
        for _ in range(_MOST_TRIALS):
            if not await self._keeps_up(rate, _TRIAL_SECONDS):
                break
            rate *= _STEP
        for _ in range(_MOST_TRIALS):
            rate /= _STEP
            if await self._keeps_up(rate, _TRIAL_SECONDS) and (run := await self._keeps_up(rate, seconds)):
                return run
        raise CannotMeasure(f"not even {rate:,.0f} clicks a second are kept up with: is the machine in use?")

    async def _keeps_up(self, rate: float, seconds: float) -> Run | None:
        run = await self.run(rate, seconds)
        print(line(run), flush=True)
        return run if run.is_kept_up_with else None

    async def stream_bytes(self) -> float:
        """Bytes of Valkey's memory that a click takes while it waits, told with the writer held."""
        os.kill(self._house.worker_pid, signal.SIGSTOP)
        try:
            await self._steady(self._edge, _HELD_RATE, 2.0)
            each = await self._house.stream_bytes()
        finally:
            os.kill(self._house.worker_pid, signal.SIGCONT)
        await self._drained()
        return each

    async def prove(self, stream_bytes: float) -> Bytes:
        """The clicks in the table are those that were answered; returns the bytes that each takes."""
        connection = await asyncpg.connect(self._house.dsn("tracker"))
        try:
            stored, hashes, table = await connection.fetchrow(_STORED)
            log = await connection.fetchval(_LOG) - self._log_before
        finally:
            await connection.close()
        if (stored, int(hashes, 2)) != (self._answered, self._hashes):
            raise CannotMeasure(
                f"{self._answered:,} clicks were answered, and {stored:,} or others are stored"
            )
        print(f"{self._answered:,} clicks answered; the same are stored, each once", flush=True)
        return Bytes(stream_bytes, float(table) / stored, float(log) / stored)

    def _cpu(self) -> dict[str, float]:
        house = self._house
        return {
            "edge": cpu_of(self._edge.pid),
            "Valkey": cpu_of(house.valkey.process.pid),
            "worker": cpu_of(house.worker_pid),
            "PostgreSQL": cpu_of_family(house.postgres.process.pid),
        }

    async def _steady(self, contender: Contender, rate: float, seconds: float) -> dict[str, Any]:
        self._first += 10_000_000
        words = map(str, (contender.port, rate, seconds, contender.requests, self._first))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loadtests.constant_rate", *words),
            stdout=asyncio.subprocess.PIPE,
            cwd=HERE.parent,
        )
        said, _ = await process.communicate()
        if process.returncode != 0:
            raise CannotMeasure("the load generator failed, see above")
        told: dict[str, Any] = json.loads(said)
        self._answered += int(told["requests"] - told["failed"])
        self._hashes ^= int(told["hashes"])
        return told

    async def _drained(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAINED_SECONDS):
                while await self._house.backlog():  # noqa: ASYNC110 - another process drains it
                    await asyncio.sleep(0.1)
                return
        left = await self._house.backlog()
        raise CannotMeasure(
            f"{left:,} clicks were not stored yet {_DRAINED_SECONDS:.0f} s after the load's end"
        )


def _bytes(taken: Bytes) -> str:
    return (
        f"bytes a click: {taken.stream:,.0f} on the stream, "
        f"{taken.table:,.0f} in PostgreSQL with its indexes, {taken.wal:,.0f} of its log"
    )


def line(run: Run) -> str:
    told = run.told
    word = "kept up with" if run.is_kept_up_with else "too much"
    return (
        f"{run.rate:8,.0f} clicks/s for {told['seconds']:3.0f} s: {word}; {run.left:,} left on the stream; "
        f"p50 {told['p50_ms']:.1f}, p99 {told['p99_ms']:.1f}, p99.9 {told['p999_ms']:.1f} ms"
    )


def report(bare: tuple[float, float], kept: Run, levels: Sequence[Run], cores: int) -> str:
    """What was measured; `bare` are the bare server's rates before and after."""
    deducted = kept.rate * cores / (cores - kept.generator_cores)
    ratio = deducted / mean(bare)
    costs = ", ".join(f"{name} {cost:.0f}" for name, cost in kept.cpu.items())
    lines = [
        "",
        f"a bare uvicorn answers {bare[0]:,.0f} requests/s with one core; after the trials {bare[1]:,.0f}",
        f"kept up with for {kept.told['seconds']:.0f} s: {kept.rate:,.0f} clicks/s on {cores} cores, "
        f"of which the generator took {kept.generator_cores:.2f}",
        f"without it: {deducted:,.0f} clicks/s = {ratio:.2f} of the bare rate "
        f"({judge([ratio], budgets.END_TO_END)}; {budgets.describe_form()})",
        f"CPU µs a click: {costs}",
        *(f"at {share:.0%}: {line(run)}" for share, run in zip(SHARES, levels, strict=True)),
        *(tails(run) for share, run in zip(SHARES, levels, strict=True) if share == budgets.TAIL_SHARE),
    ]
    return "\n".join(lines)


def tails(run: Run) -> str:
    """The latencies that have a budget."""
    p99, p999 = run.told["p99_ms"], run.told["p999_ms"]
    verdicts = f"p99 {judge([p99], budgets.P99)}, p99.9 {judge([p999], budgets.P999)}"
    return f"budgets at {budgets.TAIL_SHARE:.0%}, ms: {verdicts}"


if __name__ == "__main__":
    sys.exit(main())
