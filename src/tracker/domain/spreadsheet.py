"""Cells that a spreadsheet would take for a formula, and what they are made of so that it does not.

They are those of OWASP's "CSV Injection": a cell that begins with a tab, a line break, or = + - @. The latter
also count in full width and behind blanks. An apostrophe before it makes it a text. A cell that already looks
so gets one more. So every text comes back as it was.
"""

from __future__ import annotations

import re

_FORMULA = re.compile("'*[\\s\u200b\u200c\u200d\u2060\ufeff]*[=+\\-@\uff1d\uff0b\uff0d\uff20]|'*[\t\r\n]")
_AMOUNT = re.compile(r"-[0-9]{1,14}\.[0-9]{2,6}")


def defused(text: str) -> str:
    """A text as a cell that no spreadsheet calculates. Amounts below zero stay numbers."""
    return f"'{text}" if _FORMULA.match(text) and not _AMOUNT.fullmatch(text) else text


def original(cell: str) -> str:
    """The text that a cell was made of by `defused`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
