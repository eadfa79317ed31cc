"""The page that shares a report by a link, and lists the links that the user made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response

from tracker.api.kept_queries import sight_of
from tracker.api.shares import LONGEST_DAYS
from tracker.dashboard.asking import ask
from tracker.dashboard.catalogue.names import OF_PARTIES, names_of_partners, with_ids
from tracker.dashboard.form import Form
from tracker.dashboard.html import Fault, html, redirect
from tracker.dashboard.lists import ids_of
from tracker.dashboard.page import Page
from tracker.dashboard.reports.builder import ACCESS, known_of
from tracker.dashboard.reports.state import PATH, State, state_of
from tracker.dashboard.visit import Visit
from tracker.domain import normalise
from tracker.domain.access import OwnerKind
from tracker.people.seeing import token_of
from tracker.people.sign_in import FieldError
from tracker.reading.reports.query import FIELDS
from tracker.store.token_owner import Owner

SHARE: Final = f"{PATH}/share"


async def _show(visit: Visit, form: Form, fault: Fault | None) -> Response:
    return await _page(visit, form, fault)


async def _page(visit: Visit, form: Form, fault: Fault | None, made: Any = None) -> Response:
    assert visit.session
    token = token_of(visit.session)
    shares = (await ask(visit, "/shares")).body["data"]
    values = {
        "state": _state(visit, form),
        "form": form,
        "shares": shares,
        "names": await names_of_partners(visit, shares),
        "made": made,
        "longest": LONGEST_DAYS,
        "is_of_network": token.owner is None,
        "may_share_all": token.owner is None and token.allows("admin"),
        "hides_money": token.hides_money,
        "path": PATH,
        "zone": visit.settings.time_zone,
    }
    return html("report_share.html", visit, values, fault=fault)


def _state(visit: Visit, form: Form) -> State:
    """The report to share: of the form that was sent, or of the address."""
    query = form.get("query") or visit.request.url.query
    return state_of(normalise.pairs(query.encode()))


async def _send(visit: Visit, form: Form) -> Response:
    if share := form.get("revoke"):
        await ask(visit, "/shares/{id}", at={"id": share}, method="DELETE")
        return redirect(f"{SHARE}?{_state(visit, form).query}")
    form = await with_ids(visit, form, OF_PARTIES)
    owners = {name: ids_of(name, form.get(name, "")) for name in OF_PARTIES}
    hides_money = form.get("hides_money") == "true"
    body = {
        "name": form.get("name", ""),
        "query": _seen_by(visit, _state(visit, form), owners, hides_money=hides_money),
        "days": _number("days", form.get("days", "")),
        "hides_money": hides_money,
        **owners,
    }
    made = await ask(visit, "/shares", method="POST", body=body)
    return await _page(visit, form, None, made.body)


def _seen_by(visit: Visit, state: State, owners: Mapping[str, Sequence[int]], *, hides_money: bool) -> str:
    """The query of a report, with the columns that its owners may see."""
    assert visit.session
    token = token_of(visit.session)
    named: dict[str, OwnerKind] = {"affiliate_ids": "affiliate", "advertiser_ids": "advertiser"}
    owner = next(
        (Owner(kind, tuple(owners[name])) for name, kind in named.items() if owners[name]), token.owner
    )
    seen = sight_of(owner, hides_money=hides_money or token.hides_money).keys
    measures = [name for name in state.measures(known_of(visit).measures) if name in seen]
    by = state.get("sort").removeprefix("-")
    is_sorted = any(by == name or by[:-4] == name for name in (*FIELDS, *measures))
    kept = state.replaced(*([] if is_sorted else ["sort"]), measures=",".join(measures))
    return State(tuple(kept.asks(measures))).query


def _number(name: str, text: str) -> int:
    number = normalise.id_(text)
    if number is None:
        raise FieldError(name, "is not a number")
    return number


pages = [Page(SHARE, "signed in", _show, _send, access=ACCESS)]
