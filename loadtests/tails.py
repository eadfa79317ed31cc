"""Find what happens while clicks wait long: every stall, and the pauses of each process beside it.

Edge, Valkey, worker, PostgreSQL and the generator share the machine's cores, at a part of the load that is
kept up with. Latencies count from when a click was due. Exit code 0: measured; 2: it could not be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from time import perf_counter, time
from typing import NamedTuple

import asyncpg
from redis.asyncio import Redis

from loadtests import budgets, observed
from loadtests.bench import children_of, cpu_of, cpu_of_family
from loadtests.budgets import TAIL_SHARE
from loadtests.constant_rate import Stall
from loadtests.end_to_end import Trial, line, tails
from loadtests.subjects import CannotMeasure, Contender, House, open_house
from tracker.errors import CannotStartError

_SEARCH_SECONDS = 20.0
_WARM_UP_RATE, _WARM_UP_SECONDS = 2_000.0, 5.0
_LOOK_SECONDS = 0.1
_NOTED_MILLIS = 5  # by Valkey's own latency monitor
_MOST_LINES = 40
_WAITS = """
SELECT backend_type, wait_event FROM pg_stat_activity
WHERE wait_event_type IN ('IO', 'Lock', 'LWLock') OR wait_event = 'CheckpointWriteDelay'
"""
_NAMED = ("edge", "Valkey", "worker", "PostgreSQL", "generator")
_EDGE_WAITS, _VALKEY_WAITS = "edge waits", "Valkey waits"
_TICKS = os.sysconf("SC_CLK_TCK")


class Note(NamedTuple):
    """Something that took long, by the monotonic clock."""

    what: str
    since: float
    until: float
    detail: str = ""
    lasted: float = 0.0  # seconds, if it is only known to have been between `since` and `until`

    @property
    def length(self) -> float:
        return self.lasted or self.until - self.since

    def overlaps(self, since: float, until: float) -> bool:
        return self.since < until and since < self.until


class Look(NamedTuple):
    """Seconds that each had been on a core at a moment, or had waited for one."""

    at: float
    cpu: dict[str, float]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.tails", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of the load (%(default)s)")
    share = f"{100 * TAIL_SHARE:.0f} percent"
    parser.add_argument("--rate", type=float, help=f"clicks a second; else {share} of what is kept up with")
    arguments = parser.parse_args(argv)
    try:
        asyncio.run(_measure(arguments.rate, arguments.seconds))
    except (CannotMeasure, CannotStartError, KeyboardInterrupt) as error:
        print(f"tails: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2
    return 0


async def _measure(rate: float | None, seconds: float) -> None:
    async with open_house(within=("loadtests.observed", "{directory}")) as house:
        bare, edge = await house.start_pair()
        trial = Trial(house, bare, edge)
        await trial.run(_WARM_UP_RATE, _WARM_UP_SECONDS)
        rate = rate or TAIL_SHARE * (await trial.most(await trial.guess(), _SEARCH_SECONDS)).rate
        async with Redis.from_url(house.valkey.url) as client:
            await client.config_set("latency-monitor-threshold", _NOTED_MILLIS)
        looks: list[Look] = []
        notes: list[Note] = []
        begun = perf_counter()
        beside = [
            asyncio.create_task(_watch_cores(house, edge, looks)),
            asyncio.create_task(_watch_engines(house, notes)),
        ]
        run = await trial.run(rate, seconds)
        for task in beside:
            task.cancel()
        notes += [*read_notes(house.directory), *await _latencies_of_valkey(house)]
    notes += [Note("generator late", since, until, "") for since, until in run.lags]
    print(f"{line(run)}\n{tails(run)}; {budgets.describe_form()}\n")
    print(report([Stall(*each) for each in run.stalls], notes, looks, begun, seconds))


async def _watch_cores(house: House, edge: Contender, looks: list[Look]) -> None:
    worker, valkey, postgres = house.worker_pid, house.valkey.process.pid, house.postgres.process.pid
    named = {edge.pid, worker, valkey, postgres}
    while True:
        with suppress(CannotMeasure, ProcessLookupError):  # a generator ends while its turn is looked at
            cpu = {
                "edge": cpu_of(edge.pid),
                "Valkey": cpu_of(valkey),
                "worker": cpu_of(worker),
                "PostgreSQL": cpu_of_family(postgres),
                "generator": sum(cpu_of(child) for child in children_of(os.getpid()) if child not in named),
            }
            waits = {_EDGE_WAITS: _waited(edge.pid), _VALKEY_WAITS: _waited(valkey)}
            looks.append(Look(perf_counter(), cpu | _cpu_of_machine() | waits))
        await asyncio.sleep(_LOOK_SECONDS)


def _waited(pid: int) -> float:
    """Seconds that a process was able to run and had no core (Linux, Documentation/scheduler/sched-stats)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def _cpu_of_machine() -> dict[str, float]:
    user, nice, system, _, _, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return {"all": (user + nice + system + irq + softirq) / _TICKS, "stolen": steal / _TICKS}


