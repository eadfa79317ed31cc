"""Pages of statements and balances: what is owed to whom, for the network and for partners themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from starlette.responses import Response

from tracker.dashboard.asking import ask, download, query_string
from tracker.dashboard.catalogue.names import address_with_ids
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import Page
from tracker.dashboard.visit import Visit
from tracker.domain.normalise import id_
from tracker.people.seeing import token_of
from tracker.store.books.statements import GROUPS

STATEMENTS: Final = f"{ROOT}/money/statements"
FILE: Final = f"{STATEMENTS}/file"
LINES: Final = f"{STATEMENTS}/lines"
BALANCES: Final = f"{ROOT}/money/balances"

READS: Final = Access(scopes=("money:read",), shows_money=True)
BOOKS: Final = Access(scopes=("money:write",), owners=(None,), shows_money=True)

MOST_SHOWN: Final = 100
"""Most parties on a page."""

MOST_GROUPS: Final = 250
"""Most groups on a page. The file has all."""

_PER_PAGE = 100
_ASKED = ("party", "affiliate_id", "advertiser_id", "from", "to", "tz", "group_by")
PARTIES: Final = ("affiliate", "advertiser")
_BALANCE = ("opening", "booked", "adjustments", "bonus", "fee", "chargeback", "payment", "closing")


def party_of(visit: Visit) -> str:
    """The kind of party that a session's money is about: its own, or the one that the network asks for."""
    assert visit.session
    owner = token_of(visit.session).owner
    wanted = visit.request.query_params.get("party", "")
    return owner.kind if owner else wanted if wanted in PARTIES else PARTIES[0]


def months(zone: str) -> list[tuple[str, str, str]]:
    """This month until today, and the two before it: the name, the first and the last day."""
    today = datetime.now(ZoneInfo(zone)).date()
    found = [("This month", f"{today:%Y-%m-01}", f"{today:%Y-%m-%d}")]
    last = today.replace(day=1)
    for name in ("Last month", "The month before"):
        last -= timedelta(days=1)
        found.append((name, f"{last:%Y-%m-01}", f"{last:%Y-%m-%d}"))
        last = last.replace(day=1)
    return found


class Part(NamedTuple):
    """The rows of an answer that a page shows."""

    rows: Sequence[dict[str, Any]]
    total: int
    before: str  # the address of the page before. "" on the first one
    after: str


def part_of(visit: Visit, rows: Sequence[dict[str, Any]], asked: Mapping[str, str]) -> Part:
    """The page of rows that the address asks for. The API answers all of them at once."""
    number = id_(visit.request.query_params.get("page", "")) or 1
    start = (number - 1) * MOST_SHOWN

    def address(number: int) -> str:
        return f"{visit.path}?{query_string({**asked, 'page': number})}"

    before = address(number - 1) if number > 1 else ""
    after = address(number + 1) if start + MOST_SHOWN < len(rows) else ""
    return Part(rows[start : start + MOST_SHOWN], len(rows), before, after)


def as_of(visit: Visit) -> str:
    """What balances are about, to the second: read it before them."""
    return f"As of {datetime.now(ZoneInfo(visit.settings.time_zone)):%Y-%m-%d %H:%M:%S}"


def _asked(visit: Visit) -> dict[str, str]:
    """The parameters of the API that the page's address means."""
    given = visit.request.query_params
    _, first, today = months(visit.settings.time_zone)[0]
    asked = {"party": party_of(visit), "from": first, "to": today}
    asked |= {name: given[name] for name in _ASKED if name != "party" and given.get(name)}
    return asked if _is_network(visit) else {name: asked[name] for name in asked if name != "party"}


def _is_network(visit: Visit) -> bool:
    assert visit.session
    return token_of(visit.session).owner is None


def _is_one(visit: Visit, asked: dict[str, str]) -> bool:
    """Whether the statements are of one party, so that its entries are shown."""
    assert visit.session
    owner = token_of(visit.session).owner
    return f"{party_of(visit)}_id" in asked or (owner is not None and len(owner.ids) == 1)


async def _show_statements(visit: Visit, _: Form, fault: Fault | None) -> Response:
    if fault is None and (address := await address_with_ids(visit)):
        return redirect(address)
    asked = _asked(visit)
    answer: dict[str, Any] | None = None
    complete_until = ""
    entries: dict[str, Any] | None = None
    part = Part((), 0, "", "")
    page = visit.request.query_params.get("page", "")
    if fault is None:
        told = await ask(visit, "/statements", asked)
        answer, complete_until = told.body, told.complete_until
        part = part_of(visit, answer["data"], asked)
        if _is_one(visit, asked):
            part = Part(answer["data"], len(answer["data"]), "", "")
            plain = {name: value for name, value in asked.items() if name != "group_by"}
            paged = {**plain, "page": page, "per_page": _PER_PAGE}
            entries = (await ask(visit, "/statements/entries", paged)).body
    groups = [(row, group) for row in part.rows for group in row.get("groups", ())]
    values = {
        "asked": asked,
        "party": party_of(visit),
        "is_network": _is_network(visit),
        "answer": answer,
        "complete_until": complete_until,
        "part": part,
        "groups_of_rows": groups[:MOST_GROUPS],
        "most_groups": MOST_GROUPS,
        "entries": entries,
        "groups": ("", *GROUPS),
        "amounts": _BALANCE,
        "months": months(visit.settings.time_zone),
        "query": query_string(asked),
        "address": lambda **other: f"{STATEMENTS}?{query_string({**asked, **other})}",
        "zone": asked.get("tz", visit.settings.time_zone),
    }
    return html("money_statements.html", visit, values, fault=fault)


async def _file(visit: Visit, _: Form, _fault: Fault | None) -> Response:
    """The statements, or their lines, as a file for people or for programs."""
    asked = {**_asked(visit), "format": visit.request.query_params.get("format", "excel")}
    if visit.path == FILE:
        return await download(visit, "/statements", asked)
    asked.pop("group_by", "")
    return await download(visit, "/statements/lines", asked)


async def _show_balances(visit: Visit, _: Form, fault: Fault | None) -> Response:
    if fault is None and (address := await address_with_ids(visit)):
        return redirect(address)
    given = visit.request.query_params
    party = party_of(visit)
    asked = {f"{party}_id": given.get(f"{party}_id", "")}
    if _is_network(visit):
        asked["party"] = party
    at, told = as_of(visit), await ask(visit, "/balances", asked) if fault is None else None
    part = part_of(visit, told.body["data"], asked) if told else None
    assert visit.session
    values = {
        "asked": asked,
        "party": party,
        "is_network": _is_network(visit),
        "may_book": BOOKS.allows(visit.session),
        "answer": told and told.body,
        "complete_until": told.complete_until if told else "",
        "as_of": at,
        "zone": visit.settings.time_zone,
        "part": part,
        "amounts": ("approved", "bonus", "fee", "chargeback", "payment", "balance"),
    }
    return html("money_balances.html", visit, values, fault=fault)


pages = [
    Page(STATEMENTS, "signed in", _show_statements, access=READS),
    Page(FILE, "signed in", _file, is_file=True, access=READS),
    Page(LINES, "signed in", _file, is_file=True, access=READS),
    Page(BALANCES, "signed in", _show_balances, access=READS),
]
