"""Visitors who never stop clicking, and note what they were answered."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import count
from typing import Self

CONNECTIONS = 32

_BROKEN = (OSError, EOFError, asyncio.IncompleteReadError)
_PAUSE_SECONDS = 0.05  # after a refusal, so that an outage does not become a busy loop


class Load:
    """Keep-alive connections to an edge; each click has an `aff_sub` of its own and is sent once."""

    def __init__(self, port: int, link: str) -> None:
        self.locations: dict[str, str] = {}  # of each aff_sub that was redirected
        self.unanswered = 0  # cut off: stored or not, nobody was promised anything
        self.refused = 0
        self.unexpected: list[bytes] = []
        self._port = port
        self._link = link
        self._numbers = count(1)

    async def __aenter__(self) -> Self:
        self._visitors = [asyncio.create_task(self._visit()) for _ in range(CONNECTIONS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for visitor in self._visitors:
            visitor.cancel()
        await asyncio.gather(*self._visitors, return_exceptions=True)

    async def answers(self, more: int) -> None:
        """Wait until so many more clicks have been redirected."""
        goal = len(self.locations) + more
        while len(self.locations) < goal:
            await asyncio.sleep(0.01)

    async def _visit(self) -> None:
        while True:
            with suppress(*_BROKEN):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    while True:
                        await self._click(reader, writer)
                finally:
                    writer.close()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _click(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        aff_sub = f"c{next(self._numbers)}"
        self.unanswered += 1
        writer.write(
            f"GET {self._link}&aff_sub={aff_sub} HTTP/1.1\r\nHost: t.example\r\n"
            f"User-Agent: visitor {aff_sub}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        headers = dict(line.split(b": ", 1) for line in head.splitlines()[1:-1])
        await reader.readexactly(int(headers[b"content-length"]))
        self.unanswered -= 1
        if head.startswith(b"HTTP/1.1 302 "):
            self.locations[aff_sub] = headers[b"location"].decode()
            return
        self.refused += 1
        if not head.startswith(b"HTTP/1.1 503 "):
            self.unexpected.append(head)
        await asyncio.sleep(_PAUSE_SECONDS)
