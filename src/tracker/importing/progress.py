"""Shows the progress of a long work on stderr: a bar on a terminal, and a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

_SHOW_SECONDS = 2.0
_BAR_SECONDS = 0.2
_BAR = 30  # characters
_REWRITE = "\r\x1b[K"  # back to the begin of the line, which is erased (ECMA-48)


class Progress:
    """The progress of one work."""

    def __init__(self, name: str, done: str, part: Callable[[], float]) -> None:
        """`done`: what is done with rows, such as "stored". `part`: the share that is done, from 0 to 1."""
        self.number = 0
        self._name = name
        self._done = done
        self._part = part
        self._is_bar = sys.stderr.isatty()
        self._pause = _BAR_SECONDS if self._is_bar else _SHOW_SECONDS
        self._began = self._shown_at = time.monotonic()
        self._number_shown = 0

    def add(self, number: int) -> None:
        self.number += number
        if time.monotonic() - self._shown_at >= self._pause:
            self._shown_at = time.monotonic()
            self._show()

    def end(self) -> None:
        if 0 < self._number_shown < self.number:
            self._show()
        if self._is_bar and self._number_shown:
            print(file=sys.stderr)

    def _show(self) -> None:
        self._number_shown = self.number
        seconds = time.monotonic() - self._began
        part = self._part()
        left = round(seconds / part - seconds) if part else 0
        rate = round(self.number / seconds)
        line = f"{self._name}: {self.number:,} rows {self._done}, {rate:,} a second, {left} s left"
        if self._is_bar:
            full = round(part * _BAR)
            print(
                f"{_REWRITE}[{'#' * full}{'.' * (_BAR - full)}] {line}", end="", file=sys.stderr, flush=True
            )
        else:
            print(line, file=sys.stderr, flush=True)
