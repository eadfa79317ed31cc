"""Visitors that click without end and keep their answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from time import monotonic
from typing import Self

CONNECTIONS = 32
VISITORS = 400
"""The number of visitors. Most clicks are duplicates."""

_BROKEN = (OSError, EOFError, asyncio.IncompleteReadError)
_CLICKS_OF_CONNECTION = 200
_PAUSE_SECONDS = 0.05  # after a refusal, so that an outage does not become a busy loop
_LAG_SECONDS = 0.005


class Load:
    """Keep-alive connections to edges. Each click has its own `aff_sub` and is sent once.

    A visitor goes on at any edge of `ports` after some clicks, or once its connection breaks: as behind a
    balancer.
    """

    def __init__(self, ports: Sequence[int], *links: str) -> None:
        self.answered: dict[str, str] = {}  # the Location by aff_sub, "" without one
        self.unanswered = 0  # cut off: may be stored, promises nothing
        self.refused = 0  # 503: promises nothing
        self.unexpected: list[bytes] = []
        self._ports = ports
        self._links = links
        self._numbers = count(1)
        self.begin_watch()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._visit()) for _ in range(CONNECTIONS)]
        self._tasks.append(asyncio.create_task(self._watch_own_lag()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def redirected(self) -> int:
        return sum(location != "" for location in self.answered.values())

    async def answers(self, more: int) -> None:
        """Wait until so many more clicks have been answered."""
        goal = len(self.answered) + more
        while len(self.answered) < goal:
            await asyncio.sleep(0.01)

    def begin_watch(self) -> None:
        self._last, self._longest_gap, self._longest_lag = monotonic(), 0.0, 0.0
        self.longest_wait = 0.0
        """Seconds from a visitor's first try to an answer that is no refusal, own pauses too."""

    @property
    def longest_pause(self) -> float:
        """Seconds without an answer since begin_watch(), without the pauses of this process."""
        return max(self._longest_gap, monotonic() - self._last) - self._longest_lag

    async def _watch_own_lag(self) -> None:
        while True:
            began = monotonic()
            await asyncio.sleep(_LAG_SECONDS)
            self._longest_lag = max(self._longest_lag, monotonic() - began - _LAG_SECONDS)

    async def _visit(self) -> None:
        since = monotonic()
        while True:
            with suppress(*_BROKEN):
                reader, writer = await asyncio.open_connection("127.0.0.1", random.choice(self._ports))
                try:
                    for _ in range(_CLICKS_OF_CONNECTION):
                        if await self._click(reader, writer, next(self._numbers)):
                            self.longest_wait = max(self.longest_wait, monotonic() - since)
                            since = monotonic()
                    continue
                finally:
                    writer.close()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _click(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        """Send a click. Returns whether its answer promises something."""
        aff_sub, link = f"c{number}", self._links[number % len(self._links)]
        self.unanswered += 1
        writer.write(
            f"GET {link}&aff_sub={aff_sub} HTTP/1.1\r\nHost: t.example\r\n"
            f"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:{number % VISITORS}.0) Gecko/20100101 "
            "Firefox/140.0\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        headers = dict(line.split(b": ", 1) for line in head.splitlines()[1:-1])
        await reader.readexactly(int(headers[b"content-length"]))
        self.unanswered -= 1
        if head.startswith((b"HTTP/1.1 302 ", b"HTTP/1.1 403 ")):
            self._note(aff_sub, headers.get(b"location", b"").decode())
            return True
        self.refused += 1
        if not head.startswith(b"HTTP/1.1 503 "):
            self.unexpected.append(head)
        await asyncio.sleep(_PAUSE_SECONDS)
        return False

    def _note(self, aff_sub: str, location: str) -> None:
        self.answered[aff_sub] = location
        now = monotonic()
        self._longest_gap, self._last = max(self._longest_gap, now - self._last), now
