from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.domain.local_time import first_second, last_second, read_local, zone_named
from tracker.store.clicks.columns import local_second

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]
LOCALS = st.datetimes(datetime(2009, 1, 1), datetime(2026, 12, 31), allow_imaginary=True).map(
    lambda local: local.replace(microsecond=0)
)


@pytest.mark.parametrize(
    ("text", "is_end", "local"),
    [
        ("2024-07-08 13:40:00", False, datetime(2024, 7, 8, 13, 40)),
        ("2024-07-08T13:40:00", True, datetime(2024, 7, 8, 13, 40)),
        ("2024-07-08", False, datetime(2024, 7, 8)),
        ("2024-07-08", True, datetime(2024, 7, 8, 23, 59, 59)),
        ("2024-02-29", False, datetime(2024, 2, 29)),
    ],
)
def test_local_time_is_read(text: str, is_end: bool, local: datetime) -> None:
    assert read_local(text, is_end=is_end) == local


@pytest.mark.parametrize(
    "text",
    [
        *("", "today", "2024-7-8", "2024-02-30", "2024-07-08 24:00:00", "2024-07-08 13:40", "20240708"),
        *(
            "2024-07-08T13:40:00Z",
            "2024-07-08 13:40:00.5",
            "2024-07-08 13:40:60",
            "0000-01-01",
        ),
        "٢٠٢٤-07-08",
    ],
)
def test_text_that_is_not_a_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is (neither|not a day)"):
        read_local(text, is_end=False)


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "America", "x" * 65]
)
def test_unknown_zone_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="IANA"):
        zone_named(name)


@pytest.mark.parametrize(
    ("zone", "local", "first", "last"),
    [
        # shown twice: the earlier in a from, the later in a to
        ("Europe/Berlin", "2024-10-27 02:30:00", "2024-10-27T00:30:00Z", "2024-10-27T01:30:00Z"),
        ("America/New_York", "2024-11-03 01:00:00", "2024-11-03T05:00:00Z", "2024-11-03T06:00:00Z"),
        # never shown: from the first second after the gap, up to the last one before it
        ("Europe/Berlin", "2024-03-31 02:30:00", "2024-03-31T01:00:00Z", "2024-03-31T00:59:59Z"),
        ("Australia/Lord_Howe", "2024-10-06 02:15:00", "2024-10-05T15:30:00Z", "2024-10-05T15:29:59Z"),
        ("Pacific/Apia", "2011-12-30 12:00:00", "2011-12-30T10:00:00Z", "2011-12-30T09:59:59Z"),
        # an ordinary one
        ("Asia/Kathmandu", "2024-01-01 00:00:00", "2023-12-31T18:15:00Z", "2023-12-31T18:15:00Z"),
    ],
)
def test_clocks_that_change(zone: str, local: str, first: str, last: str) -> None:
    time = datetime.fromisoformat(local)
    assert first_second(time, zone_named(zone)) == datetime.fromisoformat(first).timestamp()
    assert last_second(time, zone_named(zone)) == datetime.fromisoformat(last).timestamp()


@settings(max_examples=300, deadline=None)
@given(local=LOCALS, zone=st.sampled_from(ZONES).map(ZoneInfo))
def test_bounds_are_where_the_clocks_reach_and_leave_a_local_time(local: datetime, zone: ZoneInfo) -> None:
    def shown(second: int) -> datetime:
        return (
            (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second))
            .astimezone(zone)
            .replace(tzinfo=None)
        )

    first, last = first_second(local, zone), last_second(local, zone)
    assert shown(first) >= local
    assert shown(first - 1) < local
    assert shown(last) <= local
    assert shown(last + 1) > local


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_ends_of_the_calendar_have_an_instant(year: str) -> None:
    for zone in ZONES:
        assert isinstance(first_second(read_local(f"{year}-01-01", is_end=False), zone_named(zone)), int)
        assert isinstance(last_second(read_local(f"{year}-12-31", is_end=True), zone_named(zone)), int)


@given(st.integers(0, 2**32), st.sampled_from([*ZONES, "Africa/Monrovia"]))  # 44 minutes 30 behind until 1972
def test_time_is_shown_in_its_zone(second: int, name: str) -> None:
    zone = ZoneInfo(name)
    assert local_second(second + 0.9, zone) == f"{datetime.fromtimestamp(second, zone):%F %T}"
