"""Comparisons of reports: which other span is meant."""

from __future__ import annotations

from datetime import datetime

import pytest

from tracker.reading.reports.comparison import NUMBERS, OTHERS

TABLE = [
    ("previous", "2026-11-20", "2026-11-21", "2026-11-19", "2026-11-20"),
    ("previous", "2026-11-09", "2026-11-16", "2026-11-02", "2026-11-09"),
    ("previous", "2026-11-01", "2026-12-01", "2026-10-01", "2026-11-01"),
    ("previous", "2026-07-01", "2026-10-01", "2026-04-01", "2026-07-01"),
    ("previous", "2026-11-02", "2026-12-02", "2026-10-03", "2026-11-02"),
    ("last_week", "2026-11-20", "2026-11-21", "2026-11-13", "2026-11-14"),
    ("last_month", "2026-11-01", "2026-12-01", "2026-10-01", "2026-11-01"),
    ("last_month", "2026-03-30", "2026-03-31", "2026-02-28", "2026-03-01"),
    ("last_month", "2026-03-31", "2026-04-01", "2026-02-28", "2026-03-01"),
    ("last_month", "2026-01-05", "2026-01-09", "2025-12-05", "2025-12-09"),
    (
        "last_month",
        "2026-05-31T10:00:00",
        "2026-05-31T12:00:00",
        "2026-04-30T10:00:00",
        "2026-04-30T12:00:00",
    ),
    ("last_year", "2028-02-29", "2028-03-01", "2027-02-28", "2027-03-01"),
    ("last_year", "2026-11-20", "2026-11-27", "2025-11-20", "2025-11-27"),
]


@pytest.mark.parametrize(("how", "start", "end", "other_start", "other_end"), TABLE)
def test_other_span_follows_from_the_calendar(
    how: str, start: str, end: str, other_start: str, other_end: str
) -> None:
    times = (datetime.fromisoformat(start), datetime.fromisoformat(end))
    other = (datetime.fromisoformat(other_start), datetime.fromisoformat(other_end))
    assert OTHERS[how](times) == other


@pytest.mark.parametrize(
    ("group", "first", "last"),
    [
        ("day", "2026-11-30T00:00:00", "2026-11-30T23:59:59"),
        ("week", "2026-11-23T00:00:00", "2026-11-29T23:59:59"),
        ("month", "2026-11-01T00:00:00", "2026-11-30T23:59:59"),
        ("hour", "2026-11-30T07:00:00", "2026-11-30T07:59:59"),
    ],
)
def test_number_of_a_time_changes_at_its_end(group: str, first: str, last: str) -> None:
    start, end = datetime.fromisoformat(first), datetime.fromisoformat(last)
    number = NUMBERS[group]
    assert number(start) == number(end) == number(start.replace(microsecond=1))
    assert number(datetime.fromtimestamp(end.timestamp() + 1)) == number(start) + 1
