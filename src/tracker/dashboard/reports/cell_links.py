"""The lists behind the cells of a report: the same filters, the row's groups, and what the measure counts.

Each list shows exactly the rows that a cell counts, so its total is the cell. An amount leads to the
conversions that it adds up. A cell that no list can show has no link.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Literal, NamedTuple
from urllib.parse import urlencode

from tracker.dashboard.html import ROOT
from tracker.domain import normalise
from tracker.domain.local_time import first_second, last_second, read_local, zone_named
from tracker.domain.periods import PERIODS
from tracker.reading.clicks import FilterQuery, ListQuery
from tracker.reading.conversions import ConversionListQuery
from tracker.reading.filters import EXCLUDE
from tracker.reading.reports.query import FIELDS
from tracker.store.reports.groups import DIMENSIONS, TIMES

_Parameters = Mapping[str, Sequence[str]]


class Cell(NamedTuple):
    """The list behind a cell."""

    noun: Literal["clicks", "conversions"]
    parameters: tuple[tuple[str, str], ...]  # of the list's endpoint, and of its page
    is_count: bool  # the cell is the list's total. Else it is an amount or a time of the list's rows

    @property
    def address(self) -> str:
        """The page of the list. A form's empty field asks for nothing, so it has another word for blanks."""
        told = [(name, value) if value else (WITHOUT, name) for name, value in self.parameters]
        return f"{ROOT}/{self.noun}?{urlencode(told)}"


WITHOUT: Final = "without"
"""The parameter of a list's page that names a filter with an empty value: rows without one."""

_ACCEPTED: Final = {"status": "accepted", "is_bot": "false"}
_OF_CLICKS: Final[Mapping[str, Mapping[str, str]]] = {
    "gross": {},
    "clicks": _ACCEPTED,
    "uniques": {**_ACCEPTED, "is_unique": "true"},
    "duplicates": {**_ACCEPTED, "is_unique": "false"},
    "invalid": {"is_invalid": "true"},
}
"""What a measure counts of clicks."""

_APPROVED: Final = {"status": "approved"}
_OPEN: Final = {"status": "pending,hold"}
_OF_CONVERSIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "conversions_approved": _APPROVED,
    "conversions_pending": {"status": "pending"},
    "conversions_hold": {"status": "hold"},
    "conversions_rejected": {"status": "rejected"},
    "conversions_over_cap": {"is_over_cap": "true"},
    "payout": _APPROVED,
    "revenue": _APPROVED,
    "profit": _APPROVED,
    "pending_payout": _OPEN,
    "pending_revenue": _OPEN,
    "time_to_conversion": {},
}
"""What a measure counts, or adds up, of conversions."""

_NO_TEST: Final = {"is_test": "false"}
_TIMES_OF: Final = ("created_from", "created_to", "created_at_from", "created_at_to")
_RENAMED: Final = {"id": "click_id", "hash": "click_hash"}
_OF_CONVERSION_ALONE: Final = ("goal", "sale_status")
_READERS: Final[Mapping[str, Callable[[str], str]]] = {
    "device_os": normalise.system,
    "browser": normalise.browser,
    "device_type": normalise.device_type,
    "country_code": normalise.country,
}
"""Filters that read a text as another. Imported rows may have such texts, which no filter finds."""


