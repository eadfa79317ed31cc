"""HTTP on the wire: methods, connections, and bytes that no client library would send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from httpx import AsyncClient

from tests.integration.edge_client import PATIENCE, edge_of, raw, recorded
from tracker.domain.click_id import ZERO_HASH
from tracker.edge.http import bounds
from tracker.settings import Settings

pytestmark = pytest.mark.anyio

LINK = b"/offer/3?affiliate_id=513"
LAND = "https://ad.example/land?click_id={hash}&aff_id=513&sub={sub}"


def status_of(answer: bytes) -> int:
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0


def locations_of(answer: bytes) -> list[str]:
    lines = answer.decode("ascii").splitlines()
    return [line.removeprefix("location: ") for line in lines if line.startswith("location: ")]


REFUSED = [b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PROPFIND", b"PURGE"]
UNKNOWN = [b"BREW", b"get", b"G\x00ET", b"GET\t", b""]  # the parser knows the registered methods alone
METHODS = [
    (b"GET", 302, True),
    (b"HEAD", 302, False),
    *((method, 405, False) for method in REFUSED),
    *((method, 400, False) for method in UNKNOWN),
]


async def test_methods_get_their_answers_and_only_get_is_a_click(database: Settings) -> None:
    async with edge_of(database) as client:
        for method, status, is_click in METHODS:
            request = method + b" " + LINK + b" HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
            answer = await raw(client, request)
            head, _, body = answer.partition(b"\r\n\r\n")
            rows = await recorded(database)
            assert (status_of(answer), len(rows)) == (status, is_click), method
            assert (b"\r\nallow: GET, HEAD\r\n" in head) == (status == 405), method
            if method == b"HEAD":
                assert body == b""
                assert locations_of(answer) == [LAND.format(hash=ZERO_HASH, sub="")]


HEADERS = [
    ("odd case", b"hOST: t\r\nuSER-aGENT: odd\r\n", {"host": "t", "user_agent": "odd"}),
    ("white space", b"Host:t\r\nUser-Agent: \t odd\r\n", {"host": "t", "user_agent": "odd"}),
    ("empty host", b"Host:\r\n", {"host": ""}),
    ("absurd host", b'Host: a/../<b>"@c:99999999\r\n', {"host": 'a/../<b>"@c:99999999'}),
    ("long host", b"Host: " + b"a" * 5000 + b"\r\n", {"host": "a" * 255}),
    ("host no text", b"Host: \xff\xfe\r\n", {"host": "\ufffd\ufffd"}),
    ("repeated: the last", b"User-Agent: one\r\nUser-Agent: two\r\nHost: t\r\n", {"user_agent": "two"}),
    ("200 headers", b"Host: t\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(200)), {"host": "t"}),
    ("60 KiB in one", b"Host: t\r\nX: " + b"y" * 60 * 1024 + b"\r\n", {"host": "t"}),
    ("60 KiB of names", b"Host: t\r\n" + b"X" * 60 * 1024 + b": y\r\n", {"host": "t"}),
    ("long agent", b"Host: t\r\nUser-Agent: " + b"a" * 9000 + b"\r\n", {"user_agent": "a" * 500}),
    ("a body", b"Host: t\r\nContent-Length: 2\r\n\r\nab", {"host": "t"}),
    ("a chunked body", b"Host: t\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n", {"host": "t"}),
    ("an offer to wait", b"Host: t\r\nExpect: 100-continue\r\n", {"host": "t"}),
]


async def test_malformed_headers_are_ignored(database: Settings) -> None:
    async with edge_of(database) as client:
        for case, headers, wanted in HEADERS:
            request = b"GET " + LINK + b" HTTP/1.1\r\nConnection: close\r\n" + headers + b"\r\n"
            answer = await raw(client, request)
            rows = await recorded(database)
            assert [status_of(answer), len(rows)] == [302, 1], case
            assert {name: getattr(rows[0], name) for name in wanted} == wanted, case
            assert locations_of(answer) == [LAND.format(hash=rows[0].hash, sub="")], case


BROKEN = [
    ("NUL in a value", b"GET %s HTTP/1.1\r\nHost: t\r\nX: a\x00b\r\n\r\n"),
    ("NUL in a name", b"GET %s HTTP/1.1\r\nHost: t\r\nX\x00: a\r\n\r\n"),
    ("bare LF", b"GET %s HTTP/1.1\nHost: t\n\n"),
    ("bare CR", b"GET %s HTTP/1.1\r\nHost: t\r\nX: a\rb\r\n\r\n"),
    ("folded value", b"GET %s HTTP/1.1\r\nHost: t\r\nX: a\r\n b\r\n\r\n"),
    ("space before the colon", b"GET %s HTTP/1.1\r\nHost : t\r\n\r\n"),
    ("no colon", b"GET %s HTTP/1.1\r\nHost t\r\n\r\n"),
    ("space in the target", b"GET %s b HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("relative target", b"GET x%s HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("two lengths", b"GET %s HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    (
        "length and chunks",
        b"GET %s HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("negative length", b"GET %s HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n"),
    ("no host", b"GET %s HTTP/1.1\r\n\r\n"),
    ("two hosts", b"GET %s HTTP/1.1\r\nHost: t\r\nHost: t\r\n\r\n"),
    ("two hosts, HTTP/1.0", b"GET %s HTTP/1.0\r\nHost: t\r\nhost: u\r\n\r\n"),
    ("unknown coding", b"GET %s HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip\r\n\r\n"),
    ("two codings", b"GET %s HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (
        "two lines of codings",
        b"GET %s HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("UTF-8 in the target", "GET %s&aff_sub=é€ HTTP/1.1\r\nHost: t\r\n\r\n".encode()),
    ("a high byte in the target", b"GET %s&aff_sub=\xff HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("a high byte in the path", b"GET /\xff%s HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("another version", b"GET %s HTTP/7.0\r\n\r\n"),
    ("HTTP/2.0", b"GET %s HTTP/2.0\r\nHost: t\r\n\r\n"),
    ("HTTP/0.9, kept", b"GET %s HTTP/0.9\r\nHost: t\r\nConnection: keep-alive\r\n\r\n"),
    ("no version", b"GET %s\r\nHost: t\r\n\r\n"),
    ("CONNECT with a body", b"CONNECT %s HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nab"),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 50),
    ("every byte", bytes(range(256))),
]


@pytest.mark.parametrize("case", [case for case, _ in BROKEN])
async def test_bytes_that_are_not_http_are_refused_and_closed(database: Settings, case: str) -> None:
    request = dict(BROKEN)[case]
    async with edge_of(database) as client:
        answer = await raw(client, request.replace(b"%s", LINK) + b"GET " + LINK + b" HTTP/1.1\r\n\r\n")
        assert status_of(answer) == 400
        assert answer.count(b"HTTP/1.1 ") == 1, "nothing behind it on the connection is a request"
    assert await recorded(database) == []


class Connection:
    """One connection to the edge, on which requests follow one another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, request: bytes) -> None:
        self._writer.write(request)
        await self._writer.drain()

    async def answer(self) -> bytes:
        """The head of the next answer. b"" if the edge has closed."""
        async with asyncio.timeout(PATIENCE):
            try:
                head = await self._reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionResetError):
                return b""
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await self._reader.readexactly(length)
            return head


