"""What the address of the overview says: the days, the zone, and the days to compare them with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, tzinfo
from typing import NamedTuple

from tracker.dashboard.asking import RefusedError
from tracker.dashboard.html import Fault
from tracker.dashboard.overview.spans import Span, chosen, named
from tracker.dashboard.time_slots import MOST_SLOTS, Slot, slots_of
from tracker.dashboard.visit import Visit
from tracker.domain.local_time import read_day, zone_named
from tracker.domain.periods import PERIODS

_DEFAULT = "today"
_CHOSEN = ("created_from", "created_to")


class Zone(NamedTuple):
    """A time zone, by its IANA name."""

    name: str
    rules: tzinfo

    def now(self) -> datetime:
        return datetime.now(self.rules)


class State(NamedTuple):
    """What is shown."""

    zone: Zone
    now: datetime  # in the zone
    period: str  # of PERIODS. "" for chosen days
    span: Span
    slots: list[Slot]

    @property
    def parameters(self) -> dict[str, str]:
        """The span as parameters of reports and lists."""
        return {**self.span.parameters, "tz": self.zone.name}

    @property
    def is_cut(self) -> bool:
        """Whether the last day is not over, so that the days before are compared up to the same time."""
        return self.span.last >= self.now.date()

    @property
    def report(self) -> dict[str, str]:
        """The parameters of the report by time, with its comparison."""
        return {"group_by": self.span.grain, **self.parameters, **self.span.comparison}

    def in_utc(self) -> State:
        """The same days by the clocks of UTC. Sums of days are kept by these."""
        span, now = self.span, self.now.astimezone(UTC)
        if self.is_cut:
            before_end = datetime.combine(span.before_end.date(), now.time().replace(microsecond=0))
            span = span._replace(before_end=before_end)
        slots = slots_of(span.first, span.last, span.grain, UTC)
        return self._replace(zone=Zone("UTC", UTC), now=now, span=span, slots=slots)


def zone_of(visit: Visit) -> Zone:
    """The zone that the address names, or the network's.

    Raises:
        RefusedError: there is no such zone.
    """
    name = visit.request.query_params.get("tz") or visit.settings.time_zone
    try:
        return Zone(name, zone_named(name))
    except ValueError as error:
        raise _refused("tz", error) from None


def state_of(visit: Visit) -> State:
    """What the address says.

    Raises:
        RefusedError: it says it wrongly.
    """
    given, zone = visit.request.query_params, zone_of(visit)
    now = zone.now()
    period = "" if any(given.get(name) for name in _CHOSEN) else given.get("period", _DEFAULT)
    days = [] if period else [_day(given.get(name, ""), name) for name in _CHOSEN]
    span = _named(period, now) if period else _chosen(days, now)
    try:
        return State(zone, now, period, span, slots_of(span.first, span.last, span.grain, zone.rules))
    except (ValueError, OverflowError):
        text = f"is more than {MOST_SLOTS} months before the last day, or at the end of the calendar"
        raise _refused("created_from", text) from None


def _named(period: str, now: datetime) -> Span:
    if period not in PERIODS:
        raise _refused("period", f"There is no period {period}. Choose one of: {', '.join(PERIODS)}.")
    return named(period, now)


def _chosen(days: Sequence[date], now: datetime) -> Span:
    first, last = days
    if last < first:
        raise _refused("created_to", "is before the first day")
    try:
        return chosen(first, last, now)
    except ValueError as error:
        raise _refused("created_from", error) from None


def _day(text: str, name: str) -> date:
    try:
        return read_day(text, is_end=name == "created_to").date()
    except ValueError as error:
        raise _refused(name, error) from None


def _refused(field: str, why: object) -> RefusedError:
    return RefusedError(Fault(422, str(why), field))