class CellLinks:
    """The links of the cells of one report.

    `asked`: the parameters of the report. Those that are no filters are ignored.

    Raises:
        ValueError: a parameter of time cannot be read.
        KeyError: there is no such period.
    """

    def __init__(self, asked: Iterable[tuple[str, str]], network_zone: str) -> None:
        given: dict[str, list[str]] = {}
        for name, value in asked:
            given.setdefault(name, []).append(value)
        self._basis = given.get("date_basis", ["click"])[0]
        self._zone = zone_named(given.get("tz", [network_zone])[0])
        self._span = _span_of(given, self._zone)
        known = FilterQuery.model_fields.keys() - {*_TIMES_OF}
        self._filters = {name: values for name, values in given.items() if name in known}

    def cell(self, groups: Mapping[str, object], measure: str) -> Cell | None:
        """The list behind a cell, or None if no list shows exactly its rows, or if it has none for sure.

        `groups`: the groups of the row, and their values as the report's JSON has them. The totals have none.
        """
        time = self._time_of(groups)
        if time is None:
            return None
        if measure in _OF_CLICKS:
            return self._clicks(groups, _OF_CLICKS[measure], time)
        if measure in _OF_CONVERSIONS and self._basis != "booked":
            is_count = measure.startswith("conversions_")
            return self._conversions(groups, _OF_CONVERSIONS[measure], time, is_count=is_count)
        return None

    def _clicks(
        self, groups: Mapping[str, object], counted: Mapping[str, str], time: _Parameters
    ) -> Cell | None:
        if any(groups.get(name) for name in _OF_CONVERSION_ALONE):
            return None  # no click has these
        own = {name: value for name, value in groups.items() if name not in _OF_CONVERSION_ALONE}
        grouped = _grouped(own, ListQuery.model_fields)
        if grouped is None:
            return None
        found = _all_of({**self._filters, **grouped}, {**counted, **_NO_TEST})
        return None if found is None else Cell("clicks", _pairs({**found, **time}), is_count=True)

    def _conversions(
        self, groups: Mapping[str, object], counted: Mapping[str, str], time: _Parameters, *, is_count: bool
    ) -> Cell | None:
        grouped = _grouped(groups, ConversionListQuery.model_fields, clashing={"status"})
        filters = _of_conversions(self._filters)
        if grouped is None or filters is None:
            return None
        found = _all_of({**filters, **grouped}, {**counted, **_NO_TEST})
        if found is None:
            return None
        basis = {"date_basis": [self._basis]}
        return Cell("conversions", _pairs({**found, **basis, **time}), is_count=is_count)

    def _time_of(self, groups: Mapping[str, object]) -> _Parameters | None:
        """The parameters of the time that a row is of. None: there is no such time."""
        span, zone = self._span, self._zone
        for group in TIMES.keys() & groups.keys():
            label = str(groups[group])
            if group == "hour" and _is_twofold(label, zone):
                return _in_utc(label, span, zone)
            span = span.within(_PERIODS[group](label))
        return span.parameters


class _Span(NamedTuple):
    """Local times, inclusive."""

    start: datetime | None
    end: datetime | None

    def within(self, other: _Span) -> _Span:
        starts = [one for one in (self.start, other.start) if one]
        ends = [one for one in (self.end, other.end) if one]
        return _Span(max(starts, default=None), min(ends, default=None))

    @property
    def parameters(self) -> _Parameters | None:
        if self.start and self.end and self.start > self.end:
            return None
        texts = {
            "created_from": _text(self.start, "00:00:00"),
            "created_to": _text(self.end, "23:59:59"),
        }
        return {name: [text] for name, text in texts.items() if text}


def _text(time: datetime | None, of_day: str) -> str:
    """A local time as a parameter. The first or last second of a day is told by the day."""
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S}".removesuffix(f" {of_day}")


def _span_of(given: _Parameters, zone: tzinfo) -> _Span:
    """The span of the report: the days of its period, or its times."""
    if "period" in given:
        first, last = PERIODS[given["period"][0]](datetime.now(zone).date())
        return _days(first.isoformat(), (last - first).days + 1)
    start, end = (_time(given, edge) for edge in ("from", "to"))
    return _Span(start, end)


def _time(given: _Parameters, edge: str) -> datetime | None:
    """A time of the report by either of its names."""
    for name in (f"created_{edge}", f"created_at_{edge}"):
        if name in given:
            return read_local(given[name][0], is_end=edge == "to")
    return None


_SECOND: Final = timedelta(seconds=1)


