"""Named periods: their days, and what they exclude."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from tracker.domain.periods import PERIODS
from tracker.parameters import ParameterError
from tracker.reading.query import read_query
from tracker.reading.reports.query import ReportQuery


@pytest.mark.parametrize(
    ("name", "today", "first", "last"),
    [
        ("today", "2026-03-01", "2026-03-01", "2026-03-01"),
        ("yesterday", "2026-03-01", "2026-02-28", "2026-02-28"),
        ("last_7_days", "2026-03-03", "2026-02-25", "2026-03-03"),
        ("last_30_days", "2026-03-30", "2026-03-01", "2026-03-30"),
        ("this_month", "2026-11-30", "2026-11-01", "2026-11-30"),
        ("last_month", "2026-03-31", "2026-02-01", "2026-02-28"),
        ("last_month", "2024-03-01", "2024-02-01", "2024-02-29"),
        ("last_month", "2026-01-15", "2025-12-01", "2025-12-31"),
    ],
)
def test_period_has_whole_days(name: str, today: str, first: str, last: str) -> None:
    days = PERIODS[name](date.fromisoformat(today))
    assert [day.isoformat() for day in days] == [first, last]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_today_is_the_day_of_the_zone(zone: str) -> None:
    before = datetime.now(ZoneInfo(zone)).date()
    query = read_query(f"group_by=day&period=today&tz={zone}".encode(), ReportQuery).checked("UTC")
    start, end = query.times()
    after = datetime.now(ZoneInfo(zone)).date()
    assert start is not None
    assert end is not None
    assert start.date() in (before, after)
    assert (end - start).total_seconds() == 86_399


@pytest.mark.parametrize("other", ["created_from=2026-11-01", "created_at_to=2026-11-01"])
def test_period_excludes_other_times(other: str) -> None:
    query = read_query(f"group_by=day&period=today&{other}".encode(), ReportQuery)
    with pytest.raises(ParameterError) as error:
        query.checked("UTC")
    assert set(error.value.errors) == {"period"}
