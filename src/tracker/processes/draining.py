"""The end of a server behind a balancer: it says that it stops, and serves on until the balancer knows."""

from __future__ import annotations

from typing import Any

from starlette.types import Message, Receive, Scope, Send

_READY = "/health/ready"
_CLOSE = (b"connection", b"close")  # the last answer of its connection (RFC 9112, section 9.6)
_NOT_READY = b"stopping\n"


class Draining:
    """An application that works as before, except that it is not ready and that each answer closes.

    It stands in for the application of an edge on both ways through HTTP (edge.http.fast_path). Nothing of it
    runs before the end, so it costs no redirect anything.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        if hasattr(app, "is_link"):
            self.is_link = app.is_link

    def take(self, hit: Any) -> None:
        """Take a hit on the fast path."""
        hit.keep_alive = False
        self._app.take(hit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), _CLOSE]}
            await send(message)

        if scope["type"] == "http" and scope["path"] == _READY:
            await _say_stopping(send_last)
        else:
            await self._app(scope, receive, send_last)


async def _say_stopping(send: Send) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"content-length", b"%d" % len(_NOT_READY)),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _NOT_READY})
