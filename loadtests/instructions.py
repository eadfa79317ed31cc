"""Count the machine instructions of one request, which are as many on a busy machine as on a quiet one.

Needs valgrind on the PATH: each server runs under its callgrind, which counts while requests come in. What
the kernel does, and how fast a processor gets through the instructions, is not in it: see `make bench`.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from loadtests.bench import Load
from loadtests.subjects import (
    BARE,
    DISTINCT,
    OURS,
    ROUTE,
    CannotMeasure,
    Contender,
    Cores,
    open_house,
    write_requests,
)
from loadtests.traffic import AFFILIATES, OFFERS
from tracker.errors import CannotStartError

_CALLGRIND = (
    "valgrind",
    "-q",
    "--tool=callgrind",
    "--instr-atstart=no",
    "--callgrind-out-file={directory}/counts.%p",
)
_TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.instructions", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="of counting, each (%(default)s)")
    try:
        asyncio.run(_count_all(parser.parse_args(argv).seconds))
    except (CannotMeasure, CannotStartError, TimeoutError) as error:
        print(f"instructions: {str(error) or 'a server was not ready in time'}", file=sys.stderr)
        return 2
    return 0


async def _count_all(seconds: float) -> None:
    if shutil.which("valgrind") is None:
        raise CannotMeasure("valgrind is not installed")
    async with open_house(under=_CALLGRIND) as house:
        requests = write_requests(house.directory / "requests", tuple(OFFERS), tuple(AFFILIATES))
        new = write_requests(house.directory / "new", tuple(OFFERS), tuple(AFFILIATES), distinct=True)
        await house.start_server(BARE, "bare", requests=requests)
        await house.start_server(ROUTE, "route", requests=requests)
        await house.start_edge(OURS, "tracker", requests)
        # Without a live worker an edge writes the oldest version of records.
        await house.spawn("tracker", "worker", env=house.environ("tracker"))
        edge = house.contenders[-1]
        house.contenders.append(Contender(DISTINCT, edge.port, edge.pid, new, edge.engine))
        real = write_requests(house.directory / "real", tuple(OFFERS), tuple(AFFILIATES), browser=True)
        print(f"{'instructions a request':40} {'':>9} {'÷ bare':>7}")
        await _print(house.contenders, seconds, house.directory)
        print("with a browser's 17 headers")
        of_browsers = [replace(contender, requests=real) for contender in house.contenders[:3]]
        await _print(of_browsers, seconds, house.directory)


async def _print(contenders: Sequence[Contender], seconds: float, directory: Path) -> None:
    """One line each, compared with the first, which is bare."""
    base = 0.0
    for contender in contenders:
        count = await _count(contender, seconds, directory)
        base = base or count
        print(f"{contender.name:40} {count:9,.0f} {count / base:7.2f}", flush=True)


async def _count(contender: Contender, seconds: float, directory: Path) -> float:
    """Of one server, once it has warmed up."""
    load = Load("wrk" if shutil.which("wrk") else "own", Cores())
    await load.run(contender, seconds)
    await _tell(contender.pid, "--instr=on")
    before = _total(contender.pid, directory)
    told = await load.run(contender, seconds)
    await _tell(contender.pid, "--dump")
    await _tell(contender.pid, "--instr=off")
    return (_total(contender.pid, directory) - before) / told["requests"]


async def _tell(pid: int, what: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "callgrind_control", what, str(pid), stdout=asyncio.subprocess.DEVNULL
    )
    if await process.wait():
        raise CannotMeasure("callgrind_control failed, see above")


def _total(pid: int, directory: Path) -> int:
    files = directory.glob(f"counts.{pid}*")
    return sum(int(total) for file in files for total in _TOTALS.findall(file.read_text()))


if __name__ == "__main__":
    sys.exit(main())
