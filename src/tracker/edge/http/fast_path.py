"""The fast path through HTTP for tracking links: one write a hit, no task, no timer, no ASGI messages.

uvicorn's own way is a scope, an event, a task, two messages, and a timer set and cancelled. That is a large
part of the cost of a click. So a GET of a tracking link is answered here. All other requests, and requests
that arrive while an answer is awaited, go uvicorn's way and reach the same Redirect there (edge.head).

This rests on private parts of uvicorn, so pyproject.toml pins its exact version:
- `HttpToolsProtocol` calls the parser's callbacks `on_message_begin`, `on_url`, `on_header`,
  `on_headers_complete`, `on_body` and `on_message_complete`. Each may be skipped and called later.
- Its attributes `cycle`, `pipeline`, `flow`, `url`, `parser`, `scheme`, `client`, `app`, `transport`,
  `server_state`, `timeout_keep_alive` and `timeout_keep_alive_task` have the meanings of today.
- A cycle has `response_complete`, `disconnected`, `keep_alive`, `more_body` and `message_event`. uvicorn
  looks at nothing else of the cycle under way: `Hit` stands in for `RequestResponseCycle` there.
- A cycle that was made while another is under way waits in `pipeline`, newest first, with its application.
  `_start_asgi_task` starts it (bounds.py, which also replaces the idle timer).
- `server_state.default_headers` is a new list each second. `STATUS_LINE` holds the first line by status.
Before another version is pinned, compare its `httptools_impl.py`, then run tests/unit/test_fast_path.py and
`make fuzz`. tests/unit/test_uvicorn.py fails until then.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from tracker.domain.model import fast
from tracker.edge.http.bounds import BODY, HEAD, VERSIONS, BoundedProtocol
from tracker.edge.http.hit import Hit
from tracker.edge.http.request import Headers, Request, add_header
from tracker.edge.http.response import Response

_PERCENT, _HASH = b"%#"  # as numbers: `b"%" in …` takes ten times the instructions, it raises an error first
_Lines = list[tuple[bytes, bytes]]


class Links(Protocol):
    """The part of an edge's application that the fast path needs."""

    def is_link(self, path: str) -> bool: ...

    def take(self, hit: Hit) -> None: ...


class LinkProtocol(BoundedProtocol):
    """One connection of an edge."""

    app: Links
    half_closed_wait = True
    cycle: RequestResponseCycle | Hit | None  # type: ignore[assignment]
    _default: ClassVar[_Lines] = []  # uvicorn makes a new one each second, with the date
    _default_head: ClassVar[bytes] = b""

    def on_message_begin(self) -> None:
        self._place = HEAD
        self._silent_bytes = 0
        self._body_bytes = -1
        self.url = b""
        self.lines: _Lines = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.lines.append((name, value))

    def _head_lines(self) -> _Lines:
        return self.lines

    def on_headers_complete(self) -> None:
        request = self._read_hit() if self.cycle is None or self.cycle.response_complete else None
        if request is None:
            self._go_uvicorns_way()
            return
        hit = Hit(request, self, self.parser.should_keep_alive())
        if not hit.keep_alive and self.parser.get_http_version() not in VERSIONS:
            self._go_uvicorns_way()
            return
        self.cycle = hit
        self._place = BODY
        self.app.take(hit)

    def on_body(self, body: bytes) -> None:
        if isinstance(self.cycle, Hit):
            self._silent_bytes = 0  # a hit's body is read and thrown away
        else:
            super().on_body(body)

    def _gives_up(self) -> bool:
        if not isinstance(self.cycle, Hit):
            return super()._gives_up()
        self.cycle.keep_alive = False  # it is answered, or soon will be
        return False

    def _read_hit(self) -> Request | None:
        """The request of a plain GET of a tracking link. None for all others."""
        url = self.url
        if self.parser.get_method() != b"GET" or url[:1] != b"/" or _HASH in url or self.flow.write_paused:
            return None
        raw_path, _, query = url.partition(b"?")
        if _PERCENT in raw_path or not self.app.is_link(path := raw_path.decode("ascii")):
            return None
        headers: Headers = {}
        for name, value in self.lines:
            if (name := name.lower()) in headers:
                if name == b"host":
                    return None  # BoundedProtocol refuses it
                add_header(headers, name, value)
            else:
                headers[name] = value
        if b"host" not in headers or b"expect" in headers or b"transfer-encoding" in headers:
            return None
        # The parser takes Proxy-Connection for Connection, so an upgrade may come without one.
        if b"upgrade" in headers or (b"connection" in headers and self.parser.get_http_version() != "1.1"):
            return None
        client = self.client
        peer = client[0] if client else ""
        return fast(Request, ("GET", self.scheme or "http", peer, path, raw_path, query, headers))

    def _go_uvicorns_way(self) -> None:
        url = self.url
        super().on_message_begin()
        super().on_url(url)
        for name, value in self.lines:
            super().on_header(name, value)
        super().on_headers_complete()

    def head_of(self, answer: Response) -> bytes:
        default = self.server_state.default_headers
        if default is not LinkProtocol._default:
            LinkProtocol._default = default
            LinkProtocol._default_head = b"".join(b"%b: %b\r\n" % line for line in default)
        return STATUS_LINE[answer.status] + LinkProtocol._default_head + answer.head
