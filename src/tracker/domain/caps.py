"""Which caps a click counts for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from tracker.domain.model import Cap, Counter, Offer, Period, Terms

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


def counters(offer: Offer, terms: Terms, affiliate_id: int, millis: int) -> tuple[Counter, ...]:
    """The counters of the caps that apply to a click followed at a moment (Unix milliseconds).

    Those are the offer's for everybody together, and for the affiliate its own; the offer's each-affiliate
    caps where it has none of the same kind and period. A count keeps its name when its limit changes.
    """
    if not offer.caps and not terms.caps:
        return ()
    quarter = millis // (QUARTER * 1000)
    return _counters(offer.id, offer.time_zone, offer.caps, terms.caps, affiliate_id, quarter)


def lowered(counters: tuple[Counter, ...], elsewhere: Sequence[int]) -> tuple[Counter, ...]:
    """The same counters, each limit less what was counted elsewhere; never below nothing."""
    return tuple(
        counter._replace(limit=max(counter.limit - counted, 0)) if counted else counter
        for counter, counted in zip(counters, elsewhere, strict=True)
    )


@lru_cache(maxsize=8192)
def _counters(
    offer_id: int, zone: str, of_all: tuple[Cap, ...], own: tuple[Cap, ...], affiliate_id: int, quarter: int
) -> tuple[Counter, ...]:
    replaced = {(cap.uniques_only, cap.period) for cap in own}
    kept = (
        cap for cap in of_all if cap.affiliate_id is None or (cap.uniques_only, cap.period) not in replaced
    )
    return tuple(_counter(cap, offer_id, zone, affiliate_id, quarter) for cap in (*kept, *own))


def _counter(cap: Cap, offer_id: int, zone: str, affiliate_id: int, quarter: int) -> Counter:
    start, end = bounds(cap.period, zone, quarter * QUARTER * 1000)
    whose = "all" if cap.affiliate_id is None else affiliate_id
    what = "uniques" if cap.uniques_only else "clicks"
    series = f":{cap.series}" if cap.series else ""  # what an earlier cap has counted is not this one's
    name = f"{offer_id}:{whose}:{what}:{cap.period}:{start}{series}"
    return Counter(name, cap.uniques_only, cap.limit, end)
