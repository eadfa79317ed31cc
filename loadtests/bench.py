"""Measure the tracker beside a bare uvicorn in one run, and print the ratios with their budgets.

Contenders take turns, round after round, on engines of the benchmark's own. A ratio is taken within each
round, so that a slow minute of the machine slows both its sides. CPU is what /proc says of each process.

Exit code 0: measured, also if a budget is exceeded, because a shared machine may be the reason. 2: it could
not be measured, or the machine is too noisy to tell anything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import shutil
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from loadtests import budgets
from loadtests.budgets import Budget, judge
from loadtests.subjects import (
    BARE,
    HERE,
    NAIVE,
    NEW,
    NEW_ASKING,
    OURS,
    REAL,
    ROUTE,
    CannotMeasure,
    Contender,
    Cores,
    House,
    end,
    open_house,
    pin,
    start_contenders,
)
from tracker.errors import CannotStartError

MANY_CONNECTIONS = 256
MOST_NOISE = 0.25
"""Spread of the bare server's own CPU per request, over its median, beyond which ratios mean nothing."""
_TICKS = os.sysconf("SC_CLK_TCK")
_WIDTH = 70
_LEAST_BACKLOG = 20_000  # five batches: with less, what PostgreSQL does at any rate would count as theirs

MANY = f", {MANY_CONNECTIONS} connections"
_ALL_NEW = {OURS: "", NEW: ", all new"}


class Sample(NamedTuple):
    """One turn of one contender."""

    rate: float  # requests a second
    cpu: float  # µs of the server a request
    engine_cpu: float  # µs of its Valkey a request; 0 where it has none
    p50: float  # ms
    p99: float


class Ratio(NamedTuple):
    """The CPU per request of two contenders. Without a budget it is for comparison only."""

    name: str
    over: str
    under: str
    budget: Budget | None = None


RATIOS = (
    Ratio("edge ÷ bare", OURS, BARE, budgets.KNOWN_64),
    Ratio(f"edge ÷ bare{MANY}", OURS + MANY, BARE + MANY, budgets.KNOWN_256),
    Ratio(f"edge ÷ bare{REAL}", OURS + REAL, BARE + REAL),
    Ratio("edge ÷ Route", OURS, ROUTE, budgets.LEVEL_WITH_ROUTE),
    Ratio(f"edge ÷ Route{MANY}", OURS + MANY, ROUTE + MANY, budgets.AHEAD_OF_ROUTE),
    Ratio("edge ÷ bare, all new, no offer asks", NEW, BARE, budgets.NEW),
    Ratio("edge ÷ bare, all new, offers ask", NEW_ASKING, BARE, budgets.NEW_ASKING),
    Ratio("Route ÷ bare", ROUTE, BARE),
    Ratio("SET + XADD ÷ bare", NAIVE, BARE),
)


@dataclass
class Measured:
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    writer: dict[str, list[float]] = field(default_factory=dict)
    """CPU µs of the worker and of PostgreSQL for each click stored, by the contender that took the clicks."""

    def ratios(self, over: str, under: str) -> list[float]:
        """One contender's CPU per request over another's, round by round: a machine's drift cancels out."""
        pairs = zip(self.samples[over], self.samples[under], strict=True)
        return [a.cpu / b.cpu for a, b in pairs]


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        asyncio.run(_bench(arguments.rounds, arguments.seconds, arguments.generator))
    except (CannotMeasure, CannotStartError, TimeoutError, asyncio.CancelledError) as error:
        print(f"bench: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn (%(default)s)")
    found = "wrk" if shutil.which("wrk") else "own"
    parser.add_argument("--generator", choices=("wrk", "own"), default=found, help="of load (%(default)s)")
    return parser


