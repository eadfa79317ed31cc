"""Lines about money, from files and from the command line: texts by field, read into the fields of the API.

A file is booked as a whole or not at all. Each fault names its line and its field.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from io import BytesIO
from typing import NamedTuple, TypeVar

from tracker.catalogue.errors import CatalogueError, Kind, invalid
from tracker.catalogue.fields import Fields
from tracker.catalogue.validation import check_storable, validated
from tracker.domain import normalise
from tracker.domain.csv_rows import Columns, CsvError, is_for_people, open_text, rows
from tracker.domain.normalise import trim

MOST_LINES = 10_000
"""Most lines of a file."""

LINE = ""
"""The name of a fault that is of a whole line."""

_MOST_NAMED = 1_000
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


def read_file(body: bytes, model: type[SomeFields], shape: Shape) -> dict[int, SomeFields]:
    """The lines of a CSV file, by number.

    Raises:
        CatalogueError: INVALID. The file cannot be read or is too long, or lines have faults.
    """
    read: dict[int, SomeFields] = {}
    faults: dict[int, Mapping[str, str]] = {}
    try:
        text = open_text(BytesIO(body))
        for number, fields, error in rows(text, shape.columns, is_for_people=is_for_people(text)):
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
