"""The fast path of HTTP (edge.http.fast_path), with an application that fails or waits on demand."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from tracker.edge.http import response
from tracker.edge.http.fast_path import LinkProtocol
from tracker.edge.http.hit import Hit
from tracker.edge.http.request import Request

PATIENCE = 10.0
PLAIN = response.redirect(302, "https://ad.test/?c=1", "")


class Links:
    """Answers links one by one on demand, and other requests as an ASGI application."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.waiting: list[asyncio.Future[None]] = []

    def is_link(self, path: str) -> bool:
        return path.startswith("/offer/")

    def take(self, hit: Hit) -> None:
        self.requests.append(hit.request)
        if hit.request.path == "/offer/fails":
            hit.give(response.FAILED)
        elif hit.request.path == "/offer/waits":
            waited = asyncio.get_running_loop().create_future()
            waited.add_done_callback(lambda _: hit.give(PLAIN))
            self.waiting.append(waited)
        else:
            hit.give(PLAIN)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await response.send_as_messages(send, response.NOT_FOUND)


class Served:
    def __init__(self, links: Links, port: int, state: ServerState) -> None:
        self.links = links
        self.port = port
        self.state = state
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer


@pytest.fixture
async def served(anyio_backend: str) -> AsyncIterator[Served]:
    links, state, loop = Links(), ServerState(), asyncio.get_running_loop()
    config = uvicorn.Config(
        links, access_log=False, log_config=None, proxy_headers=False, timeout_keep_alive=1
    )
    config.load()
    server = await loop.create_server(lambda: LinkProtocol(config, state, {}, loop), "127.0.0.1", 0)
    served = Served(links, server.sockets[0].getsockname()[1], state)
    yield served
    server.close()
    for writer in served.writers:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    for connection in list(state.connections):
        connection.transport.abort()
    await until(lambda: not state.connections)


def get(path: str, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: t\r\n{headers}\r\n".encode()


async def heads(reader: asyncio.StreamReader, number: int) -> list[str]:
    async with asyncio.timeout(PATIENCE):
        found = []
        for _ in range(number):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            await reader.readexactly(length)
            found.append(head)
        return found


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.01)


async def test_response_is_one_write_with_the_servers_headers(served: Served) -> None:
    served.state.default_headers = [(b"date", b"Wed, 25 Nov 2026 19:19:13 GMT")]
    reader, writer = await served.connect()
    writer.write(
        get("/offer/3?a=1", "X-Forwarded-For: 1.2.3.4\r\nx-forwarded-for: 5.6.7.8\r\nA: 1\r\na: 2\r\n")
    )
    (head,) = await heads(reader, 1)
    assert head == (
        "HTTP/1.1 302 Found\r\ndate: Wed, 25 Nov 2026 19:19:13 GMT\r\nlocation: https://ad.test/?c=1\r\n"
        "cache-control: no-store, private\r\nx-robots-tag: noindex, nofollow\r\ncontent-length: 0\r\n\r\n"
    )
    headers = {b"host": b"t", b"x-forwarded-for": b"1.2.3.4,5.6.7.8", b"a": b"2"}
    assert served.links.requests == [
        Request("GET", "http", "127.0.0.1", "/offer/3", b"/offer/3", b"a=1", headers)
    ]


async def test_hit_that_fails_is_500_and_closed(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(get("/offer/fails"))
    (head,) = await heads(reader, 1)
    assert head.startswith("HTTP/1.1 500 ")
    assert "\r\nconnection: close\r\n" in head
    assert await reader.read() == b""


async def test_request_behind_a_waiting_hit_is_answered_behind_it(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(get("/offer/waits") + get("/elsewhere") + get("/offer/3"))
    await until(lambda: len(served.links.waiting) == 1)
    await asyncio.sleep(0.05)
    assert len(served.links.requests) == 1
    served.links.waiting[0].set_result(None)
    assert [head[9:12] for head in await heads(reader, 3)] == ["302", "404", "404"]  # as this ASGI app says


async def test_lost_client_of_a_waiting_hit_gets_no_bytes(served: Served) -> None:
    _, writer = await served.connect()
    writer.write(get("/offer/waits"))
    await until(lambda: len(served.links.waiting) == 1)
    reset = struct.pack("ii", 1, 0)  # without it a lost client looks like one that has sent all
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    writer.transport.abort()
    await until(lambda: not served.state.connections)
    served.links.waiting[0].set_result(None)
    await asyncio.sleep(0.05)
    reader, writer = await served.connect()
    writer.write(get("/offer/3"))
    assert (await heads(reader, 1))[0].startswith("HTTP/1.1 302 ")


async def test_body_of_a_get_is_ignored(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(get("/offer/waits", "Content-Length: 100000\r\n") + b"x" * 50_000)
    await until(lambda: len(served.links.waiting) == 1)
    served.links.waiting[0].set_result(None)
    writer.write(b"x" * 50_000 + get("/offer/3"))
    assert [head[9:12] for head in await heads(reader, 2)] == ["302", "302"]


async def test_connection_that_idles_is_closed_and_one_that_waits_is_not(served: Served) -> None:
    idle, idle_writer = await served.connect()
    busy, busy_writer = await served.connect()
    idle_writer.write(get("/offer/3"))
    busy_writer.write(get("/offer/3") + get("/offer/waits"))
    await heads(idle, 1)
    await heads(busy, 1)
    async with asyncio.timeout(PATIENCE):
        assert await idle.read() == b""
    await asyncio.sleep(1.5)  # longer than a connection may idle
    served.links.waiting[0].set_result(None)
    assert (await heads(busy, 1))[0].startswith("HTTP/1.1 302 ")


async def test_stopping_server_answers_waiting_requests_and_closes(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(get("/offer/waits"))
    await until(lambda: len(served.links.waiting) == 1)
    for connection in list(served.state.connections):
        connection.shutdown()
    served.links.waiting[0].set_result(None)
    (head,) = await heads(reader, 1)
    assert "\r\nconnection: close\r\n" in head
    assert await reader.read() == b""
