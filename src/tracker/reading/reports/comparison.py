"""Comparisons: the other span, and how its times meet those of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta, tzinfo

from tracker.domain.local_time import offsets
from tracker.reading.query import span_of
from tracker.store.reports.request import Compared
from tracker.store.reports.sources import Offset, Wanted
from tracker.store.time_span import Span

_SECOND = timedelta(seconds=1)
_EPOCH = date(1970, 1, 1).toordinal()

_Times = tuple[datetime, datetime]
"""The first local second, and the one after the last."""


def _previous(times: _Times) -> _Times:
    """Whole months before whole months, else the same length of time before."""
    start, end = times
    if start == _month_of(start) and end == _month_of(end):
        months = _months(start) - _months(end)
        return _moved(start, months), start
    return start - (end - start), start


def _last_week(times: _Times) -> _Times:
    return times[0] - timedelta(days=7), times[1] - timedelta(days=7)


def _by_months(months: int) -> Callable[[_Times], _Times]:
    def move(times: _Times) -> _Times:
        """31 March is compared with the last day of February. A span up to the end of a month stays one."""
        start, end = times
        moved = _moved(start, months)
        last = _moved(end - _SECOND, months) if end != _month_of(end) else None
        return moved, _moved(end, months) if last is None else last + _SECOND

    return move


OTHERS: Mapping[str, Callable[[_Times], _Times]] = {
    "previous": _previous,
    "last_week": _last_week,
    "last_month": _by_months(-1),
    "last_year": _by_months(-12),
}
"""The spans to compare with that follow from the report's own."""

NUMBERS: Mapping[str, Callable[[datetime], int]] = {
    "month": lambda time: _months(time),
    "week": lambda time: (time.toordinal() - _EPOCH + 3) // 7,
    "day": lambda time: time.toordinal() - _EPOCH,
    "hour": lambda time: (time.toordinal() - _EPOCH) * 24 + time.hour,
}
"""The number of a local time's month, week, day or hour, as in store.reports.groups."""


def _months(time: datetime) -> int:
    return time.year * 12 + time.month - 1


def _month_of(time: datetime) -> datetime:
    return time.replace(day=1, hour=0, minute=0, second=0)


def _moved(time: datetime, months: int) -> datetime:
    """The same day and time of another month, or its last day."""
    year, month = divmod(_months(time) + months, 12)
    first = time.replace(year=year, month=month + 1, day=1)
    return min(first + timedelta(days=time.day - 1), _end_of_month(first))


def _end_of_month(first: datetime) -> datetime:
    return (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def compared(own: Wanted, times: _Times, other: _Times, zone: tzinfo) -> Compared:
    """The comparison of a report of local times with other ones.

    Days, weeks and months meet by their place in the span. With hours, all times meet by the hours since its
    start.
    """
    span = span_of(other[0], other[1] - _SECOND, zone, "compare")
    grouped = [group for group in own.groups if group in NUMBERS]
    within = {group: (NUMBERS[group](times[0]), NUMBERS[group](times[1] - _SECOND)) for group in grouped}
    moved = own._replace(clicks=own.clicks._replace(span=span))
    if "hour" in grouped:
        later = (span.low - own.clicks.span.low) // 1000
        shifted = [Offset(low + later, high + later, seconds) for low, high, seconds in own.offsets]
        return Compared(moved._replace(offsets=shifted, later=later), {}, within)
    shifts = {group: NUMBERS[group](other[0]) - NUMBERS[group](times[0]) for group in grouped}
    return Compared(moved._replace(offsets=offsets_of(span, zone) if grouped else ()), shifts, within)


def offsets_of(span: Span, zone: tzinfo) -> Sequence[Offset]:
    return [Offset(*offset) for offset in offsets(span.low // 1000, -(-span.high // 1000), zone)]


def until_after(start: datetime, end: datetime) -> _Times:
    """Times up to the second after `end`."""
    return start, end + _SECOND
