"""The way back through a list that is read by cursors.

A cursor leads on only. So the address of a page also has the cursors of the pages before it, at most so many.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

MOST: Final = 20
"""Most pages that a trail remembers."""

_FIRST: Final = "first"  # the page without a cursor. No cursor is so short
_BETWEEN: Final = "~"


class Trail(NamedTuple):
    """The place of a page in its list."""

    cursor: str  # "" on the first page
    before: tuple[str, ...] = ()  # cursors of the pages before, the nearest last

    def after(self, cursor: str) -> dict[str, str]:
        """The parameters of the next page."""
        return _parameters(cursor, (*self.before, self.cursor or _FIRST)[-MOST:])

    @property
    def back(self) -> dict[str, str] | None:
        """The parameters of the page before. None: it is not remembered, or this is the first page."""
        if not self.before:
            return None
        *earlier, last = self.before
        return _parameters("" if last == _FIRST else last, tuple(earlier))


def read_trail(parameters: Mapping[str, str]) -> Trail:
    """The place that the parameters of a page name."""
    before = tuple(filter(None, parameters.get("trail", "").split(_BETWEEN)))
    return Trail(parameters.get("cursor", ""), before[-MOST:])


def _parameters(cursor: str, before: tuple[str, ...]) -> dict[str, str]:
    found = {"cursor": cursor, "trail": _BETWEEN.join(before) if cursor else ""}
    return {name: value for name, value in found.items() if value}
