"""Time spans for counts and filters of clicks."""

from __future__ import annotations

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
