"""Reads CSV as it is found in practice: one reader for imports and uploads.

Cells are separated by commas, semicolons, tabs or bars. Lines end with LF, CR or both. The text is UTF-8,
UTF-16 or UTF-32, with or without a byte order mark. Excel's first line `sep=;` is understood.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from io import TextIOWrapper
from itertools import chain
from typing import IO, NamedTuple

from tracker.domain.normalise import PERCENT, trim
from tracker.domain.spreadsheet import is_shortened, meant, original

MOST_COLUMNS = 1_000
LEFT_OUT = ""
"""Our name of a column to leave out."""

_DELIMITERS = ",;\t|"
_SEPARATOR = re.compile(r'"?sep=([,;\t|])"?\s*', re.IGNORECASE)
_NO_LETTERS = re.compile(r"[\W_]+")
_MOST_NAMED = 10
_LONGEST_NAMED = 40
_NOT_CLOSED = "is a quotation mark not closed?"
_NO_TEXT = {
    b"PK\x03\x04": "a spreadsheet or a ZIP archive: save it as CSV",
    b"\xd0\xcf\x11\xe0": "a spreadsheet: save it as CSV",
    b"%PDF": "a PDF document: save it as CSV",
    b"PAR1": "a Parquet file: save it as CSV or NDJSON",
    b"\x1f\x8b": "compressed: unpack it",
    b"BZh": "compressed by bzip2: unpack it",
    b"\xfd7zX": "compressed by xz: unpack it",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard: unpack it",
    b"7z\xbc\xaf": "a 7-Zip archive: unpack it",
}


class CsvError(ValueError):
    """Why a file has no readable rows, in one line."""


class Columns(NamedTuple):
    """The columns that a file may have."""

    known: Collection[str] = ()  # none: any column
    required: Sequence[Sequence[str]] = ()  # at least one of each group
    names: Mapping[str, str] = {}  # their names to ours, LEFT_OUT to leave a column out (never changed)
    advice: str = "rename it or take it out"  # what to do with an unknown column
    opaque: Collection[str] = ()  # columns whose cells stay exactly as they are
    ids: Collection[str] = ()  # columns that a spreadsheet must not have turned into numbers

    def ours(self, theirs: str) -> str:
        """Our name of a column. Case, spaces, hyphens and underscores do not matter."""
        theirs = trim(theirs)
        if theirs in self.names:
            return self.names[theirs]
        if theirs in self.known or not self.known:
            return theirs
        plain = _plain(theirs)
        ours_by_name = {_plain(name): name for name in self.known} | {
            _plain(t): o for t, o in self.names.items()
        }
        return ours_by_name.get(plain, theirs) if plain else theirs

    def check(self, named: Sequence[str]) -> None:
        """Check that a header has the required columns, and each column once.

        Raises:
            CsvError: naming the wrong columns and the required ones.
        """
        unknown = [name for name in named if self.known and name not in self.known]
        missing = [" or ".join(names) for names in self.required if not {*names} & {*named}]
        twice = sorted({name for name in named if named.count(name) > 1})
        if not named:
            raise CsvError("it names no columns")
        wrong = [f"there is no column {names}" for names in missing]
        if unknown:
            wrong.append(f"no field is called {_listed(unknown)}: {self.advice}")
        if twice:
            wrong.append(f"two columns are {twice[0]}")
        if wrong:
            wanted = f" (of {', '.join(self.known)})" if unknown and len(self.known) <= _MOST_NAMED else ""
            raise CsvError("; ".join(wrong) + wanted)


class Header(NamedTuple):
    """The delimiter of a file, and our name for each of its columns."""

    delimiter: str
    columns: Sequence[str]
    is_for_people: bool  # cells may begin with an apostrophe that protects from formulas
    opaque: Collection[str]
    ids: Collection[str]

    @property
    def width(self) -> int:
        """How many cells a row needs: cells right of the last named column may be missing."""
        return max(place for place, name in enumerate(self.columns, 1) if name)

    def fields(self, cells: list[str]) -> dict[str, str]:
        """The cells of a row by name, {} if it is empty.

        Raises:
            ValueError: it has more or fewer columns than the header, or an id has lost digits.
        """
        if not any(cells) or not any(map(trim, cells)):
            return {}
        if len(cells) < self.width or any(cells[len(self.columns) :]):
            raise ValueError(f"has {len(cells)} columns where the header has {len(self.columns)}")
        read = map(original, cells) if self.is_for_people else cells
        fields = {
            name: meant(cell) if cell.startswith("=") and name not in self.opaque else cell
            for name, cell in zip(self.columns, read, strict=False)
        }
        fields.pop(LEFT_OUT, None)
        for name in self.ids:
            if is_shortened(fields.get(name, "")):
                raise ValueError(
                    f"{name} is {trim(fields[name])}, but a spreadsheet has cut off its digits: format that "
                    "column as text"
                )
        return fields

    def line(self, text: str) -> dict[str, str]:
        """The fields of a row on one line (see fields).

        Raises:
            ValueError: it is not CSV, or has more or fewer columns than the header.
        """
        try:
            return self.fields(next(csv.reader([text], delimiter=self.delimiter, strict=True), []))
        except csv.Error as error:
            raise ValueError(f"is not CSV: {error}: {_NOT_CLOSED}") from None


class Row(NamedTuple):
    """A row of a file, or the reason why it is wrong."""

    number: int  # the line where it begins, from 1
    fields: dict[str, str]  # the text of a wrong row, as LEFT_OUT
    error: str = ""


def is_for_people(text: TextIOWrapper) -> bool:
    """Whether a text of open_text begins with a byte order mark, as Excel's files do."""
    return text.encoding in ("utf-8-sig", "utf-16", "utf-32")


