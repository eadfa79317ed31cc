"""Reads CSV as it is found in practice: one reader for imports and uploads.

Cells are separated by commas, semicolons, tabs or bars. Lines end with LF, CR or both. The text is UTF-8,
UTF-16 or UTF-32, with or without a byte order mark. Excel's first line `sep=;` is understood.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
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
_UNIT = re.compile(r"[(\[].*$")
_ALIKE = 0.85  # of difflib: 1 is equal
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
    ignore_rest: bool = False  # whether unknown columns are left out

    def named(self, theirs: Sequence[str]) -> Named:
        """Our names of a file's columns. Case, spaces, hyphens and underscores do not matter.

        A column with exactly the name that `names` has is meant before others that are spelled alike.
        """
        there = [trim(name) for name in theirs]
        exact = {*there}
        spelled = {plain_name(name): ours for name, ours in self.names.items() if name not in exact}
        mapped = [self.names.get(name, spelled.get(plain_name(name))) for name in there]
        known = {plain_name(name): name for name in self.known}
        ours, left_out = [], []
        for name, said in zip(there, mapped, strict=True):
            own = name if name in self.known else known.get(plain_name(name), name)
            is_rest = said is None and (own not in self.known or own in mapped)
            if is_rest and self.ignore_rest and name:
                left_out.append(name)
                own = LEFT_OUT
            ours.append(own if said is None else said)
        return Named(there, ours, left_out)

    def check(self, header: Named) -> None:
        """Check that a header has the required columns, and each column once.

        Raises:
            CsvError: naming the wrong columns and the required ones.
        """
        named = [name for name in header.ours if name]
        unknown = [name for name in named if self.known and name not in self.known]
        missing = [" or ".join(names) for names in self.required if not {*names} & {*named}]
        if not named:
            raise CsvError("it names no columns")
        wrong = [f"there is no column {names}" for names in missing]
        if unknown:
            wrong.append(f"no field is called {_listed(unknown, self.known)}: {self.advice}")
        if twice := header.twice():
            wrong.append(twice)
        if wrong:
            wanted = f" (of {', '.join(self.known)})" if unknown and len(self.known) <= _MOST_NAMED else ""
            raise CsvError("; ".join(wrong) + wanted)


class Named(NamedTuple):
    """The columns of a file: their names and ours, by place."""

    theirs: Sequence[str]
    ours: Sequence[str]
    left_out: Sequence[str]  # their names of unknown columns that Columns.ignore_rest leaves out

    def twice(self) -> str:
        """Which columns have one meaning, in words, or ""."""
        places: dict[str, list[str]] = {}
        for theirs, ours in zip(self.theirs, self.ours, strict=True):
            if ours != LEFT_OUT:
                places.setdefault(ours, []).append(theirs)
        for ours, same in sorted(places.items()):
            if len(same) > 1:
                alike = "" if {*same} == {ours} else f" ({', '.join(map(repr, same[:_MOST_NAMED]))})"
                return f"two columns are {ours}{alike}"
        return ""

    def renamed(self) -> dict[str, str]:
        """Their name of each of our columns that has another name there."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return {ours: theirs for ours, theirs in pairs if ours not in (theirs, LEFT_OUT)}


class Header(NamedTuple):
    """The delimiter of a file, and the names of its columns."""

    delimiter: str
    named: Named
    is_for_people: bool  # cells may begin with an apostrophe that protects from formulas
    opaque: Collection[str]
    ids: Collection[str]

    @property
    def columns(self) -> Sequence[str]:
        """Our name for each of its columns."""
        return self.named.ours

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
    named = columns.named([meant(name) for name in theirs])
    header = Header(delimiter, named, is_for_people, columns.opaque, columns.ids)
    try:
        columns.check(named)
    except CsvError as error:
        raise CsvError(f"{error}: {_NOT_CLOSED}" if reader.line_num > 1 else str(error)) from None
    return header, number + reader.line_num - 1


def rows(lines: Iterator[str], columns: Columns, *, is_for_people: bool) -> Iterator[Row]:
    """The rows of a file (see rows_below).

    Raises:
        CsvError: its header is wrong, or an open quotation mark has swallowed an unknown number of rows.
    """
    header, above = read_header(lines, columns, is_for_people=is_for_people)
    return rows_below(header, above, lines)


def rows_below(header: Header, above: int, lines: Iterator[str]) -> Iterator[Row]:
    """The rows below a header of `above` lines. A cell may contain line breaks. An empty row has no fields.

    Raises:
        CsvError: an open quotation mark has swallowed an unknown number of rows.
    """
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
        names = [name.replace('"', "") for name in text.split(delimiter, MOST_COLUMNS)]
        return sum(ours in columns.known for ours in columns.named(names).ours), len(names)

    return fitting


def plain_name(name: str) -> str:
    """A column's name without case, spaces and signs: names that are equal by it mean one column."""
    return _NO_LETTERS.sub("", name.casefold())


def _listed(names: Sequence[str], known: Collection[str]) -> str:
    """Some names, with those of ours that look like them."""
    more = len(names) - _MOST_NAMED
    listed = ", ".join(repr(name[:_LONGEST_NAMED]) + like(name, known) for name in names[:_MOST_NAMED])
    return f"{listed} and {more} more" if more > 0 else listed


def like(name: str, known: Collection[str]) -> str:
    """A question after a name: is a known one meant? `Payout (USD)` looks like payout. "" if none does."""
    without_unit = plain_name(_UNIT.sub("", name[:_LONGEST_NAMED]))
    spelled = {plain_name(each): each for each in known}
    found = get_close_matches(without_unit, spelled, 1, _ALIKE)
    return f" (is it {spelled[found[0]]}?)" if found else ""
