"""The rows of a report's page: their names, their cells with links to lists, and the rows that are open."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

from markupsafe import Markup

from tracker.dashboard.charts import strips
from tracker.dashboard.form import number_or_text
from tracker.dashboard.reports.cell_links import CellLinks
from tracker.dashboard.reports.state import MOST_OPEN, PATH, State
from tracker.dashboard.reports.values import Value, values_of
from tracker.domain.model import Reason
from tracker.reading.reports.query import FIELDS
from tracker.store.reports.groups import DIMENSIONS, TIMES

_CHILDREN: Final = 31
"""Rows inside an open row."""

_PAGES: Final = {
    "offer": "offers",
    "requested_offer": "offers",
    "affiliate": "affiliates",
    "advertiser": "advertisers",
}

Json = Mapping[str, Any]


class Name(NamedTuple):
    """The name of a row's group."""

    text: str
    id: str = ""  # beside a name
    address: str = ""  # of its own page
    only: str = ""  # the report of this value alone


class Cell(NamedTuple):
    """The lines of a measure, and the list behind it."""

    values: list[Value]
    address: str


class Line(NamedTuple):
    """One row of the table."""

    names: list[Name]
    cells: list[Cell]
    key: str = ""  # names the row in `open`
    level: int = 0
    toggle: str = ""  # the address that opens or closes it
    is_open: bool = False
    kind: str = ""  # other or total
    bar: Markup = Markup("")


class Way(NamedTuple):
    """A row as its groups and their values, from the outermost."""

    groups: tuple[tuple[str, object], ...] = ()

    @property
    def key(self) -> str:
        return urlencode([(group, "" if value is None else str(value)) for group, value in self.groups])

    @property
    def parent(self) -> Way:
        return Way(self.groups[:-1])


def ways_of(state: State) -> list[Way]:
    """The rows that the state wants open, the outer ones first. Keys of other groups are left out."""
    found = []
    for text in state.all("open")[:MOST_OPEN]:
        pairs = parse_qsl(text, keep_blank_values=True)
        if (
            pairs
            and [group for group, _ in pairs] == state.groups[: len(pairs)]
            and len(pairs) < len(state.groups)
        ):
            found.append(Way(tuple((group, _read(group, value)) for group, value in pairs)))
    return sorted(dict.fromkeys(found), key=lambda way: len(way.groups))


def _read(group: str, text: str) -> object:
    is_number = group in DIMENSIONS and DIMENSIONS[group].kind is int
    return number_or_text(text) if is_number and text else text or None


def asks_inside(
    way: Way, state: State, links: CellLinks, known: Sequence[str]
) -> list[tuple[str, str]] | None:
    """The parameters of the report inside a row: the row's own clicks, by the next group.

    None: no filter tells the row.
    """
    cell = links.cell(dict(way.groups), "gross")
    if cell is None or cell.noun != "clicks":
        return None
    rows = [pair for pair in cell.parameters if pair[0] != "is_test"]
    group = state.groups[len(way.groups)]
    kept = {"date_basis", "min_clicks", "with_conversions"}
    if group not in TIMES:  # which follow each other
        kept.add("sort")
    if TIMES.keys().isdisjoint(outer for outer, _ in way.groups):
        kept |= {"compare", "compare_from", "compare_to"}
    own = [(name, value) for name, value in state.pairs if name in kept and not _sorts_by_group(name, value)]
    zone = [] if any(name == "tz" for name, _ in rows) else [("tz", one) for one in state.all("tz")]
    return [
        ("group_by", group),
        *rows,
        *own,
        *zone,
        ("measures", ",".join(state.measures(known))),
        ("limit", str(_CHILDREN)),
    ]


def _sorts_by_group(name: str, value: str) -> bool:
    return name == "sort" and value.removeprefix("-") in FIELDS


