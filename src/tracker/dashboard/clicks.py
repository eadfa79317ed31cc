"""The page of clicks: filters, columns, pages both ways, and files of what is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from starlette.responses import Response

from tracker.api.partner_access.schema import CLICKS as SEEN_BY_PARTNERS
from tracker.dashboard.asking import ask, download
from tracker.dashboard.cell_links import WITHOUT
from tracker.dashboard.click_words import COLUMNS, FILTERS, PERIODS
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import Page
from tracker.dashboard.trail import read_trail
from tracker.dashboard.visit import Visit
from tracker.domain import periods, reasons
from tracker.domain.local_time import zone_named
from tracker.people.seeing import token_of
from tracker.reading.clicks import ListQuery
from tracker.reading.filters import EXCLUDE
from tracker.store.clicks.columns import KEYS

PATH: Final = f"{ROOT}/clicks"
EXPORT: Final = f"{PATH}/export"

ACCESS: Final = Access(scopes=("clicks:read",))
_PER_PAGE: Final = ("25", "50", "100")
_FORMATS: Final = {"csv": "CSV", "excel": "Excel", "ndjson": "NDJSON"}
_SHOWN_FIRST: Final = (
    *("offer_name", "affiliate_name", "status", "country_code", "device_type", "browser", "aff_sub"),
    *("is_unique", "is_bot", "has_conversions", "reason"),
)
_MAIN: Final = ("offer_id", "affiliate_id", "country_code", "status", "aff_sub", "has_conversions")
_TIMES: Final = ("created_from", "created_to", "created_at_from", "created_at_to")
_OF_PAGE: Final = ("period", "columns", WITHOUT, "trail", "format")
_PAGES_OF: Final = {"offer": "offers", "affiliate": "affiliates", "advertiser": "advertisers"}

Pairs = Sequence[tuple[str, str]]


class State(NamedTuple):
    """What the address of the page says."""

    pairs: Pairs

    def all(self, name: str) -> list[str]:
        return [value for given, value in self.pairs if given == name]

    def get(self, name: str, default: str = "") -> str:
        return next(reversed(self.all(name)), default)

    def address(self, path: str = PATH, **changes: str | None) -> str:
        """An address with some parameters changed. None: without one. The place in the list is left out."""
        gone = {"cursor", "trail", "page", *changes}
        kept = [pair for pair in self.pairs if pair[0] not in gone]
        new = [(name, value) for name, value in changes.items() if value]
        return f"{path}?{urlencode([*kept, *new])}"

    def without(self, name: str, value: str) -> str:
        """The address without one value of a filter."""
        left = State([pair for pair in self.pairs if pair != (name, value)])
        return left.address()

    @property
    def columns(self) -> list[str]:
        return [column for text in self.all("columns") for column in text.split(",")]

    def query(self, network_zone: str) -> list[tuple[str, str]]:
        """The parameters of the API's list."""
        asked = [pair for pair in self.pairs if pair[0] not in _OF_PAGE]
        blank = [(name, "") for name in self.all(WITHOUT)]
        return [*asked, *blank, *self.days(network_zone).items()]

    def days(self, network_zone: str) -> dict[str, str]:
        """The first and last day of the period that is chosen."""
        days = periods.PERIODS.get(self.get("period"))
        if days is None:
            return {}
        try:
            zone = zone_named(self.get("tz", network_zone))
        except ValueError:
            return {}  # the API says what is wrong with it
        first, last = days(datetime.now(zone).date())
        return {"created_from": first.isoformat(), "created_to": last.isoformat()}


class Cell(NamedTuple):
    """One value of a row."""

    text: str
    href: str = ""
    kind: str = ""  # of a mark


class Filter(NamedTuple):
    """One field of the form."""

    name: str
    label: str
    value: str
    options: Sequence[tuple[str, str]] = ()  # () = any text


class Chip(NamedTuple):
    """A filter that is set, and the address without it."""

    text: str
    without: str


