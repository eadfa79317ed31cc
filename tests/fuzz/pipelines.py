"""Random connections: requests of every kind, sound ones and broken ones, cut at random places."""

from __future__ import annotations

from enum import Enum
from random import Random

HOST = b"Host: t\r\n"
_METHODS = (b"GET", b"GET", b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH")
_WAYS = (b"offer", b"offer", b"offer", b"early", b"late", b"read", b"part", b"stream", b"fails", b"close")
_FIELDS = (
    *(b"Connection: close", b"Connection: keep-alive", b"Connection: foo, Close", b"Expect: 100-continue"),
    *(
        b"Connection: upgrade\r\nUpgrade: h2c",
        b"Connection: Upgrade\r\nUpgrade: websocket",
        b"X: \xff\xfe",
        b"X:",
        b"Cookie: a=b; c=d",
        b"TE: trailers",
    ),
    *(b"User-Agent: Mozilla/5.0 (Windows NT 10.0)", b"X-Forwarded-For: 192.0.2.1", b"Accept: \t*/* \t"),
)
_BROKEN_FIELDS = (
    *(b"Content-Length: +1", b"Content-Length: 1, 1", b"Content-Length: ", b"Content-Length: 0x1", HOST[:-2]),
    *(b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: gzip"),
    *(b"Content-Length: 1\r\nContent-Length: 2", b"Transfer-Encoding: chunked\r\nContent-Length: 3"),
    *(b"Transfer-Encoding : chunked", b"X\r\n folded", b" X: y", b"X: a\x00b", b"X: a\rb", b"X: a\nY: b"),
    *(b"no colon", b": no name", b"X\xff: y", b"Content-Length: 99999999999999999999"),
)
_BROKEN_LINES = (
    *(b"GET /early/%d\xff HTTP/1.1", b"GET /\xc3\xa9/%d HTTP/1.1", b"GET /offer/%d?a=\xff HTTP/1.1"),
    *(b"BREW /early/%d HTTP/1.1", b"GET /early/%d b HTTP/1.1", b"GET\t/early/%d HTTP/1.1"),
    *(b"GET /early/%d HTTP/1.1 ", b"get /early/%d HTTP/1.1", b"GET /early/%d http/1.1", b"\x00/%d"),
    *(b"GET /early/%d", b"GET /offer/%d", b"GET /offer/%d HTTP/2.0", b"GET /early/%d HTTP/0.9"),
)
_BROKEN_CHUNKS = (
    b"3\nabc\r\n0\r\n\r\n",
    b"0x3\r\nabc\r\n0\r\n\r\n",
    b"3\r\nabcd\r\n0\r\n\r\n",
    b"g\r\n",
    b"\r\n",
)
_GARBAGE = (
    b"\x00",
    b"\xff" * 40,
    b"\x16\x03\x01\x02\x00",
    b"}\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"\n\n",
    b" ",
)
_SPLINTERS = (
    *(b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b"\x0b", b"\x0c", b":", b",", b";", b'"', b"+", b"-", b"_"),
    *(b"0", b"/", b"\x7f", b"\x85", b"\xa0", b"\xff", b"chunked", b"close", b"Content-Length: 3\r\n"),
)


class Leave(Enum):
    """The client's behaviour after its last byte."""

    WAIT = "read until the server closes"
    HALF_CLOSE = "close its half, and read"
    ABORT = "reset the connection"


class Pipeline:
    """The bytes of a connection, in the pieces that they are sent in.

    Some are mutated: bytes are changed, removed or added. The reading judges them as they are then. A server
    may refuse more of them than it must: see `is_mutated`.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._id = 0
        self.is_mutated = self._random.random() < 0.1
        self.leave = self._random.choices(tuple(Leave), (0.85, 0.1, 0.05))[0]
        self.data = b"".join(self._part() for _ in range(self._random.randint(1, 8)))
        if self._random.random() < 0.1:
            self.data = self.data[: self._random.randint(1, len(self.data))]
        if self.is_mutated:
            self.data = self._mutated(self.data)
        self.data += self._closing()
        self.pieces = self._cut(self.data)

    def _part(self) -> bytes:
        kind = self._random.random()
        if kind < 0.03:
            return self._random.choice(_GARBAGE)
        if kind < 0.06:
            return b"\r\n" * self._random.randint(1, 3)
        if kind < 0.08:
            return b"".join(self._tiny() for _ in range(self._random.randint(50, 300)))
        return self._request()

    def _tiny(self) -> bytes:
        return b"GET /early/%d HTTP/1.1\r\nHost:\r\n\r\n" % self._next()

    def _closing(self) -> bytes:
        return b"GET /early/%d HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n" % self._next()

    def _request(self) -> bytes:
        random = self._random
        broken = random.random() < 0.06
        line = self._line(broken=broken and random.random() < 0.4)
        fields = random.sample(_FIELDS, random.randint(1, 3)) if random.random() < 0.4 else []
        if broken and random.random() < 0.6:
            fields.append(random.choice(_BROKEN_FIELDS))
        if random.random() > 0.01:
            fields.append(HOST[:-2])
        framing, body = self._body(broken=broken)
        fields += framing
        random.shuffle(fields)
        return b"\r\n".join([line, *fields, b"", body])

    def _line(self, *, broken: bool) -> bytes:
        random, number = self._random, self._next()
        if broken:
            return random.choice(_BROKEN_LINES) % number
        version = b"1.1" if random.random() < 0.97 else b"1.0"
        origin = b"http://t" if random.random() < 0.03 else b""
        target = b"/%b/%d?affiliate_id=%d" % (random.choice(_WAYS), number, random.randint(1, 9**9))
        return b"%b %b%b HTTP/%b" % (random.choice(_METHODS), origin, target, version)

    def _body(self, *, broken: bool) -> tuple[list[bytes], bytes]:
        random = self._random
        if broken and random.random() < 0.3:
            return [b"Transfer-Encoding: chunked"], random.choice(_BROKEN_CHUNKS)
        if random.random() < 0.4:
            return [], b""
        content = self._content()
        if random.random() < 0.6:
            return [b"Content-Length: %d" % len(content)], content
        return [b"Transfer-Encoding: Chunked"], self._chunks(content)

    def _content(self) -> bytes:
        """A body of any bytes, often with a smuggled request."""
        random = self._random
        hidden = b"\r\n\r\nGET /early/%d HTTP/1.1\r\nHost: h\r\n\r\n" % random.randint(10**6, 10**7)
        sizes = [0, random.randint(1, 40), random.randint(1, 3000), random.randint(1, 90_000)]
        size = random.choices(sizes, (2, 5, 4, 0.3))[0]
        filler = random.choice((b"a" * size, b"\xff" * size, random.randbytes(size), b"\n" * size))
        return filler + hidden * (random.random() < 0.6) + filler[: size // 2] * (random.random() < 0.3)

    def _chunks(self, content: bytes) -> bytes:
        random, chunks = self._random, b""
        while content:
            size = random.randint(1, len(content))
            extension = random.choice((b"", b"", b"", b";a", b';a="b c"'))
            chunks += b"%x%b\r\n%b\r\n" % (size, extension, content[:size])
            content = content[size:]
        return (
            chunks + b"0\r\n" + random.choice((b"", b"", b"Host: trailer\r\n", b"X: y\r\nZ:\r\n")) + b"\r\n"
        )

    def _mutated(self, data: bytes) -> bytes:
        random, mutated = self._random, bytearray(data)
        for _ in range(random.choice((1, 1, 2, 3))):
            at = random.randrange(len(data))
            mutated[at : at + random.randint(0, 1)] = random.choice((random.choice(_SPLINTERS), b""))
        return bytes(mutated)

    def _cut(self, data: bytes) -> list[bytes]:
        random = self._random
        places = sorted(random.randrange(len(data)) for _ in range(random.choice((0, 0, 1, 2, 5))))
        if random.random() < 0.1:  # the head by itself, as a client that waits for an answer sends it
            places = sorted({*places, data.find(b"\r\n\r\n") + 4})
        if random.random() < 0.02:
            places = list(range(1, min(len(data), 400)))
        return [
            data[low:high] for low, high in zip([0, *places], [*places, len(data)], strict=True) if low < high
        ]

    def _next(self) -> int:
        self._id += 1
        return self._id
