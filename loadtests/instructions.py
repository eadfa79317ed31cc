"""Count the machine instructions of one request, which are as many on a busy machine as on a quiet one.

Needs valgrind on the PATH: each server runs under its callgrind, which counts while requests come in. What
the kernel does, and how fast a processor gets through the instructions, is not in it: see `make bench`.
Exit code 0: counted, also if a budget is exceeded; 2: it could not be.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtests import budgets
from loadtests.bench import Load, Ratio
from loadtests.budgets import judge
from loadtests.subjects import (
    BARE,
    NEW,
    NEW_ASKING,
    OURS,
    REAL,
    ROUTE,
    CannotMeasure,
    Contender,
    Cores,
    House,
    open_house,
    start_contenders,
    write_requests,
)
from tracker.errors import CannotStartError

_CALLGRIND = (
    "valgrind",
    "-q",
    "--tool=callgrind",
    "--instr-atstart=no",
    "--callgrind-out-file={directory}/counts.%p",
)
UNREAD = (
    "clicks whose device the edge has left to the worker: all, unless the machine is so busy that an edge "
    "cannot see in time that a worker lives"
)
_WIDTH = 68
BIG = f"{OURS}, 10,000 offers x 100,000 affiliates"
RATIOS = (
    Ratio("edge ÷ bare", OURS, BARE, budgets.KNOWN_INSTRUCTIONS),
    Ratio(f"edge ÷ bare{REAL}", OURS + REAL, BARE + REAL, budgets.BROWSER_INSTRUCTIONS),
    Ratio("edge ÷ Route", OURS, ROUTE, budgets.AHEAD_OF_ROUTE),
    Ratio(f"edge ÷ Route{REAL}", OURS + REAL, ROUTE + REAL, budgets.AHEAD_OF_ROUTE),
    Ratio("edge, big catalogue ÷ small one", BIG, OURS, budgets.BIG_CATALOGUE),
    Ratio("edge ÷ bare, all new, no offer asks", NEW, BARE),
    Ratio("edge ÷ bare, all new, offers ask", NEW_ASKING, BARE),
    Ratio("Route ÷ bare", ROUTE, BARE),
)
_TURN_SECONDS = 4.0
_TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.instructions", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--requests", type=int, default=4_000, help="at least, to each (%(default)s)")
    try:
        asyncio.run(_count_all(parser.parse_args(argv).requests))
    except (CannotMeasure, CannotStartError, TimeoutError) as error:
        print(f"instructions: {str(error) or 'a server was not ready in time'}", file=sys.stderr)
        return 2
    return 0


async def _count_all(requests: int) -> None:
    if shutil.which("valgrind") is None:
        raise CannotMeasure("valgrind is not installed")
    async with open_house(under=_CALLGRIND) as house:
        contenders = [*await start_contenders(house), await _start_big(house)]
        print(f"{budgets.describe_form()}\n{'instructions a request':{_WIDTH}} {'':9}  unread*", flush=True)
        counts = {}
        load = Load("wrk" if shutil.which("wrk") else "own", Cores())  # one, so that new visitors stay new
        for contender in contenders:
            counts[contender.name] = count = await _count(contender, load, requests, house.directory)
            left = f"{await house.left_to_worker():9.0%}" if contender.engine else ""
            await house.empty_stream()
            print(f"{contender.name:{_WIDTH}} {count:9,.0f} {left}", flush=True)
    print(f"* {UNREAD}\n{report(counts)}")


async def _start_big(house: House) -> Contender:
    """An edge that gets requests for random offers and affiliates of a big catalogue."""
    offers, affiliates = range(1, 10_001), range(1, 100_001)
    await house.create_catalogue("big", len(offers), len(affiliates))
    return await house.start_edge(BIG, "big", write_requests(house.directory / "big", offers, affiliates))


def report(counts: Mapping[str, float]) -> str:
    """The ratios of some counts, with their budgets."""
    lines = ["", f"{'ratio':{_WIDTH}} {'':>9}   budget"]
    for name, over, under, budget in RATIOS:
        ratio = counts[over] / counts[under]
        lines.append(f"{name:{_WIDTH}} {ratio:9.2f}   {judge([ratio], budget)}")
    return "\n".join(lines)


async def _count(contender: Contender, load: Load, requests: int, directory: Path) -> float:
    """Of one server, once it has warmed up."""
    await _send(contender, load, requests)
    await _tell(contender.pid, "--instr=on")
    before = _total(contender.pid, directory)
    counted = await _send(contender, load, requests)
    await _tell(contender.pid, "--dump")
    await _tell(contender.pid, "--instr=off")
    return (_total(contender.pid, directory) - before) / counted


async def _send(contender: Contender, load: Load, requests: int) -> float:
    """Send so many requests at least. On a busy machine they take longer, and must not be fewer."""
    sent = 0.0
    while sent < requests:
        sent += (await load.run(contender, _TURN_SECONDS))["requests"]
    return sent


async def _tell(pid: int, what: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *("callgrind_control", what, str(pid)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    if await process.wait():
        raise CannotMeasure("callgrind_control failed: is the process alive?")


def _total(pid: int, directory: Path) -> int:
    files = directory.glob(f"counts.{pid}*")
    return sum(int(total) for file in files for total in _TOTALS.findall(file.read_text()))


if __name__ == "__main__":
    sys.exit(main())
