"""The report page: any report of the API, its rows opened in place, its files, and its saved views."""

from __future__ import annotations

from asyncio import gather
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from starlette.responses import Response

from tracker.api.kept_queries import report_filters, sight_of
from tracker.dashboard import words
from tracker.dashboard.asking import RefusedError, api_path, ask, download
from tracker.dashboard.catalogue.names import FILTERS, names_of_filters, with_ids
from tracker.dashboard.form import Form
from tracker.dashboard.html import Fault, html, redirect
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import Page
from tracker.dashboard.reports import report_chart
from tracker.dashboard.reports.cell_links import CellLinks
from tracker.dashboard.reports.rows import Lines, Way, asks_inside, ways_of
from tracker.dashboard.reports.state import MOST_ROWS, PATH, SENT, WITHOUT, State, state_of
from tracker.dashboard.reports.values import currencies_of
from tracker.dashboard.visit import Visit
from tracker.domain.local_time import read_local
from tracker.domain.normalise import pairs
from tracker.people.seeing import token_of
from tracker.reading.filters import EXCLUDE
from tracker.reading.reports.comparison import OTHERS, until_after
from tracker.reading.reports.query import FIELDS
from tracker.store.reports.groups import TIMES
from tracker.store.reports.measures import MEASURES

ACCESS: Final = Access(scopes=("reports:read",))

_LIMITS: Final = (30, 50, 100, 500)
_UNFINISHED = (
    "Today is not over, and it is compared with a whole day. The overview compares it with the same hours."
)


class Known(NamedTuple):
    """What the session may ask reports for."""

    groups: list[str]
    measures: list[str]
    filters: list[str]


def known_of(visit: Visit) -> Known:
    """What the session of a visit may ask reports for, in the order of the API."""
    assert visit.session
    token = token_of(visit.session)
    keys = sight_of(token.owner, hides_money=token.hides_money).keys
    filters = report_filters(token.owner.kind if token.owner else "", hides_money=token.hides_money)
    return Known(
        [group for group, key in FIELDS.items() if key in keys],
        [name for name in MEASURES if name in keys],
        [name for name in words.FILTERS if name in filters],
    )


@dataclass(frozen=True, slots=True)
class Answers:
    """What the API answered for a page."""

    body: Mapping[str, Any]
    inside: Mapping[Way, Mapping[str, Any]]
    complete_until: str
    kept_from: str


async def _show(visit: Visit, form: Form, fault: Fault | None) -> Response:
    query = form.get("query")  # of the report that a form is about
    given = pairs(query.encode()) if query else visit.request.query_params.multi_items()
    state = state_of(given)
    if not fault:
        meant = State((await with_ids(visit, Form(state.pairs), FILTERS)).pairs)
        if meant != state or any(name == SENT for name, _ in given):
            return redirect(meant.address)
    known = known_of(visit)
    values = {
        **_of_form(visit, state, known),
        "set_filters": await _set_filters(visit, state),
        "views": await _views(visit),
        "wrong": form.get("name", ""),
    }
    if fault:
        return html("reports.html", visit, {**values, "narrower": _narrower(state)}, fault=fault)
    dated = state.dated(visit.settings.time_zone)
    answers, chart = await gather(_ask(visit, dated, known), report_chart.of(visit, dated, known.measures))
    return html(
        "reports.html", visit, {**values, **_of_table(visit, state, dated, known, answers), "chart": chart}
    )


async def _ask(visit: Visit, dated: State, known: Known) -> Answers:
    """The report, and those inside its open rows."""
    # A group that does not exist is refused at once, not when a row is opened.
    groups = None if set(dated.groups) <= {*known.groups} else dated.groups
    answer = await ask(visit, "/reports", urlencode(dated.asks(known.measures, groups)))
    links = CellLinks(dated.asks(known.measures), visit.settings.time_zone)
    ways = [] if dated.is_flat else ways_of(dated)
    asked = [(way, query) for way in ways if (query := asks_inside(way, dated, links, known.measures))]
    # One after the other: a page must not take all connections to the database.
    inside = {way: body for way, query in asked if (body := await _inside(visit, query)) is not None}
    return Answers(answer.body, inside, answer.complete_until, answer.kept_from)


async def _inside(visit: Visit, query: Sequence[tuple[str, str]]) -> Mapping[str, Any] | None:
    """The report inside a row. None: the address names a row that cannot be, so nothing is open."""
    try:
        body: Mapping[str, Any] = (await ask(visit, "/reports", urlencode(query))).body
    except RefusedError as error:
        if error.fault.status == 422:
            return None
        raise
    return body