def state_of(given: Iterable[tuple[str, str]]) -> tuple[State, bool]:
    """The state that an address means, and whether the address is written as it should be.

    A browser sends the empty fields of a form, too. A period goes before times of one's own.
    """
    pairs = list(given)
    has_period = any(name == "period" and value in PERIODS for name, value in pairs)
    tidy = [
        (name, value)
        for name, value in pairs
        if value and not (name in _TIMES and has_period) and (name, value) not in _USUAL
    ]
    return State(tidy or [("period", "today")]), tidy == pairs


_USUAL: Final = frozenset({("per_page", "50"), ("sort", "-created_at")})


async def _show(visit: Visit, form: Form, fault: Fault | None) -> Response:
    state, is_tidy = state_of(visit.request.query_params.multi_items())
    if not is_tidy and fault is None:
        return redirect(f"{PATH}?{urlencode(state.pairs)}")
    keys = _keys(visit)
    columns = [name for name in state.columns if name in keys] or [
        name for name in _SHOWN_FIRST if name in keys
    ]
    filters = _filters(state, keys)
    values: dict[str, Any] = {
        "state": state,
        "carried": _carried(state, filters),
        "columns": [(name, COLUMNS[name]) for name in columns if name != "created_at"],
        "offered": [(name, COLUMNS[name]) for name in COLUMNS if name in keys and name != "created_at"],
        "chosen": columns,
        "periods": [("", "Own times"), *PERIODS.items()],
        "period": state.get("period"),
        "days": {"created_from": "", "created_to": "", **state.days(visit.settings.time_zone)},
        "zone": state.get("tz", visit.settings.time_zone),
        "filters": filters,
        "names": [
            "created_from",
            "created_to",
            "tz",
            *(one.name for some in filters.values() for one in some),
        ],
        "wrong": [
            group for group, some in filters.items() if fault and any(fault.of(one.name) for one in some)
        ],
        "chips": _chips(state),
        "per_page": _PER_PAGE,
        "formats": _FORMATS,
        "found": None,
    }
    if fault is None:
        values |= await _found(visit, state, columns)
    return html("clicks.html", visit, values, fault=fault)


async def _found(visit: Visit, state: State, columns: Sequence[str]) -> dict[str, Any]:
    """The rows of the page, and the ways on and back."""
    query = state.query(visit.settings.time_zone)
    if not state.get("per_page"):
        query.append(("per_page", "50"))
    answer = await ask(visit, "/clicks", urlencode(query))
    trail = read_trail(dict(state.pairs))
    following = answer.body["next_cursor"]
    pages = open_pages(visit)
    return {
        "found": answer.body,
        "complete_until": answer.complete_until,
        "rows": [_row(row, columns, pages) for row in answer.body["data"]],
        "first": state.address() if trail.cursor else "",
        "before": _way(state, trail.back),
        "after": _way(state, trail.after(following)) if following else "",
        "exports": [(state.address(EXPORT, format=word), name) for word, name in _FORMATS.items()],
    }


def _way(state: State, place: Mapping[str, str] | None) -> str:
    return "" if place is None else state.address(**place)


async def _export(visit: Visit, _: Form, fault: Fault | None) -> Response:
    """A file of the same clicks and columns, of all pages."""
    state, _is_tidy = state_of(visit.request.query_params.multi_items())
    query = [
        pair
        for pair in state.query(visit.settings.time_zone)
        if pair[0] not in ("cursor", "page", "per_page")
    ]
    keys = _keys(visit)
    columns = [name for name in state.columns if name in keys]
    query.append(("format", state.get("format", "csv")))
    if columns:
        query.append(("columns", ",".join(dict.fromkeys(["created_at", *columns]))))
    return await download(visit, "/clicks/export", urlencode(query))


def _keys(visit: Visit) -> Sequence[str]:
    """The keys of a click that the session sees."""
    assert visit.session
    owner = token_of(visit.session).owner
    return SEEN_BY_PARTNERS[owner.kind] if owner else KEYS


def open_pages(visit: Visit) -> frozenset[str]:
    """The addresses of the menu's pages that the session may open."""
    return frozenset(path for _, entries in visit.sections for path, _ in entries)


def _row(row: Mapping[str, Any], columns: Sequence[str], pages: frozenset[str]) -> dict[str, Any]:
    return {
        "hash": row["hash"],
        "time": row["created_at"],
        "cells": [_cell(row, name, pages) for name in columns if name != "created_at"],
    }


