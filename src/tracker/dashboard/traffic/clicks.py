"""The page of clicks: filters, columns, pages both ways, and files of what is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

from starlette.responses import Response

from tracker.api.partner_access.schema import CLICKS as SEEN_BY_PARTNERS
from tracker.dashboard.asking import ask, download
from tracker.dashboard.catalogue.names import address_with_ids, names_of_filters
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.list_state import ListState
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import Page
from tracker.dashboard.reports.cell_links import WITHOUT
from tracker.dashboard.traffic.click_words import COLUMNS, FILTERS, PERIODS
from tracker.dashboard.visit import Visit
from tracker.domain import reasons
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
_TIMES: Final = ("created_from", "created_to")
_USUAL_PERIOD: Final = "today"
_PAGES_OF: Final = {"offer": "offers", "affiliate": "affiliates", "advertiser": "advertisers"}

Pairs = Sequence[tuple[str, str]]


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


async def _show(visit: Visit, form: Form, fault: Fault | None) -> Response:
    state, keys = ListState.of(visit, _USUAL_PERIOD), _keys(visit)
    if fault is None and not all(visit.request.query_params.values()):
        return redirect(state.address())  # a browser sends the empty fields of a form, too
    if fault is None and (address := await address_with_ids(visit)):
        return redirect(address)
    columns = _chosen(state, keys) or [name for name in _SHOWN_FIRST if name in keys]
    filters = _filters(state, keys)
    values: dict[str, Any] = {
        "state": state,
        "carried": _carried(state, filters),
        "columns": [(name, COLUMNS[name]) for name in columns if name != "created_at"],
        "offered": [(name, COLUMNS[name]) for name in COLUMNS if name in keys and name != "created_at"],
        "chosen": columns,
        "periods": [("", "Own times"), *PERIODS.items()],
        "period": state.get("period"),
        "days": dict.fromkeys(_TIMES, "") | dict(state.days()),
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
        "chips": await _chips(visit, state, is_known=fault is None),
        "per_page": _PER_PAGE,
        "formats": _FORMATS,
        "found": None,
    }
    if fault is None:
        values |= await _found(visit, state, columns)
    return html("clicks.html", visit, values, fault=fault)


async def _found(visit: Visit, state: ListState, columns: Sequence[str]) -> dict[str, Any]:
    """The rows of the page, and the ways on and back."""
    answer = await ask(visit, "/clicks", state.query)
    pages = open_pages(visit)
    before, after = state.ways(answer.body["next_cursor"])
    file = state._replace(path=EXPORT)
    return {
        "found": answer.body,
        "complete_until": answer.complete_until,
        "kept_from": answer.kept_from,
        "rows": [_row(row, columns, pages) for row in answer.body["data"]],
        "first": state.address() if state.get("cursor") else "",
        "before": before,
        "after": after,
        "exports": [(file.address(format=word), name) for word, name in _FORMATS.items()],
    }


async def _export(visit: Visit, _: Form, fault: Fault | None) -> Response:
    """A file of the same clicks and columns, of all pages."""
    state = ListState.of(visit, _USUAL_PERIOD)
    query = [*parse_qsl(state.filters, keep_blank_values=True), ("sort", state.get("sort", "-created_at"))]
    if columns := _chosen(state, _keys(visit)):
        query.append(("columns", ",".join(dict.fromkeys(["created_at", *columns]))))
    return await download(visit, "/clicks/export", urlencode(query))


def _chosen(state: ListState, keys: Sequence[str]) -> list[str]:
    """The chosen columns, in their order."""
    return [name for name in state.get("columns").split(",") if name in keys]


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
    if noun and end in ("id", "name") and path in pages:
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


def _filters(state: ListState, keys: Sequence[str]) -> dict[str, list[Filter]]:
    """The fields of the form: those that are always shown, all others, and the exclusions."""
    fields = ListQuery.model_fields.keys() & {*keys, "is_invalid"}
    known = [name for name in FILTERS if name in fields]
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


def _filter(state: ListState, name: str) -> Filter:
    column = name.removeprefix(EXCLUDE)
    is_choice = column.startswith(("is_", "has_"))
    options: Pairs = _YES_NO if is_choice else _STATUSES if column == "status" else ()
    values = state.all(name)
    value = values[0] if len(values) == 1 else ""
    if options and value and value not in dict(options):
        options = (*options, (value, value.replace(",", " or ")))
    return Filter(name, FILTERS[column], value, options)


async def _chips(visit: Visit, state: ListState, *, is_known: bool) -> list[Chip]:
    """The filters that are set. `is_known`: their ids were understood, and so they may have names."""
    chips = []
    names = await names_of_filters(visit, state.pairs) if is_known else {}
    for (name, value), without in state.besides(_TIMES):
        told, text = (value, "none") if name == WITHOUT else (name, _BOOLEANS.get(value, value))
        label = FILTERS.get(told.removeprefix(EXCLUDE), told)
        verb = " is not" if told.startswith(EXCLUDE) else ""
        called = names.get((name, value), "")
        chips.append(
            Chip(f"{label}{verb}: {called} ({text})" if called else f"{label}{verb}: {text}", without)
        )
    return chips


_BOOLEANS: Final = {"true": "yes", "false": "no"}


def _carried(state: ListState, filters: Mapping[str, Sequence[Filter]]) -> Pairs:
    """What the form carries along, because no field shows it: filters with several values, and blanks."""
    several = {one.name for some in filters.values() for one in some if not one.value}
    return [pair for pair in state.pairs if pair[0] in several | {WITHOUT, "sort"}]


pages = [
    Page(PATH, "signed in", _show, access=ACCESS),
    Page(EXPORT, "signed in", _export, is_file=True, access=ACCESS),
]
