"""Other trackers' links as data, so that live ads go on working after a move.

A form is a host (or any host), a path, and the meaning of both path and query. The path is fixed, as in
/aff_c, or has placeholders for whole segments: /c/{offer_id}/{affiliate_id}. Names in the query are theirs or
ours. The path wins over the form's constants, and constants win over the query: visitors cannot change them.
A link may name its offer or affiliate by a code (edge.catalogue.link_codes).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache, partial
from typing import Any

from tracker.domain.model import Link
from tracker.domain.normalise import ESCAPED_MARKS, unquoted
from tracker.edge.catalogue.form_paths import ANY_HOST, OPEN, Shapes, read_host, read_path
from tracker.edge.catalogue.link_codes import LinkCodes
from tracker.edge.catalogue.tracking_hosts import plain_host
from tracker.edge.http.request import Request
from tracker.edge.read.link import (
    CODES,
    MAX_VALUE,
    NAMES,
    PLACES,
    LinkForm,
    Meaning,
    is_tracking_path,
    read_link,
)
from tracker.edge.read.text import crop

_IDS = {"offer_id", "affiliate_id", "url_id"}
_ID = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_ONLY_IN_QUERY = {"url", "test"}
_NAMES = (*NAMES[:-2], *CODES)  # those in paths and constants
_PLACES = PLACES | CODES
_IN_PATH = {name: place for name, place in _PLACES.items() if name not in _ONLY_IN_QUERY}
_TWINS = {PLACES["offer_id"]: CODES["offer_code"], PLACES["affiliate_id"]: CODES["affiliate_code"]}
_TWINS |= {code: id_ for id_, code in _TWINS.items()}
"""Two places for one thing: by id, and by code."""
_NAMES_OF_CODES = {place: name.replace("_", " ") for name, place in CODES.items()}


class LinkForms:
    """Finds the form of a path by a few look-ups, however many forms there are."""

    def __init__(self) -> None:
        self._places: dict[int, tuple[str, str]] = {}  # (key, host) of each form by its id
        self._forms: dict[str, dict[str, LinkForm]] = {}  # by key, then host
        self._shapes = Shapes()
        self.codes = LinkCodes()

    def put(self, id_: int, row: dict[str, Any] | None) -> None:
        """Replace one form by its row of link_form. None removes it.

        Raises:
            ValueError: the row is wrong, as the text says. No form has this id now.
        """
        self._remove(id_)
        if row is not None:
            self._add(*_compiled(id_, row))

    def _add(self, key: str, form: LinkForm) -> None:
        self._places[form.id] = key, form.host
        self._shapes.add(key, tuple(segment for segment, _ in form.segments))
        self._forms.setdefault(key, {})[form.host] = form

    def _remove(self, id_: int) -> None:
        key, host = self._places.pop(id_, ("", ""))
        by_host = self._forms.get(key, {})
        if host in by_host and by_host[host].id == id_:  # another form may have taken its place already
            del by_host[host]
            if not by_host:
                del self._forms[key]

    def claims(self, path: str) -> bool:
        """Whether a form of any host has this path, percent-decoded. The edge's own paths never match."""
        for key in self._shapes.keys(path):
            by_host = self._forms.get(key)
            if by_host is not None and any(self._takes(form, path) for form in by_host.values()):
                return True
        return False

    def read(self, request: Request, host: str) -> Link:
        """Read the link of a request to a host: one of ours, or in the form of its path."""
        path = request.path
        if is_tracking_path(path):
            return read_link(path, request.query)
        return self.link(host, path, request.query)

    def link(self, host: str, path: str, query: bytes) -> Link:
        """Read a link in the form of its path."""
        form = self.find(host, path)
        if form is None:
            return read_link(path, query)
        find = partial(self.codes.find, plain_host(host)) if form.reads_codes else None
        link = read_link(path, query, form, find)
        return _without_signature(link, form) if link.test else link

    def unknown_codes(self, host: str, path: str, query: bytes) -> list[str]:
        """The codes of a link that mean nothing, such as "offer code DEF45"."""
        form, unknown = self.find(host, path), list[str]()
        if form is None or not form.reads_codes:
            return []

        def find(place: int, code: str) -> Meaning | None:
            meaning = self.codes.find(plain_host(host), place, code)
            if meaning is None:
                unknown.append(f"{_NAMES_OF_CODES[place]} {code}")
            return meaning

        read_link(path, query, form, find)
        return unknown

    def find(self, host: str, path: str) -> LinkForm | None:
        """The form of a link. A form of its host wins, then the form with more fixed segments."""
        host = plain_host(host)
        of_any_host = None
        for key in self._shapes.keys(path):
            by_host = self._forms.get(key)
            if by_host is not None:
                if host in by_host and self._takes(by_host[host], path):
                    return by_host[host]
                if of_any_host is None and ANY_HOST in by_host and self._takes(by_host[ANY_HOST], path):
                    of_any_host = by_host[ANY_HOST]
        return of_any_host

    def _takes(self, form: LinkForm, path: str) -> bool:
        """Whether a form has a path of its shape. Without a fixed segment, one of its codes must be known.

        Otherwise it would take all other paths: those of scanners, /favicon.ico, what a proxy serves.
        """
        if not form.is_open:
            return True
        parts = path.split("/")
        return any(
            self.codes.knows(place, parts[n]) for n, place in form.segments if place in _NAMES_OF_CODES
        )


