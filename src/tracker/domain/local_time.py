"""Local times of filters as instants: the second at which a range begins or ends, despite clock changes."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tracker.domain.normalise import trim

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 — local times are naive until their zone is known
_SECOND = timedelta(seconds=1)
_DAY_SECONDS = 86_400
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}")
_ZONE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}")
_LONGEST_ZONE_NAME = 64


def zone_named(name: str) -> tzinfo:
    """The IANA time zone with a name.

    Raises:
        ValueError: there is no such zone.
    """
    if name == "UTC":
        return UTC
    if len(name) <= _LONGEST_ZONE_NAME and _ZONE_NAME.fullmatch(name):
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a directory, as "America"
            pass
    raise ValueError("is not the name of an IANA time zone, such as Europe/Berlin")


def read_local(text: str, *, is_end: bool) -> datetime:
    """A local time as filters write it. A date alone is its first second, or its last one if `is_end`.

    Raises:
        ValueError: neither YYYY-MM-DD nor YYYY-MM-DD HH:MM:SS (or with T between), or the day or time does
            not exist.
    """
    text = trim(text)
    if not (_DATE.fullmatch(text) or _DATE_TIME.fullmatch(text)):
        raise ValueError("is neither YYYY-MM-DD nor YYYY-MM-DD HH:MM:SS")
    try:
        local = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError("is not a day or time of the calendar") from error
    is_whole_day = len(text) == len("YYYY-MM-DD")
    return local.replace(hour=23, minute=59, second=59) if is_end and is_whole_day else local


def read_day(text: str, *, is_end: bool) -> datetime:
    """A whole day as statements write it, as its first second, or its last one if `is_end`. Also a month.

    Raises:
        ValueError: neither YYYY-MM-DD nor YYYY-MM, or the day does not exist.
    """
    text = trim(text)
    if _MONTH.fullmatch(text):
        first = read_local(f"{text}-01", is_end=False)
        days = monthrange(first.year, first.month)[1]
        return read_local(f"{text}-{days:02}", is_end=True) if is_end else first
    if not _DATE.fullmatch(text):
        raise ValueError("is neither a day, YYYY-MM-DD, nor a month, YYYY-MM")
    return read_local(text, is_end=is_end)


def in_zone(moment: datetime, zone: tzinfo) -> datetime:
    """A moment in a zone. In UTC, if it is in the year 10000 there."""
    try:
        return moment.astimezone(zone)
    except OverflowError:
        return moment.astimezone(UTC)


def first_second(local: datetime, zone: tzinfo) -> int:
    """The first Unix second at which the zone's clocks show a local time or skip it."""
    early, late = _candidates(local, zone)
    return _after_gap(early, late, zone) if early > late else early


def last_second(local: datetime, zone: tzinfo) -> int:
    """The last Unix second at which the zone's clocks show a local time or are about to skip it."""
    early, late = _candidates(local, zone)
    return _after_gap(early, late, zone) - 1 if early > late else late


def offsets(low: int, high: int, zone: tzinfo) -> list[tuple[int, int, int]]:
    """The zone's offsets between two Unix seconds, in order: (from, up to, seconds ahead of UTC)."""
    periods = []
    start = low
    for day in range(low, high, _DAY_SECONDS):
        end = min(day + _DAY_SECONDS, high - 1)
        if _offset_at(end, zone) != _offset_at(start, zone):
            change = _after_gap(end, day, zone)
            periods.append((start, change, _seconds_ahead(start, zone)))
            start = change
    return [*periods, (start, max(high, start), _seconds_ahead(start, zone))]


def _seconds_ahead(instant: int, zone: tzinfo) -> int:
    return (_offset_at(instant, zone) or timedelta()) // _SECOND


def _candidates(local: datetime, zone: tzinfo) -> tuple[int, int]:
    """The instants of a local time with the offsets before and after a clock change (PEP 495).

    They are equal without a clock change, and in the wrong order if the clocks skip the local time.
    """
    return _instant(local, zone, 0), _instant(local, zone, 1)


def _instant(local: datetime, zone: tzinfo, fold: int) -> int:
    offset = zone.utcoffset(local.replace(tzinfo=zone, fold=fold)) or timedelta()
    return (local - _EPOCH - offset) // _SECOND


def _after_gap(late: int, early: int, zone: tzinfo) -> int:
    """The instant in (early, late] at which the clocks show their new offset."""
    before = _offset_at(early, zone)
    while late - early > 1:
        middle = (early + late) // 2
        if _offset_at(middle, zone) == before:
            early = middle
        else:
            late = middle
    return late


def _offset_at(instant: int, zone: tzinfo) -> timedelta | None:
    return (_EPOCH.replace(tzinfo=UTC) + timedelta(seconds=instant)).astimezone(zone).utcoffset()
