"""Cells that a spreadsheet would take for a formula, and what they are made of so that it does not.

They are those of OWASP's "CSV Injection": a cell that begins with a tab, a line break, or = + - @. The latter
also count in full width and behind blanks. An apostrophe before it makes it a text. A cell that already looks
so gets one more. So every text comes back as it was.

The other way round, `meant` and `is_shortened` know what spreadsheets and programs for them make of a value.
"""

from __future__ import annotations

import re

# What nobody sees may stand before the sign: blanks, joiners, marks of direction.
_UNSEEN = "\\s\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b"  # also in full width, and small
_FORMULA = re.compile(f"'*[{_UNSEEN}]*[{_SIGNS}]|'*[\t\r\n]")
_AMOUNT = re.compile(r"-[0-9]{1,14}\.[0-9]{2,6}")
_TEXT = re.compile(r'\s*="([^"]*)"\s*')
_SHORTENED = re.compile(r"\s*[1-9](?:[.,][0-9]+)?E\+[0-9]{2,3}\s*")


def defused(text: str) -> str:
    """A text as a cell that no spreadsheet calculates. Amounts below zero stay numbers."""
    return f"'{text}" if _FORMULA.match(text) and not _AMOUNT.fullmatch(text) else text


def original(cell: str) -> str:
    """The text that a cell was made of by `defused`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def meant(cell: str) -> str:
    """What a cell means: `="0123"` is how programs keep a spreadsheet from making 123 of 0123."""
    written = _TEXT.fullmatch(cell)
    return written[1] if written else cell


def is_shortened(cell: str) -> bool:
    """Whether a spreadsheet has made a number of a longer one, as 1.23E+17: its last digits are lost."""
    return "E+" in cell and _SHORTENED.fullmatch(cell) is not None
