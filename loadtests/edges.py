"""One edge beside two that share a port: python -m loadtests.edges [--rounds 5].

All of it, the load generator and Valkey too, is on the same cores, as far as there are any. Exit code 0:
measured; 2: it could not be.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from socket import socket
from statistics import median
from typing import NamedTuple

from loadtests.bench import Load, cpu_of
from loadtests.subjects import (
    CannotMeasure,
    Contender,
    Cores,
    House,
    open_house,
    until_answering,
    write_requests,
)
from loadtests.traffic import AFFILIATES, OFFERS
from tracker.errors import CannotStartError
from tracker.processes.sockets import listen

_SECONDS = 4.0


class Turn(NamedTuple):
    rate: float  # clicks a second
    edges: float  # µs of CPU of all edges a click
    valkey: float


class Edges(NamedTuple):
    """Edges on one port."""

    contender: Contender
    pids: Sequence[int]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.edges", description=(__doc__ or "").partition(":")[0] + "."
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (%(default)s)")
    try:
        print(asyncio.run(_measure(max(parser.parse_args(argv).rounds, 1))))
    except (CannotMeasure, CannotStartError, TimeoutError, KeyboardInterrupt) as error:
        print(f"edges: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2
    return 0


async def _measure(rounds: int) -> str:
    with listen("TRACKER_PORT", "127.0.0.1", 0) as first, listen("TRACKER_PORT", "127.0.0.1", 0) as second:
        return await _compare(rounds, (first, second))


async def _compare(rounds: int, listening: Sequence[socket]) -> str:
    async with open_house() as house:
        setups = [await _start(house, each, number) for number, each in enumerate(listening, 1)]
        load = Load("wrk" if shutil.which("wrk") else "own", Cores())
        for setup in setups:
            await load.run(setup.contender, 1.0)
        turns = [[await _turn(house, load, setup) for setup in setups] for _ in range(rounds)]
    one, two = ([Turn(*map(median, zip(*each, strict=True)))] for each in zip(*turns, strict=True))
    return _report(*one, *two)


async def _start(house: House, listening: socket, edges: int) -> Edges:
    port, fd = listening.getsockname()[1], listening.fileno()
    data_dir = house.directory / f"{edges}-edges"
    data_dir.mkdir()
    environ = house.environ("tracker") | {"TRACKER_DATA_DIR": str(data_dir)}
    processes = [
        await house.spawn("tracker", "edge", "--slot", str(slot), "--fd", str(fd), env=environ, fds=(fd,))
        for slot in range(edges)
    ]
    for process in processes:
        await until_answering(port, "/health/ready", process)
    requests = write_requests(house.directory / f"requests-{edges}", tuple(OFFERS), tuple(AFFILIATES))
    pids = [process.pid for process in processes]
    return Edges(Contender(f"{edges} edges", port, pids[0], requests, house.valkey), pids)


async def _turn(house: House, load: Load, edges: Edges) -> Turn:
    valkey = house.valkey.process.pid
    before, valkey_before = sum(map(cpu_of, edges.pids)), cpu_of(valkey)
    told = await load.run(edges.contender, _SECONDS)
    spent, valkey_spent = sum(map(cpu_of, edges.pids)) - before, cpu_of(valkey) - valkey_before
    await house.empty_stream()
    clicks = told["requests"]
    return Turn(clicks / told["seconds"], spent / clicks * 1e6, valkey_spent / clicks * 1e6)


def _report(one: Turn, two: Turn) -> str:
    lines = [f"{'median of rounds':18}{'clicks/s':>10}{'edge µs':>10}{'Valkey µs':>11}"]
    for name, turn in (("1 edge", one), ("2 edges", two)):
        lines.append(f"{name:18}{turn.rate:10,.0f}{turn.edges:10.1f}{turn.valkey:11.1f}")
    return "\n".join(
        [
            *lines,
            f"efficiency of the second: {one.edges / two.edges:.2f} by CPU a click; "
            f"{two.rate / one.rate:.2f} times the clicks on {os.cpu_count()} cores, shared with all the rest",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
