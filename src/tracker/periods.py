"""When a cap's period begins and ends, by the clock on the offer's wall."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from tracker.model import Period

QUARTER = 900
"""Seconds between moments at which a period may begin: since 2012 zones change their offset at one of them,
but for Casey once, a minute past."""


def bounds(period: Period, zone: str, millis: int) -> tuple[int, int]:
    """Start and end, in Unix seconds, of the period that a moment (Unix milliseconds) falls into.

    The end belongs to the next period; TOTAL is (0, 0). A day has 23 or 25 hours where the clock changes, and
    begins when its date does, also where there is no midnight. An hour that the clock shows twice is two.

    Raises:
        ZoneInfoNotFoundError, ValueError: no such IANA zone; ValueError too: beyond the year 9999.
    """
    return _bounds(period, zone, millis // (QUARTER * 1000))


@lru_cache(maxsize=4096)
def _bounds(period: Period, zone: str, quarter: int) -> tuple[int, int]:
    if period is Period.TOTAL:
        return 0, 0
    mark, longest = _MARKS[period]
    clock = ZoneInfo(zone)

    def is_same(other: int) -> bool:
        return mark(datetime.fromtimestamp(other * QUARTER, clock)) == own

    own = mark(datetime.fromtimestamp(quarter * QUARTER, clock))
    earlier, later = range(quarter - longest, quarter), range(quarter + 1, quarter + longest + 1)
    start = earlier.start + bisect_left(earlier, True, key=is_same)
    end = later.start + bisect_left(later, True, key=lambda other: not is_same(other))
    return start * QUARTER, end * QUARTER


_HOUR = 3600 // QUARTER
_MARKS: dict[Period, tuple[Callable[[datetime], object], int]] = {
    Period.HOUR: (lambda at: (at.date(), at.hour, at.utcoffset()), _HOUR),
    Period.DAY: (datetime.date, 26 * _HOUR),
    Period.MONTH: (lambda at: (at.year, at.month), 32 * 24 * _HOUR),
}
"""What is the same all through a period and in no other near it; and quarters enough for the longest one."""
