"""Files of rows: CSV with a header, NDJSON, JSON lists and API responses, plain or gzipped.

The format is recognised by the first bytes. The file name does not matter. A file may be of any size: memory
never holds more than LONGEST bytes of it, compressed or not.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BufferedReader, TextIOWrapper
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple, cast

import orjson

from tracker.domain import csv_rows
from tracker.domain.csv_rows import LEFT_OUT, MOST_COLUMNS, Columns, CsvError, Named, plain_name
from tracker.domain.json_object import field_there_twice
from tracker.domain.normalise import PERCENT
from tracker.errors import UserError
from tracker.importing.json_rows import FieldNames, lists_in, rows_in

Fields = dict[str, Any]

LONGEST = 8 << 20
"""Most bytes of a line, of a CSV row, or of an item in a JSON list.

A response of the API with 1,000 clicks has 2 MB.
"""

_BUFFER = 1 << 20  # bytes
_GZIP = b"\x1f\x8b"
_WHITE = re.compile(r"[ \t\r\n]*")
_AFTER_ITEM = set(",] \t\r\n")
_DECODER = json.JSONDecoder()


class Line(NamedTuple):
    """A row of a file, or the reason why it is wrong."""

    number: int  # the line where it begins, from 1. In a JSON list: the item
    fields: Fields  # the text of a row that cannot be read, as LEFT_OUT
    error: str = ""


class RowFile:
    """One file, read from its beginning on every call."""

    def __init__(
        self,
        path: Path,
        columns: Columns,
        unnamed: IO[bytes] | None = None,
        *,
        errors: str = PERCENT,
        rows: str = "",
        wanted: Collection[str] = (),
    ) -> None:
        """`unnamed`: read instead of the path.

        `errors`: the handling of bytes that are not of its encoding.
        `rows`: where the rows of JSON objects stand (see json_rows.rows_in).
        `wanted`: their names of columns that the file should have.
        """
        self.path = path
        self.not_found: dict[str, str] = {plain_name(name): name for name in wanted}
        """The wanted columns that no row has had so far, by their plain names."""
        self.theirs: dict[str, str] = {}
        """Their name of each of our columns that has another name in the file."""
        self.left_out: dict[str, None] = {}
        """Their names of the columns that Columns.ignore_rest has left out, at most MOST_COLUMNS."""
        self.taken = 0
        """Bytes of the lines that have been read, uncompressed and as UTF-8."""
        self._columns = columns
        self._rows = rows
        self._fields = FieldNames(columns, self._note)
        self._unnamed = unnamed
        self._errors = errors
        self._size = (os.fstat(unnamed.fileno()) if unnamed else path.stat()).st_size
        self._raw: BufferedReader | None = None

    @property
    def part_read(self) -> float:
        """The share of the file that has been read, from 0 to 1."""
        return self._raw.tell() / self._size if self._raw and not self._raw.closed and self._size else 1.0

    def open(self) -> BufferedReader:
        if self._unnamed is None:
            return self.path.open("rb")
        file = os.fdopen(os.dup(self._unnamed.fileno()), "rb")
        file.seek(0)
        return file

    def lines(self) -> Iterator[Line]:
        """All rows.

        Raises:
            UserError: the file cannot be read, or a row is longer than LONGEST.
        """
        self.taken = 0
        with self.open() as self._raw, unpacked(self.path, self._raw, self._errors) as text:
            yield from self._lines(text)

    def _lines(self, content: TextIOWrapper) -> Iterator[Line]:
        above, first = 0, content.readline(LONGEST + 1)
        while first and not first.strip():
            above, first = above + 1, content.readline(LONGEST + 1)
        begins_with = first.lstrip()[:1]
        if first.strip() == "null":
            return iter(())
        if begins_with == "[":
            return self._list(chain([first], iter(partial(content.read, _BUFFER), "")))
        if begins_with == "{" and len(first) > LONGEST:
            raise self._too_long()
        second = content.readline(LONGEST + 1)
        begin = [first, second] if second else [first]
        texts = self._bounded(above, chain(begin, iter(partial(content.readline, LONGEST + 1), "")))
        if begins_with == "{":
            return self._ndjson(above, texts) if _is_ndjson(first, second) else self._json(texts)
        return self._csv(above, texts, is_for_people=csv_rows.is_for_people(content))

    def _too_long(self) -> UserError:
        return UserError(
            f"{self.path}: its JSON object is longer than {LONGEST >> 20} MiB: write its rows as NDJSON, one "
            f"object per line, such as by `jq -c '.{self._rows or 'data'}[]'`"
        )

    def _bounded(self, above: int, texts: Iterable[str]) -> Iterator[str]:
        for number, text in enumerate(texts, above + 1):
            size = len(text) if text.isascii() else len(text.encode())
            self.taken += size
            if size > LONGEST:
                raise UserError(f"{self.path}:{number}: this line is longer than {LONGEST >> 20} MiB")
            yield text

    def _json(self, texts: Iterable[str]) -> Iterator[Line]:
        """The rows of one object on several lines."""
        parts: list[str] = []
        for text in texts:
            parts.append(text)
            if self.taken > LONGEST:
                raise self._too_long()
        try:
            content = orjson.loads("".join(parts))
        except orjson.JSONDecodeError as error:
            raise UserError(f"{self.path} is not JSON: {error}") from None
        self._see_that_it_has_rows(content)
        for number, row in enumerate(self._rows_in(content), 1):
            yield self._object(number, row)

    def _rows_in(self, content: Any) -> list[Any]:
        return rows_in(content, self._rows, self._fields.is_row)

    def _see_that_it_has_rows(self, content: Any) -> None:
        """Reject an object without a field of ours whose parts look like rows: they are what is meant."""
        rows = self._rows_in(content)
        is_row = len(rows) == 1 and rows[0] is content and isinstance(content, dict)
        if is_row and self._fields.number_known(content) < 2 and (found := lists_in(content)):
            raise UserError(
                f"{self.path}: its rows are not at the top: use --rows {found[0]}"
                + "".join(f", or --rows {other}" for other in found[1:])
            )

    def _list(self, blocks: Iterator[str]) -> Iterator[Line]:
        number = 0
        try:
            for number, text in enumerate(_Items(blocks), 1):
                self.taken += len(text)
                item = orjson.loads(text)
                for row in self._rows_in([item]):
                    yield self._object(number, row, text if row is item else "")
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.path} is not JSON after item {number}: {error}") from None

    def _ndjson(self, above: int, texts: Iterator[str]) -> Iterator[Line]:
        for number, text in enumerate(texts, above + 1):
            if not text.strip():
                continue
            try:
                content = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                yield Line(number, {LEFT_OUT: text.strip()}, f"is not JSON: {error}")
                continue
            if number == above + 1:
                self._see_that_it_has_rows(content)
            for row in self._rows_in(content):
                yield self._object(number, row, text if row is content else "")

    def _object(self, number: int, row: Any, text: str = "") -> Line:
        """One row. `text`: its source, if known."""
        if not isinstance(row, dict):
            return Line(number, {}, "is not a JSON object")
        if text and (name := field_there_twice(row, text)):
            return Line(number, {}, f"two fields are {name!r}")
        if self._fields.are_theirs:
            row, twice = self._fields.ours(row)
            if twice:
                return Line(number, {}, twice)
        return Line(number, row)

    def _note(self, named: Named) -> None:
        self.theirs |= named.renamed()
        for name in named.theirs if self.not_found else ():
            self.not_found.pop(plain_name(name), None)
        if len(self.left_out) < MOST_COLUMNS:
            self.left_out |= dict.fromkeys(named.left_out[:MOST_COLUMNS])

    def _csv(self, above: int, texts: Iterator[str], *, is_for_people: bool) -> Iterator[Line]:
        began, read, row = (
            0,
            above,
            above + 1,
        )  # bytes before a row, the number of lines read, the first line of the row

        def bounded() -> Iterator[str]:
            nonlocal read
            for text in texts:
                read += 1
                if self.taken - began > LONGEST:
                    raise UserError(
                        f"{self.path}:{row}: this row is longer than {LONGEST >> 20} MiB: "
                        "is a quotation mark not closed?"
                    )
                yield text

        try:
            content = bounded()
            header, lines = csv_rows.read_header(content, self._columns, is_for_people=is_for_people)
            self._note(header.named)
            if self.not_found:
                names = ", ".join(map(repr, self.not_found.values()))
                raise CsvError(f"it has no column {names}, which --map gives a field")
            for number, fields, error in csv_rows.rows_below(header, lines, content):
                if fields or error:
                    yield Line(above + number, fields, error)
                began, row = self.taken, read + 1
        except CsvError as error:
            raise UserError(f"{self.path}: {error}") from None


@contextmanager
def unpacked(path: Path, raw: IO[bytes], errors: str) -> Iterator[TextIOWrapper]:
    """The text of a seekable file, unzipped if needed. `errors`: see csv_rows.open_text.

    Raises:
        UserError: it is damaged, or not text.
    """
    is_gzip = raw.read(len(_GZIP)) == _GZIP
    raw.seek(0)
    try:
        content = gzip.open(raw) if is_gzip else raw  # noqa: SIM115
        with csv_rows.open_text(cast(IO[bytes], content), errors) as text:
            yield text
    except CsvError as error:
        raise UserError(f"{path}: {error}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged: {error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not {error.encoding.upper()}: save it as UTF-8") from None


def spooled(content: IO[bytes], directory: Path) -> IO[bytes]:
    """Copies a pipe to a file that can be read several times.

    The file has no name, so no other process reads it, and it vanishes with the process.
    """
    directory.mkdir(parents=True, exist_ok=True)
    file: IO[bytes] = TemporaryFile(dir=directory)  # noqa: SIM115 - the caller closes it
    shutil.copyfileobj(content, file, _BUFFER)
    file.flush()
    return file


class _Items:
    """The texts of the items of a JSON list, each as soon as it is complete.

    Raises:
        ValueError: it is not a list, or an item is longer than LONGEST.
        RecursionError: an item is nested too deeply.
    """

    def __init__(self, blocks: Iterator[str]) -> None:
        self._blocks = blocks
        self._text, self._at = "", 0

    def __iter__(self) -> Iterator[str]:
        self._take("[")
        if self._next() != "]":
            yield self._item()
        while self._next() == ",":
            self._at += 1
            yield self._item()
        self._take("]")
        if self._next():
            raise ValueError("there is more than one list")

    def _item(self) -> str:
        self._next()
        while True:
            end, why = _end_of(self._text, self._at)
            if (
                not why and self._text[end : end + 1] in _AFTER_ITEM
            ):  # otherwise it may be a number that continues
                break
            if len(self._text) - self._at > LONGEST:
                raise ValueError(f"the next is longer than {LONGEST >> 20} MiB, or is wrong: {why}")
            if not self._read_on():
                raise ValueError(why or "',' or ']' is missing")
        item, self._at = self._text[self._at : end], end
        return item

    def _take(self, character: str) -> None:
        if self._next() != character:
            raise ValueError(f"{character!r} is missing")
        self._at += 1

    def _next(self) -> str:
        """The next character that is not a space, or "" at the end."""
        while True:
            white = _WHITE.match(self._text, self._at)
            self._at = white.end() if white else self._at
            if self._at < len(self._text) or not self._read_on():
                return self._text[self._at : self._at + 1]

    def _read_on(self) -> bool:
        block = next(self._blocks, "")
        if block:
            self._text, self._at = self._text[self._at :] + block, 0
        return bool(block)


def _end_of(text: str, start: int) -> tuple[int, str]:
    """The end of the JSON value that begins at a position, or the reason why there is no whole value."""
    try:
        return _DECODER.raw_decode(text, start)[1], ""
    except json.JSONDecodeError as error:
        return start, error.msg


def _is_ndjson(first: str, second: str) -> bool:
    """Whether each line is an object: the first line is one, or is a broken one above a valid one."""
    return _is_json(first) or (first.rstrip().endswith("}") and _is_json(second))


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