def _of_form(visit: Visit, state: State, known: Known) -> dict[str, Any]:
    """What the form shows."""
    chosen = state.measures(known.measures)
    return {
        "state": state,
        "groups": [(group, words.GROUPS[group]) for group in known.groups],
        "measures": [(name, words.MEASURES[name]) for name in known.measures],
        "chosen": chosen,
        "meanings": [(words.MEASURES[name], MEASURES[name].about) for name in chosen if name in MEASURES],
        "filters": [(name, words.FILTERS[name]) for name in known.filters],
        "periods": list(words.PERIODS.items()),
        "spans": [
            (text, _over(state, name).address, state.get("period") == name)
            for name, text in words.PERIODS.items()
        ],
        "bases": list(words.BASES.items()),
        "comparisons": list(words.COMPARISONS.items()),
        "chart_options": [
            (name, words.MEASURES[name]) for name in known.measures if not MEASURES[name].is_money
        ],
        "limits": [(str(limit), str(limit)) for limit in _LIMITS],
        "usual_limit": MOST_ROWS,
        "is_flat": state.is_flat,
        "zone": str(state.zone(visit.settings.time_zone)),
        "curl": _curl(visit, state, known),
        "path": PATH,
    }


class SetFilter(NamedTuple):
    """A filter of the state."""

    name: str  # of the parameter
    label: str
    value: str
    is_blank: bool  # it is about rows without a value
    without: str  # the address without it
    called: str  # the names of its ids


async def _set_filters(visit: Visit, state: State) -> list[SetFilter]:
    found = []
    names = await names_of_filters(visit, state.pairs)
    for name, value in state.pairs:
        filtered = value if name == WITHOUT else name
        label = words.FILTERS.get(filtered.removeprefix(EXCLUDE))
        if label is None:
            continue
        label += " is not" if filtered.startswith(EXCLUDE) else ""
        rest = state.without((name, value)).address
        found.append(SetFilter(name, label, value, name == WITHOUT, rest, names.get((name, value), "")))
    return found


def _of_table(visit: Visit, state: State, dated: State, known: Known, answers: Answers) -> dict[str, Any]:
    """What the table shows."""
    links = CellLinks(dated.asks(known.measures), visit.settings.time_zone)
    linked = {path.rpartition("/")[2] for _, entries in visit.sections for path, _ in entries}
    shown = [name for name in state.measures(known.measures) if name in answers.body["totals"]]
    lines = Lines(state, links, shown, answers.inside, linked, known.filters)
    bars = state.get("chart") or shown[0]
    has_bars = dated.groups[0] not in TIMES and bars in shown and not MEASURES[bars].is_money
    return {
        "rows": lines.with_bars(answers.body, bars) if has_bars else lines.of(answers.body),
        "total": lines.total(answers.body),
        "heads": [_head(state, group, words.GROUPS[group]) for group in state.shown_groups],
        "columns": [_column(state, name, answers.body) for name in shown],
        "basis": _basis(state, dated),
        "complete_until": answers.complete_until,
        "kept_from": answers.kept_from,
        "notes": _notes(answers.body, dated, visit.settings.time_zone),
        "is_empty": not answers.body["data"] and answers.body["other"] is None,
    }


class Sorting(NamedTuple):
    """A link that sorts by a column."""

    text: str
    address: str
    order: str  # ascending, descending or ""


class Head(NamedTuple):
    """The head of a column."""

    label: str
    sorts: list[Sorting]
    about: str = ""


def _head(state: State, group: str, label: str) -> Head:
    return Head(label, [_sorting(state, label, group, first="")])


def _column(state: State, name: str, body: Mapping[str, Any]) -> Head:
    label, measure = words.MEASURES[name], MEASURES[name]
    if not measure.is_money:
        return Head(label, [_sorting(state, label, name, first="-")], measure.about)
    codes = currencies_of(name, [body["totals"], body["totals"].get("compared") or {}])
    return Head(label, [_sorting(state, code, f"{name}_{code}", first="-") for code in codes], measure.about)


def _sorting(state: State, text: str, by: str, *, first: str) -> Sorting:
    """The link of a column: its usual order, and the other one if it has that already."""
    now, other = state.get("sort"), "" if first else "-"
    order = {by: "ascending", f"-{by}": "descending"}.get(now, "")
    wanted = f"{other}{by}" if now == f"{first}{by}" else f"{first}{by}"
    return Sorting(text, state.replaced(sort=wanted).address.removeprefix(PATH), order)


