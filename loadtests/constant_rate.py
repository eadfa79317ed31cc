"""Load at a constant rate, whatever is answered: visitors do not wait for each other.

    python -m loadtests.constant_rate PORT RATE SECONDS FILE FIRST_NUMBER

FILE and FIRST_NUMBER as in click.lua. A request is due at its time; its latency counts from then, also when
no connection was free (else a slow server would be asked less, and look fast: "coordinated omission").
Prints one JSON object: requests, seconds, failed, cpu (its own, in seconds), p50_ms, p99_ms, p999_ms, and

- hashes: the last 64 bits of every answered click's hash, which its Location carries, by exclusive or
- stalls: whiles in which requests waited long, each with beginning and end by the machine's monotonic clock,
  its requests, the longest latency in seconds, and how many of the requests were the first of a connection
- lags: beginning and end of each while in which this program itself came late
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple, cast

import uvloop

from loadtests.load_generator import END, requests

LEAST_CONNECTIONS, MOST_CONNECTIONS = 256, 1_000
"""Connections that are open before the first request, as a proxy keeps some, and most of them."""
_TICK = 0.001
_STALL_SECONDS = 0.02
_LAG_SECONDS = 0.005
_GRACE_SECONDS = 30.0
_HASH = re.compile(rb"=[0-9a-f]{16}([0-9a-f]{16})\b")


class Stall(NamedTuple):
    """A while in which requests were due that waited long."""

    since: float
    until: float
    requests: int
    worst: float  # seconds
    on_new_connections: int


class _Connection(asyncio.Protocol):
    """Answers one request at a time, and is then free for another."""

    def __init__(
        self, done: Callable[[_Connection, bytes], None], lost: Callable[[_Connection], None]
    ) -> None:
        self._done = done
        self._lost = lost
        self._received = b""
        self.due = 0.0
        self.is_new = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no such class

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(END):
            answer, self._received = self._received, b""
            self._done(self, answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(self)

    def close(self) -> None:
        self.due = 0.0
        self._transport.close()


class _Load:
    def __init__(self, port: int, endless: Iterator[bytes]) -> None:
        self._port = port
        self._next = endless.__next__
        self._free: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._waiting: deque[float] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self.taken: list[float] = []
        self.slow: list[tuple[float, float, bool]] = []  # due, answered, whether on a new connection
        self.lags: list[tuple[float, float]] = []
        self.failed = 0
        self.hashes = 0

    async def run(self, rate: float, seconds: float) -> float:
        """Send the requests of so many seconds. Returns how long they took until the last answer."""
        for _ in range(LEAST_CONNECTIONS):
            await self._open()
        begun, sent = perf_counter(), 0
        wanted = int(rate * seconds)
        before = begun
        while sent < wanted:
            now = perf_counter()
            if now - before > _LAG_SECONDS:
                self.lags.append((before, now))
            before = now
            due = min(wanted, int((now - begun) * rate) + 1)
            self._waiting.extend(begun + number / rate for number in range(sent, due))
            sent = due
            self._send_waiting()
            await asyncio.sleep(_TICK)
        async with asyncio.timeout(_GRACE_SECONDS):
            while len(self.taken) + self.failed < wanted:
                self._send_waiting()
                await asyncio.sleep(_TICK)
        lasted = perf_counter() - begun
        for connection in list(self._all):
            connection.close()
        return lasted

    def _send_waiting(self) -> None:
        while self._waiting and self._free:
            self._free.pop().send(self._next(), self._waiting.popleft())
        missing = min(len(self._waiting), MOST_CONNECTIONS - len(self._all)) - len(self._opening)
        for _ in range(max(missing, 0)):
            opening = asyncio.create_task(self._open())
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: _Connection(self._done, self._lost), "127.0.0.1", self._port
        )
        self._all.add(connection)
        self._free.append(connection)

    def _done(self, connection: _Connection, answer: bytes) -> None:
        if answer.startswith(b"HTTP/1.1 302"):
            now = perf_counter()
            self.taken.append(now - connection.due)
            if now - connection.due > _STALL_SECONDS:
                self.slow.append((connection.due, now, connection.is_new))
            if told := _HASH.search(answer):
                self.hashes ^= int(told[1], 16)
        else:
            self.failed += 1
        connection.due, connection.is_new = 0.0, False
        self._free.append(connection)

    def _lost(self, connection: _Connection) -> None:
        self._all.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        else:
            self.failed += connection.due > 0.0


def stalls(slow: Iterable[tuple[float, float, bool]]) -> list[Stall]:
    """The whiles that slow requests overlap in."""
    found: list[Stall] = []
    for due, answered, is_new in sorted(slow):
        if found and due <= found[-1].until:
            since, until, count, worst, new = found[-1]
            found[-1] = Stall(
                since, max(until, answered), count + 1, max(worst, answered - due), new + is_new
            )
        else:
            found.append(Stall(due, answered, 1, answered - due, int(is_new)))
    return found


async def load(port: int, rate: float, seconds: float, path: Path, first: int) -> dict[str, Any]:
    load = _Load(port, requests(path, first))
    lasted = await load.run(rate, seconds)
    taken = sorted(load.taken)

    def percentile(share: float) -> float:
        return taken[min(int(len(taken) * share), len(taken) - 1)] * 1000 if taken else 0.0

    return {
        "requests": len(taken) + load.failed,
        "seconds": lasted,
        "failed": load.failed,
        "cpu": process_time(),
        "p50_ms": percentile(0.5),
        "p99_ms": percentile(0.99),
        "p999_ms": percentile(0.999),
        "hashes": load.hashes,
        "stalls": stalls(load.slow),
        "lags": load.lags,
    }


if __name__ == "__main__":
    port, rate, seconds, path, first = sys.argv[1:]
    print(json.dumps(uvloop.run(load(int(port), float(rate), float(seconds), Path(path), int(first)))))
