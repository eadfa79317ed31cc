"""The overview: the first page after signing in. Is all well, and how do the numbers compare?"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from starlette.responses import Response

from tracker.api.ledger import PATH as LEDGER
from tracker.dashboard import words
from tracker.dashboard.asking import Answer, RefusedError, ask, query_string
from tracker.dashboard.charts import Mark
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.overview import live, tops
from tracker.dashboard.overview.figures import NAMES, Series, cards_of, charts_of, series_of
from tracker.dashboard.overview.state import State, state_of, zone_of
from tracker.dashboard.overview.tops import REPORTS
from tracker.dashboard.page import HOME, Page
from tracker.dashboard.visit import Visit
from tracker.domain.access import ROLES
from tracker.domain.local_time import first_second
from tracker.people.seeing import token_of
from tracker.store.tokens import Token

_NOTES = "/notes"
_LEDGER_SPAN = timedelta(days=1)  # as the doctor looks at it


class Tile(NamedTuple):
    """Whether all clicks are accounted for."""

    ledger: Any  # the answer of the ledger. None: it cannot be read
    why: str  # it cannot be read. ""


class Numbers(NamedTuple):
    """The report of the span."""

    totals: Any
    complete_until: str
    series: Series | None  # None: too many clicks would be read for it
    by: str  # such as "by day"
    is_in_utc: bool = False  # the days of the series are those of UTC


async def _show(visit: Visit, form: Form, fault: Fault | None) -> Response:
    assert visit.session
    is_unread = fault is not None and visit.request.method == "GET"
    asked = visit.request.query_params
    values = {
        "about": ROLES[visit.session.role].about,
        "periods": words.PERIODS,
        "address": f"{HOME}?{query_string(asked.multi_items())}",
        "asked": asked,
        "sent": form,
        "live": live,
        "state": None,
        **({} if is_unread else await _contents(visit)),
    }
    return html("overview.html", visit, values, fault=fault)


async def _contents(visit: Visit) -> dict[str, Any]:
    state, token = state_of(visit), _token(visit)
    numbers, tile, marks, clicks, kept = await asyncio.gather(
        _numbers(visit, state),
        _tile(visit, state),
        _marks(visit, state),
        live.latest(visit, state.zone),
        tops.read(visit, state, tops.kept(visit)),
    )
    totals, series = numbers.totals, numbers.series
    others = await tops.read_others(visit, state, totals["gross"])
    happened = marks["data"] if marks else []
    is_empty = not (totals["gross"] or totals["compared"]["gross"])
    drawn = [Mark(datetime.fromisoformat(mark["at"]), _told(mark)) for mark in happened]
    return {
        "state": state,
        "complete_until": numbers.complete_until,
        "tile": tile,
        "cards": cards_of(totals, series),
        "reports": {measure: _report(state, measure) for measure in NAMES},
        "charts": charts_of(totals, series, numbers.by, drawn) if series else [],
        "is_in_utc": numbers.is_in_utc,
        "is_empty": is_empty,
        "lacks_offers": is_empty and not clicks and await _lacks_offers(visit),
        "tops": tops.in_order([*kept, *others]),
        "notes": [mark for mark in happened if mark["note_id"] is not None],
        "has_more_marks": marks is not None and not marks["is_whole"],
        "may_note": marks is not None and token.allows("offers:write"),
        "clicks": clicks,
    }


def _token(visit: Visit) -> Token:
    assert visit.session
    return token_of(visit.session)


async def _numbers(visit: Visit, state: State) -> Numbers:
    """The report by time. By days of UTC, or without times, if too many clicks would be read one by one."""
    if tops.is_kept_by_time(visit):
        return _by_time(state, await ask(visit, "/reports", state.report))
    whole = await ask(visit, "/reports", {**state.report, "group_by": "offer", "limit": 1})
    totals = whole.body["totals"]
    if totals["gross"] + totals["compared"]["gross"] <= tops.MOST_READ:
        return _by_time(state, await ask(visit, "/reports", state.report))
    numbers = Numbers(totals, whole.complete_until, None, "")
    if state.span.grain == "hour":
        return numbers
    in_utc = state.in_utc()
    by_day = _by_time(in_utc, await ask(visit, "/reports", in_utc.report))
    return numbers._replace(series=by_day.series, by=f"{by_day.by} of UTC", is_in_utc=True)


def _by_time(state: State, report: Answer) -> Numbers:
    grain = state.span.grain
    series = series_of(state.slots, report.body["data"], grain, state.now)
    return Numbers(report.body["totals"], report.complete_until, series, f"by {grain}")


def _report(state: State, measure: str) -> str:
    return f"{REPORTS}?{query_string({**state.report, 'measures': measure})}"


async def _tile(visit: Visit, state: State) -> Tile | None:
    """None: the ledger is the network's."""
    if _token(visit).owner is not None:
        return None
    asked = {"from": f"{state.now - _LEDGER_SPAN:%Y-%m-%d %H:%M:%S}", "tz": state.zone.name}
    try:
        return Tile((await ask(visit, LEDGER, asked)).body, "")
    except RefusedError as error:
        return Tile(None, error.fault.text)


async def _marks(visit: Visit, state: State) -> Any:
    """The answer of the endpoint. None: the session does not see it."""
    token = _token(visit)
    if token.owner is not None or not token.allows("offers:read"):
        return None
    first, last = state.span.first.isoformat(), state.span.last.isoformat()
    asked = {"from": first, "to": last, "tz": state.zone.name}
    return (await ask(visit, "/marks", asked)).body


async def _lacks_offers(visit: Visit) -> bool:
    """Whether the network has no offer yet. Partners cannot make one."""
    token = _token(visit)
    if token.owner is not None or not token.allows("offers:read"):
        return False
    return bool((await ask(visit, "/offers", {"per_page": 1})).body["total"] == 0)


def _told(mark: dict[str, Any]) -> str:
    author = f" ({mark['author']})" if mark["author"] else ""
    return f"{mark['at'][11:16]} {mark['text']}{author}"


async def _change_notes(visit: Visit, form: Form) -> Response:
    """Add a note, or delete one."""
    if form.get("do") == "delete":
        await ask(visit, f"{_NOTES}/{{id}}", at={"id": form.get("id", "")}, method="DELETE")
    else:
        body = {"at": _with_offset(visit, form.get("at", "")), "text": form.get("text", "")}
        await ask(visit, _NOTES, method="POST", body=body)
    return redirect(f"{HOME}?{query_string(visit.request.query_params.multi_items())}")


def _with_offset(visit: Visit, text: str) -> str:
    """A local time of the page's zone with its offset. Other texts stay as they are, and are refused."""
    zone = zone_of(visit).rules
    try:
        local = datetime.fromisoformat(text)
        return datetime.fromtimestamp(first_second(local, zone), zone).isoformat()
    except (ValueError, TypeError, OverflowError, OSError):
        return text


async def _lead_home(_visit: Visit, _form: Form, _fault: Fault | None) -> Response:
    return redirect(HOME)


pages = [Page(HOME, "signed in", _show, _change_notes), Page(ROOT, "anyone", _lead_home), *live.pages]