def _basis(state: State, dated: State) -> str:
    """What the numbers are about, in words."""
    start, end = dated.get("created_from", "the beginning"), dated.get("created_to", "now")
    basis = words.BASES.get(state.get("date_basis") or "click", "")
    text = f"{start} to {end} by {basis}"
    compared = state.get("compare")
    if compared == "custom":
        return f"{text}, compared in small with {state.get('compare_from')} to {state.get('compare_to')}"
    if compared not in OTHERS:
        return text
    first, last = (_in_days(time) for time in _compared_span(dated))
    return f"{text}, compared in small with {words.COMPARISONS[compared]}, {first} to {last}"


def _compared_span(dated: State) -> tuple[datetime, datetime]:
    """The first and the last second of the other span. The API has accepted the days."""
    first = read_local(dated.get("created_from"), is_end=False)
    last = read_local(dated.get("created_to"), is_end=True)
    start, end = OTHERS[dated.get("compare")](until_after(first, last))
    return start, end - timedelta(seconds=1)


def _in_days(time: datetime) -> str:
    """A time as its day, if it is the first or the last second of that."""
    is_edge = (time.hour, time.minute, time.second) in ((0, 0, 0), (23, 59, 59))
    return f"{time:%Y-%m-%d}" if is_edge else f"{time:%Y-%m-%d %H:%M:%S}"


def _notes(body: Mapping[str, Any], dated: State, network_zone: str) -> list[str]:
    notes = []
    if dated.get("compare") and dated.get("created_to") >= dated.today(network_zone).isoformat():
        notes.append(_UNFINISHED)
    if body.get("approximate"):
        notes.append("Values with few clicks are not kept apart. Their clicks are in the other rows.")
    if changed := body.get("changed_since_close"):
        notes.append(f"This period was closed. It {changed['text']}.")
    return notes


def _curl(visit: Visit, state: State, known: Known) -> str:
    """The same report by the API, without a secret."""
    query = State(tuple(state.asks(known.measures))).query
    address = f"{visit.origin}{api_path(visit, '/reports')}?{query}"
    return f"curl -H \"Authorization: Bearer $TOKEN\" '{address}'"


def _over(state: State, period: str) -> State:
    """The same report over a period."""
    return state.replaced("created_from", "created_to", "created_at_from", "created_at_to", period=period)


def _narrower(state: State) -> list[tuple[str, str]]:
    """Addresses of reports with fewer clicks."""
    periods = [(words.PERIODS[name], _over(state, name)) for name in ("yesterday", "last_7_days")]
    first = [
        (f"Only by {words.GROUPS[group].lower()}", state.replaced("open", group_by=group))
        for group in state.groups[:1]
        if group in words.GROUPS
    ]
    return [(text, other.address) for text, other in [*periods, *first] if other != state]


async def _views(visit: Visit) -> list[Mapping[str, Any]]:
    """The saved views of reports that the session sees."""
    answer = await ask(visit, "/views", {"shows": "reports"})
    rows: list[Mapping[str, Any]] = answer.body["data"]
    return rows


async def _keep_view(visit: Visit, form: Form) -> Response:
    """Save or delete a view."""
    state = state_of(pairs(form.get("query", "").encode()))
    if view := form.get("delete"):
        await ask(visit, "/views/{id}", at={"id": view}, method="DELETE")
        return redirect(state.address)
    fields = {
        "name": form.get("name", ""),
        "query": state.replaced("open").query,
        "is_shared": form.get("is_shared") == "true",
    }
    if form.get("replace") == "true" and (former := await _own_view(visit, fields["name"])):
        await ask(visit, "/views/{id}", at={"id": former}, method="PATCH", body=fields)
    else:
        await ask(visit, "/views", method="POST", body=fields)
    return redirect(state.address)


async def _own_view(visit: Visit, name: object) -> int | None:
    """The user's own view of a name."""
    assert visit.session
    user_id = visit.session.user_id
    return next(
        (row["id"] for row in await _views(visit) if row["name"] == name and row["user_id"] == user_id), None
    )


async def _file(visit: Visit, _form: Form, _fault: Fault | None) -> Response:
    """The report as a file: the same query as the page, with the totals."""
    state, known = state_of(visit.request.query_params.multi_items()), known_of(visit)
    kind = state.get("format") or "csv"
    groups = state.groups if state.get("rows") == "all" else None
    asked = state.replaced("format").asks(known.measures, groups)
    return await download(visit, "/reports", urlencode([*asked, ("format", kind), ("totals", "true")]))


pages = [
    Page(PATH, "signed in", _show, access=ACCESS),
    Page(f"{PATH}/file", "signed in", _file, is_file=True, access=ACCESS),
    Page(f"{PATH}/views", "signed in", _show, _keep_view, access=ACCESS),
]
