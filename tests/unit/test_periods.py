from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.domain.caps import bounds
from tracker.domain.model import Period

HOUR, DAY, MONTH, TOTAL = Period.HOUR, Period.DAY, Period.MONTH, Period.TOTAL
_MOMENTS = st.integers(  # since zones change on quarter-hours
    int(datetime(2012, 1, 1, tzinfo=UTC).timestamp() * 1000),
    int(datetime(2060, 1, 1, tzinfo=UTC).timestamp() * 1000),
)
_ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/Santiago",  # no midnight in spring
        "Asia/Beirut",
        "America/Havana",
        "Africa/Cairo",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",  # half an hour of summer time
        "America/St_Johns",
        "Pacific/Chatham",
        "Asia/Pyongyang",
        "Africa/Casablanca",
        "Antarctica/Troll",  # two hours of summer time
        "America/Nuuk",
        "Pacific/Apia",
    ]
)


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


CASES = [
    # Berlin puts its clock on at 02:00 and back at 03:00.
    (HOUR, "Europe/Berlin", "2026-03-29T01:59:59+01:00", "2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00"),
    (HOUR, "Europe/Berlin", "2026-10-25T02:30+02:00", "2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00"),
    (HOUR, "Europe/Berlin", "2026-10-25T02:30+01:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"),
    (DAY, "Europe/Berlin", "2026-03-29T12:00+02:00", "2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00"),
    (DAY, "Europe/Berlin", "2026-10-25T02:30+01:00", "2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00"),
    (MONTH, "Europe/Berlin", "2026-10-31T23:59:59+01:00", "2026-10-01T00:00+02:00", "2026-11-01T00:00+01:00"),
    (MONTH, "UTC", "2024-02-29T12:00+00:00", "2024-02-01T00:00+00:00", "2024-03-01T00:00+00:00"),
    (MONTH, "UTC", "2026-12-31T23:00+00:00", "2026-12-01T00:00+00:00", "2027-01-01T00:00+00:00"),
    # Days without a midnight, and days whose last or first hour comes twice.
    (DAY, "America/Santiago", "2026-09-06T01:00-03:00", "2026-09-06T01:00-03:00", "2026-09-07T00:00-03:00"),
    (DAY, "America/Santiago", "2026-09-05T23:59-04:00", "2026-09-05T00:00-04:00", "2026-09-06T01:00-03:00"),
    (DAY, "America/Santiago", "2026-04-04T23:30-04:00", "2026-04-04T00:00-03:00", "2026-04-05T00:00-04:00"),
    (DAY, "Asia/Beirut", "2026-03-29T12:00+03:00", "2026-03-29T01:00+03:00", "2026-03-30T00:00+03:00"),
    (DAY, "America/Havana", "2026-11-01T00:30-05:00", "2026-11-01T00:00-04:00", "2026-11-02T00:00-05:00"),
    (MONTH, "Africa/Cairo", "2026-04-24T01:00+03:00", "2026-04-01T00:00+02:00", "2026-05-01T00:00+03:00"),
    # Offsets of less than an hour.
    (HOUR, "Asia/Kolkata", "2026-05-05T10:29+05:30", "2026-05-05T10:00+05:30", "2026-05-05T11:00+05:30"),
    (DAY, "Asia/Kathmandu", "2026-05-05T00:00+05:45", "2026-05-05T00:00+05:45", "2026-05-06T00:00+05:45"),
    (
        HOUR,
        "Australia/Lord_Howe",
        "2026-04-05T01:40+10:30",
        "2026-04-05T01:30+10:30",
        "2026-04-05T02:00+10:30",
    ),
    (
        HOUR,
        "Australia/Lord_Howe",
        "2026-10-04T02:40+11:00",
        "2026-10-04T02:30+11:00",
        "2026-10-04T03:00+11:00",
    ),
    (
        DAY,
        "Australia/Lord_Howe",
        "2026-04-05T12:00+10:30",
        "2026-04-05T00:00+11:00",
        "2026-04-06T00:00+10:30",
    ),
    # A day may be written the other way round: the 30th of December 2011 was none in Samoa.
    (DAY, "Pacific/Apia", "2011-12-29T12:00-10:00", "2011-12-29T00:00-10:00", "2011-12-31T00:00+14:00"),
]


@pytest.mark.parametrize(("period", "zone", "moment", "start", "end"), CASES)
def test_period_begins_and_ends_by_the_local_clock(
    period: Period, zone: str, moment: str, start: str, end: str
) -> None:
    assert bounds(period, zone, seconds(moment) * 1000) == (seconds(start), seconds(end))


def test_total_has_no_limit() -> None:
    assert bounds(TOTAL, "Europe/Berlin", seconds("2026-05-05T12:00+02:00") * 1000) == (0, 0)


@given(st.sampled_from([HOUR, DAY, MONTH]), _ZONES, _MOMENTS)
def test_periods_follow_each_other_without_gap_or_overlap(period: Period, zone: str, millis: int) -> None:
    start, end = bounds(period, zone, millis)
    assert start * 1000 <= millis < end * 1000
    assert bounds(period, zone, start * 1000) == (start, end)
    assert bounds(period, zone, end * 1000 - 1) == (start, end)
    assert bounds(period, zone, start * 1000 - 1)[1] == start
    assert bounds(period, zone, end * 1000)[0] == end


@given(_ZONES, _MOMENTS)
def test_period_holds_the_local_date_and_no_other(zone: str, millis: int) -> None:
    def local(at: int) -> date:
        return datetime.fromtimestamp(at, ZoneInfo(zone)).date()

    start, end = bounds(DAY, zone, millis)
    assert local(start - 1) < local(start) == local(millis // 1000) == local(end - 1) < local(end)
    start, end = bounds(MONTH, zone, millis)
    assert local(start).day == 1
    assert (local(end) - timedelta(days=1)).month == local(start).month == local(millis // 1000).month


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "", "../etc/passwd", "/etc/localtime", "a\0b"])
def test_unknown_zone_is_an_error(zone: str) -> None:
    with pytest.raises((ZoneInfoNotFoundError, ValueError)):
        bounds(DAY, zone, 1_800_000_000_000)
