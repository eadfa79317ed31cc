"""Both HTTP protocols in this process, with an application of all kinds of answers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from tests.fuzz.pipelines import Leave
from tracker.edge.http.bounds import BoundedProtocol
from tracker.edge.http.fast_path import LinkProtocol
from tracker.edge.http.hit import Hit
from tracker.edge.http.response import Response

PROTOCOLS = (LinkProtocol, BoundedProtocol)


class Ways:
    """An application whose paths name the kind of answer: /<kind>/<number>. Answers carry the path."""

    def __init__(self) -> None:
        self.taken: defaultdict[int, list[str]] = defaultdict(list)  # paths by the client's port, in order
        self.faults: list[str] = []  # unexpected errors of answers

    def is_link(self, path: str) -> bool:
        return path.startswith("/offer/")

    def take(self, hit: Hit) -> None:
        path = hit.request.raw_path
        self.taken[hit._connection.client[1]].append(hit.request.path)
        answer = Response(302, b"x-path: %b\r\ncontent-length: 0\r\n" % path, b"")
        delay = 0.1 if path == b"/offer/0" else 0.001 if sum(path) % 3 == 0 else 0.0
        asyncio.get_running_loop().call_later(delay, self._give, hit, answer)

    def _give(self, hit: Hit, answer: Response) -> None:
        try:
            hit.give(answer)
        except Exception as error:
            self.faults.append(f"{hit.request.path}: {error!r}")

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.taken[scope["client"][1]].append(scope["path"])
        if scope["path"].split("/")[1] == "fails":
            raise RuntimeError("as it was told")
        try:
            await self._answer(scope, receive, send)
            if [name for name, _ in scope["headers"]].count(b"host") > 1:
                self.faults.append(f"{scope['path']}: a trailer is among its headers")
        except Exception as error:
            self.faults.append(f"{scope['path']}: {error!r}")
            raise

    async def _answer(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        way = scope["path"].split("/")[1]
        body = b"here"
        if way == "late":
            await asyncio.sleep(0.002)
        elif way == "slow":
            await asyncio.sleep(0.1)
            if await _body(receive) is None:
                return
            listening = asyncio.create_task(
                receive()
            )  # as a Response that streams awaits the client's leaving
            await asyncio.sleep(0.2)
            listening.cancel()
        elif way == "big":
            body = b"x" * int(scope["path"].rpartition("/")[2])
        elif way == "part":
            await receive()
        elif way == "read":
            read = await _body(receive)
            if read is None:
                return
            body = sha256(read).hexdigest().encode()
        await _answer(scope["path"].encode(), way, body, send)


async def _body(receive: Any) -> bytes | None:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message["body"]
        if not message["more_body"]:
            return body


async def _answer(path: bytes, way: str, body: bytes, send: Any) -> None:
    headers = [(b"x-path", path)]
    if way == "close":
        headers.append((b"connection", b"close"))
    if way != "stream":
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if way == "stream":
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"more", "more_body": True})
            await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def served(protocol: type[BoundedProtocol], ways: Ways | None = None) -> AsyncIterator[int]:
    """The port of the server. Connections open at the end are cut."""
    ways, state, loop = ways or Ways(), ServerState(), asyncio.get_running_loop()

    class Fresh(protocol):  # type: ignore[misc, valid-type]
        def connection_made(self, transport: asyncio.Transport) -> None:
            ways.taken.pop(transport.get_extra_info("peername")[1], None)  # an earlier client's
            super().connection_made(transport)

    config = uvicorn.Config(ways, access_log=False, log_config=None, proxy_headers=False)
    config.load()
    server = await loop.create_server(lambda: Fresh(config, state, {}, loop), "127.0.0.1", 0, backlog=1000)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        while state.connections or state.tasks:
            await asyncio.sleep(0.01)


class _Client(asyncio.Protocol):
    def __init__(self) -> None:
        self.received = bytearray()
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


class Received(bytes):
    """All bytes of the server."""

    port: int  # of the client


async def ask(port: int, pieces: list[bytes], leave: Leave = Leave.WAIT) -> Received | None:
    """All bytes of a server until it closes the connection. None if it does not."""
    transport, client = await asyncio.get_running_loop().create_connection(_Client, "127.0.0.1", port)
    own_port = transport.get_extra_info("sockname")[1]
    try:
        for piece in pieces:
            if transport.is_closing():
                break
            transport.write(piece)
            await asyncio.sleep(0)
        if leave is Leave.ABORT:
            transport.abort()
        elif leave is Leave.HALF_CLOSE and not transport.is_closing():
            transport.write_eof()
        async with asyncio.timeout(30):
            await asyncio.shield(client.lost)
    except TimeoutError:
        return None
    finally:
        transport.abort()
    received = Received(client.received)
    received.port = own_port
    return received
