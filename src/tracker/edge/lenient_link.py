"""Reads a tracking link a second time, as it was meant, where its offer or affiliate would be unknown.

Mail programs, chats and editors change links a little: they take the full stop of a sentence for a part of
the address, or write a second `?`. What is read here counts only where it names a known offer and a known
affiliate. So it changes no click that the strict reading (edge.link) records.
"""

from __future__ import annotations

import re
from collections import defaultdict
from urllib.parse import quote

from tracker.domain.normalise import AT_ENDS, text_of, unquoted
from tracker.edge.link import ESCAPED_MARKS, IDS, IN_QUERY, NAMES, PATHS, PLACES, is_tracking_path, read_link
from tracker.model import Link

_SLASHES = re.compile(r"/{2,}")
_SECOND_MARK = re.compile(r"\?(?=[A-Za-z_][\w.-]*=)", re.ASCII)  # none that is part of a value, as in `why?`
_AROUND = AT_ENDS + (
    "\"'`\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2039\u203a\u00ab\u00bb"  # quotes
    ")]}\uff09\u3009\u300b\u300d\u300f\u3011"  # closing brackets
    ".,;:/>\u3001\u3002\uff0c\uff0e\uff1a\uff1b"  # what ends a sentence, also a Chinese one
)
_A0 = "%A0"  # the no-break space of Latin-1 and of Windows' code pages, which is not UTF-8
_QUOTED_PRINTABLE = "3D"  # a mail writes `=` as `=3D` (RFC 2045, section 6.7)
_ID_PLACES = frozenset(PLACES[name] for name in ("affiliate_id", "url_id"))
_DEEP_LINK, _TEST = PLACES["url"], PLACES["test"]


def is_nearly_tracking_path(path: str) -> bool:
    """Whether a path is one of tracking links where `//` is taken for `/`."""
    return "//" in path and is_tracking_path(_SLASHES.sub("/", path))


def read_leniently(path: str, query: bytes) -> Link | None:
    """What a link of ours says, whatever stands around its ids, is doubled, or is written in capitals.

    The path is percent-decoded, the query is as sent. None for a link that is signed as a test, for one that
    gives two different ids by one name, and for a path that is no link's.
    """
    path = _SLASHES.sub("/", path)
    prefix = next((prefix for prefix in PATHS if path.startswith(prefix)), None)
    values = _values(query)
    if prefix is None or _TEST in values or any(map(_has_two_ids, _ids(values))):
        return None
    said = [f"{NAMES[place]}={quote(first, safe='')}" for place, (first, *_) in values.items()]
    return read_link(prefix + _bare(path.removeprefix(prefix)), "&".join(said).encode())


def _values(query: bytes) -> dict[int, list[str]]:
    """All that is said for each place of a link and is not empty, in the order in which it counts."""
    plain: dict[int, list[str]] = defaultdict(list)
    marked: dict[int, list[str]] = defaultdict(list)
    for pair in _pairs(text_of(query)):
        said, _, text = pair.partition("=")
        name = unquoted(said).lower()
        bare_name = ESCAPED_MARKS.sub("", name)
        place = IN_QUERY.get(bare_name)
        if place is None:
            continue
        value = _bare(unquoted(text).partition("?")[0]) if place in _ID_PLACES else unquoted(text)
        if value:
            (plain if name == bare_name else marked)[place].append(value)
    for place, texts in marked.items():
        plain[place] += texts
    return plain


def _pairs(query: str) -> list[str]:
    """The parts of a query between `&` or a second `?`; an address keeps its own `?`."""
    pairs: list[str] = []
    for part in query.split("&"):
        is_address = IN_QUERY.get(part.partition("=")[0].lower()) == _DEEP_LINK
        pairs += [part] if is_address else _SECOND_MARK.split(part)
    return pairs


def _ids(values: dict[int, list[str]]) -> list[list[str]]:
    return [values[place] for place in _ID_PLACES if place in values]


def _has_two_ids(texts: list[str]) -> bool:
    return len({text for text in texts if IDS[text]}) > 1


def _bare(text: str) -> str:
    """An id without what may stand around it."""
    text = text.replace(_A0, "\xa0").strip(_AROUND)
    return text.removeprefix(_QUOTED_PRINTABLE).strip(_AROUND)
