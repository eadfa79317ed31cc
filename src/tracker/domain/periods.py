"""Named periods, such as last_7_days: whole days of a calendar that end today at the latest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Final

_DAY = timedelta(days=1)


def _month_before(today: date) -> tuple[date, date]:
    last = today.replace(day=1) - _DAY
    return last.replace(day=1), last


PERIODS: Final[Mapping[str, Callable[[date], tuple[date, date]]]] = {
    "today": lambda today: (today, today),
    "yesterday": lambda today: (today - _DAY, today - _DAY),
    "last_7_days": lambda today: (today - 6 * _DAY, today),
    "last_30_days": lambda today: (today - 29 * _DAY, today),
    "this_month": lambda today: (today.replace(day=1), today),
    "last_month": _month_before,
}
"""The first and the last day of a period, by its name, from today's date in the zone that is meant."""
