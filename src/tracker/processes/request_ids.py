"""Ids of the API's requests. A request's answer and the log lines that it causes have the same id."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextvars import ContextVar
from secrets import token_hex
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # each command logs, and Starlette would cost it 20 ms
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = b"x-request-id"

_current: ContextVar[str] = ContextVar("request_id", default="")
_OF_A_PROXY = re.compile(rb"[A-Za-z0-9._-]{8,64}")


def current() -> str:
    """The id of the request that this task answers. "" outside requests."""
    return _current.get()


class RequestIds:
    """Gives each request an id: the X-Request-ID of a trusted proxy, or a random one.

    Applications below find it as `request_id` in the scope.
    """

    def __init__(self, app: ASGIApp, is_trusted: Callable[[str], bool]) -> None:
        self._app = app
        self._is_trusted = is_trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id_ = self._given(scope) or token_hex(8)
        _current.set(id_)  # it stays: the server logs a defect after the application has ended

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (HEADER, id_.encode())]
            await send(message)

        await self._app({**scope, "request_id": id_}, receive, send_with_id)

    def _given(self, scope: Scope) -> str:
        peer = (scope.get("client") or ("",))[0]
        given = next((value for name, value in scope["headers"] if name == HEADER), b"")
        return given.decode() if _OF_A_PROXY.fullmatch(given) and self._is_trusted(peer) else ""