class Lines:
    """Makes the lines of a report.

    `links`: None if nothing is behind its cells. `linked`: the lists of the catalogue that the session opens.
    `filters`: the parameters that a row may be told by.
    """

    def __init__(
        self,
        state: State,
        links: CellLinks | None,
        measures: Sequence[str],
        inside: Mapping[Way, Json],
        linked: Iterable[str],
        filters: Iterable[str] = (),
    ) -> None:
        self._state = state
        self._links = links
        self._measures = measures
        self._inside = inside
        self._linked = frozenset(linked)
        self._filters = frozenset(filters)

    def of(self, body: Json) -> list[Line]:
        """The rows with the open ones inside them, and what is in no row."""
        groups = self._state.shown_groups
        return [*self._rows(body, groups, Way()), *self._other(body, len(groups), 0)]

    def with_bars(self, body: Json, measure: str) -> list[Line]:
        """The same. The outer rows have bars of a count."""
        bars = iter(strips([row[measure] or 0 for row in body["data"]]))
        return [
            line._replace(bar=next(bars)) if not (line.level or line.kind) else line for line in self.of(body)
        ]

    def total(self, body: Json) -> Line:
        names = [Name("Total"), *([Name("")] * (len(self._state.shown_groups) - 1))]
        return Line(names, self._cells(body["totals"], {}), kind="total")

    def _rows(self, body: Json, groups: Sequence[str], outer: Way) -> Iterable[Line]:
        for row in body["data"]:
            own = tuple((group, row[FIELDS[group]]) for group in groups)
            way = Way((*outer.groups, *own))
            names = [self._name(group, row) for group in groups]
            yield self._line(way, names, row, len(outer.groups))
            if way in self._inside:
                inside = self._inside[way]
                level = len(way.groups)
                yield from self._rows(inside, [self._state.groups[level]], way)
                yield from self._other(inside, 1, level)

    def _line(self, way: Way, names: list[Name], row: Json, level: int) -> Line:
        cells = self._cells(row, dict(way.groups))
        is_last = len(way.groups) == len(self._state.groups)
        if is_last or not self._links or self._links.cell(dict(way.groups), "gross") is None:
            return Line(names, cells, way.key, level)
        opened, key = self._state.all("open"), way.key
        is_open = way in self._inside
        rest = [one for one in opened if one != key and not one.startswith(f"{key}&")]
        toggled = rest if is_open else [*opened, key][-MOST_OPEN:]
        address = self._state.replaced(open=toggled).address
        return Line(names, cells, key, level, address.removeprefix(PATH), is_open)

    def _cells(self, row: Json, groups: Mapping[str, object]) -> list[Cell]:
        return [Cell(values_of(name, row), self._address(groups, name, row)) for name in self._measures]

    def _address(self, groups: Mapping[str, object], measure: str, row: Json) -> str:
        """The list behind a cell. Nothing is behind a cell without a value."""
        cell = self._links.cell(groups, measure) if self._links and row[measure] else None
        return cell.address.rpartition("/")[2] if cell else ""

    def _other(self, body: Json, columns: int, level: int) -> list[Line]:
        row = body["other"]
        if row is None:
            return []
        names = [Name("Other rows"), *([Name("")] * (columns - 1))]
        cells = [Cell(values_of(name, row), "") for name in self._measures]
        return [Line(names, cells, level=level, kind="other")]

    def _name(self, group: str, row: Json) -> Name:
        value = row[FIELDS[group]]
        if group in _LABELS:
            return Name(_LABELS[group](value), only=self._only(group, value))
        if value is None or value == "":
            return Name("(none)")
        page = _PAGES.get(group, "")
        address = f"{page}/{value}" if page and page in self._linked else ""
        name = row.get(DIMENSIONS[group].name) if DIMENSIONS[group].name else None
        text, id_ = (str(name), str(value)) if name else (str(value), "")
        return Name(text, id_, address, self._only(group, value))

    def _only(self, group: str, value: object) -> str:
        """The address of the same report with a filter by a value. "" if there is no such filter."""
        name = FIELDS[group]
        if name not in self._filters or (name, str(value)) in self._state.pairs:
            return ""
        rest = self._state.replaced(name, "open").pairs
        return State((*rest, (name, str(value)))).address.removeprefix(PATH)


def _day(text: str) -> str:
    return f"{text} {date.fromisoformat(text):%a}"


def _hour(text: str) -> str:
    hour = datetime.fromisoformat(text)
    return f"{hour:%Y-%m-%d %H:%M} {text[19:]}"


def _reason(code: int) -> str:
    known = {one.value: one.name.replace("_", " ").lower() for one in Reason}
    return f"{code} {known[code]}" if code in known else str(code)


_LABELS: Final[Mapping[str, Callable[[Any], str]]] = {
    "hour": _hour,
    "day": _day,
    "week": lambda text: f"week of {text}",
    "month": lambda text: text[:7],
    "reason": _reason,
}
