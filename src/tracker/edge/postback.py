"""Postbacks as they come in: read, told apart from nonsense, put on their stream, and only then answered.

What depends on the database (is there such a click, has it converted before) is for the conversion writer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from time import time_ns
from typing import Any
from urllib.parse import parse_qsl

import orjson

from tracker.clickhash import Mint
from tracker.conversion import IDS, PARAMETERS, Postback, Source, Unreadable, read_postback
from tracker.edge.address import Proxies, plain_address
from tracker.edge.answer import Answer, Send, content, send_as_messages
from tracker.edge.catalog import Catalog
from tracker.edge.link import MAX_TARGET, MAX_VALUE
from tracker.edge.metrics import Metrics
from tracker.edge.request import headers_of
from tracker.edge.text import crop
from tracker.settings import Settings
from tracker.stream.postbacks import PostbackStream
from tracker.stream.reader import UNREACHABLE

MAX_BODY = 64 * 1024
"""Longest body, in bytes."""
MAX_WAITING = 1000
"""Most postbacks that wait for the stream at a time; further ones get 503."""

_BODY_SECONDS = 10.0
_PIXEL = "/pixel"
_GOAL = "/api/v3/goal/"
_PATHS = {"/postback", "/postback/", _PIXEL, f"{_PIXEL}/"}
_GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
_FORM, _JSON = "application/x-www-form-urlencoded", "application/json"

_AWAY: tuple[type[Exception], ...] = (*UNREACHABLE, RuntimeError)  # RuntimeError: uvloop's, of a closed one

Scope = Mapping[str, Any]
Pairs = Iterable[tuple[str, str]]


class _Refused(Exception):  # noqa: N818 - an answer, and nobody's error
    """A postback that is not taken."""

    def __init__(self, status: int, message: str, extra: bytes = b"", *, field: str = "") -> None:
        super().__init__(message)
        said = {"status": "error", "message": message}
        self.answer = _json(status, said | ({"errors": {field: [message]}} if field else {}), extra)


class Postbacks:
    """Takes postbacks: an ASGI application for the paths that is_postback_path names."""

    def __init__(self, settings: Settings, mint: Mint, catalog: Catalog, metrics: Metrics) -> None:
        assert settings.redis_url
        self._proxies = Proxies(settings.trusted_proxies)
        self._mint = mint
        self._catalog = catalog
        self._metrics = metrics
        self._stream = PostbackStream(settings.redis_url)
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        try:
            answer = await self._take(scope, receive)
        except _Refused as refused:
            answer = refused.answer
        self._metrics.count("postbacks", f'status="{answer.status}"')
        await send_as_messages(send, answer, without_body=scope["method"] == "HEAD")

    async def close(self) -> None:
        await self._stream.close()

    async def _take(self, scope: Scope, receive: Any) -> Answer:
        is_pixel = scope["path"].startswith(_PIXEL)
        _check_method(scope["method"], is_pixel)
        if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET:
            raise _Refused(414, "The address is too long: send a POST.")
        said = _first(await _said(scope, receive))
        success = _PIXEL_SENT if is_pixel else _SUCCESS
        if scope["method"] == "HEAD":
            return success
        await self._append(self._read(said, self._ip(scope), Source.PIXEL if is_pixel else Source.POSTBACK))
        return success

    def _read(self, said: Mapping[str, str], ip: str, source: Source) -> Postback:
        parameters = {name: text for name, text in said.items() if name in PARAMETERS}
        secret = said.get("token", "") if source is Source.POSTBACK else ""
        owner = self._owner(secret) if secret else None
        try:
            return read_postback(self._mint.hash(), source, ip, owner, parameters)
        except Unreadable as error:
            raise _Refused(422, f"{error.field} {error}", field=error.field) from None

    def _owner(self, secret: str) -> int:
        if not self._catalog.loaded.is_set():
            raise _Refused(503, "Not ready yet.", _RETRY)
        owner = self._catalog.secrets.owner(secret, time_ns() // 1_000_000)
        if owner is None:
            raise _Refused(403, "token is no advertiser's, or has expired", field="token")
        return owner

    def _ip(self, scope: Scope) -> str:
        peer = scope["client"][0] if scope["client"] else ""
        if self._proxies.trusts(peer):
            return self._proxies.origin(peer, headers_of(scope["headers"])).ip
        return plain_address(peer)

    async def _append(self, postback: Postback) -> None:
        if self._waiting >= MAX_WAITING:
            raise _Refused(503, "Too many postbacks at once.", _RETRY)
        self._waiting += 1
        try:
            await self._stream.append(postback)
        except _AWAY:
            raise _Refused(503, "It cannot be kept right now.", _RETRY) from None
        finally:
            self._waiting -= 1


def is_postback_path(path: str) -> bool:
    return path in _PATHS or path.startswith(_GOAL)


def _check_method(method: str, is_pixel: bool) -> None:
    allowed = ("GET", "HEAD") if is_pixel else ("GET", "HEAD", "POST")
    if method not in allowed:
        raise _Refused(405, "Method not allowed.", b"allow: %b\r\n" % ", ".join(allowed).encode())


async def _said(scope: Scope, receive: Any) -> list[tuple[str, str]]:
    """All that a request says, by name: the path first, then the query, then the body."""
    said = []
    if scope["path"].startswith(_GOAL):
        said.append(("goal_id", scope["path"].removeprefix(_GOAL).removesuffix("/") or "none"))
    said += _pairs(scope["query_string"])
    if scope["method"] == "POST" and (body := await _body(receive)):
        said += _of_body(dict(scope["headers"]), body)
    return said


def _first(said: Pairs) -> dict[str, str]:
    """The first of what is said repeatedly; cropped, but for ids: two that are cut alike would be one."""
    first: dict[str, str] = {}
    for name, text in said:
        if name not in first:
            if name in IDS and len(text) > MAX_VALUE:
                raise _Refused(422, f"{name} is longer than {MAX_VALUE} characters", field=name)
            first[name] = crop(text, MAX_VALUE)
    return first


def _pairs(text: bytes) -> list[tuple[str, str]]:
    return parse_qsl(text.decode("utf-8", "replace"), keep_blank_values=True, errors="replace")


async def _body(receive: Any) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise _Refused(400, "The body was cut off.", _CLOSE)
                body += message.get("body", b"")
                if len(body) > MAX_BODY:
                    raise _Refused(413, f"The body is longer than {MAX_BODY} bytes.", _CLOSE)
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise _Refused(408, "The body did not arrive in time.", _CLOSE) from None


def _of_body(headers: Mapping[bytes, bytes], body: bytes) -> Pairs:
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
    if kind == _FORM:
        return _pairs(body)
    if kind == _JSON:
        return _of_json(body)
    raise _Refused(415, f"Send a body of {_FORM} or {_JSON}, and say so in Content-Type.")


def _of_json(body: bytes) -> Pairs:
    """Of an object of texts and numbers; those as they are written, for no amount is a float."""
    try:
        given = json.loads(body, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError):
        raise _Refused(422, "body is not JSON", field="body") from None
    if not isinstance(given, dict):
        raise _Refused(422, "body is not a JSON object", field="body")
    return [(name, _text(name, value)) for name, value in given.items() if value is not None]


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if name in PARAMETERS or name == "token":
        raise _Refused(422, f"{name} must be a text or a number", field=name)
    return ""


def _json(status: int, body: Mapping[str, Any], extra: bytes = b"") -> Answer:
    return content(status, orjson.dumps(body), b"application/json", extra)


_RETRY, _CLOSE = b"retry-after: 1\r\n", b"connection: close\r\n"
_SUCCESS = _json(200, {"status": "success"})
_PIXEL_SENT = content(200, _GIF, b"image/gif")
