"""Files of rows: CSV with a header, NDJSON, JSON lists and the API's envelopes, each also compressed by gzip.

What a file is, is seen from how it begins; its name does not matter. It may be of any size: no more of it is
in memory than LONGEST bytes, compressed or not.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import shutil
import zlib
from codecs import getincrementaldecoder
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from io import BufferedReader
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

import orjson

from tracker.complaint import Complaint

Fields = dict[str, Any]
Names = Mapping[str, str]
"""Their names of fields to ours; "" leaves a field out."""

LONGEST = 8 << 20
"""Bytes of a line, a row of CSV, an item of a JSON list. An answer of the API with 1,000 clicks has 2 MB."""

_BUFFER = 1 << 20  # bytes
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_DELIMITERS = ",;\t|"
_LEFT_OUT = ""
_WHITE = re.compile(r"[ \t\r\n]*")
_AFTER_ITEM = set(",] \t\r\n")
_DECODER = json.JSONDecoder()


class Line(NamedTuple):
    """A row of a file, or why it is none."""

    number: int  # of the line that it begins on, from 1; in one JSON list: of the item
    fields: Fields
    error: str = ""


class RowFile:
    """One file; read from its beginning as often as asked for."""

    def __init__(
        self, path: Path, names: Names, known: Collection[str] = (), unnamed: IO[bytes] | None = None
    ) -> None:
        """`known`: the fields that there are; none given: any may be named. `unnamed`: read for the path."""
        self.path = path
        self.taken = 0
        """Bytes of the lines that have been read, uncompressed."""
        self._names = names
        self._known = known
        self._unnamed = unnamed
        self._size = (os.fstat(unnamed.fileno()) if unnamed else path.stat()).st_size
        self._raw: BufferedReader | None = None

    @property
    def part_read(self) -> float:
        """How much of it is read, from 0 to 1."""
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
            Complaint: it cannot be read, or one of them is longer than LONGEST.
        """
        self.taken = 0
        with self.open() as self._raw:
            is_compressed = self._raw.read(len(_GZIP)) == _GZIP
            self._raw.seek(0)
            try:
                with gzip.open(self._raw) if is_compressed else self._raw as content:
                    yield from self._lines(content)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise Complaint(f"{self.path} is damaged: {error}") from None

    def _lines(self, content: BufferedReader | gzip.GzipFile) -> Iterator[Line]:
        first = content.readline(LONGEST + 1).removeprefix(_BYTE_ORDER_MARK)
        begins_with = first.lstrip()[:1]
        if begins_with == b"[":
            return self._list(chain([first], iter(partial(content.read, _BUFFER), b"")))
        texts = self._bounded(chain([first], iter(partial(content.readline, LONGEST + 1), b"")))
        if begins_with == b"{":
            return self._ndjson(texts) if _is_json(first) else self._json(texts)
        return self._csv(texts)

    def _bounded(self, texts: Iterable[bytes]) -> Iterator[bytes]:
        for number, text in enumerate(texts, 1):
            self.taken += len(text)
            if len(text) > LONGEST:
                raise Complaint(f"{self.path}:{number}: this line is longer than {LONGEST >> 20} MiB")
            yield text

    def _json(self, texts: Iterable[bytes]) -> Iterator[Line]:
        """The rows of one object over several lines."""
        parts: list[bytes] = []
        for text in texts:
            parts.append(text)
            if self.taken > LONGEST:
                raise Complaint(
                    f"{self.path}: its JSON object is longer than {LONGEST >> 20} MiB: "
                    "write its rows as NDJSON, one object in a line"
                )
        try:
            rows = _rows(orjson.loads(b"".join(parts)))
        except orjson.JSONDecodeError as error:
            raise Complaint(f"{self.path} is not JSON: {error}") from None
        for number, row in enumerate(rows, 1):
            yield self._object(number, row)

    def _list(self, blocks: Iterator[bytes]) -> Iterator[Line]:
        number = 0
        try:
            for number, text in enumerate(_Items(blocks), 1):
                self.taken += len(text)
                yield self._object(number, orjson.loads(text))
        except (ValueError, RecursionError) as error:
            raise Complaint(f"{self.path} is not JSON after item {number}: {error}") from None

    def _ndjson(self, texts: Iterator[bytes]) -> Iterator[Line]:
        for number, text in enumerate(texts, 1):
            if not text.strip():
                continue
            try:
                rows = _rows(orjson.loads(text))
            except orjson.JSONDecodeError as error:
                yield Line(number, {}, f"is not JSON: {error}")
                continue
            for row in rows:
                yield self._object(number, row)

    def _object(self, number: int, row: Any) -> Line:
        if not isinstance(row, dict):
            return Line(number, {}, "is not a JSON object")
        if self._names:
            row = {self._names.get(name, name): value for name, value in row.items()}
            row.pop(_LEFT_OUT, None)
        return Line(number, row)

    def _csv(self, texts: Iterator[bytes]) -> Iterator[Line]:
        began = 0  # where the row that is read began

        def decoded() -> Iterator[str]:
            for text in texts:
                if self.taken - began > LONGEST:
                    raise Complaint(
                        f"{self.path}:{before + 1}: this row is longer than {LONGEST >> 20} MiB: "
                        "is a quotation mark not closed?"
                    )
                yield text.decode(errors="surrogateescape")

        before = 0
        lines = decoded()
        first = next(lines)
        delimiter = max(_DELIMITERS, key=first.count)
        reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
        header = self._header(next(reader, []))
        before, began = reader.line_num, self.taken
        while (row := _next(reader)) is not None:
            number, before, began = before + 1, reader.line_num, self.taken
            if isinstance(row, str):
                yield Line(number, {}, row)
            elif len(row) == len(header):
                fields: Fields = dict(zip(header, row, strict=True))
                fields.pop(_LEFT_OUT, None)
                yield Line(number, fields)
            elif row:
                yield Line(number, {}, f"has {len(row)} columns where the header has {len(header)}")

    def _header(self, theirs: list[str]) -> list[str]:
        header = [self._names.get(name.strip(), name.strip()) for name in theirs]
        named = [name for name in header if name != _LEFT_OUT]
        twice = sorted({name for name in named if named.count(name) > 1})
        unknown = [name for name in named if self._known and name not in self._known]
        if unknown:
            which = ", ".join(map(repr, unknown))
            raise Complaint(f"{self.path}: no field is called {which}: --map it to one, or to nothing")
        if twice or not named:
            raise Complaint(f"{self.path}: {f'two columns are {twice[0]}' if twice else 'names no columns'}")
        return header


