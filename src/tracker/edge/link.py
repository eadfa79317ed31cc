"""Reads a tracking link: path and query, as hostile as they come."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import unquote_plus

from tracker.edge.text import crop
from tracker.model import Link

MAX_VALUE = 500
"""Longest parameter value kept, in characters; the rest is cut off."""
MAX_TARGET = 8192
"""Longest request target answered, in bytes; a longer one gets 414 (RFC 9110, section 15.5.15)."""

_PATHS = ("/offer/", "/backend/api/v3/offer/")

_AFF_SUBS = [f"aff_sub{n}" if n > 1 else "aff_sub" for n in range(1, 21)]
_ADV_SUBS = [f"adv_sub{n}" if n > 1 else "adv_sub" for n in range(1, 6)]
_NAMES = [
    "affiliate_id",
    "url_id",
    "source",
    "external_id",
    "gaid",
    "idfa",
    *_AFF_SUBS,
    *_ADV_SUBS,
]
_PLACE = {name: place for place, name in enumerate(_NAMES)}
_PLACE |= {
    "aff_id": _PLACE["affiliate_id"],
    "offer_url_id": _PLACE["url_id"],
    "affiliate_source": _PLACE["source"],
}
_PLACE |= {"aff_sub1": _PLACE["aff_sub"]} | {f"sub{n}": _PLACE[_AFF_SUBS[n - 1]] for n in range(1, 21)}

_BLANK = [""] * len(_NAMES)
_FIRST_AFF_SUB = _PLACE["aff_sub"]
_FIRST_ADV_SUB = _PLACE["adv_sub"]


def is_tracking_path(path: str) -> bool:
    return path.startswith(_PATHS)


def read_link(path: str, query: bytes) -> Link:
    """What the link says. An offer or affiliate id that is missing or no id reads as 0: no catalogue has it.

    The first of repeated parameters wins, aliases included; unknown ones are passed over.
    """
    texts, seen = _BLANK.copy(), set()
    for pair in query.decode("utf-8", "replace").split("&"):
        name, _, value = pair.partition("=")
        place = _PLACE.get(name if "%" not in name else unquote_plus(name))
        if place is not None and place not in seen:
            seen.add(place)
            texts[place] = _value(value)
    affiliate_id, url_id, source, external_id, gaid, idfa = texts[:_FIRST_AFF_SUB]
    return Link(
        _offer_id(path),
        _id(affiliate_id),
        (url_id and _id(url_id)) or None,
        source,
        external_id,
        gaid,
        idfa,
        tuple(texts[_FIRST_AFF_SUB:_FIRST_ADV_SUB]),
        tuple(texts[_FIRST_ADV_SUB:]),
    )


def _offer_id(path: str) -> int:
    for prefix in _PATHS:
        if path.startswith(prefix):
            return _id(path[len(prefix) :].removesuffix("/"))
    return 0


def _value(text: str) -> str:
    if len(text) <= MAX_VALUE and text.isalnum():
        return text
    if "%" in text or "+" in text:
        text = unquote_plus(text, errors="replace")
    return crop(text, MAX_VALUE)


def _id(text: str) -> int:
    """[1-9][0-9]{0,17} in ASCII digits, else 0."""
    return _short_id(text) if len(text) <= 18 else 0


@lru_cache(65_536)
def _short_id(text: str) -> int:
    if text.isascii() and text.isdigit() and text[0] != "0":
        return int(text)
    return 0
