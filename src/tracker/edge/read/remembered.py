"""A cache of readings: a known text costs one plain look-up, which is less than the call of an lru_cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_Text = TypeVar("_Text", bound=str | bytes)
_Reading = TypeVar("_Reading")


class Remembered(dict[_Text, _Reading]):
    """Readings by their texts: `remembered[text]`.

    A text longer than `longest` is read again each time. All are forgotten when there are `most`.
    """

    def __init__(self, read: Callable[[_Text], _Reading], most: int, longest: int) -> None:
        self._read = read
        self._most = most
        self._longest = longest

    def __missing__(self, text: _Text) -> _Reading:
        reading = self._read(text)
        if len(text) <= self._longest:
            if len(self) >= self._most:
                self.clear()
            self[text] = reading
        return reading