def _cell(row: Mapping[str, Any], name: str, pages: frozenset[str]) -> Cell:
    value = row[name]
    if value is None or value == "":
        return _NONE
    if isinstance(value, bool):
        return Cell("yes" if value else "no", kind=_MARKS.get((name, value), ""))
    if name == "reason":
        return Cell(f"{value} {reasons.meaning(value)}") if value else _NONE
    if name == "status":
        return Cell(value, kind=_MARKS.get((name, value), ""))
    return Cell(str(value), page_of(row, name, pages))


_NONE: Final = Cell("", kind="none")
_MARKS: Final = {
    ("status", "accepted"): "on",
    ("status", "forwarded"): "warn",
    ("status", "rejected"): "bad",
    ("is_bot", True): "warn",
    ("is_test", True): "warn",
    ("has_conversions", True): "on",
}


def page_of(row: Mapping[str, Any], name: str, pages: frozenset[str]) -> str:
    """The page of what a cell names. "" if it has none, or it may not be opened."""
    noun, _, end = name.rpartition("_")
    path = f"{ROOT}/{_PAGES_OF.get(noun.removeprefix('requested_'), noun)}"
    if end in ("id", "name") and path in pages:
        id_ = row.get(name if end == "id" else f"{noun}_id")
        return f"{path}/{id_}" if id_ else ""
    return f"{PATH}/{row[name]}" if name in ("hash", "group_hash") else ""


_YES_NO: Final = (("", "Any"), ("true", "Yes"), ("false", "No"))
_STATUSES: Final = (
    ("", "Any"),
    ("accepted", "Accepted"),
    ("forwarded", "Forwarded"),
    ("rejected", "Rejected"),
)


def _filters(state: State, keys: Sequence[str]) -> dict[str, list[Filter]]:
    """The fields of the form: those that are always shown, all others, and the exclusions."""
    known = [
        name
        for name in FILTERS
        if name in ListQuery.model_fields and (name in keys or name == "is_invalid") and name not in _TIMES
    ]
    others = [name for name in known if name not in _MAIN]
    excluded = [EXCLUDE + name for name in known if EXCLUDE + name in ListQuery.model_fields]
    groups: dict[str, Sequence[str]] = {
        "main": [name for name in _MAIN if name in known],
        "more": others,
        "excluded": excluded,
    }
    return {group: [_filter(state, name) for name in names] for group, names in groups.items()}


def _wrong(filters: Mapping[str, Sequence[Filter]], fault: Fault | None) -> list[str]:
    """The groups of fields that have a wrong one."""
    return [group for group, some in filters.items() if fault and any(fault.of(one.name) for one in some)]


def _filter(state: State, name: str) -> Filter:
    column = name.removeprefix(EXCLUDE)
    is_choice = column.startswith(("is_", "has_"))
    options: Pairs = _YES_NO if is_choice else _STATUSES if column == "status" else ()
    values = state.all(name)
    value = values[0] if len(values) == 1 else ""
    if options and value and value not in dict(options):
        options = (*options, (value, value.replace(",", " or ")))
    return Filter(name, FILTERS[column], value, options)


def _chips(state: State) -> list[Chip]:
    """The filters that are set."""
    chips = []
    for name, value in state.pairs:
        told, text = (value, "none") if name == WITHOUT else (name, _BOOLEANS.get(value, value))
        label = FILTERS.get(told.removeprefix(EXCLUDE), "")
        if label and told not in _TIMES:
            verb = " is not" if told.startswith(EXCLUDE) else ""
            chips.append(Chip(f"{label}{verb}: {text}", state.without(name, value)))
    return chips


_BOOLEANS: Final = {"true": "yes", "false": "no"}


def _carried(state: State, filters: Mapping[str, Sequence[Filter]]) -> Pairs:
    """What the form carries along, because no field shows it: filters with several values, and blanks."""
    several = {one.name for some in filters.values() for one in some if not one.value}
    return [pair for pair in state.pairs if pair[0] in several | {WITHOUT, "sort"}]


pages = [
    Page(PATH, "signed in", _show, access=ACCESS),
    Page(EXPORT, "signed in", _export, is_file=True, access=ACCESS),
]
