"""The HTTP protocol of both ports: uvicorn's, within bounds that uvicorn does not set.

The parser (llhttp) reads every byte as it came. A request that it refuses is answered 400 in its turn, and
nothing after it is read. If a server and its proxy read a connection differently, bytes of one visitor can
become the request of another (RFC 9112, section 11.2).
"""

from __future__ import annotations

import logging
from asyncio import TimerHandle, Transport
from types import SimpleNamespace
from typing import Any, ClassVar

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

logger = logging.getLogger(__name__)

HEAD_BYTES = 65_536
"""Longest head of a request, in bytes. As many bytes of a body may pass without content."""
HEAD_LINES = 500
"""Most header lines of a request whose head arrives in several pieces."""
HEAD_SECONDS = 10.0
"""How long a head may take to arrive."""
BODY_SECONDS, BODY_BYTES = 20.0, 10_000
"""An unfinished body must bring so many bytes in each span, unless this side is slow."""
SEND_SECONDS = 300.0
"""How long a client may read nothing of its waiting answer before its connection is cut."""
DISCARDED_BYTES = 1 << 20
"""How many bytes of a body are still read once its request has been answered."""
LINGER_SECONDS = 5.0
"""How long a connection that we close is still read. An immediate close would reset a client that is still
sending, and the client could lose the answer (RFC 9112, section 9.6)."""

_PIECE = 2_048
"""Bytes parsed at once. A request that is parsed early takes up to a hundred times its bytes of memory."""

_LAST = b"cache-control: no-store\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"

VERSIONS = ("1.1", "1.0")
BETWEEN, HEAD, BODY = 0, 1, 2  # where in a message the parser is


class _RefusedError(Exception):
    """A request that the parser accepts, and that a proxy in front may read differently."""


