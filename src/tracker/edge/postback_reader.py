"""Reads postbacks as edges do: which form they have, what they mean, and who has proven to send them."""

from __future__ import annotations

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
from tracker.edge.http.response import Response, content
from tracker.edge.read.client_address import Proxies, plain_address
from tracker.edge.read.link import MAX_VALUE
from tracker.edge.read.text import crop
from tracker.edge.refused_postbacks import MAX_TEXT, shown_parameters, shown_text

RETRY = b"retry-after: 1\r\n"
PIXEL_PATHS = {"/pixel", "/pixel/"}

_GOAL = "/api/v3/goal/"
_PATHS = {"/postback", "/postback/", *PIXEL_PATHS}
_NAMES = {*PARAMETERS, OUR_SECRET}
_CUT_IDS = {*IDS, *GOALS}

Scope = Mapping[str, Any]
"""A request, as ASGI describes it."""
Pairs = Collection[tuple[str, str]]


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """The answer to a postback that is not taken."""

    def __init__(self, status: int, message: str, extra: bytes = b"", *, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        body = {"status": "error", "message": message}
        self.answer = json_answer(status, body | ({"errors": {field: [message]}} if field else {}), extra)


class PostbackReader:
    """Reads the postbacks of requests by a catalogue."""

    def __init__(self, mint: Mint, catalogue: Catalogue, proxies: Proxies) -> None:
        self._mint = mint
        self._catalogue = catalogue
        self._proxies = proxies

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

    def read(self, scope: Scope, form: PostbackForm | None, sent: Pairs) -> Postback:
        """The postback of a request, with all its parameters.

        Raises:
            Refused: it is not taken.
        """
        return self._read(by_name(sent, _NAMES), scope) if form is None else self._read_in(form, sent, scope)

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
            raise Refused(403, "token is of another advertiser than this address", field="token")
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
            raise Refused(422, f"{error.field} {error}", field=error.field) from None
        if source is Source.POSTBACK and postback.status is None:
            self._check_word(postback)
        return postback

    def _check_word(self, postback: Postback) -> None:
        is_known = not postback.word or self._catalogue.status_words.knows(
            postback.word, postback.advertiser_id
        )
        if not is_known and self._catalogue.loaded.is_set():
            raise Refused(422, f"status {no_status()}", field="status")

    def refused(
        self, scope: Scope, form: PostbackForm | None, sent: Pairs, refused: Refused
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
            raise Refused(503, "Not ready yet.", RETRY)
        owner = self._catalogue.secrets.owner(secret, time_ns() // 1_000_000)
        if owner is None:
            raise Refused(403, "token is not an advertiser's, or has expired", field="token")
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


def is_postback_path(path: str) -> bool:
    return path in _PATHS or path.startswith(_GOAL)


def _source(scope: Scope) -> Source:
    return Source.PIXEL if scope["path"] in PIXEL_PATHS else Source.POSTBACK


def of_target(scope: Scope) -> list[tuple[str, str]]:
    """The parameters of the path and the query."""
    goal, query = goal_in_path(scope), pairs(scope["query_string"])
    return [("goal_id", goal), *query] if goal and given(goal) else query


def goal_in_path(scope: Scope) -> str | None:
    """The goal in the path, which may be empty. None if the path has no place for a goal."""
    if not scope["path"].startswith(_GOAL):
        return None
    return trim(_path(scope).removeprefix(_GOAL).rstrip("/"))


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
            raise Refused(422, f"{name} is longer than {MAX_VALUE} characters", field=name)
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


def json_answer(status: int, body: Mapping[str, Any], extra: bytes = b"") -> Response:
    return content(status, orjson.dumps(body), b"application/json", extra)
