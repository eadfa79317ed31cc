"""Reads the values of imported rows: JSON types, or the text of CSV."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any

from tracker.domain.local_time import first_second, read_local
from tracker.domain.model import MAX_ID
from tracker.domain.normalise import given, trim, word
from tracker.edge.read.link import MAX_VALUE
from tracker.edge.read.text import crop
from tracker.importing.date_formats import DateFormat
from tracker.store.legacy_clicks import OWN

Reader = Callable[[Any], Any]

MAX_KEY = 200
"""Longest legacy id in characters, as in the API."""

_FLAGS = {
    "true": True,
    "t": True,
    "yes": True,
    "y": True,
    "1": True,
    "false": False,
    "f": False,
    "no": False,
    "n": False,
    "0": False,
}
_WHOLE = re.compile(r"([0-9]{1,19})(?:\.0+)?", re.ASCII)  # programs with one number type write 513.0
_NOT_KNOWN = frozenset({"-", "--", "?", "unk", "other", "(not set)", "not set", "not available", "na"})
_EARLIEST = 946_684_800_000  # in 2000, Unix milliseconds
_LONGEST_TIME = 100  # characters
_LONGEST_SHOWN = 60
UNKNOWN = "is not a field"
"""The beginning of the error of a field that an object does not have: its value does not matter."""
_LOCAL = (len("2024-07-08"), len("2024-07-08 13:40:00"))
_UNIX = re.compile(r"([0-9]+)(?:\.([0-9]+))?", re.ASCII)  # some programs write 1720446000.0
_UNIX_SECONDS, _UNIX_MILLIS = 10, 13  # digits of Unix seconds from 2001 to 2286
_NO_OFFSET = re.compile(r" ?(?:UTC|GMT)$", re.IGNORECASE)


class RowError(ValueError):
    """The errors of a row, by field."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field} {why}" for field, why in errors.items()))
        self._errors = errors

    def about(self, fields: Mapping[str, Any], theirs: Mapping[str, str]) -> str:
        """The errors with the file's values, and with its names for our fields where they differ."""
        return "; ".join(
            error_of(field, why, fields.get(field), theirs) for field, why in self._errors.items()
        )


def error_of(field: str, why: str, value: Any, theirs: Mapping[str, str]) -> str:
    """The error of a field, with its value unless the error says it already, and its name in the file."""
    column = f" (column {theirs[field]!r})" if field in theirs else ""
    text = value if isinstance(value, str) else json.dumps(value) if isinstance(value, int | float) else ""
    shown = repr(text[:_LONGEST_SHOWN])
    is_said = not text or shown in why or why.startswith(UNKNOWN)
    return f"{field}{column}{'' if is_said else f' {shown}'} {why}"


def read_all(fields: Mapping[str, Any], readers: Mapping[str, Reader]) -> dict[str, Any]:
    """The values that are present. null, empty text and a reader's None count as absent.

    Raises:
        RowError: naming each field that is unknown or cannot be read.
    """
    values: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name, value in fields.items():
        reader = readers.get(name)
        if reader is None:
            errors[name] = f"{UNKNOWN} of this object: --map it to one, or to nothing"
        elif value is not None and value != "" and reader is not ignored:
            try:
                if (parsed := reader(value)) is not None:
                    values[name] = parsed
            except ValueError as error:
                errors[name] = str(error)
    if errors:
        raise RowError(errors)
    return values


def whole(low: int, high: int) -> Reader:
    def read(value: Any) -> int:
        if isinstance(value, str) and (digits := _WHOLE.fullmatch(trim(value))):
            value = int(digits[1])
        elif isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"is not a whole number from {low} to {high}")
        return value

    return read


id_ = whole(1, MAX_ID)


def text(limit: int) -> Reader:
    """The text without control characters and cut, as a link's parameter."""

    def read(value: Any) -> str:
        value = _text(value)
        return value if len(value) <= limit and value.isprintable() else crop(value, limit)

    return read


def key(value: Any) -> str:
    """An id without surrounding spaces."""
    text = trim(_text(value))
    if not 0 < len(text) <= MAX_KEY or not text.isprintable():
        raise ValueError(f"is not a text of 1 to {MAX_KEY} printable characters")
    return text


def source(value: Any) -> str:
    """The name of an earlier tracker."""
    name = key(value)
    if name == OWN:
        raise ValueError("is this tracker, and no earlier one")
    return name


