"""Incoming postbacks: read, checked, put on their stream, and only then answered.

The conversion writer does everything that needs the database, such as looking up the click.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from time import time_ns
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from tracker.domain.click_id import Mint
from tracker.domain.normalise import cut, given, pairs, text_of, trim
from tracker.domain.postback import (
    GOALS,
    IDS,
    PARAMETERS,
    OfForm,
    Postback,
    RefusedPostback,
    Source,
    Unreadable,
    no_status,
    read_postback,
)
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.catalogue.postback_forms import OUR_SECRET, Meaning, PostbackForm, by_name
from tracker.edge.http.request import headers_of
from tracker.edge.http.response import Response, Send, content, send_as_messages
from tracker.edge.metrics import Metrics
from tracker.edge.read.client_address import Proxies, plain_address
from tracker.edge.read.link import MAX_TARGET, MAX_VALUE
from tracker.edge.read.postback_body import UnreadableBody, read_body
from tracker.edge.read.text import crop
from tracker.edge.refused_postbacks import MAX_TEXT, RefusedLog, shown_parameters, shown_text
from tracker.settings import Settings
from tracker.stream.postbacks import PostbackStream
from tracker.stream.reader import UNREACHABLE

MAX_BODY = 64 * 1024
"""Longest body, in bytes."""
MAX_WAITING = 1000
"""Most postbacks that wait for the stream at a time. Further ones get 503."""

_BODY_SECONDS = 10.0
_TRY_AGAIN = 500  # from this status on nothing is wrong with the postback: its sender may call again
_PIXEL_PATHS = {"/pixel", "/pixel/"}
_GOAL = "/api/v3/goal/"
_PATHS = {"/postback", "/postback/", *_PIXEL_PATHS}
_GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
_NAMES = {*PARAMETERS, OUR_SECRET}
_CUT_IDS = {*IDS, *GOALS}

_AWAY: tuple[type[Exception], ...] = (
    *UNREACHABLE,
    RuntimeError,  # uvloop's, of a socket that was closed meanwhile
)

Scope = Mapping[str, Any]
Pairs = Collection[tuple[str, str]]


class _Refused(Exception):  # noqa: N818 - an answer, not an error
    """The answer to a postback that is not taken."""

    def __init__(self, status: int, message: str, extra: bytes = b"", *, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        body = {"status": "error", "message": message}
        self.answer = _json(status, body | ({"errors": {field: [message]}} if field else {}), extra)


class Postbacks:
    """The ASGI application for the paths of is_postback_path, and for postbacks in forms."""

    def __init__(
        self, settings: Settings, mint: Mint, catalogue: Catalogue, refused: RefusedLog, metrics: Metrics
    ) -> None:
        assert settings.redis_url
        self._proxies = Proxies(settings.trusted_proxies)
        self._mint = mint
        self._catalogue = catalogue
        self._refused = refused
        self._metrics = metrics
        self._stream = PostbackStream(settings.redis_url)
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        sent: list[tuple[str, str]] = []
        form = None if is_postback_path(scope["path"]) else self.form_of(scope)
        try:
            answer = await self._take(scope, receive, form, sent)
        except _Refused as refused:
            answer = refused.answer
            if answer.status < _TRY_AGAIN and scope["method"] != "HEAD":
                self._refused.add(self._logged(scope, form, sent, refused))
        self._metrics.count("postbacks", f'status="{answer.status}"')
        await send_as_messages(send, answer, without_body=scope["method"] == "HEAD")

    async def close(self) -> None:
        await self._stream.close()

    def form_of(self, scope: Scope) -> PostbackForm | None:
        """The form of a request for another path than ours.

        A link form with more fixed segments goes first.
        """
        path, catalogue = _path(scope), self._catalogue
        if not catalogue.postback_forms.claims(path):
            return None
        host = self._origin(scope)[1]
        form = catalogue.postback_forms.find(host, path, scope["query_string"])
        link_form = catalogue.link_forms.find(host, path) if form else None
        is_links = form and link_form and len(link_form.segments) < len(form.segments)
        return None if is_links else form

    async def _take(
        self, scope: Scope, receive: Any, form: PostbackForm | None, sent: list[tuple[str, str]]
    ) -> Response:
        """Take a postback. Its parameters are added to `sent` as they are read, for the log of a refusal."""
        sent += _of_target(scope)
        is_pixel = scope["path"] in _PIXEL_PATHS
        _check_method(scope["method"], is_pixel)
        if _goal_in_path(scope) == "":
            raise _Refused(422, "goal_id is missing in the path", field="goal_id")
        if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET:
            raise _Refused(414, "The address is too long: send a POST.")
        if scope["method"] == "POST":
            await _add_body(scope, receive, sent)
        success = _PIXEL_SENT if is_pixel else _SUCCESS
        if scope["method"] == "HEAD":
            return success
        read = self._read(by_name(sent, _NAMES), scope) if form is None else self._read_in(form, sent, scope)
        await self._append(read)
        return success

    def _read(self, sent: Mapping[str, str], scope: Scope) -> Postback:
        source, texts = _source(scope), _cropped(sent)
        secret = trim(texts.get(OUR_SECRET, "")) if source is Source.POSTBACK else ""
        owner = self._owner(secret) if secret else None
        return self._checked(texts, scope, source, owner)

    def _read_in(self, form: PostbackForm, sent: Pairs, scope: Scope) -> Postback:
        """Read a postback by the form of its path."""
        first = by_name(sent, form.names)
        meaning = form.read(_path(scope), first)
        owner = self._owner(meaning.secret) if meaning.secret else None
        if None not in (owner, form.advertiser_id) and owner != form.advertiser_id:
            raise _Refused(403, "token is of another advertiser than this address", field="token")
        of = OfForm(
            *(form.id, form.name, form.advertiser_id, form.source, meaning.status),
            *(self._shown_path(scope, form), self._shown(first, form)),
        )
        return self._checked(_cropped(meaning.parameters), scope, Source.POSTBACK, owner, of)

    def _checked(
        self,
        texts: Mapping[str, str],
        scope: Scope,
        source: Source,
        owner: int | None,
        form: OfForm | None = None,
    ) -> Postback:
        hide, ip = self._catalogue.secrets.hide, self._origin(scope)[0]
        parameters = {name: hide(text) for name, text in texts.items() if name in PARAMETERS}
        try:
            postback = read_postback(self._mint.hash(), source, ip, owner, parameters, form)
        except Unreadable as error:
            raise _Refused(422, f"{error.field} {error}", field=error.field) from None
        if source is Source.POSTBACK and postback.status is None:
            self._check_word(postback)
        return postback

    def _check_word(self, postback: Postback) -> None:
        is_known = not postback.word or self._catalogue.status_words.knows(
            postback.word, postback.advertiser_id
        )
        if not is_known and self._catalogue.loaded.is_set():
            raise _Refused(422, f"status {no_status()}", field="status")

    def _logged(
        self, scope: Scope, form: PostbackForm | None, sent: Pairs, refused: _Refused
    ) -> RefusedPostback:
        """The log's entry of a refused call."""
        first = by_name(sent, _NAMES if form is None else form.names)
        meaning = _meaning(first) if form is None else form.read(_path(scope), first)
        return RefusedPostback(
            self._mint.hash(),
            _source(scope),
            self._origin(scope)[0],
            self._catalogue.secrets.owner_ever(meaning.secret),
            _click_of(shown_parameters(meaning.parameters, self._catalogue.secrets)),
            f"{scope['method'][:MAX_TEXT]} {self._shown_path(scope, form)}",
            self._shown(first, form),
            f"{refused.answer.status}: {refused.message}",
            form.name if form else "",
        )

    def _owner(self, secret: str) -> int:
        if not self._catalogue.loaded.is_set():
            raise _Refused(503, "Not ready yet.", _RETRY)
        owner = self._catalogue.secrets.owner(secret, time_ns() // 1_000_000)
        if owner is None:
            raise _Refused(403, "token is not an advertiser's, or has expired", field="token")
        return owner

    def _shown(self, sent: Mapping[str, str], form: PostbackForm | None) -> dict[str, str]:
        """Parameters for the log, as they came but without secrets."""
        secrets = self._catalogue.secrets
        if form is None:
            return shown_parameters(sent, secrets)
        return shown_parameters(sent, secrets, form.parameters.keys() | form.match.keys(), form.secret)

    def _shown_path(self, scope: Scope, form: PostbackForm | None) -> str:
        """The path for the log. What stands in the place of a secret is hidden, even if nobody has it."""
        path = _path(scope)
        return shown_text(path if form is None else form.without_secret(path), self._catalogue.secrets)

    def _origin(self, scope: Scope) -> tuple[str, str]:
        """The address of the sender, and the host of the request."""
        peer, headers = scope["client"][0] if scope["client"] else "", headers_of(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if self._proxies.trusts[peer]:
            ip, _, told_host = self._proxies.origin(peer, headers)
            return ip, told_host or host
        return plain_address(peer), host

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


def _source(scope: Scope) -> Source:
    return Source.PIXEL if scope["path"] in _PIXEL_PATHS else Source.POSTBACK


def _of_target(scope: Scope) -> list[tuple[str, str]]:
    """The parameters of the path and the query."""
    goal, query = _goal_in_path(scope), pairs(scope["query_string"])
    return [("goal_id", goal), *query] if goal and given(goal) else query


def _goal_in_path(scope: Scope) -> str | None:
    """The goal in the path, which may be empty. None if the path has no place for a goal."""
    if not scope["path"].startswith(_GOAL):
        return None
    return trim(_path(scope).removeprefix(_GOAL).rstrip("/"))


async def _add_body(scope: Scope, receive: Any, sent: list[tuple[str, str]]) -> None:
    """Add the parameters of a body. An unreadable body is added as one parameter."""
    body = bytearray()
    try:
        await _receive(receive, body)
        sent += read_body(dict(scope["headers"]), bytes(body)) if body else []
    except UnreadableBody as error:
        sent.append(("body", text_of(bytes(body))))
        raise _Refused(error.status, str(error), field=error.field) from None
    except _Refused:
        sent.append(("body", text_of(bytes(body))))
        raise


def _path(scope: Scope) -> str:
    """The path, percent-decoded."""
    return text_of(unquote_to_bytes(scope["raw_path"]))


def _meaning(sent: Mapping[str, str]) -> Meaning:
    """The meaning of a postback in our form."""
    return Meaning(dict(sent), trim(sent.get(OUR_SECRET, "")), None)


def _cropped(texts: Mapping[str, str]) -> dict[str, str]:
    """Texts at the length that is kept. Ids are never cut: two ids could become the same."""
    for name in _CUT_IDS & texts.keys():
        if len(trim(texts[name])) > MAX_VALUE:
            raise _Refused(422, f"{name} is longer than {MAX_VALUE} characters", field=name)
    return {
        name: crop(trim(text) if name in _CUT_IDS and len(text) > MAX_VALUE else text, MAX_VALUE)
        for name, text in texts.items()
    }


def _click_of(parameters: Mapping[str, str]) -> str:
    """The click id of a refused call. "" without a readable one."""
    try:
        postback = read_postback("", Source.POSTBACK, "", None, parameters)
    except Unreadable:
        return ""
    return cut(postback.click_hash or postback.click_id, MAX_TEXT)


async def _receive(receive: Any, body: bytearray) -> None:
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
                    return
    except TimeoutError:
        raise _Refused(408, "The body did not arrive in time.", _CLOSE) from None


def _json(status: int, body: Mapping[str, Any], extra: bytes = b"") -> Response:
    return content(status, orjson.dumps(body), b"application/json", extra)


_RETRY, _CLOSE = b"retry-after: 1\r\n", b"connection: close\r\n"
_SUCCESS = _json(200, {"status": "success"})
_PIXEL_SENT = content(200, _GIF, b"image/gif")
