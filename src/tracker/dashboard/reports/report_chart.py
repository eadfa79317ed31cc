"""The chart of a report by time: one measure over the whole span, and over the one it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from decimal import Decimal
from typing import Any, Final, cast
from urllib.parse import urlencode

from tracker.dashboard import words
from tracker.dashboard.asking import ask
from tracker.dashboard.charts import Chart, Line, time_series
from tracker.dashboard.reports.state import State
from tracker.dashboard.time_slots import MOST_SLOTS, Grain, Slot, slots_of
from tracker.dashboard.visit import Visit
from tracker.domain.local_time import read_local
from tracker.store.reports.groups import TIMES
from tracker.store.reports.measures import MEASURES

_USUAL: Final = "clicks"


async def of(visit: Visit, state: State, known: Sequence[str]) -> Chart | None:
    """The chart of a report whose first group is a time. None: it has no chart."""
    group, (name, currency) = state.groups[0], _measure(state.get("chart"), known)
    slots = _slots(state, group, state.zone(visit.settings.time_zone))
    if not slots:
        return None
    kept = state.replaced("sort", "min_clicks", "with_conversions", limit=str(MOST_SLOTS + 1))
    query = kept.replaced(measures=name).asks([name], [group])
    body = (await ask(visit, "/reports", urlencode(query))).body
    rows = {row[group]: row for row in body["data"]}
    line = Line(words.MEASURES[name], [_value(rows.get(slot.key), name, currency) for slot in slots])
    if state.get("compare"):
        before = [_value((rows.get(slot.key) or {}).get("compared"), name, currency) for slot in slots]
        line = line._replace(before=before)
    title = f"{words.MEASURES[name]} by {words.GROUPS[group].lower()}"
    return time_series(title, slots, [line], unit=currency)


def _measure(chart: str, known: Sequence[str]) -> tuple[str, str]:
    """The measure of the chart, and its currency."""
    name, _, currency = chart.rpartition("_")
    if chart in known and not MEASURES[chart].is_money:
        return chart, ""
    if name in known and MEASURES[name].is_money:
        return name, currency
    return _USUAL, ""


def _slots(state: State, group: str, zone: tzinfo) -> list[Slot]:
    """The times of the chart. None if there are too many, or if the span has no end."""
    if group not in TIMES:
        return []
    try:
        first, last = (
            read_local(state.get(name), is_end=False).date() for name in ("created_from", "created_to")
        )
        return slots_of(first, last, cast(Grain, group), zone)
    except ValueError:
        return []


def _value(row: Mapping[str, Any] | None, name: str, currency: str) -> Decimal | int | None:
    """A value of the chart. A count without a row is 0, and a ratio without one is a gap."""
    measure = MEASURES[name]
    if row is None:
        return None if measure.per or measure.is_timed else 0
    value = row[name].get(currency) if measure.is_money else row[name]
    if value is None:
        return None if measure.per or measure.is_timed else 0
    return value if isinstance(value, int) else Decimal(value)
