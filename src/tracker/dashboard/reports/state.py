"""The state of the report page: the parameters of its address, which are those of the API and a few more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime, tzinfo
from typing import Final, NamedTuple
from urllib.parse import urlencode

from tracker.dashboard.form import parameters
from tracker.dashboard.html import ROOT
from tracker.domain.local_time import zone_named
from tracker.domain.periods import PERIODS
from tracker.reading.filters import EXCLUDE
from tracker.store.reports.measures import MEASURES

PATH: Final = f"{ROOT}/reports"
MOST_OPEN: Final = 8
"""Most rows that are open at a time. Each is a report of its own."""

MOST_ROWS: Final = 30
"""Rows of a page, unless its address says how many."""

WITHOUT: Final = "without"
"""Names a filter with an empty value. A form sends empty fields, which filter nothing."""

_OF_PAGE: Final = ("rows", "open", "chart", WITHOUT)
_JOINED: Final = ("group_by", "measures")
_DAYS: Final = ("created_from", "created_to")
_USUAL: Final = (
    *("clicks", "uniques", "invalid", "gross", "conversions_approved", "conversions_pending"),
    *("payout", "revenue", "cr", "epc", "profit"),
)
"""The measures of a page whose address names none. Their order is that of the form, so it moves no column."""

SENT: Final = "form"
"""The field that says that a query comes from the form, which has fields of its own."""
_OF_FORM: Final = (SENT, "was", "add", "how", "value")

_FIRST: Final = ("group_by", "period", *_DAYS, "tz", "date_basis")
_LAST: Final = ("measures", "sort", "limit", "rows", "chart", "open")
_PLACES: Final = {
    **{name: place for place, name in enumerate(_FIRST)},
    **{name: len(_FIRST) + 1 + place for place, name in enumerate(_LAST)},
}
"""The order of parameters in an address. Filters stand between."""

Pair = tuple[str, str]


class State(NamedTuple):
    """What an address asks for."""

    pairs: tuple[Pair, ...]

    def get(self, name: str, default: str = "") -> str:
        """The last value of a parameter."""
        return next((value for given, value in reversed(self.pairs) if given == name), default)

    def all(self, name: str) -> list[str]:
        return [value for given, value in self.pairs if given == name]

    @property
    def groups(self) -> list[str]:
        return self.get("group_by").split(",")

    @property
    def is_flat(self) -> bool:
        """Whether each row is of all groups. Else rows open into the next group."""
        return self.get("rows") == "all" or len(self.groups) == 1

    @property
    def shown_groups(self) -> list[str]:
        """The groups of the rows that are not inside another one."""
        return self.groups if self.is_flat else self.groups[:1]

    def replaced(self, *names: str, **values: str | Sequence[str] | None) -> State:
        """The state with other values of some parameters. `names` and None: without them."""
        left = [pair for pair in self.pairs if pair[0] not in values and pair[0] not in names]
        for name, value in values.items():
            left += [(name, one) for one in ([value] if isinstance(value, str) else value or ())]
        return State(tuple(left))

    def without(self, pair: Pair) -> State:
        return State(tuple(one for one in self.pairs if one != pair))

    @property
    def query(self) -> str:
        return urlencode(self.pairs)

    @property
    def address(self) -> str:
        return f"{PATH}?{self.query}"

    def measures(self, known: Collection[str]) -> list[str]:
        """The measures to show, of those that the session sees."""
        given = self.get("measures")
        if given:
            return given.split(",")
        is_booked = self.get("date_basis") == "booked"
        return [name for name in _USUAL if name in known and (MEASURES[name].is_booked or not is_booked)]

    def asks(self, known: Collection[str], groups: Sequence[str] | None = None) -> list[Pair]:
        """The parameters for the API. `known`: the measures that the session sees."""
        pairs = self.replaced(*_OF_PAGE).pairs
        own = [pair for pair in pairs if pair[0] not in _JOINED]
        limit = [] if self.get("limit") else [("limit", str(MOST_ROWS))]
        return [
            ("group_by", ",".join(self.shown_groups if groups is None else groups)),
            *own,
            *((name, "") for name in self.all(WITHOUT)),
            ("measures", ",".join(self.measures(known))),
            *limit,
        ]

    def zone(self, network_zone: str) -> tzinfo:
        """The zone of the page. That of the network if the address names one that does not exist."""
        try:
            return zone_named(self.get("tz") or network_zone)
        except ValueError:
            return zone_named(network_zone)

    def today(self, network_zone: str) -> date:
        """The present day in the zone of the report."""
        return datetime.now(self.zone(network_zone)).date()

    def dated(self, network_zone: str) -> State:
        """The state with the days of its period, so that all parts of a page are about the same days."""
        days = PERIODS.get(self.get("period"))
        if days is None:
            return self
        first, last = days(self.today(network_zone))
        return self.replaced("period", created_from=first.isoformat(), created_to=last.isoformat())


def state_of(given: Iterable[Pair]) -> State:
    """The state of an address. Its form's fields are read as the parameters that they mean.

    Raises:
        HTTPException: 400. It has too many parameters.
    """
    pairs = parameters(given)
    state = State(tuple(pair for pair in pairs if pair[0] not in _OF_FORM))
    form = State(tuple(pair for pair in pairs if pair[0] in _OF_FORM))
    state = _with_filter(_with_days(_joined(state), form), form)
    if state.get("compare") != "custom":
        state = state.replaced("compare_from", "compare_to")
    return _bounded(state)


def _joined(state: State) -> State:
    """Lists of words as the API has them: a form sends each word for itself."""
    for name in _JOINED:
        words = [word for value in state.all(name) for word in value.split(",") if word]
        state = state.replaced(name, **({name: ",".join(dict.fromkeys(words))} if words else {}))
    return state


def _with_days(state: State, form: State) -> State:
    """Days that were typed count, unless another period was chosen."""
    if not form.get(SENT):
        return state
    has_days = any(state.get(name) for name in _DAYS)
    period = state.get("period")
    if period == "custom" or (has_days and period == form.get("was")):
        return state.replaced("period")
    return state.replaced(*_DAYS)


def _with_filter(state: State, form: State) -> State:
    """The state with the filter that the form adds."""
    name, how, value = form.get("add"), form.get("how"), form.get("value")
    if not name:
        return state
    name = f"{EXCLUDE}{name}" if how in ("not", "some") else name
    if how in ("empty", "some"):
        return state.replaced(**{WITHOUT: [*state.all(WITHOUT), name]})
    return State((*state.pairs, (name, value))) if value else state


def _bounded(state: State) -> State:
    """Every report has groups and days, so that nobody asks for all clicks by accident."""
    if not state.get("group_by"):
        state = State((("group_by", "offer"), *state.pairs))
    if not any(state.get(name) for name in ("period", *_DAYS, "created_at_from", "created_at_to")):
        state = state.replaced(period="last_7_days")
    state = state.replaced(open=list(dict.fromkeys(state.all("open")))[-MOST_OPEN:])
    return State(tuple(sorted(state.pairs, key=lambda pair: _PLACES.get(pair[0], len(_FIRST)))))
