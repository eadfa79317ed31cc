"""Tables for people on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from shutil import get_terminal_size

_GAP = "  "
_NARROWEST = 12
_CUT = "…"


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their columns' names. On a terminal the widest columns are cut until a row fits."""
    lines = [list(columns), *(list(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if sys.stdout.isatty():
        widths = fitting(widths, get_terminal_size().columns)
    for line in lines:
        cells = (f"{cut(text, width):{width}}" for text, width in zip(line, widths, strict=True))
        print(_GAP.join(cells).rstrip())


def cell(value: object) -> str:
    return "-" if value in (None, "") else str(value)


def fitting(widths: Sequence[int], room: int) -> list[int]:
    """The widths of columns, of which the widest are narrowed until all fit. None gets too narrow to read."""
    fitted = list(widths)
    while sum(fitted) + len(_GAP) * (len(fitted) - 1) > room and max(fitted) > _NARROWEST:
        fitted[fitted.index(max(fitted))] -= 1
    return fitted


def cut(text: str, width: int) -> str:
    text = text.replace("\n", " ")
    return text if len(text) <= width else text[: width - 1] + _CUT
