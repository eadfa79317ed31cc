"""Names the wrong rows of a file: the first ones of each kind of error, and how many more there are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tracker.errors import tell
from tracker.importing.files import Line

_MOST_NAMED = 10
"""Most rows of a kind that are named."""
_MOST_KINDS = 200
_LONGEST_VALUE = 200
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_NUMBER = re.compile(r"(?<!\w)[0-9][0-9.]*(?!\w)")
_OTHERS = "is wrong in another way"


class WrongRows:
    """The wrong rows of one file so far."""

    def __init__(self, name: str) -> None:
        self.number = 0
        self._name = name
        self._kinds: Counter[str] = Counter()
        self._first: dict[str, tuple[int, str]] = {}

    def add(self, wrong: Iterable[tuple[Line, str]]) -> None:
        """Count rows, and name them if they are among the first of their kind."""
        for line, why in wrong:
            self.number += 1
            kind = _kind_of(why, line.fields)
            if kind not in self._kinds and len(self._kinds) >= _MOST_KINDS:
                kind = _OTHERS
            self._kinds[kind] += 1
            self._first.setdefault(kind, (line.number, why))
            if self._kinds[kind] <= _MOST_NAMED:
                tell(f"{self._name}:{line.number}: {why}")

    def end(self) -> None:
        """Say how many rows of each kind were not named."""
        for kind, number in self._kinds.items():
            if number > _MOST_NAMED:
                first, why = self._first[kind]
                rows = "row" if number == _MOST_NAMED + 1 else "rows"
                like = why if kind != _OTHERS else _OTHERS
                tell(f"{self._name}: and {number - _MOST_NAMED:,} more {rows} as {first}: {like}")


def _kind_of(why: str, fields: Mapping[str, Any]) -> str:
    """An error without the values in it: those of the row, quoted texts and numbers."""
    kind = f" {why} "
    for value in fields.values():
        text = value if isinstance(value, str) else str(value) if isinstance(value, int) else ""
        if text and len(text) <= _LONGEST_VALUE and f" {text} " in kind:
            kind = kind.replace(f" {text} ", " … ", 1)
    return _NUMBER.sub("…", _QUOTED.sub("…", kind)).strip()
