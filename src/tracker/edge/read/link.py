"""Reads a tracking link: path and query, as hostile as they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

from tracker.domain.click_fields import ADV_SUBS, AFF_SUBS, LONGEST
from tracker.domain.model import Link, fast
from tracker.domain.normalise import ESCAPED_MARKS, PERCENT, unquoted
from tracker.edge.read.text import crop

MAX_VALUE = LONGEST["aff_sub"]
"""Longest parameter value kept, in characters; the rest is cut off."""
MAX_DEEP_LINK = 2000
"""Longest `url` parameter taken, in characters; a longer one is left out: a cut address leads elsewhere."""
MAX_TEST = 100
"""Most that is kept of a `test` parameter, in characters: more than any signature has."""
MAX_TARGET = 8192
"""Longest request target answered, in bytes; a longer one gets 414 (RFC 9110, section 15.5.15)."""

_SHORT, _LONG = PATHS = ("/offer/", "/backend/api/v3/offer/")

NAMES = (
    "offer_id",
    "affiliate_id",
    "url_id",
    "source",
    "external_id",
    "gaid",
    "idfa",
    *AFF_SUBS,
    *ADV_SUBS,
    "url",
    "test",
)
"""What a link can say, by the names of the standard form, in the order that read_link works in."""
PLACES = {name: place for place, name in enumerate(NAMES)}
"""Every name that a link of ours may say it by, aliases included, to its place in NAMES."""
PLACES |= {
    "aff_id": PLACES["affiliate_id"],
    "offer_url_id": PLACES["url_id"],
    "affiliate_source": PLACES["source"],
}
PLACES |= {"aff_sub1": PLACES["aff_sub"]} | {f"sub{n}": PLACES[AFF_SUBS[n - 1]] for n in range(1, 21)}

IN_QUERY: Mapping[str, int] = {name: place for name, place in PLACES.items() if name != "offer_id"}
"""Those that the query of a link of ours may use."""
_BLANK = [""] * (len(NAMES) - 1)  # all but the offer
_FIRST_AFF_SUB = PLACES["aff_sub"]
_FIRST_ADV_SUB = PLACES["adv_sub"]
_DEEP_LINK = PLACES["url"]
_TEST = PLACES["test"]


class LinkForm(NamedTuple):
    """How links of another tracker say what ours say, compiled by edge.catalogue.link_forms."""

    id: int
    name: str
    host: str  # whose links they are; "" = any of ours
    places: Mapping[str, int]  # names in the query; none of what path or constants give
    constants: tuple[tuple[int, str], ...]  # (place, text)
    segments: tuple[tuple[int, int], ...]  # (which segment of the path, place)


def is_tracking_path(path: str) -> bool:
    return path.startswith(PATHS)


def read_link(path: str, query: bytes, form: LinkForm | None = None) -> Link:
    """What the link says. An offer or affiliate id that is missing or no id reads as 0: no catalogue has it.

    The path is percent-decoded, the query is as sent. The first of repeated parameters wins, aliases
    included. Unknown ones are passed over, unless a name without a leading `amp;` is known and nowhere given
    plainly. Without a form it is a link of ours.
    """
    if form is None:
        texts, places = [_after_prefix(path), *_BLANK], IN_QUERY
    else:
        texts, places = ["", *_BLANK], form.places
        _fill_in(texts, form, path)
    for pair in reversed(query.decode("utf-8", PERCENT).split("&")):  # so that the first is what stays
        name, _, value = pair.partition("=")
        place = places.get(name)
        if place is None and ("%" in name or ";" in name):
            name = unquoted(name)
            place = places.get(name)
            if place is None and ESCAPED_MARKS.match(name):
                return read_link(path, _without_marks(query, places), form)
        if place is None:
            continue
        if place >= _DEEP_LINK:
            value = _long_value(place, value)
        elif not value.isalnum() or len(value) > MAX_VALUE:
            value = _value(value)
        texts[place] = value
    told = (
        IDS[texts[0]],
        IDS[texts[1]],
        (texts[2] and IDS[texts[2]]) or None,
        texts[3],
        texts[4],
        texts[5],
        texts[6],
        tuple(texts[_FIRST_AFF_SUB:_FIRST_ADV_SUB]),
        tuple(texts[_FIRST_ADV_SUB:_DEEP_LINK]),
        texts[_DEEP_LINK],
        texts[_TEST],
    )
    return fast(Link, told)


def _after_prefix(path: str) -> str:
    prefix = _SHORT if path.startswith(_SHORT) else _LONG
    return path[len(prefix) :].removesuffix("/") if path.startswith(prefix) else ""


def _fill_in(texts: list[str], form: LinkForm, path: str) -> None:
    for place, text in form.constants:
        texts[place] = text
    if form.segments:
        parts = path.split("/")
        for segment, place in form.segments:
            texts[place] = crop(parts[segment], MAX_VALUE)


def _without_marks(query: bytes, places: Mapping[str, int]) -> bytes:
    """The query with names as they were meant; those that had an `amp;` follow the plain ones, which win."""
    plain, marked = [], []
    for pair in query.decode("utf-8", PERCENT).split("&"):
        said, mark, value = pair.partition("=")
        name = unquoted(said)
        if name in places:
            plain.append(pair)
        elif (name := ESCAPED_MARKS.sub("", name)) in places:
            marked.append(f"{quote(name)}{mark}{value}")
    return "&".join(plain + marked).encode()


def _long_value(place: int, text: str) -> str:
    text = unquoted(text)
    return _deep_link(text) if place == _DEEP_LINK else crop(text, MAX_TEST)


def _deep_link(text: str) -> str:
    """The address whole and unchanged, or none."""
    return text if crop(text, MAX_DEEP_LINK) == text else ""


def _value(text: str) -> str:
    if "%" in text or "+" in text:
        text = unquoted(text)
    return crop(text, MAX_VALUE)


class _Ids(dict[str, int]):
    """Ids by their text, [1-9][0-9]{0,17} in ASCII digits, remembered; 0 for what is none."""

    def __missing__(self, text: str) -> int:
        if not (0 < len(text) <= 18 and text.isascii() and text.isdigit() and text[0] != "0"):
            return 0
        if len(self) >= _IDS_REMEMBERED:
            self.clear()
        return self.setdefault(text, int(text))


_IDS_REMEMBERED = 65_536
IDS = _Ids()