class _Flow(FlowControl):
    """Reading resumes only once all received bytes have been parsed."""

    is_behind = False
    has_paused = False  # since a timer last looked

    def pause_reading(self) -> None:
        self.has_paused = True
        super().pause_reading()

    def resume_reading(self) -> None:
        if not self.is_behind:
            super().resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    flow: _Flow
    half_closed_wait: ClassVar[bool] = False
    """Whether a client that closes its half still waits for answers. Else it has left, and its query ends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn reads data behind a message with `Connection: close`. We do not.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=False)
        self._place = BETWEEN
        self._silent_bytes = 0  # of this message, since its last sign of progress
        self._body_bytes = 0  # since the timer last looked
        self._discarded_bytes = 0
        self._timer: TimerHandle | None = None
        self._unread = bytearray()
        self._refusal: bytes | None = None  # the last answer, sent once all before it is answered
        self._is_deaf = False
        self._has_answered = False  # since the idle timer last looked
        self._written_to: SimpleNamespace | None = None  # the transport as uvicorn's answers see it
        self._ahead: Any = None  # the request under way while others wait behind it
        self._unsent_bytes = 0  # when the timer last looked
        self._send_timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._timer = self.loop.call_later(HEAD_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._turn_deaf()
        for timer in (self._send_timer, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()
        self._drop_pipeline()
        if self._written_to is not None:
            self._written_to.close = self.transport.close  # breaks a reference cycle
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Close. If half-closed clients wait for answers, close after the answers that are due."""
        if not (self.half_closed_wait and self._is_busy()):
            return False
        if not self._is_deaf:
            if self._place == BODY:
                self._refuse(400)
            else:
                self.cycle.keep_alive = False
                self._turn_deaf()
        return True

    def shutdown(self) -> None:
        if self._is_busy():
            self.cycle.keep_alive = False
        else:
            self.transport.close()

    def _is_busy(self) -> bool:
        """Whether an answer is due."""
        return self._refusal is not None or (self.cycle is not None and not self.cycle.response_complete)

    def _drop_pipeline(self) -> None:
        """Make the request under way the last one: uvicorn tells only the last one of a lost connection."""
        if self.pipeline:
            self.cycle = self._ahead
            self.pipeline.clear()

    # Reading

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        if self._unread or self.pipeline or len(data) > _PIECE:
            self._unread += data
            self._parse_unread()
        else:
            self._parse(data)

    def _parse_unread(self) -> None:
        """Parse piece by piece, until a request has to wait for an earlier answer."""
        while self._unread and not self.pipeline and not self._is_deaf:
            piece = bytes(self._unread[:_PIECE])
            del self._unread[:_PIECE]
            self._parse(piece)
        if self._unread:
            self.flow.is_behind = True
            self.flow.pause_reading()

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._decline(data[upgrade.args[0] :])
        except HttpParserError as error:
            if self._place == BETWEEN and self.cycle is not None and not self.cycle.keep_alive:
                self._turn_deaf()  # the request before it is answered with `Connection: close`
            else:
                logger.warning(
                    "refused a request that is not HTTP: %(cause)s",
                    {"event": "not_http", "cause": error.__context__ or error},
                )
                self._refuse(400)
        else:
            if self._place != BETWEEN or self._timer is not None:
                self._watch(len(data))

    def _decline(self, rest: bytes) -> None:
        """Decline an upgrade: answer in HTTP/1.1 and close (RFC 9110, section 7.8).

        The parser skips a body here, as if it belonged to the other protocol. So a second parser reads it.
        It gets the framing lines that the first parser has checked, then the client's bytes as they came.
        """
        self.cycle.keep_alive = False
        lines = [line for line in self.headers if line[0] in (b"content-length", b"transfer-encoding")]
        if not lines:
            self._turn_deaf()
            return
        self._place = BODY
        self.cycle.more_body = True
        callbacks = SimpleNamespace(on_body=self.on_body, on_message_complete=self.on_message_complete)
        self.parser = HttpRequestParser(callbacks)
        framing = b"".join(b"%b: %b\r\n" % line for line in lines)
        self.parser.feed_data(b"POST / HTTP/1.1\r\nConnection: close\r\n" + framing + b"\r\n")
        self._parse(rest)

    def _watch(self, size: int) -> None:
        """Bound an unfinished head or body."""
        if self._place == HEAD:
            if self._silent_bytes == 0:
                self._start_timer(HEAD_SECONDS, self._end_late_head)
            self._silent_bytes += size
            if self._silent_bytes > HEAD_BYTES or len(self._head_lines()) > HEAD_LINES:
                self._refuse(431)
        elif self._place == BODY:
            if self._body_bytes < 0:
                self._body_bytes = self._silent_bytes = self._discarded_bytes = 0
                self._start_timer(BODY_SECONDS, self._end_late_body)
            self._body_bytes += size
            self._silent_bytes += size
            self._discarded_bytes += size if self.cycle.response_complete else 0
            if self._silent_bytes > HEAD_BYTES or self._discarded_bytes > DISCARDED_BYTES:
                self._refuse(400)
        elif self.cycle is not None:  # else only blank lines came
            self._stop_timer()

    def _end_late_head(self) -> None:
        if self._was_paused():
            self._start_timer(HEAD_SECONDS, self._end_late_head)
        else:
            self._refuse(None)

    def _end_late_body(self) -> None:
        if self._body_bytes < BODY_BYTES and not self._was_paused():
            self._refuse(408)
        else:
            self._body_bytes = 0
            self._start_timer(BODY_SECONDS, self._end_late_body)

    def _was_paused(self) -> bool:
        """Whether this side has paused reading since the last call."""
        flow = self.flow
        was_paused, flow.has_paused = flow.has_paused, flow.read_paused
        return was_paused

    def _start_timer(self, seconds: float, then: Any) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, then)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # The parser's callbacks

    def on_message_begin(self) -> None:
        self._place = HEAD
        self._silent_bytes = 0
        self._body_bytes = -1
        super().on_message_begin()

    def _head_lines(self) -> list[tuple[bytes, bytes]]:
        return self.headers

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._place == HEAD:  # trailer fields are not header fields (RFC 9110, section 6.5.1)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._check_head()
        is_last = self.parser.get_http_version() != "1.1"
        if is_last:
            self.expect_100_continue = False  # RFC 9110, section 10.1.1
        ahead = self.cycle
        super().on_headers_complete()
        if len(self.pipeline) == 1:
            self._ahead = ahead
        if self._written_to is None:
            transport = self.transport
            self._written_to = SimpleNamespace(
                write=transport.write, is_closing=transport.is_closing, close=self.end
            )
        self.cycle.transport = self._written_to  # type: ignore[assignment]
        self._place = BODY
        if is_last or self.expect_100_continue:
            # A client that is answered early may send the body or not: we cannot know.
            self.cycle.keep_alive = False
        self.flow.is_behind = bool(self.pipeline)

    def _check_head(self) -> None:
        version, hosts = self.parser.get_http_version(), self._values(b"host")
        if version not in VERSIONS:
            raise _RefusedError(f"HTTP/{version}, or a request line without a version")
        if len(hosts) > 1 or (not hosts and version == "1.1"):
            raise _RefusedError(f"{len(hosts)} Host headers, not one (RFC 9112, section 3.2)")
        codings = self._values(b"transfer-encoding")
        if codings and [coding.strip().lower() for coding in codings] != [b"chunked"]:
            raise _RefusedError("a Transfer-Encoding other than chunked (RFC 9112, section 6.1)")
        if self.parser.get_method() == b"CONNECT" and (codings or self._values(b"content-length")):
            raise _RefusedError("a CONNECT with a body, which has no meaning (RFC 9110, section 9.3.6)")

    def _values(self, name: bytes) -> list[bytes]:
        return [value for field, value in self.headers if field == name]

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._place = BETWEEN
        self.cycle.more_body = False
        self.cycle.message_event.set()

    def _should_upgrade_to_ws(self) -> bool:
        return False  # it is answered in HTTP/1.1 (RFC 9110, section 7.8)

    # Answers in their order

    def on_response_complete(self) -> None:
        """As in uvicorn, except for the idle timer: an answer does not restart it."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._watch_unsent()
            return
        self._has_answered = True
        if self.flow.is_behind:
            self._go_on()
        elif self.flow.read_paused:
            self.flow.resume_reading()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_handler()

    def _go_on(self) -> None:
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._ahead = cycle
            if not cycle.disconnected:  # else its body never ends
                self._start_asgi_task(cycle, app)
        if not self.pipeline:
            self.flow.is_behind = False
            self.loop.call_soon(self._catch_up)

    def _catch_up(self) -> None:
        if self._refusal is not None:
            self._refuse_in_turn(self._refusal)
        elif not self._is_deaf and not self.transport.is_closing():
            self.flow.resume_reading()
            self._parse_unread()

    def _refuse(self, status: int | None) -> None:
        """Refuse the message that is being read, after the answers due before it, and close.

        Without a status, or if the message was answered already, the connection is only closed.
        """
        self._turn_deaf()
        refusal = b"" if status is None else self._refusal_of(status)
        if self._place == BODY and not self._gives_up():
            refusal = b""
        self._refuse_in_turn(refusal)

    def _refuse_in_turn(self, refusal: bytes) -> None:
        if self.pipeline or not (self.cycle is None or self.cycle.response_complete):
            self._refusal, self.flow.is_behind = refusal, True
        elif not self.transport.is_closing():
            self._refusal = None
            self.transport.write(refusal)
            self._linger()

    def end(self) -> None:
        """Close after the last answer. Linger if its request is still being sent."""
        if self._place == BETWEEN or self.transport.is_closing():
            self.transport.close()
            return
        self._drop_pipeline()
        self._refusal = None
        self._turn_deaf()
        self._linger()

    def _linger(self) -> None:
        self.flow.is_behind = False
        self.flow.resume_reading()
        self.transport.write_eof()
        self._start_timer(LINGER_SECONDS, self._close)

    def _gives_up(self) -> bool:
        """Stop answering a request whose body never ends. False if its answer has begun."""
        cycle = self.cycle
        if cycle.response_started:
            cycle.keep_alive = False
            return False
        cycle.disconnected = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        return True

    def _refusal_of(self, status: int) -> bytes:
        """It has no body, since the answer to a HEAD must not have one."""
        head = b"".join(b"%b: %b\r\n" % line for line in self.server_state.default_headers)
        return STATUS_LINE[status] + head + _LAST

    def _turn_deaf(self) -> None:
        """Read nothing more of this connection."""
        self._is_deaf = True
        self._unread.clear()
        self._stop_timer()

    # Clients that do not read

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_unsent()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None
        if self.transport.is_closing():
            self._watch_unsent()

    def _close(self) -> None:
        self.transport.close()
        self._watch_unsent()

    def _watch_unsent(self) -> None:
        """Cut the connection if its client reads nothing of its waiting answer."""
        self._unsent_bytes = self.transport.get_write_buffer_size()
        if self._unsent_bytes and self._send_timer is None:
            self._send_timer = self.loop.call_later(SEND_SECONDS, self._end_unsent)

    def _end_unsent(self) -> None:
        self._send_timer = None
        if self.transport.get_write_buffer_size() < self._unsent_bytes:
            self._watch_unsent()
        else:
            logger.warning(
                "a connection was cut: its client read nothing for %(seconds).0f s",
                {"event": "client_does_not_read", "seconds": SEND_SECONDS},
            )
            self.transport.abort()

    # Idle connections

    def _unset_keepalive_if_required(self) -> None:
        """Nothing to unset: the timer itself checks whether the connection idles."""

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, after one to two times the allowed time."""
        if not self._has_answered and self._place == BETWEEN and not self._is_busy():
            self._close()
            return
        self._has_answered = False
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
