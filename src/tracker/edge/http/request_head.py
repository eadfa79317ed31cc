"""The head of a request, as the parser reads it, and the hit that it asks for.

The parser calls back for each part of a head. Here the callbacks can be compiled. The class of the connection
cannot, because it extends uvicorn's (edge.http.fast_path).
"""

from __future__ import annotations

from typing import Final, Protocol

from httptools import HttpRequestParser

from tracker.domain.model import fast
from tracker.edge.http.request import Headers, Request, add_header

Lines = list[tuple[bytes, bytes]]

_SLASH: Final = ord("/")
_PERCENT: Final = ord(
    "%"
)  # as numbers: `b"%" in …` takes ten times the instructions, it raises an error first
_HASH: Final = ord("#")


class Links(Protocol):
    """The part of an edge's application that tells which paths are links."""

    def is_link(self, path: str) -> bool: ...


class RequestHead:
    """The head of one message at a time."""

    __slots__ = ("lines", "url")

    def __init__(self) -> None:
        self.url = b""
        self.lines: Lines = []

    def begin(self) -> None:
        self.url = b""
        self.lines = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.lines.append((name, value))

    def hit(self, parser: HttpRequestParser, links: Links, scheme: str, peer: str) -> Request | None:
        """The request of a plain GET of a tracking link. None for all others, and for all that is refused."""
        url = self.url
        if parser.get_method() != b"GET" or not url or url[0] != _SLASH or _HASH in url:
            return None
        raw_path, _, query = url.partition(b"?")
        if _PERCENT in raw_path or not links.is_link(path := raw_path.decode("ascii")):
            return None
        headers = {name.lower(): value for name, value in self.lines}
        if len(headers) != len(self.lines) and not self._join_lists(headers):
            return None
        if b"host" not in headers or b"expect" in headers or b"transfer-encoding" in headers:
            return None
        # The parser takes Proxy-Connection for Connection, so an upgrade may come without one.
        if b"upgrade" in headers or (b"connection" in headers and parser.get_http_version() != "1.1"):
            return None
        return fast(Request, ("GET", scheme, peer, path, raw_path, query, headers))

    def _join_lists(self, headers: Headers) -> bool:
        """Join headers that came in several lines. False for Host, which BoundedProtocol refuses then."""
        headers.clear()
        for name, value in self.lines:
            if (name := name.lower()) == b"host" and name in headers:
                return False
            add_header(headers, name, value)
        return True