def spooled(content: IO[bytes], directory: Path) -> IO[bytes]:
    """What comes over a pipe, as a file that can be read several times.

    It has no name, so nobody else reads it, and however the process ends it is gone.
    """
    directory.mkdir(parents=True, exist_ok=True)
    file: IO[bytes] = TemporaryFile(dir=directory)  # noqa: SIM115 - the caller closes it
    shutil.copyfileobj(content, file, _BUFFER)
    file.flush()
    return file


class _Items:
    """The texts of the items of a JSON list, each as soon as it is whole.

    Raises:
        ValueError: it is no list, or an item is longer than LONGEST.
        RecursionError: an item is nested too deeply.
    """

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._decode = getincrementaldecoder("utf-8")("surrogateescape").decode
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
            if not why and self._text[end : end + 1] in _AFTER_ITEM:  # else it may be a number that goes on
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
        """The next character that is no space; "" at the end."""
        while True:
            white = _WHITE.match(self._text, self._at)
            self._at = white.end() if white else self._at
            if self._at < len(self._text) or not self._read_on():
                return self._text[self._at : self._at + 1]

    def _read_on(self) -> bool:
        block = next(self._blocks, b"")
        if block:
            self._text, self._at = self._text[self._at :] + self._decode(block), 0
        return bool(block)


def _end_of(text: str, start: int) -> tuple[int, str]:
    """Where the JSON value ends that begins at a place; or what is wrong with it, or missing."""
    try:
        return _DECODER.raw_decode(text, start)[1], ""
    except json.JSONDecodeError as error:
        return start, error.msg


def _rows(content: Any) -> list[Any]:
    """The rows of a list, of an answer of the API, or the one that this is."""
    if isinstance(content, dict) and isinstance(content.get("data"), list):
        return content["data"]  # type: ignore[no-any-return]
    return content if isinstance(content, list) else [content]


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _next(reader: Iterator[list[str]]) -> list[str] | str | None:
    """The next row, or what is wrong with it; None at the end."""
    try:
        return next(reader, None)
    except csv.Error as error:
        return f"is not CSV: {error}"
