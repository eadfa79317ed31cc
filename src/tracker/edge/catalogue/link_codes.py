"""Codes in other trackers' links: an opaque text that means an offer or an affiliate.

Offers and affiliates have codes of their own, so one text may be both. Case counts, because trackers that
count in letters and digits have codes that differ by nothing else.
"""

from __future__ import annotations

from typing import Any

from tracker.edge.catalogue.form_paths import ANY_HOST, read_host
from tracker.edge.read.link import CODES, Meaning

MAX_CODE = 64
"""Longest code, in characters. A longer text of a link is not a code."""

_Row = tuple[int, Meaning]
"""The id of a row of link_code, and what its code means."""


class LinkCodes:
    """Finds the offer or affiliate of a code by two look-ups, however many codes there are."""

    def __init__(self) -> None:
        self._keys: dict[int, tuple[int, str, str]] = {}  # (place of the kind, host, code) by the row's id
        self._codes: dict[int, dict[str, dict[str, _Row]]] = {place: {} for place in CODES.values()}

    def put(self, id_: int, row: dict[str, Any] | None) -> None:
        """Replace one code by its row of link_code. None removes it.

        Raises:
            ValueError: the row is wrong, as the text says. No code has this id now.
        """
        self._remove(id_)
        if row is None:
            return
        key = CODES[f"{row['kind']}_code"], read_host(row["host"]), row["code"]
        place, host, code = key
        meaning = row[f"{row['kind']}_id"], (row["offer_url_id"] or 0)
        self._keys[id_] = key
        self._codes[place].setdefault(host, {})[code] = id_, meaning

    def _remove(self, id_: int) -> None:
        key = self._keys.pop(id_, None)
        if key is None:
            return
        place, host, code = key
        codes = self._codes[place].get(host, {})
        if code in codes and codes[code][0] == id_:  # another row may have taken its code already
            del codes[code]
            if not codes:
                del self._codes[place][host]

    def find(self, host: str, place: int, code: str) -> Meaning | None:
        """The meaning of a code in links to a host. A code of this host wins over one of every host."""
        by_host = self._codes[place]
        for each in (host, ANY_HOST):
            if each in by_host and code in by_host[each]:
                return by_host[each][code][1]
        return None

    def knows(self, place: int, code: str) -> bool:
        """Whether a code means something on any host."""
        return any(code in codes for codes in self._codes[place].values())
