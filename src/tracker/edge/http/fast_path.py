"""The fast path through HTTP for tracking links: one write a hit, no task, no timer, no ASGI messages.

uvicorn's own way is a scope, an event, a task, two messages, and a timer set and cancelled. That is a large
part of the cost of a click. So a GET of a tracking link is answered here. All other requests, and requests
that arrive while an answer is awaited, go uvicorn's way and reach the same Redirect there (edge.head).
A `RequestHead` takes the parser's callbacks for the parts of a head, because it can be compiled.

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

from typing import Any, ClassVar, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from tracker.edge.http.bounds import BODY, HEAD, VERSIONS, BoundedProtocol
from tracker.edge.http.hit import Hit
from tracker.edge.http.request import Request
from tracker.edge.http.request_head import Lines, Links, RequestHead
from tracker.edge.http.response import Response


class Edge(Links, Protocol):
    """The part of an edge's application that the fast path needs."""

    def take(self, hit: Hit) -> None: ...


class LinkProtocol(BoundedProtocol):
    """One connection of an edge."""

    app: Edge
    half_closed_wait = True
    cycle: RequestResponseCycle | Hit | None  # type: ignore[assignment]
    _default: ClassVar[Lines] = []  # uvicorn makes a new one each second, with the date
    _default_head: ClassVar[bytes] = b""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._head = RequestHead()
        # The parser, which is made next, takes these before the methods of the class.
        self.on_url, self.on_header = self._head.on_url, self._head.on_header  # type: ignore[method-assign]
        super().__init__(*args, **kwargs)

    def on_message_begin(self) -> None:
        self._place = HEAD
        self._silent_bytes = 0
        self._body_bytes = -1
        self._head.begin()

    def _head_lines(self) -> Lines:
        return self._head.lines

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
        if self.flow.write_paused:
            return None
        peer = self.client[0] if self.client else ""
        return self._head.hit(self.parser, self.app, self.scheme or "http", peer)

    def _go_uvicorns_way(self) -> None:
        super().on_message_begin()
        super().on_url(self._head.url)
        for name, value in self._head.lines:
            super().on_header(name, value)
        super().on_headers_complete()

    def head_of(self, answer: Response) -> bytes:
        default = self.server_state.default_headers
        if default is not LinkProtocol._default:
            LinkProtocol._default = default
            LinkProtocol._default_head = b"".join(b"%b: %b\r\n" % line for line in default)
        return STATUS_LINE[answer.status] + LinkProtocol._default_head + answer.head
