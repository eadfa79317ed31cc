"""Both HTTP protocols against random connections (more in `make fuzz`), and their limits."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import socket
import weakref
from typing import Any
from unittest.mock import patch

import pytest

from tests.fuzz.judge import fault
from tests.fuzz.pipelines import HOST, Leave
from tests.fuzz.rfc9112 import End, Reading, read
from tests.fuzz.run import fuzz
from tests.fuzz.server import PROTOCOLS, Ways, ask, served
from tracker.edge.http import bounds
from tracker.edge.http.bounds import BoundedProtocol
from tracker.edge.http.fast_path import LinkProtocol

pytestmark = pytest.mark.anyio

EARLY = b"GET /early/1 HTTP/1.1\r\n" + HOST
CHUNKED = b"POST /read/1 HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
CLOSE = b"GET /early/9 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}  # as the commands serve: it is stricter with closed connections


both = pytest.mark.parametrize("kind", PROTOCOLS)


def statuses(received: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


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
    with patch.multiple(bounds, BODY_SECONDS=0.3, LINGER_SECONDS=0.1):
        async with served(kind) as port:
            received = await ask(port, [before + request])
    assert received is not None
    statuses = [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]
    assert statuses == [200] * (1 + request.count(EARLY + b"\r\n")) + [status]


@both
async def test_long_body_behind_an_early_answer_brings_no_second_one(kind: type[BoundedProtocol]) -> None:
    for size, is_kept in ((bounds.HEAD_BYTES * 3, True), (bounds.DISCARDED_BYTES * 2, False)):
        for way in (b"early", b"late", b"offer"):
            head = EARLY.replace(b"early", way) + b"Content-Length: %d\r\n\r\n" % size
            pieces = [head, *[b"x" * 65_536] * (size // 65_536), CLOSE]
            with patch.multiple(bounds, LINGER_SECONDS=0.1):
                async with served(kind) as port:
                    received = await ask(port, pieces)
            assert received is not None
            assert len(statuses(received)) == 1 + is_kept
            assert 400 not in statuses(received)


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
async def test_flood_behind_a_slow_answer_is_not_read(kind: type[BoundedProtocol]) -> None:
    most = 0

    class Watched(kind):  # type: ignore[misc, valid-type]
        def data_received(self, data: bytes) -> None:
            nonlocal most
            super().data_received(data)
            most = max(most, len(self._unread))

    slow = b"POST /slow/1 HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\nx"
    async with served(Watched) as port:
        received = await ask(port, [slow + EARLY + b"\r\n", *[b"\r\n" * 100_000] * 40, CLOSE])
    assert received is not None
    assert statuses(received) == [200, 200, 200]
    assert most <= 256 * 1024


@both
async def test_trailer_does_not_become_a_header(kind: type[BoundedProtocol]) -> None:
    ways = Ways()
    trailer = b"Host: u\r\nExpect: 100-continue\r\nAuthorization: Bearer x\r\n"
    stream = CHUNKED + b"3\r\nabc\r\n0\r\n" + trailer + b"\r\n" + EARLY + b"\r\n" + CLOSE
    async with served(kind, ways) as port:
        received = await ask(port, [stream])
    assert ways.faults == []
    assert received is not None
    reading = read(stream)
    assert [request.target for request in reading.requests] == [b"/read/1", b"/early/1", b"/early/9"]
    assert fault(reading, received) is None


@both
async def test_half_head_behind_a_request_is_not_waited_for(kind: type[BoundedProtocol]) -> None:
    with patch.multiple(bounds, HEAD_SECONDS=0.3, LINGER_SECONDS=0.1):
        async with served(kind) as port:
            for is_answered_before in (False, True):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(EARLY + b"\r\n")
                if is_answered_before:
                    await reader.readuntil(b"here")
                writer.write(b"GET /early/2 HT")
                assert len(statuses(await reader.read())) == (not is_answered_before)
                writer.close()


@both
async def test_request_behind_a_close_is_not_carried_out(kind: type[BoundedProtocol]) -> None:
    """The answer closes the connection, and requests behind it are not parsed yet."""
    late = b"GET /late/1 HTTP/1.1\r\n" + HOST + b"\r\n"
    padding = b"X: %b\r\n\r\n"
    for last in (b"GET /close/2 HTTP/1.1\r\n", b"GET /early/2 HTTP/1.1\r\nExpect: 100-continue\r\n"):
        for behind in (b"GET /offer/3 HTTP/1.1\r\n", b"GET /early/3 HTTP/1.1\r\n"):
            ways = Ways()
            async with served(kind, ways) as port:
                filled = late + last + HOST
                filled += padding % (b"y" * (bounds._PIECE - len(filled + padding % b"")))
                received = await ask(port, [filled + behind + HOST + padding % (b"y" * 3_000)])
            assert received is not None
            assert statuses(received) == [200, 200]
            assert len(ways.taken[received.port]) == 2


LATE = b"GET /late/1 HTTP/1.1\r\n" + HOST
HALF_CLOSED = [
    ("nothing", b"", []),
    ("a request", LATE + b"\r\n", [200]),
    ("two requests", LATE + b"\r\n" + EARLY + b"\r\n", [200, 200]),
    ("half a head behind one", LATE + b"\r\n" + EARLY, [200]),
    ("half a body behind one", LATE + b"\r\n" + CHUNKED + b"5\r\nab", [200, 400]),
    ("a broken head behind one", LATE + b"\r\n\0", [200, 400]),
]


@pytest.mark.parametrize("case", [case for case, _, _ in HALF_CLOSED])
async def test_client_that_half_closes_is_answered_by_the_edge(case: str) -> None:
    request, wanted = next((request, wanted) for name, request, wanted in HALF_CLOSED if name == case)
    async with served(LinkProtocol) as port:
        received = await ask(port, [request], Leave.HALF_CLOSE)
        assert received is not None
        assert statuses(received) == wanted
        if b"late" in request:
            hit = request.replace(b"late", b"offer")
            received = await ask(port, [hit], Leave.HALF_CLOSE)
            assert received is not None
            assert len(statuses(received)) == len(wanted)


async def test_client_that_half_closes_has_left_the_api() -> None:
    ways = Ways()
    async with served(BoundedProtocol, ways) as port:
        received = await ask(port, [LATE.replace(b"late", b"slow") + b"\r\n"], Leave.HALF_CLOSE)
    assert received == b""


@both
async def test_lost_connection_stops_the_request_under_way(kind: type[BoundedProtocol]) -> None:
    """All requests under way are stopped, not only the last one read."""
    for path in (b"/slow/1", b"/offer/0"):
        ways = Ways()
        async with served(kind, ways) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET %b HTTP/1.1\r\n" % path + HOST + b"\r\n" + EARLY + b"\r\n")
            async with asyncio.timeout(10):
                while not ways.taken:
                    await asyncio.sleep(0)
            writer.transport.abort()
            await asyncio.sleep(0.5)  # until it would have been answered
        assert ways.faults == []


@both
async def test_answer_under_way_outlives_idling_and_shutdown(kind: type[BoundedProtocol]) -> None:
    """Even if the last request read is already refused."""
    made: list[BoundedProtocol] = []

    class Hasty(kind):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.timeout_keep_alive = 0.05
            made.append(self)

    slow = b"GET /slow/2 HTTP/1.1\r\n" + HOST + b"\r\n"
    for broken in (CHUNKED + b"z\r\n", b"\0", b""):
        for is_shut_down in (False, True):
            async with served(Hasty) as port, asyncio.TaskGroup() as group:
                asked = group.create_task(ask(port, [EARLY + b"\r\n" + slow + broken]))
                await asyncio.sleep(0.1)
                if is_shut_down:
                    made[-1].shutdown()
            received = asked.result()
            assert received is not None
            wanted = [200, 200] if is_shut_down or not broken else [200, 200, 400]
            assert statuses(received)[: len(wanted)] == wanted


@both
async def test_body_of_an_answered_request_does_not_count_as_idle(kind: type[BoundedProtocol]) -> None:
    class Hasty(kind):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.timeout_keep_alive = 0.05

    async with served(Hasty) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(EARLY + b"Content-Length: 20\r\n\r\n")
        for _ in range(20):
            await asyncio.sleep(0.02)
            writer.write(b"x")
        writer.write(CLOSE)
        assert statuses(await reader.read()) == [200, 200]
        writer.close()


H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n"
READ = b"POST /read/1 HTTP/1.1\r\n" + HOST
OFFERS = [
    ("no body", b"\r\n", [200]),
    ("an empty body", b"Content-Length: 0\r\n\r\n", [200]),
    ("a body", b"Content-Length: 3\r\n\r\nabc", [200]),
    ("a long body", b"Content-Length: 90000\r\n\r\n" + b"GET / HTTP/1.1\r\n" * 5625, [200]),
    ("a chunked body", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n", [200]),
    ("a body to wait for", b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", [100, 200]),
    ("a broken body", b"Transfer-Encoding: chunked\r\n\r\nz\r\n", [400]),
    ("a cut body", b"Content-Length: 3\r\n\r\nab", [408]),
]


@both
@pytest.mark.parametrize("case", [case for case, _, _ in OFFERS])
async def test_offer_to_speak_otherwise_is_declined(kind: type[BoundedProtocol], case: str) -> None:
    """Java's client offers it with every first request."""
    lines, wanted = next((lines, wanted) for name, lines, wanted in OFFERS if name == case)
    data = READ + H2C + lines + (b"" if "cut" in case else EARLY + b"\r\n")
    with patch.multiple(bounds, BODY_SECONDS=0.3, LINGER_SECONDS=0.1):
        async with served(kind) as port:
            for pieces in ([data], [data[:-80], data[-80:]]):
                received = await ask(port, pieces)
                assert received is not None
                assert statuses(received) == wanted
                assert fault(read(data), received) is None


