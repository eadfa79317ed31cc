"""Load at full speed over kept-alive connections, for machines without wrk.

    python -m loadtests.load_generator PORT CONNECTIONS SECONDS FILE FIRST_NUMBER

FILE and FIRST_NUMBER as in click.lua. Prints one JSON object: requests, seconds, p50_ms, p99_ms, failed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from itertools import count, cycle
from pathlib import Path
from time import perf_counter
from typing import cast

import uvloop

_GRACE_SECONDS = 30.0
_STRIDE = 7_046_029
"""Odd, so that addresses do not come again. Each is in another network than the one before it."""
END = b"\r\n\r\n"  # every server here answers with an empty body


class _Connection(asyncio.Protocol):
    """Sends the next request once the one before is answered, until it is told that that was the last."""

    def __init__(self, next_request: Callable[[], bytes], seconds: list[float]) -> None:
        self._next = next_request
        self._is_last = False
        self.ended = asyncio.Event()
        self._seconds = seconds
        self._sent_at = 0.0
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.failed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no such class
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._received.endswith(END):
            return
        self._seconds.append(perf_counter() - self._sent_at)
        self.failed += not self._received.startswith(b"HTTP/1.1 302")
        self._received = b""
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:  # not by us
            self.failed += 1
            self._transport = None
        self.ended.set()

    def finish(self) -> None:
        """Await the answer under way: the server's work for it counts."""
        self._is_last = True

    def _send(self) -> None:
        if self._transport is not None and self._is_last:
            transport, self._transport = self._transport, None
            transport.close()
        elif self._transport is not None:
            self._sent_at = perf_counter()
            self._transport.write(self._next())


def requests(path: Path, first: int) -> Iterator[bytes]:
    """The requests of a file, over and over, their placeholders filled."""
    numbers = count(first + 1)
    for request in cycle(path.read_bytes().split(b"\x1e")):
        if b"@N@" in request:
            number = next(numbers)
            host = number * _STRIDE % 2**30
            address = b"%d.%d.%d.%d" % (24 + (host >> 24), *(host & 0xFFFFFF).to_bytes(3, "big"))
            yield request.replace(b"@N@", b"%d" % number, 1).replace(b"@IP@", address, 1)
        else:
            yield request


async def load(port: int, connections: int, seconds: float, path: Path, first: int) -> dict[str, float]:
    endless, taken = requests(path, first), list[float]()
    loop = asyncio.get_running_loop()
    begun = perf_counter()
    opened = [
        await loop.create_connection(lambda: _Connection(endless.__next__, taken), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds)
    for _, connection in opened:
        connection.finish()
    async with asyncio.timeout(_GRACE_SECONDS):
        for _, connection in opened:
            await connection.ended.wait()
    lasted = perf_counter() - begun
    taken.sort()
    return {
        "requests": len(taken),
        "seconds": lasted,
        "p50_ms": taken[len(taken) // 2] * 1_000 if taken else 0.0,
        "p99_ms": taken[len(taken) * 99 // 100] * 1_000 if taken else 0.0,
        "failed": sum(connection.failed for _, connection in opened),
    }


if __name__ == "__main__":
    port, connections, seconds, path, first = sys.argv[1:]
    print(json.dumps(uvloop.run(load(int(port), int(connections), float(seconds), Path(path), int(first)))))
