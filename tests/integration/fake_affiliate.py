"""An affiliate's server. It keeps its requests and gives prepared answers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
RESET = b""
"""The connection is closed instead of an answer."""
SILENCE = None
"""The connection stays open, and nothing comes."""


def status(code: int, *headers: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {code} Said", *headers, "Content-Length: 0", "", "")).encode()


class ReceivedRequest(NamedTuple):
    target: str
    headers: dict[str, str]
    method: str = "GET"
    body: bytes = b""


class FakeAffiliate:
    """Answers in the order of `answers`, and then with OK."""

    def __init__(self) -> None:
        self.asked: list[ReceivedRequest] = []
        self.answers: deque[bytes | None] = deque()
        self.port = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[FakeAffiliate]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await reader.readexactly(int(headers.get("Content-Length", 0)))
            method, target, _ = first.split()
            self.asked.append(ReceivedRequest(target, headers, method, body))
            answer = self.answers.popleft() if self.answers else OK
            if answer is SILENCE:
                await reader.read()  # until the other side gives up
            else:
                writer.write(answer)
        finally:
            writer.close()
