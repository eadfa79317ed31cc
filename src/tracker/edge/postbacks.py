"""Incoming postbacks: read, checked, put on their stream, and only then answered.

The conversion writer does everything that needs the database, such as looking up the click.
"""

from __future__ import annotations

import asyncio
from typing import Any

from tracker.domain.click_id import Mint
from tracker.domain.normalise import text_of
from tracker.domain.postback import Postback
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.catalogue.postback_forms import PostbackForm
from tracker.edge.http.response import Response, Send, content, send_as_messages
from tracker.edge.metrics import Metrics
from tracker.edge.postback_reader import (
    PIXEL_PATHS,
    RETRY,
    PostbackReader,
    Refused,
    Scope,
    goal_in_path,
    is_postback_path,
    json_answer,
    of_target,
)
from tracker.edge.read.client_address import Proxies
from tracker.edge.read.link import MAX_TARGET
from tracker.edge.read.postback_body import UnreadableBody, read_body
from tracker.edge.refused_postbacks import RefusedLog
from tracker.settings import Settings
from tracker.stream.postbacks import PostbackStream
from tracker.stream.reader import UNREACHABLE

MAX_BODY = 64 * 1024
"""Longest body, in bytes."""
MAX_WAITING = 1000
"""Most postbacks that wait for the stream at a time. Further ones get 503."""

_BODY_SECONDS = 10.0
_TRY_AGAIN = 500  # from this status on nothing is wrong with the postback: its sender may call again
_GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")

_AWAY: tuple[type[Exception], ...] = (
    *UNREACHABLE,
    RuntimeError,  # uvloop's, of a socket that was closed meanwhile
)


class Postbacks:
    """The ASGI application for the paths of is_postback_path, and for postbacks in forms."""

    def __init__(
        self, settings: Settings, mint: Mint, catalogue: Catalogue, refused: RefusedLog, metrics: Metrics
    ) -> None:
        assert settings.redis_url
        self._reader = PostbackReader(mint, catalogue, Proxies(settings.trusted_proxies))
        self.form_of = self._reader.form_of
        self._refused = refused
        self._metrics = metrics
        self._stream = PostbackStream(settings.redis_url, settings.copies)
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        sent: list[tuple[str, str]] = []
        form = None if is_postback_path(scope["path"]) else self.form_of(scope)
        try:
            answer = await self._take(scope, receive, form, sent)
        except Refused as refused:
            answer = refused.answer
            if answer.status < _TRY_AGAIN and scope["method"] != "HEAD":
                self._refused.add(self._reader.refused(scope, form, sent, refused))
        self._metrics.count("postbacks", f'status="{answer.status}"')
        await send_as_messages(send, answer, without_body=scope["method"] == "HEAD")

    async def close(self) -> None:
        await self._stream.close()

    async def _take(
        self, scope: Scope, receive: Any, form: PostbackForm | None, sent: list[tuple[str, str]]
    ) -> Response:
        """Take a postback. Its parameters are added to `sent` as they are read, for the log of a refusal."""
        sent += of_target(scope)
        is_pixel = scope["path"] in PIXEL_PATHS
        _check_method(scope["method"], is_pixel)
        if goal_in_path(scope) == "":
            raise Refused(422, "goal_id is missing in the path", field="goal_id")
        if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET:
            raise Refused(414, "The address is too long: send a POST.")
        if scope["method"] == "POST":
            await _add_body(scope, receive, sent)
        success = _PIXEL_SENT if is_pixel else _SUCCESS
        if scope["method"] == "HEAD":
            return success
        await self._append(self._reader.read(scope, form, sent))
        return success

    async def _append(self, postback: Postback) -> None:
        if self._waiting >= MAX_WAITING:
            raise Refused(503, "Too many postbacks at once.", RETRY)
        self._waiting += 1
        try:
            await self._stream.append(postback)
        except _AWAY:
            raise Refused(503, "It cannot be kept right now.", RETRY) from None
        finally:
            self._waiting -= 1


def _check_method(method: str, is_pixel: bool) -> None:
    allowed = ("GET", "HEAD") if is_pixel else ("GET", "HEAD", "POST")
    if method not in allowed:
        raise Refused(405, "Method not allowed.", b"allow: %b\r\n" % ", ".join(allowed).encode())


async def _add_body(scope: Scope, receive: Any, sent: list[tuple[str, str]]) -> None:
    """Add the parameters of a body. An unreadable body is added as one parameter."""
    body = bytearray()
    try:
        await _receive(receive, body)
        sent += read_body(dict(scope["headers"]), bytes(body)) if body else []
    except UnreadableBody as error:
        sent.append(("body", text_of(bytes(body))))
        raise Refused(error.status, str(error), field=error.field) from None
    except Refused:
        sent.append(("body", text_of(bytes(body))))
        raise


async def _receive(receive: Any, body: bytearray) -> None:
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Refused(400, "The body was cut off.", _CLOSE)
                body += message.get("body", b"")
                if len(body) > MAX_BODY:
                    raise Refused(413, f"The body is longer than {MAX_BODY} bytes.", _CLOSE)
                if not message.get("more_body"):
                    return
    except TimeoutError:
        raise Refused(408, "The body did not arrive in time.", _CLOSE) from None


_CLOSE = b"connection: close\r\n"
_SUCCESS = json_answer(200, {"status": "success"})
_PIXEL_SENT = content(200, _GIF, b"image/gif")
