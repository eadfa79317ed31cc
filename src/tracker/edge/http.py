"""The short way through HTTP for tracking links: one write a hit, no task, no timer.

uvicorn's own way (a scope, an event, a task, two sends, a timer set and cancelled) takes about as long as all
that is done for a click. So a GET of a tracking link is answered here; whatever else comes, and whatever
comes while an answer is awaited, goes uvicorn's way. Both call the same ASGI application.
"""

from __future__ import annotations

import logging
from asyncio import Future, Transport
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from tracker.protocol import BoundedProtocol

logger = logging.getLogger(__name__)

_FAILED = b"HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Edge(Protocol):
    """The application that is served: its tracking links, and the rest."""

    redirect: Callable[..., Coroutine[Any, None, None]]

    def is_link(self, path: str) -> bool:
        """Whether a path is a tracking link's."""


class _Nobody:
    def set(self) -> None:
        """Nobody waits for more of a request that is whole."""


_NOBODY_WAITS = _Nobody()


async def _receive() -> None:
    raise RuntimeError("a hit has no body to receive")


class LinkProtocol(BoundedProtocol):
    """One connection of an edge."""

    app: Edge

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle_since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        path, _, query = self.url.partition(b"?")
        if self._may_be_hit(path) and self.app.is_link(text := path.decode("ascii")):
            scope = {
                "type": "http",
                "method": "GET",
                "scheme": self.scheme,
                "path": text,
                "raw_path": path,
                "query_string": query,
                "headers": self.headers,
                "client": self.client,
            }
            self.cycle = hit = Hit(self)  # type: ignore[assignment]
            hit.start(scope)
        else:
            self._go_uvicorns_way()

    def _may_be_hit(self, path: bytes) -> bool:
        parser = self.parser
        return (
            parser.get_method() == b"GET"
            and parser.get_http_version() == "1.1"
            and (self.cycle is None or self.cycle.response_complete)
            and path.startswith(b"/")
            and b"%" not in path
            and b"#" not in self.url
            and not self.flow.write_paused
            and not parser.should_upgrade()
        )

    def _go_uvicorns_way(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        super().on_url(url)
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """As uvicorn does it, but for the timer: that is not set anew with each answer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._watch_idleness(self.timeout_keep_alive)

    def _unset_keepalive_if_required(self) -> None:
        """Nothing to unset: the timer looks itself whether the connection is idle."""

    def _watch_idleness(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if self.cycle is not None and not self.cycle.response_complete:
            left = self.timeout_keep_alive
        if left > 0:
            self._watch_idleness(left)
        else:
            super().timeout_keep_alive_handler()


class Hit:
    """One hit under way. To uvicorn's protocol it looks like a RequestResponseCycle, as far as that looks."""

    __slots__ = (
        "_coroutine",
        "_head",
        "_protocol",
        "body",
        "disconnected",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
    )

    def __init__(self, protocol: LinkProtocol) -> None:
        self._protocol = protocol
        self.body = bytearray()  # of what a GET should not have
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self.keep_alive = protocol.parser.should_keep_alive()
        self.message_event = _NOBODY_WAITS
        self._head = b""

    def start(self, scope: Mapping[str, Any]) -> None:
        """Run the application up to what it awaits, and later the rest: it awaits one thing, the append."""
        self._coroutine = self._protocol.app.redirect(scope, _receive, self.send)
        self._step()

    def _step(self, _: Future[Any] | None = None) -> None:
        try:
            awaited = self._coroutine.send(None)
        except StopIteration:
            return
        except Exception:
            logger.exception("a hit could not be answered")
            self._finish(_FAILED, keep_alive=False)
            return
        awaited._asyncio_future_blocking = False
        awaited.add_done_callback(self._step)

    async def send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            self._finish(self._head + message["body"], keep_alive=self.keep_alive)
            return
        parts = [STATUS_LINE[message["status"]]]
        for name, value in self._protocol.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        for name, value in message["headers"]:
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        self._head = b"".join(parts)

    def _finish(self, answer: bytes, *, keep_alive: bool) -> None:
        if self.response_complete:
            return
        self.response_complete = True
        protocol = self._protocol
        if not self.disconnected:
            protocol.transport.write(answer)
            if not keep_alive:
                protocol.transport.close()
        protocol.on_response_complete()
