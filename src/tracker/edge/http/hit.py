"""A hit under way on a connection. It stands in for uvicorn's cycle, see edge.http.fast_path."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tracker.edge.http.request import Request
from tracker.edge.http.response import FAILED, Response

if TYPE_CHECKING:
    from tracker.edge.http.fast_path import LinkProtocol


class _NoEvent:
    def set(self) -> None:
        """Nothing waits for more of a hit."""


class Hit:
    """A hit under way. It has what uvicorn's protocol looks at in a RequestResponseCycle."""

    __slots__ = ("_protocol", "disconnected", "keep_alive", "more_body", "request", "response_complete")
    message_event: ClassVar[_NoEvent] = _NoEvent()

    def __init__(self, request: Request, protocol: LinkProtocol, keep_alive: bool) -> None:
        self.request = request
        self._protocol = protocol
        self.keep_alive = keep_alive
        self.more_body = True
        self.disconnected = False
        self.response_complete = False

    def give(self, answer: Response) -> None:
        if self.response_complete:
            return
        self.response_complete = True
        if answer is FAILED:
            self.keep_alive = False
        if self.disconnected:
            return
        protocol = self._protocol
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        protocol.transport.write(protocol.head_of(answer) + end + answer.body)
        if not self.keep_alive:
            protocol.end()
        protocol.on_response_complete()
