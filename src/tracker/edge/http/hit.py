"""A hit under way on a connection. It stands in for uvicorn's cycle, see edge.http.fast_path."""

from __future__ import annotations

from asyncio import Transport
from typing import ClassVar, Protocol

from tracker.edge.http.request import Request
from tracker.edge.http.response import FAILED, Response


class Connection(Protocol):
    """The part of edge.http.fast_path.LinkProtocol that a hit needs."""

    transport: Transport

    def head_of(self, answer: Response) -> bytes: ...

    def end(self) -> None: ...

    def on_response_complete(self) -> None: ...


class _NoEvent:
    def set(self) -> None:
        """Nothing waits for more of a hit."""


class Hit:
    """A hit under way. It has what uvicorn's protocol looks at in a RequestResponseCycle."""

    __slots__ = ("_connection", "disconnected", "keep_alive", "more_body", "request", "response_complete")
    message_event: ClassVar[_NoEvent] = _NoEvent()

    def __init__(self, request: Request, connection: Connection, keep_alive: bool) -> None:
        self.request = request
        self._connection = connection
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
        connection = self._connection
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        connection.transport.write(connection.head_of(answer) + end + answer.body)
        if not self.keep_alive:
            connection.end()
        connection.on_response_complete()