def _without_signature(link: Link, form: LinkForm) -> Link:
    """A test link whose signature goes on to no page, by any name."""
    names = {name for name, place in form.places.items() if place == PLACES["test"]}
    pairs = (
        pair
        for pair in link.query.split("&")
        if ESCAPED_MARKS.sub("", unquoted(pair.partition("=")[0])) not in names
    )
    return link._replace(query="&".join(pairs))


def _compiled(id_: int, row: Mapping[str, Any]) -> tuple[str, LinkForm]:
    """A form and the key of its path.

    Raises:
        ValueError: it cannot be used.
    """
    key, segments = read_path(row["path"], _IN_PATH)
    constants = _constants(row["constants"])
    in_path = {place for _, place in segments}
    if _has_twins(in_path):
        raise ValueError(f"{row['path']!r} gives one thing by id and by code")
    places = _names(_parameters(row["parameters"]), frozenset(_with_twins(in_path | constants.keys())))
    given = {*in_path, *constants, *places.values()}
    for name in ("offer_id", "affiliate_id"):
        if not given & _with_twins({PLACES[name]}):
            raise ValueError(f"it can never give an {name}")
    rest = tuple((place, text) for place, text in constants.items() if place not in _with_twins(in_path))
    codes = _NAMES_OF_CODES.keys()
    is_open = set(key.split("/")[1:]) == {OPEN} and bool(in_path & codes)
    host, reads_codes = read_host(row["host"]), bool(given & codes)
    return key, LinkForm(id_, row["name"], host, places, rest, segments, reads_codes, is_open)


def _with_twins(places: AbstractSet[int]) -> set[int]:
    """Places, and those that give the same thing by its code or id."""
    return {*places, *(_TWINS[place] for place in places if place in _TWINS)}


def _has_twins(places: Collection[int]) -> bool:
    return any(_TWINS.get(place) in places for place in places)


def _parameters(parameters: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    for theirs, ours in _object("parameters", parameters).items():
        if not theirs or not isinstance(ours, str) or ours not in _PLACES:
            raise ValueError(f"parameter {theirs!r}: {ours!r} is not one of {', '.join((*NAMES, *CODES))}")
    return tuple(sorted(parameters.items()))


@lru_cache(1024)  # thousands of fixed paths mean the same
def _names(parameters: tuple[tuple[str, str], ...], fixed: frozenset[int]) -> dict[str, int]:
    """The place of every name that the query may use."""
    names = PLACES | {theirs: _PLACES[ours] for theirs, ours in parameters}
    return {name: place for name, place in names.items() if place not in fixed}


def _constants(constants: Mapping[str, Any]) -> dict[int, str]:
    texts = {}
    for name, value in _object("constants", constants).items():
        if name not in _PLACES or name in _ONLY_IN_QUERY:
            raise ValueError(f"constant {name!r} is not one of {', '.join(_NAMES)}")
        texts[_PLACES[name]] = _constant(name, value)
    if _has_twins(texts):
        raise ValueError("constants: one thing is given by id and by code")
    return texts


def _constant(name: str, value: Any) -> str:
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if name in PLACES and NAMES[PLACES[name]] in _IDS and not _ID.fullmatch(text):
        raise ValueError(f"constant {name}: {value!r} is not an id")
    if str(value) != text or crop(text, MAX_VALUE) != text:
        raise ValueError(f"constant {name}: needs text of at most {MAX_VALUE} characters")
    return text


def _object(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: {value!r} is not an object")
    return value
