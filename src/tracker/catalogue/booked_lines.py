"""Lines about money, from files and from the command line: texts by field, read into the fields of the API.

A file is booked as a whole or not at all. Each fault names its line and its field.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from io import BytesIO, TextIOWrapper
from typing import Any, NamedTuple, TypeVar

from tracker.catalogue.errors import CatalogueError, Kind, invalid
from tracker.catalogue.fields import Fields
from tracker.catalogue.validation import check_storable, validated
from tracker.domain import normalise
from tracker.domain.csv_rows import Columns, CsvError, Row, is_for_people, open_text, rows
from tracker.domain.normalise import trim

MOST_LINES = 10_000
"""Most lines of a file."""

LINE = ""
"""The name of a fault that is of a whole line."""

_MOST_NAMED = 1_000
_LONGEST_LINE = 4_096  # characters of a JSON object
_LONGEST_NAME = 50
_MOST_IN_WORDS = 5

SomeFields = TypeVar("SomeFields", bound=Fields)
Faults = Mapping[int, Mapping[str, str]]
"""What is wrong, by line and field."""


class Shape(NamedTuple):
    """The columns of a file, and those that are whole numbers."""

    columns: Columns
    numbers: Collection[str]


def read_texts(texts: Mapping[str, str], model: type[SomeFields], numbers: Collection[str]) -> SomeFields:
    """Fields that were written as texts. An empty one is absent.

    Raises:
        CatalogueError: INVALID. It names each field.
    """
    fields: dict[str, object] = {}
    for name, text in texts.items():
        if trim(text):
            id_ = normalise.id_(text) if name in numbers else None
            fields[name] = trim(text) if id_ is None else id_
    check_storable(fields)
    return validated(fields, model)


def read_file(
    body: bytes, model: type[SomeFields], shape: Shape, *, is_csv: bool = True
) -> dict[int, SomeFields]:
    """The lines of a CSV file, or else of NDJSON, by number.

    Raises:
        CatalogueError: INVALID. The file cannot be read or is too long, or lines have faults.
    """
    read: dict[int, SomeFields] = {}
    faults: dict[int, Mapping[str, str]] = {}
    try:
        text = open_text(BytesIO(body))
        for number, fields, error in _rows(text, shape.columns, is_csv=is_csv):
            if error:
                faults[number] = {LINE: error}
            elif fields:
                try:
                    read[number] = read_texts(fields, model, shape.numbers)
                except CatalogueError as wrong:
                    faults[number] = {name: messages[0] for name, messages in wrong.errors.items()}
            if len(read) + len(faults) > MOST_LINES:
                raise CsvError(f"it has more than {MOST_LINES:,} lines")
    except CsvError as wrong:
        raise invalid({"body": [str(wrong)]}) from None
    refuse(faults, len(read) + len(faults))
    if not read:
        raise invalid({"body": ["it has no lines"]})
    return read


def _rows(text: TextIOWrapper, columns: Columns, *, is_csv: bool) -> Iterator[Row]:
    if is_csv:
        yield from rows(text, columns, is_for_people=is_for_people(text))
        return
    for number, line in enumerate(text, 1):
        try:
            yield Row(number, _json_fields(line, columns) if trim(line) else {})
        except ValueError as error:
            yield Row(number, {}, str(error))


def _json_fields(line: str, columns: Columns) -> dict[str, str]:
    """The fields of a JSON object as texts. Its numbers keep their digits."""
    if len(line) > _LONGEST_LINE:
        raise ValueError(f"is longer than {_LONGEST_LINE:,} characters")
    try:
        pairs = json.loads(line, parse_float=str, parse_int=str, object_pairs_hook=_Pairs)
    except (json.JSONDecodeError, RecursionError):
        pairs = None
    if not isinstance(pairs, _Pairs):
        raise ValueError("is not a JSON object")
    named = columns.named([name for name, _ in pairs])
    if unknown := [name for name in named.ours if name not in columns.known]:
        raise ValueError(f"has the unknown field {unknown[0][:_LONGEST_NAME]!r}")
    if twice := named.twice():
        raise ValueError(f"has a field twice: {twice}")
    if wrong := [name for name, (_, value) in zip(named.ours, pairs, strict=True) if not _is_text(value)]:
        raise ValueError(f"{wrong[0]} is neither a text nor a number")
    return {name: value or "" for name, (_, value) in zip(named.ours, pairs, strict=True)}


class _Pairs(list[tuple[str, Any]]):
    """The fields of a JSON object, also those that are there twice."""


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def refuse(faults: Faults, lines: int) -> None:
    """See that no line has a fault.

    Raises:
        CatalogueError: INVALID. Its errors are like `lines.3.amount`, with the line's number.
    """
    if not faults:
        return
    named = [(number, field, why) for number, of in sorted(faults.items()) for field, why in of.items()]
    words = "; ".join(
        f"line {number}: {why if field == LINE else f'{field} {why}'}"
        for number, field, why in named[:_MOST_IN_WORDS]
    )
    more = f"; and {len(named) - _MOST_IN_WORDS:,} more" if len(named) > _MOST_IN_WORDS else ""
    detail = f"Nothing is booked: {len(faults):,} of {lines:,} lines are wrong. {words}{more}"
    errors = {
        f"lines.{number}" if field == LINE else f"lines.{number}.{field}": [why]
        for number, field, why in named[:_MOST_NAMED]
    }
    raise CatalogueError(Kind.INVALID, errors, detail)
