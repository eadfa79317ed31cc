"""The lenient reading of a tracking link, used only if its offer or affiliate would be unknown.

Mail programs, chats and editors change links a little. They take the full stop of a sentence for a part of
the address, or write a second `?`. The lenient reading counts only if it names a known offer and a known
affiliate. So it changes no click that the strict reading (edge.read.link) records.

Marks around an id are removed. Letters, digits, opening brackets and minus signs are not removed: they belong
to other texts. Nothing is removed inside an id. Gateways and shorteners also percent-encode the marks between
the parts of a link. These are decoded in ids and names, never in other values.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from urllib.parse import quote, unquote_to_bytes

from tracker.domain.model import Link
from tracker.domain.normalise import ESCAPED_MARKS, text_of, trim, unquoted
from tracker.edge.read.link import IDS, IN_QUERY, NAMES, PATHS, PLACES, is_tracking_path, read_link

_SLASHES = re.compile(r"/{2,}")
_SECOND_MARK = re.compile(r"\?(?=[A-Za-z_][\w.-]*=)", re.ASCII)  # not the end of a value, as in `why?`
_AFTER_AN_ID = re.compile(r"[?;](?=[A-Za-z_][\w.-]*=)", re.ASCII)
_END_OF_OFFER = re.compile(r"[?&;#]|%(?:3F|26|3B|23)", re.IGNORECASE)
_ENCODED_EQUALS = re.compile(r"%(?:25)*3D", re.IGNORECASE)
_ENCODED_MARK = re.compile(r"%(?:25|3F|26|3B|3D|23)", re.IGNORECASE)
_MOST_OPENED = 3  # times that a link may be percent-encoded again
_MOST_PARTS = 200  # of a query: no link of ours has more

# Marks in code pages of Windows, which are not UTF-8: an ellipsis, quotes, dashes, the no-break space.
_MARK_BYTES = r"%(?:8[245]|9[1-7]|A[0BD]|B[4B])"
_AROUND = rf"""(?:[\s\x00-\x1f"'`)\]}}.,;:/>!*_~|\\=\x7f]|[^\w\x00-\x7f]|{_MARK_BYTES})*+"""
_NOTHING = re.compile(_AROUND)
# A mail writes `=` as `=3D` (RFC 2045, section 6.7). An id may be followed by foreign text: a second query, a
# fragment, the end of an HTML element or line.
_ID = re.compile(
    rf"{_AROUND}(?:3D{_AROUND})*(?P<id>[1-9][0-9]*){_AROUND}(?:[?#].*|<(?:/.*|br\b.*)?)?",
    re.DOTALL | re.IGNORECASE,
)
_ID_PLACES = frozenset(PLACES[name] for name in ("affiliate_id", "url_id"))
_DEEP_LINK, _TEST = PLACES["url"], PLACES["test"]


def is_nearly_tracking_path(path: str) -> bool:
    """Whether a path with `//` would be a tracking path with `/`."""
    return "//" in path and is_tracking_path(_SLASHES.sub("/", path))


def read_leniently(raw_path: bytes, query: bytes) -> Link | None:
    """Read a link of ours despite marks around its ids, repeated values, or names in capitals.

    Path and query are as sent. None for a signed test link, for two different ids under one name, and for a
    path that is not a tracking path.
    """
    path, behind = _parted(text_of(raw_path))
    prefix = next((prefix for prefix in PATHS if path.startswith(prefix)), None)
    parts = list(islice(_pairs(f"{behind}&{text_of(query)}"), _MOST_PARTS))
    values = _values(parts)
    if prefix is None or _TEST in values or any(map(_has_two_ids, _ids(values))):
        return None
    pairs = [f"{NAMES[place]}={quote(first, safe='')}" for place, (first, *_) in values.items()]
    link = read_link(prefix + _bare(path.removeprefix(prefix)), "&".join(pairs).encode())
    return link._replace(query="&".join(parts))


def _parted(raw_path: str) -> tuple[str, str]:
    """The path, percent-decoded, and the text behind it, as sent."""
    end = _END_OF_OFFER.search(raw_path)
    path, behind = (raw_path[: end.start()], raw_path[end.end() :]) if end else (raw_path, "")
    return _SLASHES.sub("/", text_of(unquote_to_bytes(path))), behind


def _values(parts: Iterable[str]) -> dict[int, list[str]]:
    """The non-empty values for each place of a link. The first one counts."""
    plain: dict[int, list[str]] = defaultdict(list)
    marked: dict[int, list[str]] = defaultdict(list)
    for pair in parts:
        raw_name, _, text = pair.partition("=")
        name = _name(raw_name)
        bare_name = ESCAPED_MARKS.sub("", name)
        place = IN_QUERY.get(bare_name)
        if place is None:
            continue
        value = _bare(unquoted(text)) if place in _ID_PLACES else unquoted(text)
        if value:
            (plain if name == bare_name else marked)[place].append(value)
    for place, texts in marked.items():
        plain[place] += texts
    return plain


def _pairs(query: str, opened: int = 0) -> Iterator[str]:
    """The parts of a query between `&` or a second `?`. A deep link keeps its own `?`."""
    for part in query.split("&"):
        place = _place(part)
        if place == _DEEP_LINK:
            yield part
            continue
        for piece in (_AFTER_AN_ID if place in _ID_PLACES else _SECOND_MARK).split(part):
            if opened < _MOST_OPENED and _is_encoded(piece):
                yield from _pairs(text_of(unquote_to_bytes(piece)), opened + 1)
            else:
                yield piece


def _is_encoded(piece: str) -> bool:
    """Whether a piece may have percent-encoded marks that separate parts of a link."""
    name, _, value = piece.partition("=")
    marks = _ENCODED_MARK.search(value) if _place(piece) in _ID_PLACES else _ENCODED_EQUALS.search(name)
    return marks is not None


def _place(pair: str) -> int | None:
    return IN_QUERY.get(ESCAPED_MARKS.sub("", _name(pair.partition("=")[0])))


def _name(raw: str) -> str:
    return trim(unquoted(raw)).lower()


def _ids(values: dict[int, list[str]]) -> list[list[str]]:
    return [values[place] for place in _ID_PLACES if place in values]


def _has_two_ids(texts: list[str]) -> bool:
    return len({text for text in texts if IDS[text]}) > 1


def _bare(text: str) -> str:
    """An id without the marks around it. "" if the text has only marks."""
    if match := _ID.fullmatch(text):
        return match["id"]
    return "" if _NOTHING.fullmatch(text) else text
