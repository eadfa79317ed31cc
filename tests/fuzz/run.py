"""`make fuzz`: random connections against both protocols, each answer judged by a reading of RFC 9112.

python -m tests.fuzz.run --pipelines 200000 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections import Counter
from unittest.mock import patch

import uvloop

from tests.fuzz.judge import fault
from tests.fuzz.pipelines import Leave, Pipeline
from tests.fuzz.rfc9112 import read
from tests.fuzz.server import PROTOCOLS, Ways, ask, served
from tracker.edge.http import bounds
from tracker.edge.http.bounds import BoundedProtocol

_AT_ONCE = 500
_SECONDS = 2.0  # allowed for a head or a body, and waited for if it is cut


async def fuzz(kind: type[BoundedProtocol], seeds: range) -> tuple[Counter[str], list[str]]:
    """The endings of the connections, and the faults with their seeds."""
    ends: Counter[str] = Counter()
    faults: list[str] = []
    ways = Ways()
    waiting = iter(seeds)

    async def ask_in_turn(port: int) -> None:
        for seed in waiting:
            pipeline = Pipeline(seed)
            reading = read(pipeline.data)
            ends[reading.end.name] += 1
            received = await ask(port, pipeline.pieces, pipeline.leave)
            wrong: str | None = "it is not closed"
            if received is not None:
                taken = ways.taken.pop(received.port, [])
                wrong = fault(reading, received, taken, may_refuse=pipeline.is_mutated)
            has_left = pipeline.leave is Leave.ABORT or (
                pipeline.leave is Leave.HALF_CLOSE and not kind.half_closed_wait
            )
            if wrong and not has_left:
                faults.append(f"{kind.__name__}, seed {seed} ({reading.end.name}): {wrong}")

    with patch.multiple(bounds, HEAD_SECONDS=_SECONDS, BODY_SECONDS=_SECONDS, LINGER_SECONDS=0.1):
        async with served(kind, ways) as port, asyncio.TaskGroup() as group:
            for _ in range(min(_AT_ONCE, len(seeds))):
                group.create_task(ask_in_turn(port))
    return ends, faults + ways.faults


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.run",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--pipelines", type=int, default=200_000, help="connections in all (200000)")
    parser.add_argument("--seed", type=int, default=1, help="of the first one; each has the next (1)")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)  # one line for each refusal and each provoked failure
    begun, found, each = time.monotonic(), 0, asked.pipelines // len(PROTOCOLS)
    for kind in PROTOCOLS:
        ends: Counter[str] = Counter()
        for first in range(asked.seed, asked.seed + each, 10_000):
            seeds = range(first, min(first + 10_000, asked.seed + each))
            some, faults = uvloop.run(fuzz(kind, seeds))
            ends += some
            found += len(faults)
            for line in faults[:20]:
                print(line, flush=True)
        shown = ", ".join(f"{name} {number}" for name, number in sorted(ends.items()))
        print(f"{kind.__name__}: {ends.total()} pipelines from seed {asked.seed}: {shown}", flush=True)
    print(f"{found} faults in {time.monotonic() - begun:.0f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
