"""The HTTP protocol of both ports: uvicorn's, within bounds that uvicorn does not set.

A request's head may be HEAD_BYTES long and take HEAD_SECONDS to arrive; beyond that the connection is
closed, so that no stranger fills the memory or holds a connection with half a request.
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from urllib.parse import quote_from_bytes

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 65_536
HEAD_SECONDS = 10.0

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"cache-control: no-store\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
)
_ANY_ASCII = bytes(range(128))


class BoundedProtocol(HttpToolsProtocol):
    """One connection. It looks at chunks, not at requests: a link arrives in one, and costs little here."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        self._head_bytes = 0
        super().connection_made(transport)
        self._head_timer: TimerHandle | None = self.loop.call_later(HEAD_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_done()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        # A body that nobody waited for with the answer is bounded like the head that it stands before.
        in_body = before is not None and before.more_body and not before.response_complete
        if not (in_body or self._head_bytes or data.isascii()):
            data = _with_ascii_target(data)
        HttpToolsProtocol.data_received(self, data)
        if in_body or self.cycle is not before:
            self._head_done()
        elif not self.transport.is_closing():
            self._count_head(len(data))

    def _should_upgrade_to_ws(self) -> bool:
        return False  # whatever a client offers to speak: it is answered in HTTP/1.1 (RFC 9110, section 7.8)

    def _unsupported_upgrade_warning(self) -> None:
        self.cycle.keep_alive = False  # the parser reads nothing after an upgrade that was asked for

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _head_done(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def _with_ascii_target(data: bytes) -> bytes:
    """A request whose target is UTF-8 as it stands, percent-encoded as RFC 9112 wants it.

    Browsers encode; apps and scripts that follow a link often do not, and theirs are clicks too.
    """
    line, newline, rest = data.partition(b"\n")
    return quote_from_bytes(line, safe=_ANY_ASCII).encode() + newline + rest