async def _watch_engines(house: House, notes: list[Note]) -> None:
    connection = await asyncpg.connect(house.dsn("tracker"))
    try:
        async with Redis.from_url(house.valkey.url) as client:
            while True:
                before = perf_counter()
                waits = await connection.fetch(_WAITS)
                found = {f"PostgreSQL {backend}: {event}" for backend, event in waits}
                if (await client.info("persistence"))["aof_rewrite_in_progress"]:
                    found.add("Valkey rewrites its append-only file")
                notes += [Note(what, before, before + _LOOK_SECONDS) for what in found]
                await asyncio.sleep(_LOOK_SECONDS)
    finally:
        connection.terminate()


def read_notes(directory: Path) -> list[Note]:
    """The notes of the processes that ran under loadtests.observed."""
    files = directory.glob(f"*{observed.SUFFIX}")
    return [Note(*json.loads(text)) for file in files for text in file.read_text().splitlines()]


async def _latencies_of_valkey(house: House) -> list[Note]:
    """What Valkey's latency monitor has noted: the worst of each kind in each second."""
    offset, notes = perf_counter() - time(), []
    async with Redis.from_url(house.valkey.url, decode_responses=True) as client:
        for event in [str(name) for name, *_ in await client.latency_latest()]:
            for second, millis in await client.latency_history(event):
                since = second + offset
                notes.append(Note(f"Valkey {event}", since, since + 1, "in this second", millis / 1000))
    return notes


def report(
    stalls: Sequence[Stall], notes: Sequence[Note], looks: Sequence[Look], begun: float, seconds: float
) -> str:
    """Each stall with what was noted in it, and how often each was beside one."""
    notes = [note for note in notes if note.overlaps(begun, begun + seconds)]
    lines = [f"{len(stalls)} stalls; {sum(stall.requests for stall in stalls):,} clicks waited in them"]
    for stall in sorted(stalls, key=lambda stall: -stall.worst)[:_MOST_LINES]:
        lines += ["", _describe(stall, begun), f"    cores: {_cores(looks, stall.since, stall.until)}"]
        lines += [f"    {each}" for each in _beside(notes, stall)]
    lines += ["", f"all the time: {_cores(looks, begun, begun + seconds)}", ""]
    lines += [f"{'noted':44}{'times':>7}{'longest, ms':>13}{'of all time':>13}{'in stalls':>11}"]
    for what in sorted({note.what for note in notes}):
        those = [note for note in notes if note.what == what]
        longest = max(note.length for note in those) * 1000
        share = sum(note.length for note in those) / seconds
        beside = sum(any(note.overlaps(stall.since, stall.until) for note in those) for stall in stalls)
        lines.append(f"{what:44}{len(those):7,}{longest:13,.0f}{share:13.1%}{beside:11,}")
    return "\n".join(lines)


def _describe(stall: Stall, begun: float) -> str:
    lasted = (stall.until - stall.since) * 1000
    return (
        f"at {stall.since - begun:6.2f} s for {lasted:.0f} ms: {stall.requests:,} clicks waited, "
        f"the longest {stall.worst * 1000:.0f} ms; {stall.on_new_connections:,} on new connections"
    )


def _beside(notes: Iterable[Note], stall: Stall) -> list[str]:
    """The notes of a stall, the longest of each kind."""
    longest: dict[str, Note] = {}
    for note in notes:
        if note.overlaps(stall.since, stall.until):
            longest[note.what] = max(longest.get(note.what, note), note, key=_length)
    return [_word(note, stall) for note in sorted(longest.values(), key=_length, reverse=True)]


def _word(note: Note, stall: Stall) -> str:
    when = (
        note.detail if note.lasted else f"from {(note.since - stall.since) * 1000:+.0f} ms on {note.detail}"
    )
    return f"{note.what}: {note.length * 1000:.0f} ms {when}".rstrip()


def _cores(looks: Sequence[Look], since: float, until: float) -> str:
    """The cores that each had from the look before a while until the look after it."""
    before = max((look for look in looks if look.at <= since), key=_at, default=looks[0])
    after = min((look for look in looks if look.at >= until), key=_at, default=looks[-1])
    seconds = max(after.at - before.at, _LOOK_SECONDS)
    taken = {name: (after.cpu[name] - cpu) / seconds for name, cpu in before.cpu.items()}
    taken["others"] = max(taken["all"] - sum(taken[name] for name in _NAMED), 0.0)
    return ", ".join(f"{name} {cores:.2f}" for name, cores in taken.items() if name != "all")


_at: Callable[[Look], float] = attrgetter("at")
_length: Callable[[Note], float] = attrgetter("length")


if __name__ == "__main__":
    sys.exit(main())