def open_text(content: IO[bytes], errors: str = PERCENT) -> TextIOWrapper:
    """The text of a seekable file. Bytes that do not fit the encoding stay percent-encoded.

    `errors`: the handling of such bytes, as for bytes.decode.

    RFC 4180 does not name an encoding, and Excel writes UTF-16 as "Unicode text". The first bytes show the
    encoding, because every format that we read begins with ASCII.

    Raises:
        CsvError: it is not text, with the kind of file.
    """
    start = content.read(4)
    content.seek(0)
    if kind := next((kind for first, kind in _NO_TEXT.items() if start.startswith(first)), ""):
        raise CsvError(f"it is {kind}")
    return TextIOWrapper(content, json.detect_encoding(start), errors, newline="")


def read_header(lines: Iterator[str], columns: Columns, *, is_for_people: bool) -> tuple[Header, int]:
    """The header of a file, and the number of its lines.

    Raises:
        CsvError: it is not CSV, or lacks required columns.
    """
    number, text = _first(lines)
    delimiter = ""
    if declared := _SEPARATOR.fullmatch(text):
        delimiter = declared[1]
        more, text = _first(lines)
        number += more
    delimiter = delimiter or max(_DELIMITERS, key=_fitting(text, columns))
    reader = csv.reader(chain([text], lines), delimiter=delimiter, strict=True)
    try:
        theirs = next(reader, [])
    except csv.Error as error:
        raise CsvError(f"its header is not CSV: {error}: {_NOT_CLOSED}") from None
    if len(theirs) > MOST_COLUMNS:
        raise CsvError(f"it has more than {MOST_COLUMNS:,} columns: {_NOT_CLOSED}")
    names = [columns.ours(meant(name)) for name in theirs]
    header = Header(delimiter, names, is_for_people, columns.opaque, columns.ids)
    try:
        columns.check([name for name in header.columns if name])
    except CsvError as error:
        raise CsvError(f"{error}: {_NOT_CLOSED}" if reader.line_num > 1 else str(error)) from None
    return header, number + reader.line_num - 1


def rows(lines: Iterator[str], columns: Columns, *, is_for_people: bool) -> Iterator[Row]:
    """The rows of a file. A cell may contain line breaks. An empty row has no fields.

    Raises:
        CsvError: its header is wrong, or an open quotation mark has swallowed an unknown number of rows.
    """
    header, above = read_header(lines, columns, is_for_people=is_for_people)
    last = ""

    def noted() -> Iterator[str]:
        nonlocal last
        for line in lines:
            last = line
            yield line

    reader = csv.reader(noted(), delimiter=header.delimiter, strict=True)
    while True:
        read = reader.line_num
        number = above + read + 1
        cells: list[str] | None = None
        try:
            cells = next(reader, None)
            if cells is None:
                return
            yield Row(number, header.fields(cells))
        except csv.Error as error:
            why = f"is not CSV: {error}: {_NOT_CLOSED}"
            if reader.line_num > read + 1:
                raise CsvError(f"the row that begins on line {number} {why}") from None
            yield Row(number, {LEFT_OUT: last}, why)
        except ValueError as error:
            yield Row(number, {LEFT_OUT: header.delimiter.join(cells or ())}, str(error))


def _first(lines: Iterator[str]) -> tuple[int, str]:
    """The number and text of the first line that is not blank."""
    number = 0
    for number, text in enumerate(lines, 1):
        if trim(text):
            return number, text
    return max(number, 1), ""


def _fitting(text: str, columns: Columns) -> Callable[[str], tuple[int, int]]:
    """How well a delimiter splits a header: the number of known columns, then of all columns."""

    def fitting(delimiter: str) -> tuple[int, int]:
        names = text.split(delimiter, MOST_COLUMNS)
        return sum(columns.ours(name.replace('"', "")) in columns.known for name in names), len(names)

    return fitting


def _plain(name: str) -> str:
    return _NO_LETTERS.sub("", name.casefold())


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    listed = ", ".join(repr(name[:_LONGEST_NAMED]) for name in names[:_MOST_NAMED])
    return f"{listed} and {more} more" if more > 0 else listed
