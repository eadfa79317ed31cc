"""Shows the progress of a long work on stderr now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

_SHOW_SECONDS = 2.0


class Progress:
    """The progress of one work."""

    def __init__(self, name: str, done: str, part: Callable[[], float]) -> None:
        """`done`: what is done with rows, such as "stored". `part`: the share that is done, from 0 to 1."""
        self.number = 0
        self._name = name
        self._done = done
        self._part = part
        self._began = self._shown_at = time.monotonic()
        self._number_shown = 0

    def add(self, number: int) -> None:
        self.number += number
        if time.monotonic() - self._shown_at >= _SHOW_SECONDS:
            self._shown_at = time.monotonic()
            self._show()

    def end(self) -> None:
        if 0 < self._number_shown < self.number:
            self._show()

    def _show(self) -> None:
        self._number_shown = self.number
        seconds = time.monotonic() - self._began
        part = self._part()
        left = round(seconds / part - seconds) if part else 0
        rate = round(self.number / seconds)
        print(
            f"{self._name}: {self.number:,} rows {self._done}, {rate:,} a second, {left} s left",
            file=sys.stderr,
            flush=True,
        )