@asynccontextmanager
async def connect(client: AsyncClient) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


def get(sub: int, headers: bytes = b"") -> bytes:
    agent = b"User-Agent: Mozilla/5.0 (Windows NT 10.0)\r\n"
    return b"GET %s&aff_sub=%d HTTP/1.1\r\nHost: t\r\n%s%s\r\n" % (LINK, sub, agent, headers)


async def test_connection_is_kept_for_the_next_click(database: Settings) -> None:
    async with edge_of(database) as client, connect(client) as connection:
        sent = []
        for n in range(3):
            await connection.send(get(n))
            sent += locations_of(await connection.answer())
        await connection.send(b"HEAD " + LINK + b" HTTP/1.1\r\nHost: t\r\n\r\n")
        assert status_of(await connection.answer()) == 302
        await connection.send(b"POST " + LINK + b" HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n")
        assert status_of(await connection.answer()) == 405
        await connection.send(b"ab" + get(3))  # the body comes late, and the next request behind it
        sent += locations_of(await connection.answer())
        await connection.send(get(4, b"Connection: close\r\n"))
        sent += locations_of(await connection.answer())
        assert await connection.answer() == b""
    rows = await recorded(database)
    assert sent == [LAND.format(hash=row.hash, sub=n) for n, row in enumerate(rows)]
    assert len(rows) == 5


async def test_pipelined_requests_are_each_answered_in_order(database: Settings) -> None:
    requests = b"".join(get(n, b"Connection: close\r\n" if n == 9 else b"") for n in range(10))
    async with edge_of(database) as client:
        answer = await raw(client, requests)
    rows = await recorded(database)
    assert locations_of(answer) == [LAND.format(hash=row.hash, sub=n) for n, row in enumerate(rows)]
    assert len(rows) == 10
    assert [row.is_unique for row in rows] == [True] + [False] * 9


