"""Time spans for counts and filters of clicks."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import NamedTuple

SLOT_MILLIS = 900_000
"""A quarter-hour: the offsets of all time zones in use are multiples of it."""

SLOTS_A_DAY = 96

END_OF_TIME = (1 << 48) // (SLOT_MILLIS * SLOTS_A_DAY) * SLOT_MILLIS * SLOTS_A_DAY
"""Unix milliseconds after every hash (the year 10889), at the start of a day."""


class Span(NamedTuple):
    """A range of Unix milliseconds, without its end."""

    low: int
    high: int


ALL_TIME = Span(0, END_OF_TIME)


_EPOCH = date(1970, 1, 1).toordinal()
_LAST_DAY = date.max.toordinal() - _EPOCH


def dates(numbers: Iterable[int]) -> set[date]:
    """The dates of some numbers of days since 1970. Numbers after the last date are left out."""
    return {date.fromordinal(_EPOCH + number) for number in numbers if 0 <= number <= _LAST_DAY}


def number_of(day: date) -> int:
    """The days from 1970 to a date."""
    return day.toordinal() - _EPOCH
