"""Both HTTP protocols against random connections (`make fuzz` takes more of them), and their bounds."""

from __future__ import annotations

import asyncio
import re
from unittest.mock import patch

import pytest

from tests.fuzz.judge import fault
from tests.fuzz.pipelines import HOST
from tests.fuzz.rfc9112 import End, Reading, read
from tests.fuzz.run import fuzz
from tests.fuzz.server import PROTOCOLS, ask, served
from tracker import protocol
from tracker.protocol import BoundedProtocol

pytestmark = pytest.mark.anyio

EARLY = b"GET /early/1 HTTP/1.1\r\n" + HOST
CHUNKED = b"POST /read/1 HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
CLOSE = b"GET /early/9 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"

both = pytest.mark.parametrize("kind", PROTOCOLS)


@both
async def test_random_pipelines_are_answered_as_rfc_9112_reads_them(kind: type[BoundedProtocol]) -> None:
    ends, faults = await fuzz(kind, range(1, 401))
    assert faults == []
    assert ends.keys() >= {"CLOSED", "HEAD_BAD", "BODY_BAD", "BODY_CUT"}


@both
async def test_body_with_high_bytes_hides_no_request(kind: type[BoundedProtocol]) -> None:
    hidden = b"\nGET /early/2 HTTP/1.1\r\n" + HOST + b"\r\n"
    body = b"\xff" * (len(hidden) // 2) + hidden
    for method in (b"GET", b"POST", b"HEAD"):
        for way in (b"offer", b"early", b"late", b"part", b"read"):
            head = b"%b /%b/1 HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (method, way, HOST, len(body))
            pieces = [head, body, CLOSE]
            async with served(kind) as port:
                received = await ask(port, pieces)
            assert received is not None
            assert fault(read(b"".join(pieces)), received) is None, (method, way)


BOUNDS = [
    ("a long head", EARLY + b"X: " + b"y" * 70_000, 431),
    ("many header lines", EARLY + b"X:\r\n" * 1_000, 431),
    ("an endless trailer", CHUNKED + b"0\r\nX: " + b"y" * 70_000, 400),
    ("many trailer lines", CHUNKED + b"0\r\n" + b"X:\r\n" * 17_000, 400),
    ("an endless chunk extension", CHUNKED + b"1;" + b"x" * 70_000, 400),
    ("a cut body", CHUNKED + b"5\r\nab", 408),
    ("a cut body behind another", EARLY + b"\r\n" + CHUNKED + b"5\r\nab", 408),
    ("a broken body", CHUNKED + b"5\r\nabcdefgh", 400),
]


@both
@pytest.mark.parametrize("case", [case for case, _, _ in BOUNDS])
async def test_request_beyond_its_bounds_is_refused_in_its_turn(
    kind: type[BoundedProtocol], case: str
) -> None:
    request, status = next((request, status) for name, request, status in BOUNDS if name == case)
    before = b"GET /late/7 HTTP/1.1\r\n" + HOST + b"\r\n"
    with patch.multiple(protocol, BODY_SECONDS=0.3, LINGER_SECONDS=0.1):
        async with served(kind) as port:
            received = await ask(port, [before + request])
    assert received is not None
    statuses = [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]
    assert statuses == [200] * (1 + request.count(EARLY + b"\r\n")) + [status]


@both
async def test_long_body_behind_an_early_answer_brings_no_second_one(kind: type[BoundedProtocol]) -> None:
    for size, is_kept in ((protocol.HEAD_BYTES * 3, True), (protocol.DISCARDED_BYTES * 2, False)):
        head = EARLY + b"Content-Length: %d\r\n\r\n" % size
        pieces = [head, *[b"x" * 65_536] * (size // 65_536), CLOSE]
        with patch.multiple(protocol, LINGER_SECONDS=0.1):
            async with served(kind) as port:
                received = await ask(port, pieces)
        assert received is not None
        assert received.count(b"HTTP/1.1 200 ") == 1 + is_kept
        assert received.count(b"HTTP/1.1 ") == 1 + is_kept


@both
async def test_tiny_pipelined_requests_are_parsed_a_few_ahead(kind: type[BoundedProtocol]) -> None:
    most = 0

    class Watched(kind):  # type: ignore[misc, valid-type]
        def data_received(self, data: bytes) -> None:
            nonlocal most
            super().data_received(data)
            most = max(most, len(self.pipeline))

    tiny = b"GET /late/1 HTTP/1.1\r\nHost:\r\n\r\n"
    async with served(Watched) as port:
        received = await ask(port, [tiny * 1_000 + CLOSE])
    assert received is not None
    assert received.count(b"HTTP/1.1 200 ") == 1_001
    assert 0 < most < 100


@both
async def test_trailer_is_no_header(kind: type[BoundedProtocol]) -> None:
    trailer = b"Host: u\r\nExpect: 100-continue\r\nAuthorization: Bearer x\r\n"
    stream = CHUNKED + b"3\r\nabc\r\n0\r\n" + trailer + b"\r\n" + EARLY + b"\r\n" + CLOSE
    async with served(kind) as port:
        received = await ask(port, [stream])
    assert received is not None
    reading = read(stream)
    assert [request.target for request in reading.requests] == [b"/read/1", b"/early/1", b"/early/9"]
    assert fault(reading, received) is None


@both
async def test_half_head_behind_a_request_is_not_waited_for(kind: type[BoundedProtocol]) -> None:
    with patch.multiple(protocol, HEAD_SECONDS=0.3, LINGER_SECONDS=0.1):
        async with served(kind) as port:
            received = await ask(port, [EARLY + b"\r\nGET /early/2 HT"])
    assert received is not None
    assert received.count(b"HTTP/1.1 200 ") == received.count(b"HTTP/1.1 ") == 1


async def test_slow_body_that_comes_on_is_waited_for() -> None:
    body = b"x" * 40_000
    head = b"POST /read/1 HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: 40000\r\n\r\n"
    with patch.multiple(protocol, BODY_SECONDS=0.2, BODY_BYTES=100):
        async with served(BoundedProtocol) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head)
            for first in range(0, len(body), 1_000):
                writer.write(body[first : first + 1_000])
                await asyncio.sleep(0.02)
            received = await reader.read()
            writer.close()
    assert received.startswith(b"HTTP/1.1 200 ")


READINGS = [
    (b"", [], End.NEXT),
    (b"\r\n\r\n", [], End.NEXT),
    (EARLY, [], End.HEAD_CUT),
    (EARLY + b"\r\n", [b""], End.NEXT),
    (CLOSE + EARLY + b"\r\n", [b""], End.CLOSED),
    (EARLY + b"Content-Length: 3\r\n\r\nabc" + CLOSE, [b"abc", b""], End.CLOSED),
    (EARLY + b"Content-Length: 3\r\n\r\nab", [b""], End.BODY_CUT),
    (CHUNKED + b"3\r\nabc\r\n2;x\r\nde\r\n0\r\nX: y\r\n\r\n", [b"abcde"], End.NEXT),
    (CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", [b""], End.BODY_BAD),
    (EARLY + HOST + b"\r\n", [], End.HEAD_BAD),
    (b"GET /early/1 HTTP/1.1\r\n\r\n", [], End.HEAD_BAD),
    (b"GET /early/1 HTTP/1.0\r\n\r\n", [b""], End.CLOSED),
    (EARLY + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", [], End.HEAD_BAD),
]


@pytest.mark.parametrize(("data", "bodies", "end"), READINGS)
def test_reading_finds_the_messages(data: bytes, bodies: list[bytes], end: End) -> None:
    reading = read(data)
    assert ([request.body for request in reading.requests], reading.end) == (bodies, end)


ONE = b"HTTP/1.1 200 OK\r\nx-path: /early/1\r\ncontent-length: 0\r\n\r\n"
OTHER = ONE.replace(b"/early/1", b"/early/9")
REFUSED = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
WRONG = [
    ("none", EARLY + b"\r\n", b""),
    ("one too many", EARLY + b"\r\n", ONE + ONE),
    ("another's", EARLY + b"\r\n", OTHER),
    ("out of order", EARLY + b"\r\n" + CLOSE, OTHER + ONE),
    ("a refusal of what is sound", EARLY + b"\r\n", REFUSED),
    ("a refusal behind the last one", CLOSE + b"\0", OTHER + REFUSED),
    ("none of what is not HTTP", EARLY + b"\r\n\0\r\n", ONE),
    ("two of a broken body", EARLY + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", ONE + REFUSED),
    ("cut off", EARLY + b"\r\n", ONE[:-1]),
]


@pytest.mark.parametrize("case", [case for case, _, _ in WRONG])
def test_judge_finds_what_is_wrong(case: str) -> None:
    data, received = next((data, received) for name, data, received in WRONG if name == case)
    assert fault(read(data), received) is not None
    assert fault(Reading([], End.NEXT), b"") is None