@both
async def test_client_of_http_1_0_gets_no_100_continue(kind: type[BoundedProtocol]) -> None:
    request = READ.replace(b"1.1", b"1.0") + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"
    async with served(kind) as port:
        received = await ask(port, [request])
    assert received is not None
    assert statuses(received) == [200]


@both
async def test_refused_request_gets_no_100_continue(kind: type[BoundedProtocol]) -> None:
    ways = Ways()
    head = CHUNKED.replace(b"/read/", b"/slow/").replace(HOST, HOST + b"Expect: 100-continue\r\n")
    async with served(kind, ways) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + b"z\r\n")
        assert statuses(await reader.read()) == [400]
        await asyncio.sleep(0.3)  # until the application has asked for the body
        writer.close()
    assert ways.faults == []


@both
async def test_request_that_is_refused_before_its_turn_is_not_carried_out(
    kind: type[BoundedProtocol],
) -> None:
    ways = Ways()
    async with served(kind, ways) as port:
        received = await ask(port, [LATE + b"\r\n" + CHUNKED + b"z\r\n"])
    assert received is not None
    assert (statuses(received), ways.taken[received.port]) == ([200, 400], ["/late/1"])


@both
async def test_client_that_still_sends_gets_the_last_answer(kind: type[BoundedProtocol]) -> None:
    """Closing a connection with unread bytes would reset it and lose the answer."""
    size = 8_000_000
    close = b"Connection: close\r\n"
    ends = ((b"early", close, b"1.1"), (b"late", close, b"1.1"), (b"offer", close, b"1.1"))
    for way, line, version in (*ends, (b"early", b"", b"1.0"), (b"early", H2C, b"1.1")):
        head = EARLY.replace(b"early", way).replace(b"1.1", version)
        head += line + b"Content-Length: %d\r\n\r\n" % size
        async with served(kind) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head)
            for _ in range(80):
                writer.write(b"x" * (size // 80))
                await writer.drain()
                await asyncio.sleep(0)
            assert statuses(await reader.read()) in ([200], [302])
            writer.close()


@both
async def test_client_that_stays_behind_its_last_answer_is_cut(kind: type[BoundedProtocol]) -> None:
    with patch.multiple(bounds, LINGER_SECONDS=0.1):
        async with served(kind) as port:
            for request in (
                b"\0",
                LATE + b"\r\n\0",
                EARLY + b"Connection: close\r\nContent-Length: 3\r\n\r\n",
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request)
                await reader.read()
                async with asyncio.timeout(10):
                    while not writer.transport.is_closing():
                        writer.write(b"x")  # a closed connection answers with a reset
                        await asyncio.sleep(0.02)
                writer.close()


@both
async def test_client_that_leaves_behind_a_refusal_is_not_waited_for(kind: type[BoundedProtocol]) -> None:
    lost = asyncio.Event()

    class Told(kind):  # type: ignore[misc, valid-type]
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    with patch.multiple(bounds, LINGER_SECONDS=3_600.0):
        async with served(Told) as port:
            await ask(port, [(LATE + b"\r\n") * 2 + b"\0"])
            async with asyncio.timeout(10):
                await lost.wait()


UNREAD = [
    ("a long answer", b"GET /big/20000000 HTTP/1.1\r\n" + HOST + b"\r\n", 1),
    ("a long last answer", b"GET /big/20000000 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", 1),
    ("a last answer", b"GET /big/60000 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", 1),
    ("many answers", b"GET /offer/1 HTTP/1.1\r\n" + HOST + b"\r\n", 100_000),
]


@both
@pytest.mark.parametrize("case", [case for case, _, _ in UNREAD])
async def test_client_that_never_reads_is_cut(kind: type[BoundedProtocol], case: str) -> None:
    request, number = next((request, number) for name, request, number in UNREAD if name == case)
    lost = asyncio.Event()

    class Told(kind):  # type: ignore[misc, valid-type]
        def connection_made(self, transport: asyncio.Transport) -> None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    with patch.multiple(bounds, SEND_SECONDS=0.2):
        async with served(Told) as port:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
            _, writer = await asyncio.open_connection(sock=client)
            writer.transport.pause_reading()
            writer.write(request * number)
            async with asyncio.timeout(60):
                await lost.wait()
            writer.transport.abort()


@both
async def test_client_that_waited_for_the_server_gets_its_full_time(kind: type[BoundedProtocol]) -> None:
    made: list[BoundedProtocol] = []

    class Known(kind):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    half_body = EARLY.replace(b"early", b"slow") + b"Content-Length: 2\r\n\r\na"
    for half, end in ((EARLY, Known._end_late_head), (half_body, Known._end_late_body)):
        async with served(Known) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(LATE + b"\r\n" + EARLY + b"\r\n" + half)
            for _ in range(2):
                await reader.readuntil(b"here")
            end(made[-1])  # its time is over just now
            writer.write(b"\r\n")
            assert (await reader.readuntil(b"here")).startswith(b"HTTP/1.1 200 ")
            writer.write(EARLY)
            await asyncio.sleep(0.05)
            made[-1]._end_late_head()
            assert await reader.read() == b""
            writer.close()


@both
async def test_lost_connection_is_freed_at_once(kind: type[BoundedProtocol]) -> None:
    """The garbage collector runs rarely here."""
    made: weakref.WeakSet[BoundedProtocol] = weakref.WeakSet()

    class Known(kind):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.add(self)

    kinds = (
        EARLY + b"\r\n",
        EARLY.replace(b"early", b"offer") + b"\r\n",
        READ + H2C + b"Content-Length: 0\r\n\r\n",
    )
    gc.disable()
    logging.disable()  # pytest keeps log records, and with them the connection
    try:
        async with served(Known) as port:
            for request in (*kinds, LATE + b"\r\n" + EARLY + b"\r\n\0"):
                for leave in Leave:
                    await ask(port, [request + CLOSE], leave)
        assert len(made) == 0
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)


async def test_slow_body_with_progress_is_waited_for() -> None:
    body = b"x" * 40_000
    head = b"POST /read/1 HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: 40000\r\n\r\n"
    with patch.multiple(bounds, BODY_SECONDS=0.2, BODY_BYTES=100):
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
def test_rfc_reader_finds_the_messages(data: bytes, bodies: list[bytes], end: End) -> None:
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
def test_judge_finds_faults(case: str) -> None:
    data, received = next((data, received) for name, data, received in WRONG if name == case)
    assert fault(read(data), received) is not None
    assert fault(Reading([], End.NEXT), b"") is None