async def _bench(rounds: int, seconds: float, generator: str) -> None:
    cores = Cores.of_this_machine()
    print(_describe_machine(cores, generator))
    task = asyncio.current_task()
    assert task is not None
    for interrupt in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(interrupt, task.cancel)
    async with open_house(cores) as house:
        contenders = await start_contenders(house)
        bare, route, edge, *_ = contenders
        contenders.append(await house.start_naive(bare.requests))
        contenders += [
            replace(each, name=each.name + MANY, connections=MANY_CONNECTIONS) for each in (bare, route, edge)
        ]
        by_name = {contender.name: contender for contender in contenders}
        load = Load(generator, cores)
        measured = Measured()
        for contender in contenders:
            await load.run(contender, min(seconds, 1.0))
        for number in range(rounds):
            print(f"round {number + 1} of {rounds} …", flush=True)
            for contender in contenders:
                sample = await load.measure(contender, seconds)
                measured.samples.setdefault(contender.name, []).append(sample)
                await house.empty_stream()
            for name in (OURS, NEW):
                spent = await _drain(house, load, by_name[name], seconds)
                measured.writer.setdefault(name, []).append(spent)
        _refuse_noise(measured.ratios(OURS, BARE))
        print(_report(measured))


def _describe_machine(cores: Cores, generator: str) -> str:
    where = "ONE core for all: rates and latencies say little, CPU per request does"
    if cores.server is not None:
        where = f"server and its Valkey on core {cores.server}, load generator on core {cores.generator}"
    named = "wrk" if generator == "wrk" else "its own load generator (no wrk)"
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores"
    return f"{machine}; {where}; {named}\n{budgets.describe_form()}"


async def _drain(house: House, load: Load, contender: Contender, seconds: float) -> float:
    """CPU µs of worker and PostgreSQL for each click of a backlog."""
    while (backlog := await house.backlog()) < _LEAST_BACKLOG:
        await load.run(contender, seconds)
    before = cpu_of_family(house.postgres.process.pid)
    process = await house.spawn("loadtests.drain", env=house.environ("plain"), stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    if process.returncode != 0:
        raise CannotMeasure("the click writer failed, see above")
    spent = float(said) + cpu_of_family(house.postgres.process.pid) - before
    return spent / backlog * 1e6


class Load:
    """Sends requests at full speed, with wrk or with load_generator.py, in a process of its own."""

    def __init__(self, generator: str, cores: Cores) -> None:
        self._run = self._with_wrk if generator == "wrk" else self._with_own
        self._cores = cores
        self._first = 0

    async def measure(self, contender: Contender, seconds: float) -> Sample:
        before, engine_before = cpu_of(contender.pid), _cpu_of_engine(contender)
        told = await self.run(contender, seconds)
        spent, engine_spent = cpu_of(contender.pid) - before, _cpu_of_engine(contender) - engine_before
        return Sample(
            rate=told["requests"] / told["seconds"],
            cpu=spent / told["requests"] * 1e6,
            engine_cpu=engine_spent / told["requests"] * 1e6,
            p50=told["p50_ms"],
            p99=told["p99_ms"],
        )

    async def run(self, contender: Contender, seconds: float) -> dict[str, float]:
        self._first += 10_000_000
        told = await self._run(contender, seconds)
        if told["failed"] or not told["requests"]:
            raise CannotMeasure(
                f"{contender.name}: {told['failed']:.0f} of {told['requests']:.0f} requests failed"
            )
        return told

    async def _with_wrk(self, contender: Contender, seconds: float) -> dict[str, float]:
        argv = [
            "wrk",
            "-t1",
            f"-c{contender.connections}",
            f"-d{max(round(seconds), 1)}s",
            "--timeout",
            "30s",
            "--latency",
        ]
        argv += ["-s", str(HERE / "click.lua"), f"http://127.0.0.1:{contender.port}"]
        return read_wrk(await self._said([*argv, "--", str(contender.requests), str(self._first)]))

    async def _with_own(self, contender: Contender, seconds: float) -> dict[str, float]:
        words = map(str, (contender.port, contender.connections, seconds, contender.requests, self._first))
        told: dict[str, float] = json.loads(
            await self._said([sys.executable, "-m", "loadtests.load_generator", *words])
        )
        return told

    async def _said(self, argv: Sequence[str]) -> str:
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.PIPE, cwd=HERE.parent, start_new_session=True
        )
        pin(process.pid, self._cores.generator)
        try:
            said, _ = await process.communicate()
        finally:
            await end(process)
        if process.returncode != 0:
            raise CannotMeasure(f"{argv[0]} failed, see above")
        return said.decode()


