"""Files of rows: CSV with a header, NDJSON, JSON lists and the API's envelopes, each also compressed by gzip.

What a file is, is seen from how it begins; its name does not matter.
"""

from __future__ import annotations

import csv
import gzip
import os
import zlib
from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from tracker.complaint import Complaint

Fields = dict[str, Any]
Names = Mapping[str, str]
"""Their names of fields to ours; "" leaves a field out."""

_BUFFER = 1 << 20  # bytes
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_DELIMITERS = ",;\t|"
_LEFT_OUT = ""


class Line(NamedTuple):
    """A row of a file, or why it is none."""

    number: int  # of the line that it begins on, from 1; in one JSON list: of the item
    fields: Fields
    error: str = ""


class RowFile:
    """One file; read from its beginning as often as asked for."""

    def __init__(self, path: Path, names: Names, known: Collection[str] = ()) -> None:
        """`known`: the fields that there are; none given: any may be named."""
        self.path = path
        self._names = names
        self._known = known
        self._size = path.stat().st_size
        self._raw: IO[bytes] | None = None

    @property
    def part_read(self) -> float:
        """How much of it is read, from 0 to 1."""
        return self._raw.tell() / self._size if self._raw and not self._raw.closed and self._size else 1.0

    def lines(self) -> Iterator[Line]:
        with self.path.open("rb") as self._raw:
            is_compressed = self._raw.read(len(_GZIP)) == _GZIP
            self._raw.seek(0)
            try:
                with gzip.open(self._raw) if is_compressed else self._raw as content:
                    yield from self._lines(iter(content))
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise Complaint(f"{self.path} is damaged: {error}") from None

    def _lines(self, texts: Iterator[bytes]) -> Iterator[Line]:
        first = next(texts, b"").removeprefix(_BYTE_ORDER_MARK)
        texts = chain([first], texts)
        if first.lstrip().startswith(b"{") and _is_json(first):
            return self._ndjson(texts)
        if first.lstrip().startswith((b"{", b"[")):
            return self._json(b"".join(texts))
        return self._csv(text.decode(errors="surrogateescape") for text in texts)

    def _json(self, text: bytes) -> Iterator[Line]:
        try:
            rows = _rows(orjson.loads(text))
        except orjson.JSONDecodeError as error:
            raise Complaint(f"{self.path} is not JSON: {error}") from None
        for number, row in enumerate(rows, 1):
            yield self._object(number, row)

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

    def _csv(self, texts: Iterator[str]) -> Iterator[Line]:
        first = next(texts)
        delimiter = max(_DELIMITERS, key=first.count)
        reader = csv.reader(chain([first], texts), delimiter=delimiter, strict=True)
        header = self._header(next(reader, []))
        before = reader.line_num
        while (row := _next(reader)) is not None:
            number, before = before + 1, reader.line_num
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


def spooled(content: IO[bytes], directory: Path) -> Path:
    """What comes over a pipe, as a file that can be read several times."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"stdin-{os.getpid()}"
    with path.open("wb") as file:
        while chunk := content.read(_BUFFER):
            file.write(chunk)
    return path


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
