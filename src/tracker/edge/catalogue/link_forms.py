"""Other trackers' links as data, so that live ads go on working after a move.

A form is a host (or any host), a path, and the meaning of both path and query. The path is fixed, as in
/aff_c, or has placeholders for whole segments: /c/{offer_id}/{affiliate_id}. Names in the query are theirs or
ours. The path wins over the form's constants, and constants win over the query: visitors cannot change them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tracker.domain.model import Link
from tracker.edge.catalogue.form_paths import ANY_HOST, Shapes, read_host, read_path
from tracker.edge.catalogue.tracking_hosts import plain_host
from tracker.edge.http.request import Request
from tracker.edge.read.link import MAX_VALUE, NAMES, PLACES, LinkForm, is_tracking_path, read_link
from tracker.edge.read.text import crop

_IDS = {"offer_id", "affiliate_id", "url_id"}
_ID = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_ONLY_IN_QUERY = {"url", "test"}
_IN_PATH = {name: place for name, place in PLACES.items() if name not in _ONLY_IN_QUERY}


class LinkForms:
    """Finds the form of a path by a few look-ups, however many forms there are."""

    def __init__(self) -> None:
        self._places: dict[int, tuple[str, str]] = {}  # (key, host) of each form by its id
        self._forms: dict[str, dict[str, LinkForm]] = {}  # by key, then host
        self._shapes = Shapes()

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
        return any(key in self._forms for key in self._shapes.keys(path))

    def read(self, request: Request, host: str) -> Link:
        """Read the link of a request to a host: one of ours, or in the form of its path."""
        path = request.path
        return read_link(path, request.query, None if is_tracking_path(path) else self.find(host, path))

    def find(self, host: str, path: str) -> LinkForm | None:
        """The form of a link. A form of its host wins, then the form with more fixed segments."""
        host = plain_host(host)
        of_any_host = None
        for key in self._shapes.keys(path):
            by_host = self._forms.get(key)
            if by_host is not None:
                if host in by_host:
                    return by_host[host]
                of_any_host = of_any_host or by_host.get(ANY_HOST)
        return of_any_host


def _compiled(id_: int, row: Mapping[str, Any]) -> tuple[str, LinkForm]:
    """A form and the key of its path.

    Raises:
        ValueError: it cannot be used.
    """
    key, segments = read_path(row["path"], _IN_PATH)
    constants = _constants(row["constants"])
    in_path = {place for _, place in segments}
    places = _names(_parameters(row["parameters"]), frozenset(in_path | constants.keys()))
    for name in ("offer_id", "affiliate_id"):
        if PLACES[name] not in {*in_path, *constants, *places.values()}:
            raise ValueError(f"it can never give an {name}")
    rest = tuple((place, text) for place, text in constants.items() if place not in in_path)
    return key, LinkForm(id_, row["name"], read_host(row["host"]), places, rest, segments)


def _parameters(parameters: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    for theirs, ours in _object("parameters", parameters).items():
        if not theirs or not isinstance(ours, str) or ours not in PLACES:
            raise ValueError(f"parameter {theirs!r}: {ours!r} is not one of {', '.join(NAMES)}")
    return tuple(sorted(parameters.items()))


@lru_cache(1024)  # thousands of fixed paths mean the same
def _names(parameters: tuple[tuple[str, str], ...], fixed: frozenset[int]) -> dict[str, int]:
    """The place of every name that the query may use."""
    names = PLACES | {theirs: PLACES[ours] for theirs, ours in parameters}
    return {name: place for name, place in names.items() if place not in fixed}


def _constants(constants: Mapping[str, Any]) -> dict[int, str]:
    texts = {}
    for name, value in _object("constants", constants).items():
        if name not in PLACES or name in _ONLY_IN_QUERY:
            raise ValueError(f"constant {name!r} is not one of {', '.join(NAMES[:-2])}")
        texts[PLACES[name]] = _constant(name, value)
    return texts


def _constant(name: str, value: Any) -> str:
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if NAMES[PLACES[name]] in _IDS and not _ID.fullmatch(text):
        raise ValueError(f"constant {name}: {value!r} is not an id")
    if str(value) != text or crop(text, MAX_VALUE) != text:
        raise ValueError(f"constant {name}: needs text of at most {MAX_VALUE} characters")
    return text


def _object(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: {value!r} is not an object")
    return value