def read_wrk(said: str) -> dict[str, float]:
    """What wrk --latency prints."""
    total = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", said)
    latency = dict(re.findall(r"^\s+(50|99)%\s+([\d.]+(?:us|ms|s))", said, re.MULTILINE))
    if total is None or latency.keys() != {"50", "99"}:
        raise CannotMeasure(f"wrk's answer cannot be read: {said}")
    failed = re.findall(r"(?:Non-2xx or 3xx responses|connect|read|write|timeout):? (\d+)", said)
    return {
        "requests": float(total[1]),
        "seconds": float(total[2]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[total[3]],
        "p50_ms": _milliseconds(latency["50"]),
        "p99_ms": _milliseconds(latency["99"]),
        "failed": float(sum(map(int, failed))),
    }


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1_000.0}[unit]


def _refuse_noise(ratios: Sequence[float]) -> None:
    """A machine that is slower in one round than in another harms no ratio; what shakes a ratio does."""
    noise = _spread(ratios)
    if noise > MOST_NOISE:
        raise CannotMeasure(
            f"too noisy to tell: in the middle half of the rounds, edge ÷ bare varied by {noise:.0%} "
            f"(at most {MOST_NOISE:.0%}); stop what else runs here, or use --rounds and --seconds"
        )


def _spread(values: Sequence[float]) -> float:
    """How far apart the middle half of some values is, as a share of their median."""
    if len(values) < 2:
        return 0.0
    low, _, high = quantiles(values, n=4, method="inclusive")
    return (high - low) / median(values)


def _report(measured: Measured) -> str:
    bare = [sample.cpu for sample in measured.samples[BARE]]
    lines = [
        "",
        "median of rounds".ljust(_WIDTH) + "  requests/s   CPU µs   p50 ms   p99 ms  Valkey µs",
        *(_row(name, samples) for name, samples in measured.samples.items()),
        *(_writer_row(*each) for each in measured.writer.items()),
        "",
        f"{'ratio of CPU':{_WIDTH}} {'min':>7} {'median':>7} {'max':>7}   budget",
        *(_verdict(each.name, measured.ratios(each.over, each.under), each.budget) for each in RATIOS),
    ]
    for name, budget in ((OURS, budgets.WRITER), (NEW, None)):
        ratios = [spent / base for spent, base in zip(measured.writer[name], bare, strict=True)]
        lines.append(_verdict(f"writer and PostgreSQL ÷ bare{_ALL_NEW[name]}", ratios, budget))
    ratio = _spread(measured.ratios(OURS, BARE))
    noise = f"bare's own CPU per request {_spread(bare):.0%}, edge ÷ bare {ratio:.0%}"
    return "\n".join([*lines, "", f"noise (spread of the middle half of the rounds): {noise}"])


def _row(name: str, samples: Sequence[Sample]) -> str:
    rate, cpu, engine_cpu, p50, p99 = (median(values) for values in zip(*samples, strict=True))
    engine = f"{engine_cpu:10.1f}" if engine_cpu else f"{'-':>10}"
    return f"{name:{_WIDTH}} {rate:11,.0f} {cpu:8.1f} {p50:8.2f} {p99:8.2f} {engine}"


def _writer_row(name: str, spent: Sequence[float]) -> str:
    return f"{f'writer and PostgreSQL, a click{_ALL_NEW[name]}':{_WIDTH}} {'':>11} {median(spent):8.1f}"


def _verdict(name: str, ratios: Sequence[float], budget: Budget | None) -> str:
    figures = f"{name:{_WIDTH}} {min(ratios):7.2f} {median(ratios):7.2f} {max(ratios):7.2f}"
    return f"{figures}   {judge(ratios, budget)}"


def cpu_of(pid: int) -> float:
    """CPU seconds of a process, its threads included."""
    return sum(_stat(pid)[11:13]) / _TICKS


def _cpu_of_engine(contender: Contender) -> float:
    return cpu_of(contender.engine.process.pid) if contender.engine else 0.0


def cpu_of_family(pid: int) -> float:
    """CPU seconds of a process and of its children, those that have ended included."""
    return sum(sum(_stat(member)[11:15]) for member in (pid, *children_of(pid))) / _TICKS


def _stat(pid: int) -> list[int]:
    """/proc/<pid>/stat from its third field on; the second, the name, may hold anything."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        raise CannotMeasure(f"process {pid} has died, see above") from None
    return [int(text) if text.lstrip("-").isdigit() else 0 for text in fields]


def children_of(pid: int) -> Iterable[int]:
    return map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


if __name__ == "__main__":
    sys.exit(main())
