"""Whole days that people look at, and the days before them to compare with."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple

from tracker.dashboard.time_slots import Grain
from tracker.domain.periods import PERIODS

_DAY = timedelta(days=1)
_OF_MONTHS = ("this_month", "last_month")
_LAST_SECOND = time(23, 59, 59)
_MOST_DAYS: Final[Mapping[Grain, int]] = {"hour": 2, "day": 50, "week": 731}
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


def named(name: str, now: datetime) -> Span:
    """The days of one of PERIODS. `now`: in the zone of the days."""
    first, last = PERIODS[name](now.date())
    if name not in _OF_MONTHS:
        return chosen(first, last, now)
    before = (first - _DAY).replace(day=1)
    return _compared(first, last, before, now, is_of_months=True)


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


def _month_end(first: date) -> date:
    return first.replace(day=monthrange(first.year, first.month)[1])
