"""What memory visitors and clicks take: python -m loadtests.memory [--visitors 1000000].

Of Valkey: first clicks of new visitors, spread over one day, go through the real append script into a server
of its own. The stream is emptied, and what the server then holds more than at the start is what it knows
visitors by. Of an edge: what a connection takes, what a click that waits for a Valkey that is frozen, and
what the edge has grown to once it has answered so many visitors, each with an agent and address of its own.
Exit code 0: a visitor is within the budget; 1: over it; 2: it could not be measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from time import time

import uvloop
from redis.asyncio import Redis

from loadtests.bench import Load
from loadtests.budgets import VISITOR, judge
from loadtests.load_generator import END
from loadtests.subjects import (
    OURS,
    CannotMeasure,
    Contender,
    Cores,
    House,
    Kind,
    open_house,
    resident,
    write_requests,
)
from loadtests.traffic import AFFILIATES, OFFERS
from tests.factories.clicks import a_click, outcomes_of
from tracker.domain.click_id import first_hash_at
from tracker.errors import CannotStartError
from tracker.stream.appender import Appender, Lane
from tracker.stream.record import Entry, encode
from tracker.stream.visitor_memory import VisitorMemory, in_use

_DAY = 86_400_000
_BATCH = 512
_PATIENCE = 30.0  # seconds
_CONNECTIONS = 1_000
_TURN_SECONDS = 10.0
_MIB = 1 << 20


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.memory", description=(__doc__ or "").partition(":")[0] + "."
    )
    parser.add_argument(
        "--visitors", type=int, default=1_000_000, help="of Valkey's day, and then of the edge (%(default)s)"
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            each = runner.run(_measure(max(parser.parse_args(argv).visitors, 1)))
    except (CannotMeasure, CannotStartError, TimeoutError, KeyboardInterrupt) as error:
        print(f"memory: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2
    return int(not VISITOR.allows(each))


async def _measure(visitors: int) -> float:
    async with open_house() as house:
        each, counted = await _bytes_of_each(house, visitors)
        print(
            f"Valkey: {each:.1f} bytes a visitor ({judge([each], VISITOR)}); the script says {counted:.1f}",
            flush=True,
        )
        requests = write_requests(house.directory / "new", tuple(OFFERS), tuple(AFFILIATES), Kind.NEW)
        edge = await house.start_edge(OURS, "tracker", requests)
        await _tell_waiting(house, edge)
        await _tell_visitors(house, edge, visitors)
    return each


async def _bytes_of_each(house: House, visitors: int) -> tuple[float, float]:
    """As the server has them, and as the script counts them."""
    url = house.valkey.url
    async with Redis.from_url(url) as client:
        before = await _used(client)
        appender, lane = Appender(url), Lane()
        today = int(time() * 1000) // _DAY * _DAY
        for batch in first_clicks(visitors, today, _DAY):
            await appender.append(lane, batch, _PATIENCE)
            lane.next()
            await client.delete("clicks:{0}")
        await appender.close()
        counted = (await in_use(url, VisitorMemory())).bytes
        return (await _used(client) - before) / visitors, counted / visitors


def first_clicks(visitors: int, since: int, within: int) -> Iterator[list[Entry]]:
    """Each visitor's only click, in batches, evenly in the milliseconds `within` from `since` on."""
    chance = Random(1)
    for start in range(0, visitors, _BATCH):
        numbers = range(start, min(start + _BATCH, visitors))
        yield list(_entries(((since + number * within // visitors) for number in numbers), chance))


def _entries(moments: Iterable[int], chance: Random) -> Iterator[Entry]:
    for millis in moments:
        hash_ = f"{first_hash_at(millis)[:12]}7{chance.getrandbits(12):03x}8{chance.getrandbits(60):015x}"
        click = a_click(hash=hash_, visitor_key=chance.getrandbits(64))
        yield encode(click, outcomes_of(click))


async def _used(client: Redis) -> int:
    await client.delete("clicks:{0}")
    return int((await client.info("memory"))["used_memory"])


async def _tell_waiting(house: House, edge: Contender) -> None:
    """What a connection takes of an edge, and what a click on it that waits to be on disk."""
    requests = edge.requests.read_bytes().split(b"\x1e")
    start = resident(edge.pid)
    opened = [await asyncio.open_connection("127.0.0.1", edge.port) for _ in range(_CONNECTIONS)]
    await _ask(opened, requests)
    await _answers(opened)
    idle = resident(edge.pid)
    os.kill(house.valkey.process.pid, signal.SIGSTOP)
    try:
        await _ask(opened, requests)
        await asyncio.sleep(1)
        waiting = resident(edge.pid)
    finally:
        os.kill(house.valkey.process.pid, signal.SIGCONT)
    await _answers(opened)
    for _, writer in opened:
        writer.close()
    print(
        f"edge: {start / _MIB:.0f} MiB as it starts; a connection takes "
        f"{(idle - start) / _CONNECTIONS / 1024:.1f} KiB, and a click that waits "
        f"{(waiting - idle) / _CONNECTIONS / 1024:.1f} KiB more ({_CONNECTIONS:,} of each)",
        flush=True,
    )


Opened = Sequence[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


async def _ask(opened: Opened, requests: Sequence[bytes]) -> None:
    for number, (_, writer) in enumerate(opened):
        request = requests[number % len(requests)]
        writer.write(request.replace(b"@N@", b"%d" % number).replace(b"@IP@", b"24.1.2.3"))
        await writer.drain()


async def _answers(opened: Opened) -> None:
    for reader, _ in opened:
        async with asyncio.timeout(_PATIENCE):
            answer = await reader.readuntil(END)
        if not answer.startswith(b"HTTP/1.1 302"):
            raise CannotMeasure(f"the edge answered {answer[:80]!r}")


async def _tell_visitors(house: House, edge: Contender, visitors: int) -> None:
    load, answered = Load("wrk" if shutil.which("wrk") else "own", Cores()), 0.0
    while answered < visitors:
        answered += (await load.run(edge, _TURN_SECONDS))["requests"]
        await house.empty_stream()
    print(f"edge: {resident(edge.pid) / _MIB:.0f} MiB after {answered:,.0f} visitors")


if __name__ == "__main__":
    sys.exit(main())
