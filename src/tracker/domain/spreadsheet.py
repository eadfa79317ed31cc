"""Protects cells that a spreadsheet would run as a formula.

These are the cells of OWASP's "CSV Injection": they begin with a tab, a line break, or = + - @. The signs
also count in full width and after blanks. An apostrophe before the cell makes it text. A cell that already
begins with one gets another. So every text can be restored.

`meant` and `is_shortened` decode the forms that spreadsheets and related programs give to values.
"""

from __future__ import annotations

import re

# Invisible characters may stand before the sign: blanks, joiners, marks of direction.
_UNSEEN = "\\s\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b"  # also in full width, and small
_FORMULA = re.compile(f"'*[{_UNSEEN}]*[{_SIGNS}]|'*[\t\r\n]")
_AMOUNT = re.compile(r"-[0-9]{1,14}(?:\.[0-9]{2,6})?")  # of JPY it has no decimals
_TEXT = re.compile(r'\s*="([^"]*)"\s*')
_SHORTENED = re.compile(r"\s*[1-9](?:[.,][0-9]+)?E\+[0-9]{2,3}\s*")


def defused(text: str) -> str:
    """A text as a cell that spreadsheets do not calculate. Negative amounts stay numbers."""
    return f"'{text}" if _FORMULA.match(text) and not _AMOUNT.fullmatch(text) else text


def original(cell: str) -> str:
    """The text from which `defused` made a cell."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def meant(cell: str) -> str:
    """The value of a cell: programs write `="0123"` so that spreadsheets do not turn 0123 into 123."""
    written = _TEXT.fullmatch(cell)
    return written[1] if written else cell


def is_shortened(cell: str) -> bool:
    """Whether a spreadsheet has turned a longer id into a number such as 1.23E+17, so digits are lost."""
    return "E+" in cell and _SHORTENED.fullmatch(cell) is not None
