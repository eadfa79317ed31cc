"""The caps that a click counts for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from tracker.domain.model import Cap, Counter, Offer, Period, Terms

QUARTER = 900
"""Seconds between moments at which a period may begin.

Since 2012 zones change their offset at one of them, except Casey once at a minute past.
"""


def bounds(period: Period, zone: str, millis: int) -> tuple[int, int]:
    """Start and end (Unix seconds) of the period that contains a moment (Unix milliseconds).

    The end belongs to the next period. TOTAL is (0, 0). A day has 23 or 25 hours if the clock changes. It
    begins with its date, even if that day has no midnight. An hour that the clock shows twice is two periods.

    Raises:
        ZoneInfoNotFoundError, ValueError: the IANA zone is unknown.
        ValueError: the moment is after the year 9999.
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
"""A key that is the same within a period and differs in neighbouring ones.

It has enough quarters for the longest period.
"""


def counters(offer: Offer, terms: Terms, affiliate_id: int, millis: int) -> tuple[Counter, ...]:
    """The counters of the caps that apply to a click at a moment (Unix milliseconds).

    They are the offer's common caps and the affiliate's own caps. An each-affiliate cap of the offer applies
    if the affiliate has no cap of the same kind and period. A counter keeps its name when its limit changes.
    """
    if not offer.caps and not terms.caps:
        return ()
    quarter = millis // (QUARTER * 1000)
    return _counters(offer.id, offer.time_zone, offer.caps, terms.caps, affiliate_id, quarter)


def counter(cap: Cap, offer_id: int, zone: str, affiliate_id: int, millis: int) -> Counter:
    """The counter of one cap for an affiliate at a moment (Unix milliseconds).

    Raises:
        ZoneInfoNotFoundError, ValueError: as for `bounds`.
    """
    return _counter(cap, offer_id, zone, affiliate_id, millis // (QUARTER * 1000))


def lowered(counters: tuple[Counter, ...], elsewhere: Sequence[int]) -> tuple[Counter, ...]:
    """The same counters with the counts of other partitions subtracted from their limits, never below 0."""
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
    series = f":{cap.series}" if cap.series else ""  # a former cap's count does not count for this cap
    name = f"{offer_id}:{whose}:{what}:{cap.period}:{start}{series}"
    return Counter(name, cap.uniques_only, cap.limit, end)