async def test_pipelined_requests_of_other_kinds_keep_their_places(database: Settings) -> None:
    hidden = get(9)
    requests = (
        b"POST %s HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % (LINK, len(hidden))
        + hidden
        + b"HEAD /offer/3 HTTP/1.1\r\nHost: t\r\n\r\n"
        + get(1, b"Sec-Purpose: prefetch\r\n")
        + get(2, b"Connection: close\r\n")
    )
    async with edge_of(database) as client:
        answer = await raw(client, requests)
    statuses = [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [405, 404, 503, 302]
    assert [row.aff_sub for row in await recorded(database)] == ["2"], "what stands in a body is no request"


VERSIONS = [
    b"HTTP/1.0\r\n",
    b"HTTP/1.0\r\nConnection: keep-alive\r\n",
    b"HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n",
    b"HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    b"HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: 0\r\n",  # Java's
    b"HTTP/1.1\r\nProxy-Connection: upgrade\r\nUpgrade: h2c\r\n",  # the parser takes it for Connection
]


async def test_upgrade_request_is_answered_in_http_1_1_and_closed(database: Settings) -> None:
    async with edge_of(database) as client:
        for version in VERSIONS:
            answer = await raw(client, b"GET " + LINK + b" " + version + b"Host: t\r\n\r\n")
            assert status_of(answer) == 302, version
            assert b"\r\nconnection: close\r\n" in answer, version
            assert len(await recorded(database)) == 1, version


HOSTILE = [
    (b"GET /offer/3?affiliate_id=513&aff_sub=%C3%A9%E2%82%AC HTTP/1.1\r\nHost: t\r\n", "é€"),
    (b"GET /offer/3?affiliate_id=513&aff_sub=%E0%A4%A HTTP/1.1\r\nHost: t\r\n", "%E0%A4%A"),
    (b"GET /offer/3?affiliate_id=513&aff_sub=%00%0d%0aSet-Cookie:x HTTP/1.1\r\nHost: t\r\n", "Set-Cookie:x"),
    (b"GET /offer/3?affiliate_id=513&aff_sub={hash} HTTP/1.1\r\nHost: t\r\n", "{hash}"),
    (b"GET http://evil.test/offer/3?affiliate_id=513&aff_sub=abs HTTP/1.1\r\nHost: t\r\n", "abs"),
    (b"GET /offer/%33?affiliate_id=513&aff_sub=%%%&&=&x HTTP/1.1\r\nHost: t\r\n", "%%%"),
    (
        b"GET /offer/3?affiliate_id=513&aff_sub=ok HTTP/1.1\r\nHost: \xff<script>\r\nUser-Agent: \x80\r\n",
        "ok",
    ),
    (b"GET /offer/3?affiliate_id=513&aff_sub=nohost HTTP/1.0\r\n", "nohost"),
    (b"GET /offer/3?affiliate_id=513&aff_sub=a#b HTTP/1.1\r\nHost: t\r\n", "a"),
    (b"GET /offer/3?affiliate_id=513&aff_sub=../..//evil.test HTTP/1.1\r\nHost: t\r\n", "../..//evil.test"),
]


async def test_hostile_bytes_stay_values(database: Settings) -> None:
    async with edge_of(database) as client:
        for request, value in HOSTILE:
            answer = await raw(client, request + b"Connection: close\r\n\r\n")
            (row,) = await recorded(database)
            head = answer.partition(b"\r\n\r\n")[0].decode("ascii")
            assert head.startswith("HTTP/1.1 302 "), request
            assert "set-cookie" not in {line.partition(":")[0].lower() for line in head.splitlines()}
            assert f"location: {row.redirected_link}" in head.splitlines()
            assert row.redirected_link.startswith(LAND.format(hash=row.hash, sub=""))
            assert row.aff_sub == value


async def test_head_beyond_its_bounds_is_refused(database: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "HEAD_SECONDS", 0.3)
    async with edge_of(database) as client:
        flood = b"GET " + LINK + b" HTTP/1.1\r\nHost: t\r\n" + b"X: y\r\n" * 12_000
        assert (await raw(client, flood)).startswith(b"HTTP/1.1 431 ")
    assert await recorded(database) == []


HELD = [
    ("nothing", b"", 0),
    ("blank lines", b"\r\n\r\n", 0),
    ("half a head", b"GET " + LINK + b" HTTP/1.1\r\nHost: t", 0),
    ("half a head behind a click", get(0) + b"GET " + LINK, 302),
    ("half a body", b"POST " + LINK + b" HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nab", 405),
    ("half a body of a click", get(0, b"Content-Length: 9\r\n") + b"ab", 302),
]


@pytest.mark.parametrize("case", [case for case, _, _ in HELD])
async def test_connection_with_half_a_request_is_closed(
    database: Settings, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(bounds, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(bounds, "BODY_SECONDS", 0.3)
    request, status = next((request, status) for name, request, status in HELD if name == case)
    async with edge_of(database) as client, connect(client) as connection:
        await connection.send(request)
        if status:
            assert status_of(await connection.answer()) == status
            await connection.send(b"c")  # goes on, so that it is not idle
        assert await connection.answer() == b""
    assert len(await recorded(database)) == (status == 302)


async def test_browser_that_disconnects_is_still_recorded(database: Settings) -> None:
    """Its click is recorded, and other clicks are answered."""
    hasty = 20
    async with edge_of(database) as client:
        for _ in range(hasty):
            _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
            writer.write(b"GET " + LINK + b" HTTP/1.1\r\nHost: t\r\n\r\n")
            writer.transport.abort()
        assert (await client.get(LINK.decode())).status_code == 302
        rows = await recorded(database)
        async with asyncio.timeout(PATIENCE):
            while len(rows) <= hasty:
                await asyncio.sleep(0.01)
                rows += await recorded(database)
        assert len({row.hash for row in rows}) == hasty + 1