def _days(label: str, number: int) -> _Span:
    start = datetime.fromisoformat(label)
    return _Span(start, start + timedelta(days=number) - _SECOND)


def _month(label: str) -> _Span:
    start = datetime.fromisoformat(label)
    after = (start + timedelta(days=31)).replace(day=1)
    return _Span(start, after - _SECOND)


def _hour(label: str) -> _Span:
    start = datetime.fromisoformat(label).replace(tzinfo=None)
    return _Span(start, start + timedelta(hours=1) - _SECOND)


_PERIODS: Final[Mapping[str, Callable[[str], _Span]]] = {
    "month": _month,
    "week": lambda label: _days(label, 7),
    "day": lambda label: _days(label, 1),
    "hour": _hour,
}


def _is_twofold(label: str, zone: tzinfo) -> bool:
    """Whether the clocks show some of an hour twice, or skip some of it."""
    start = datetime.fromisoformat(label).replace(tzinfo=zone)
    return any(
        minute.utcoffset() != minute.replace(fold=1).utcoffset()
        for minute in (start + timedelta(minutes=number) for number in range(60))
    )


def _in_utc(label: str, span: _Span, zone: tzinfo) -> _Parameters | None:
    """An hour with one of its two offsets. Only UTC can tell it."""
    start = datetime.fromisoformat(label)
    minutes = [start.astimezone(UTC) + timedelta(minutes=number) for number in range(60)]
    own = [minute for minute in minutes if minute.astimezone(zone).utcoffset() == start.utcoffset()]
    first = [] if span.start is None else [first_second(span.start, zone)]
    last = [] if span.end is None else [last_second(span.end, zone)]
    low = max(int(own[0].timestamp()), *first, 0)
    high = min(int(own[-1].timestamp()) + 59, *last, 2**62)
    if low > high:
        return None
    times = (datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S") for second in (low, high))
    return {"tz": ["UTC"], **{name: [time] for name, time in zip(_TIMES_OF, times, strict=False)}}


def _grouped(
    groups: Mapping[str, object], known: Iterable[str], clashing: Iterable[str] = ()
) -> dict[str, Sequence[str]] | None:
    """The parameters of the groups that are no times. None: a group or its value has no parameter."""
    found: dict[str, Sequence[str]] = {}
    for group, value in groups.items():
        if group in TIMES:
            continue
        name = FIELDS[group]
        if name not in known or name in clashing or not _is_findable(group, name, value):
            return None
        found[name] = ["" if value is None else str(value)]
    return found


def _is_findable(group: str, name: str, value: object) -> bool:
    """Whether a filter finds exactly the rows with a value."""
    if value is None or value == "":
        return DIMENSIONS[group].kind is str
    try:
        return name not in _READERS or _READERS[name](str(value)) == value
    except ValueError:
        return False


def _of_conversions(filters: _Parameters) -> dict[str, Sequence[str]] | None:
    """The filters of clicks as those of their conversions. None: one has no like, or excludes all of them."""
    found: dict[str, Sequence[str]] = {}
    for name, values in filters.items():
        column = name.removeprefix(EXCLUDE)
        if column == "has_conversions":
            if normalise.word(values[-1]) in ("false", "0"):
                return None
            continue
        renamed = name.replace(column, _RENAMED.get(column, column))
        if column == "status" or renamed not in ConversionListQuery.model_fields:
            return None
        found[renamed] = values
    return found


def _all_of(filters: _Parameters, counted: Mapping[str, str]) -> dict[str, Sequence[str]] | None:
    """The filters, and what is counted. None: both cannot be true of a row."""
    found = dict(filters)
    for name, value in counted.items():
        given = {normalise.word(part) for text in found.get(name, ()) for part in text.split(",")}
        is_same = not given or given & {value, {"true": "1", "false": "0"}.get(value, value)}
        if not is_same:
            return None
        found[name] = [value]
    return found


def _pairs(parameters: _Parameters) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, values in parameters.items() for value in values)
