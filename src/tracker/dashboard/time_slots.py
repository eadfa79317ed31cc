"""The hours, days, weeks or months of a chart, as a zone's clocks show them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, Literal, NamedTuple

from tracker.domain.local_time import first_second

Grain = Literal["hour", "day", "week", "month"]

MOST_SLOTS: Final = 400
"""The most times on one axis."""

_MOST_TICKS = 8
_QUARTER = timedelta(minutes=15)  # offsets of zones are multiples of it
_HOURS = (1, 2, 3, 6, 12, 24)  # between the ticks of a day


class Slot(NamedTuple):
    """One time of the axis."""

    start: datetime  # its first instant, in the zone
    key: str  # as reports call it
    name: str  # as tables write it
    tick: str  # as the axis writes it. "" between the ticks


def slots_of(first: date, last: date, grain: Grain, zone: tzinfo) -> list[Slot]:
    """The times from one local day to another, both inclusive. A day of a clock change has 23 or 25 hours.

    Raises:
        ValueError: there are more than MOST_SLOTS.
    """
    starts = []
    for start in _STARTS[grain](first, last, zone):
        starts.append(start)
        if len(starts) > MOST_SLOTS:
            raise ValueError(f"a chart has at most {MOST_SLOTS} times: choose longer ones, such as days")
    has_change = len({start.utcoffset() for start in starts}) > 1
    ticks = _ticks_of_hours(starts) if grain == "hour" else _every_few(starts, _TICKS[grain])
    return [
        Slot(start, _key(start, grain), _name(start, grain, has_change=has_change), tick)
        for start, tick in zip(starts, ticks, strict=True)
    ]


def slot_at(slots: Sequence[Slot], at: datetime) -> int | None:
    """The number of the slot that was begun last at a time. None before the first."""
    found = bisect_right([slot.start for slot in slots], at.astimezone(UTC)) - 1
    return None if found < 0 else found


def _midnight(day: date, zone: tzinfo) -> datetime:
    local = datetime(day.year, day.month, day.day)  # noqa: DTZ001 — local, until the zone is known
    return datetime.fromtimestamp(first_second(local, zone), zone)


def _hours(first: date, last: date, zone: tzinfo) -> Iterator[datetime]:
    at, end = (_midnight(day, zone).astimezone(UTC) for day in (first, last + timedelta(days=1)))
    before = None
    while at < end:
        local = at.astimezone(zone)
        hour = (local.date(), local.hour, local.utcoffset())
        if hour != before:
            yield local
        before = hour
        at += _QUARTER


def _days(first: date, last: date, zone: tzinfo) -> Iterator[datetime]:
    for number in range((last - first).days + 1):
        yield _midnight(first + timedelta(days=number), zone)


def _weeks(first: date, last: date, zone: tzinfo) -> Iterator[datetime]:
    monday = first - timedelta(days=first.weekday())
    for number in range((last - monday).days // 7 + 1):
        yield _midnight(monday + timedelta(weeks=number), zone)


def _months(first: date, last: date, zone: tzinfo) -> Iterator[datetime]:
    for number in range(first.year * 12 + first.month - 1, last.year * 12 + last.month):
        yield _midnight(date(number // 12, number % 12 + 1, 1), zone)


_STARTS: Mapping[Grain, Callable[[date, date, tzinfo], Iterator[datetime]]] = {
    "hour": _hours,
    "day": _days,
    "week": _weeks,
    "month": _months,
}
_TICKS = {"day": "{0.day} {0:%b}", "week": "{0.day} {0:%b}", "month": "{0:%b %Y}"}


def _key(start: datetime, grain: Grain) -> str:
    if grain == "hour":
        return start.replace(minute=0, second=0).isoformat()
    return start.date().isoformat()


def _name(start: datetime, grain: Grain, *, has_change: bool) -> str:
    if grain == "hour":
        hour = f"{start:%Y-%m-%d %H}:00"
        return f"{hour} {start.isoformat()[19:]}" if has_change else hour
    return {"day": "{:%Y-%m-%d}", "week": "week of {:%Y-%m-%d}", "month": "{:%Y-%m}"}[grain].format(start)


def _ticks_of_hours(starts: Sequence[datetime]) -> Iterator[str]:
    """Round hours. An hour that comes twice has one tick."""
    step = next((hours for hours in _HOURS if len(starts) <= hours * _MOST_TICKS), 24)
    days = max(1, -(-len(starts) // (24 * _MOST_TICKS)))
    before = None
    for start in starts:
        is_round = start.hour % step == 0 and (start.toordinal() - starts[0].toordinal()) % days == 0
        is_again = before is not None and (before.day, before.hour) == (start.day, start.hour)
        before = start
        text = f"{start.day} {start:%b}" if start.hour == 0 else f"{start:%H}:00"
        yield text if is_round and not is_again else ""


def _every_few(starts: Sequence[datetime], form: str) -> Iterator[str]:
    step = -(-len(starts) // _MOST_TICKS)
    for number, start in enumerate(starts):
        yield form.format(start) if number % step == 0 else ""
