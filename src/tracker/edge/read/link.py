"""Reads a tracking link: the path and the query, both hostile input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import quote

from tracker.domain.click_fields import ADV_SUBS, AFF_SUBS, LONGEST
from tracker.domain.model import Link, fast
from tracker.domain.normalise import ESCAPED_MARKS, PERCENT, unquoted
from tracker.edge.read.remembered import Remembered
from tracker.edge.read.text import crop

MAX_VALUE: Final = LONGEST["aff_sub"]
"""Longest parameter value, in characters. The rest is cut off."""
MAX_DEEP_LINK: Final = 2000
"""Longest `url` parameter, in characters. A longer one is left out: a cut address would lead elsewhere."""
MAX_TEST: Final = 100
"""Characters kept of a `test` parameter: more than any signature has."""
MAX_TARGET: Final = 8192
"""Longest request target, in bytes. A longer one gets 414 (RFC 9110, section 15.5.15)."""

_SHORT: Final = "/offer/"
_LONG: Final = "/backend/api/v3/offer/"
PATHS: Final[tuple[str, ...]] = (_SHORT, _LONG)

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
"""The parameters of a link, by their standard names, in the order of read_link."""
PLACES = {name: place for place, name in enumerate(NAMES)}
"""The place in NAMES of every parameter name, aliases included."""
PLACES |= {
    "aff_id": PLACES["affiliate_id"],
    "offer_url_id": PLACES["url_id"],
    "affiliate_source": PLACES["source"],
}
PLACES |= {"aff_sub1": PLACES["aff_sub"]} | {f"sub{n}": PLACES[AFF_SUBS[n - 1]] for n in range(1, 21)}

IN_QUERY: Final[dict[str, int]] = {name: place for name, place in PLACES.items() if name != "offer_id"}
"""The names allowed in the query of a link of ours, with their places."""
CODES: Final[dict[str, int]] = {"offer_code": len(NAMES), "affiliate_code": len(NAMES) + 1}
"""Further names in forms of links, with their places: codes that mean an offer or an affiliate."""
_BLANK: Final = [""] * (len(NAMES) + len(CODES))
_IDS_OF_CODES: Final[tuple[tuple[int, int], ...]] = tuple(
    (place, PLACES[name.replace("_code", "_id")]) for name, place in CODES.items()
)
_URL_ID: Final = PLACES["url_id"]
_FIRST_AFF_SUB: Final = PLACES["aff_sub"]
_FIRST_ADV_SUB: Final = PLACES["adv_sub"]
_DEEP_LINK: Final = PLACES["url"]
_TEST: Final = PLACES["test"]


Meaning: TypeAlias = tuple[int, int]
"""The id that a code means. Beside an offer's, the id of its URL, or 0."""
FindCode: TypeAlias = Callable[[int, str], Meaning | None]
"""Finds the meaning of a code by its place."""


class LinkForm(NamedTuple):
    """The form of another tracker's links, compiled by edge.catalogue.link_forms."""

    id: int
    name: str
    host: str  # the host of the links. "" = any tracking host
    places: dict[str, int]  # names in the query, without places that path or constants fill
    constants: tuple[tuple[int, str], ...]  # (place, text)
    segments: tuple[tuple[int, int], ...]  # (number of the path's segment, place)
    reads_codes: bool
    is_open: bool  # its path has placeholders only, some of them for codes


def is_tracking_path(path: str) -> bool:
    return path.startswith(PATHS)


def read_link(path: str, query: bytes, form: LinkForm | None = None, find: FindCode | None = None) -> Link:
    """Read a link. An offer or affiliate id that is missing or malformed is 0, which no catalogue has.

    The path is percent-decoded, the query is as sent. The first of repeated parameters wins, aliases
    included. Unknown parameters are ignored, except names with a leading `amp;`: they count if the plain name
    is known and absent. Without a form it is a link of ours. `find`: for forms that read codes.
    """
    if form is None:
        texts, places = [*_BLANK], IN_QUERY
    else:
        texts, places = [*_BLANK], form.places
        _fill_in(texts, form, path)
    sent = query.decode("utf-8", PERCENT)
    for pair in reversed(sent.split("&")):  # so that the first one stays
        name, _, value = pair.partition("=")
        place = places.get(name)
        if place is None and ("%" in name or ";" in name):
            name = unquoted(name)
            place = places.get(name)
            if place is None and ESCAPED_MARKS.match(name):
                return read_link(path, _without_marks(sent, places), form, find)._replace(query=sent)
        if place is None:
            continue
        if place >= _DEEP_LINK:
            value = _long_value(place, value)
        elif not value.isalnum() or len(value) > MAX_VALUE:
            value = _value(value)
        texts[place] = value
    fields = (
        _OFFERS[path] if form is None else _offer_of(texts, find),
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
        sent,
    )
    return fast(Link, fields)


def _offer_id(path: str) -> int:
    prefix = _SHORT if path.startswith(_SHORT) else _LONG
    return IDS[path[len(prefix) :].removesuffix("/")] if path.startswith(prefix) else 0


def _fill_in(texts: list[str], form: LinkForm, path: str) -> None:
    for place, text in form.constants:
        texts[place] = text
    if form.segments:
        parts = path.split("/")
        for segment, place in form.segments:
            texts[place] = crop(parts[segment], MAX_VALUE)


def _offer_of(texts: list[str], find: FindCode | None) -> int:
    """The offer of a form's link, once codes are replaced by the ids that they mean."""
    if find is not None:
        _fill_in_ids(texts, find)
    return IDS[texts[0]]


def _fill_in_ids(texts: list[str], find: FindCode) -> None:
    """Replace codes by the ids that they mean. An id that the link gives goes before a code."""
    for place, id_place in _IDS_OF_CODES:
        meaning = find(place, texts[place]) if texts[place] and not texts[id_place] else None
        if meaning is not None:
            id_, url_id = meaning
            texts[id_place] = str(id_)
            if url_id:
                texts[_URL_ID] = str(url_id)


def _without_marks(query: str, places: Mapping[str, int]) -> bytes:
    """The query without `amp;` before names. Corrected names follow the plain ones, which win."""
    plain, marked = [], []
    for pair in query.split("&"):
        raw_name, mark, value = pair.partition("=")
        name = unquoted(raw_name)
        if name in places:
            plain.append(pair)
        elif (name := ESCAPED_MARKS.sub("", name)) in places:
            marked.append(f"{quote(name)}{mark}{value}")
    return "&".join(plain + marked).encode()


def _long_value(place: int, text: str) -> str:
    text = unquoted(text)
    return _deep_link(text) if place == _DEEP_LINK else crop(text, MAX_TEST)


def _deep_link(text: str) -> str:
    """The address if it is whole and unchanged. Else ""."""
    return text if crop(text, MAX_DEEP_LINK) == text else ""


def _value(text: str) -> str:
    if "%" in text or "+" in text:
        text = unquoted(text)
    return crop(text, MAX_VALUE)


def _id(text: str) -> int:
    """An id, [1-9][0-9]{0,17} in ASCII digits. 0 for other texts."""
    if 0 < len(text) <= _ID_DIGITS and text.isascii() and text.isdigit() and text[0] != "0":
        return int(text)
    return 0


_IDS_REMEMBERED = 65_536
_ID_DIGITS: Final = 18
IDS: Final = Remembered(_id, _IDS_REMEMBERED, _ID_DIGITS)
"""Ids by their texts. Texts of another form are 0."""
_OFFERS: Final = Remembered(_offer_id, _IDS_REMEMBERED, len(_LONG) + _ID_DIGITS)
"""The offers that links of ours name, by their paths."""
