"""Reads parameters of a tracking link by any name, when an offer or a macro asks for them.

The names that the tracker itself knows are read by edge.read.link, for every click.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from tracker.domain.normalise import CONTROLS, ESCAPED_MARKS, unquoted

MAX_NAME = 50
"""Longest name of a parameter, in characters."""

_SECRET = re.compile(r"(?<![\w-])tr[sk](?:_|%(?:25)*5F)[\w-]{32}", re.ASCII | re.IGNORECASE)
"""A secret of an advertiser or a token of the API, also percent-encoded again. A campaign may be trk_x."""
_MOST_PARTS = 200  # of a query that are looked at: no link needs more
_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_NAME}}}")
_SIGNATURE = "test"  # of test links. Who has one makes test clicks


def check_name(name: str) -> None:
    """Check the name of a parameter that is taken from links.

    Raises:
        ValueError: it has no form for this, or names the signature of test links.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"the name of a parameter has 1 to {MAX_NAME} letters, digits, underscores, hyphens or points"
        )
    if name == _SIGNATURE:
        raise ValueError("the signature of test links stays here")


def names(query: str) -> Iterable[str]:
    """The names of a link's parameters that may be taken from it, each once, in their order."""
    return _raw(query).keys()


def value(query: str, name: str) -> str | None:
    """The value of a parameter without control characters. None if it is missing, or has a secret of ours."""
    raw = _raw(query).get(name)
    if raw is None:
        return None
    text = unquoted(raw)
    if not text.isprintable():
        text = text.translate(CONTROLS)
    return None if _SECRET.search(text) else text


@lru_cache(1)  # the outcomes of a click, and the macros of a template, ask one after the other
def _raw(query: str) -> Mapping[str, str]:
    """The values as they were sent, by decoded names. The first of repeated parameters wins.

    A name after a leading `amp;` counts if the plain name is absent.
    """
    plain: dict[str, str] = {}
    marked: dict[str, str] = {}
    for pair in query.split("&", _MOST_PARTS)[:_MOST_PARTS]:
        name, _, raw = pair.partition("=")
        if "%" in name:
            name = unquoted(name)
        bare = ESCAPED_MARKS.sub("", name)
        if _NAME.fullmatch(bare) and bare != _SIGNATURE:
            (plain if bare == name else marked).setdefault(bare, raw)
    return plain | {name: raw for name, raw in marked.items() if name not in plain}