def written_key(value: Any) -> str:
    """An id as it was written, because live postbacks may carry it. "" if it is absent."""
    text = _text(value)
    if not given(text):
        return ""
    inner = trim(text)
    if len(inner) > MAX_VALUE or crop(inner, len(inner)) != inner:
        raise ValueError(f"is longer than {MAX_VALUE} characters, or has control characters")
    return crop(text, len(text))


def choice(*allowed: str) -> Reader:
    def read(value: Any) -> str:
        parsed = word(value) if isinstance(value, str) else value
        if parsed not in allowed:
            raise ValueError(f"is not one of {', '.join(allowed)}")
        return parsed

    return read


def flag(value: Any) -> bool:
    parsed = value if isinstance(value, bool) else _FLAGS.get(word(str(value)))
    if parsed is None:
        raise ValueError("is not true or false")
    return parsed


def fact(limit: int, normal: Callable[[str], str] = str) -> Reader:
    """A fact about the visitor in our words. None if the file says that it is unknown."""

    @lru_cache(4096)
    def read_text(value: str) -> str | None:
        text = given(value)
        return (crop(normal(text), limit) or None) if text and text.casefold() not in _NOT_KNOWN else None

    def read(value: Any) -> str | None:
        return read_text(_text(value)[: 4 * limit])  # repeated values are short

    return read


def ignored(value: Any) -> None:
    """Readers of fields that need no context."""


def moment(zone: tzinfo, formats: Sequence[DateFormat] = ()) -> Reader:
    """Unix milliseconds of a time in one of the formats, or of a time that is read without one.

    These are a local time in the zone, a time with an offset, and a Unix time.
    """

    @lru_cache(4096)
    def read_text(value: str) -> int:
        value = trim(value)
        return _formatted(value, zone, formats) if formats else _time(value, zone)

    def read(value: Any) -> int:
        return past(read_text(_text(str(value) if isinstance(value, float) else value)[:_LONGEST_TIME]))

    return read


def is_same_second(one: int, other: int, zone: tzinfo) -> bool:
    """Whether the zone's clocks show the same second at two times in Unix milliseconds.

    Clocks that are set back show an hour twice.
    """
    return one // 1000 == other // 1000 or _clock(one, zone) == _clock(other, zone)


def _clock(millis: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(millis // 1000, zone).replace(tzinfo=None)


def _time(value: str, zone: tzinfo) -> int:
    if number := _UNIX.fullmatch(value):
        return _unix(number[1], number[2] or "")
    value = _NO_OFFSET.sub("Z", value)
    if len(value) in _LOCAL or not value[:1].isdigit():
        return first_second(read_local(value, is_end=False), zone) * 1000
    return _iso(value, zone)


def _formatted(value: str, zone: tzinfo, formats: Sequence[DateFormat]) -> int:
    """
    Raises:
        ValueError: two formats read it as different times, or nothing reads it.
    """
    found = {each.shown: millis for each in formats if (millis := each.read(value, zone)) is not None}
    if len({*found.values()}) > 1:
        raise ValueError(f"is another time by each of the formats {' and '.join(found)}: give only one")
    try:
        return next(iter(found.values())) if found else _time(value, zone)
    except ValueError:
        raise ValueError(f"has no format of {_listed(formats)}, and is no ISO or Unix time") from None


def _listed(formats: Sequence[DateFormat]) -> str:
    return ", ".join(each.shown for each in formats)


def past(millis: int) -> int:
    if not _EARLIEST <= millis <= time.time() * 1000:
        raise ValueError("is before 2000 or in the future")
    return millis


def _text(value: Any) -> Any:
    """A text, or a number as text.

    Raises:
        ValueError: it is neither, or not UTF-8.
    """
    if type(value) is int:
        return str(value)
    if not isinstance(value, str):
        raise ValueError("is not a text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("is not UTF-8") from None
    return value


def _unix(digits: str, decimals: str) -> int:
    if len(digits) == _UNIX_MILLIS:
        return int(digits)
    if len(digits) == _UNIX_SECONDS:
        return int(digits + f"{decimals:0<3.3}")
    raise ValueError(
        "is neither Unix seconds nor milliseconds: a spreadsheet's days need the format yyyy-mm-dd hh:mm:ss"
    )


def _iso(value: str, zone: tzinfo) -> int:
    try:
        parsed = datetime.fromisoformat(value)
        if parsed.tzinfo is not None:
            return round(parsed.astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ValueError("is not a time such as 2024-07-08 13:40:00 or 2024-07-08T13:40:00+02:00") from None
    second = first_second(parsed.replace(microsecond=0), zone)
    return second * 1000 + parsed.microsecond // 1000
