"""The address of a list's page: its filters, its columns, and the ways through the list."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

from tracker.dashboard.form import parameters
from tracker.dashboard.reports.cell_links import WITHOUT
from tracker.dashboard.trail import read_trail
from tracker.dashboard.visit import Visit
from tracker.domain import periods
from tracker.domain.local_time import zone_named

PER_PAGE: Final = 50
"""Rows of a page."""

Pair = tuple[str, str]
_TIMES: Final = frozenset({"created_from", "created_to"})
_OF_PAGE: Final = frozenset({WITHOUT, "period", "columns", "done", "times", "trail"})
_OF_PART: Final = frozenset({"page", "cursor", "trail", "done"})
_OF_ORDER: Final = frozenset({"sort", "per_page"})
_NO_FILTERS: Final = (_OF_PAGE | _OF_PART | _OF_ORDER) - {WITHOUT, "period"}


class ListState(NamedTuple):
    """What an address asks of a list. A form's empty field asks for nothing."""

    path: str
    pairs: tuple[Pair, ...]
    network_zone: str

    @classmethod
    def of(cls, visit: Visit, usual_period: str, query: str | None = None) -> ListState:
        """The state of a visit's address, or of a query. A bare address means the usual period.

        A period goes before times of one's own.

        Raises:
            HTTPException: 400. It has too many parameters.
        """
        given = visit.request.query_params.multi_items() if query is None else parse_qsl(query)
        pairs = parameters(given)
        if any(name == "period" for name, _ in pairs):
            pairs = [pair for pair in pairs if pair[0] not in _TIMES]
        is_bare = all(name in _NO_FILTERS for name, _ in pairs)
        if is_bare and query is None:
            pairs.append(("period", usual_period))
        return cls(visit.path, tuple(pairs), visit.settings.time_zone)

    def get(self, name: str, default: str = "") -> str:
        """The value of a parameter: several ones with commas between."""
        return ",".join(self.all(name)) or default

    def all(self, name: str) -> list[str]:
        return [value for given, value in self.pairs if given == name]

    @property
    def is_filtered(self) -> bool:
        """Whether more than a period is asked for."""
        return any(name not in _NO_FILTERS | {"period"} for name, _ in self.pairs)

    @property
    def filters(self) -> str:
        """The filters, as a query of the endpoint."""
        return urlencode(self._filters())

    @property
    def query(self) -> str:
        """All that the endpoint of the list is asked."""
        further = (_OF_ORDER | _OF_PART) - _OF_PAGE
        order = [(name, value) for name, value in self.pairs if name in further]
        size = [] if self.get("per_page") else [("per_page", str(PER_PAGE))]
        return urlencode([*self._filters(), *order, *size])

    def _filters(self) -> list[Pair]:
        others = _OF_PAGE | _OF_ORDER | _OF_PART
        own = [pair for pair in self.pairs if pair[0] not in others]
        return [*own, *((name, "") for name in self.all(WITHOUT)), *self.days()]

    def days(self) -> list[Pair]:
        """The first and last day of the period. A wrong time zone is left to the endpoint, which names it."""
        days = periods.PERIODS.get(self.get("period"))
        try:
            zone = zone_named(self.get("tz", self.network_zone))
        except ValueError:
            days = None
        if days is None:
            return []
        first, last = days(datetime.now(zone).date())
        return [("created_from", first.isoformat()), ("created_to", last.isoformat())]

    def address(self, *left_out: str, **replaced: object) -> str:
        """The address of the same list with other parameters. A new filter begins at the first page."""
        gone = {*left_out, *replaced, *_OF_PART}
        pairs = [pair for pair in self.pairs if pair[0] not in gone]
        pairs += [(name, str(value)) for name, value in replaced.items() if value != ""]
        return f"{self.path}?{urlencode(pairs)}" if pairs else self.path

    def besides(self, fields: Collection[str]) -> list[tuple[Pair, str]]:
        """The filters that no field of the page shows, each with the address without it."""
        shown = {*fields, *_OF_ORDER, *_OF_PART, "columns", "period", "times"}
        return [(pair, self._less(pair)) for pair in self.pairs if pair[0] not in shown]

    def _less(self, pair: Pair) -> str:
        pairs = [one for one in self.pairs if one != pair and one[0] not in _OF_PART]
        return f"{self.path}?{urlencode(pairs)}" if pairs else self.path

    def ways(self, next_cursor: str | None) -> tuple[str, str]:
        """The addresses of the page before and of the next one. "" without one."""
        trail = read_trail(dict(self.pairs))
        back = trail.back
        before = "" if back is None else self.address(**back)
        return before, self.address(**trail.after(next_cursor)) if next_cursor else ""


def chosen(state: ListState, known: Sequence[str], usual: Iterable[str]) -> list[str]:
    """The columns to show: the usual ones first, then those of the list's order."""
    ordered = dict.fromkeys([*(name for name in usual if name in known), *known])
    wanted = {*(state.all("columns") or usual)}
    return [name for name in ordered if name in wanted]
