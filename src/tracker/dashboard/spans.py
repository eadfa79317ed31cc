"""Spans of time that people choose by a word, and the span before each."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple

from tracker.dashboard.time_slots import Grain

PRESETS: Final[Mapping[str, str]] = {
    "today": "Today",
    "yesterday": "Yesterday",
    "7d": "7 days",
    "30d": "30 days",
    "this_month": "This month",
    "last_month": "Last month",
}
"""The words in an address, and those on the page."""

_DAY = timedelta(days=1)
_LAST_SECOND = time(23, 59, 59)
_MOST_DAYS: Final[Mapping[Grain, int]] = {"hour": 2, "day": 92, "week": 731}
"""The longest span that charts show by this. Longer ones are shown by month."""


class Span(NamedTuple):
    """Some whole days, and the days to compare them with. Days that are not over are compared up to now."""

    first: date
    last: date
    before_first: date
    before_end: datetime  # local, its last second

    @property
    def grain(self) -> Grain:
        """What charts have a value for."""
        days = (self.last - self.first).days + 1
        return next((grain for grain, most in _MOST_DAYS.items() if days <= most), "month")

    @property
    def parameters(self) -> dict[str, str]:
        """The span as parameters of lists and reports."""
        return {"created_from": self.first.isoformat(), "created_to": self.last.isoformat()}

    @property
    def comparison(self) -> dict[str, str]:
        """The span before as parameters of reports."""
        return {
            "compare": "custom",
            "compare_from": self.before_first.isoformat(),
            "compare_to": f"{self.before_end:%Y-%m-%d %H:%M:%S}",
        }


def preset(word: str, now: datetime) -> Span:
    """The span that a word means. `now`: in the zone of the days.

    Raises:
        KeyError: there is no such word.
    """
    first, last = _SPANS[word](now.date())
    if word in ("this_month", "last_month"):
        return _compared(first, last, _month_before(first), now, is_of_months=True)
    return chosen(first, last, now)


def chosen(first: date, last: date, now: datetime) -> Span:
    """The span from one day to another, compared with as many days before.

    Raises:
        ValueError: the days before are not in the calendar.
    """
    try:
        before = first - (last - first) - _DAY
    except OverflowError:
        raise ValueError("has no such time before it in the calendar") from None
    return _compared(first, last, before, now, is_of_months=False)


def _compared(first: date, last: date, before: date, now: datetime, *, is_of_months: bool) -> Span:
    reached = min(last, max(first, now.date()))
    end = before + (reached - first)
    if is_of_months:
        end = first - _DAY if reached == _month_end(first) else min(end, first - _DAY)
    is_over = last < now.date()
    at = _LAST_SECOND if is_over else now.time().replace(microsecond=0, tzinfo=None)
    return Span(first, last, before, datetime.combine(end, at))


_SPANS: Mapping[str, Callable[[date], tuple[date, date]]] = {
    "today": lambda day: (day, day),
    "yesterday": lambda day: (day - _DAY, day - _DAY),
    "7d": lambda day: (day - 6 * _DAY, day),
    "30d": lambda day: (day - 29 * _DAY, day),
    "this_month": lambda day: (day.replace(day=1), day),
    "last_month": lambda day: (_month_before(day), day.replace(day=1) - _DAY),
}


def _month_before(day: date) -> date:
    return (day.replace(day=1) - _DAY).replace(day=1)


def _month_end(first: date) -> date:
    return first.replace(day=monthrange(first.year, first.month)[1])
