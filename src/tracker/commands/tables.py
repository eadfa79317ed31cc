"""Tables for people on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from shutil import get_terminal_size

import orjson

from tracker.catalogue.resource import WARNINGS
from tracker.store.catalogue.edit import Row

_GAP = "  "
_NARROWEST = 12
_CUT = "…"
_MOST_WARNINGS = 50


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


def show_rows(columns: Sequence[str], rows: Sequence[Row], *, as_json: bool, is_trial: bool) -> None:
    """Print rows as a table, or as one JSON object a line. Their warnings are printed to stderr."""
    if as_json:
        for row in rows:
            print(orjson.dumps(row).decode())
    else:
        print_table(columns, [[cell(row[name]) for name in columns] for row in rows])
    warnings = [warning for row in rows for warning in row.get(WARNINGS, ())]
    for warning in warnings[:_MOST_WARNINGS]:
        print(f"tracker: warning: {warning}", file=sys.stderr)
    if (more := len(warnings) - _MOST_WARNINGS) > 0:
        print(f"tracker: and {more:,} more warnings", file=sys.stderr)
    if is_trial:
        print("tracker: a dry run: nothing was booked", file=sys.stderr)


def fitting(widths: Sequence[int], room: int) -> list[int]:
    """The widths of columns, of which the widest are narrowed until all fit. None gets too narrow to read."""
    fitted = list(widths)
    while sum(fitted) + len(_GAP) * (len(fitted) - 1) > room and max(fitted) > _NARROWEST:
        fitted[fitted.index(max(fitted))] -= 1
    return fitted


def cut(text: str, width: int) -> str:
    text = text.replace("\n", " ")
    return text if len(text) <= width else text[: width - 1] + _CUT
