"""The page of an offer, and the page that copies it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, NamedTuple

from starlette.responses import Response

from tracker.dashboard import charts
from tracker.dashboard.asking import RefusedError, ask
from tracker.dashboard.catalogue.forms import done
from tracker.dashboard.catalogue.kinds import Kind, kind_of, with_query
from tracker.dashboard.catalogue.names import names_in
from tracker.dashboard.catalogue.views import current, trail, values_of_one
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html
from tracker.dashboard.visit import Visit
from tracker.store.catalogue.edit import Row

LINKS: Final = f"{ROOT}/links"
_PERIODS: Final = {"hour": "an hour", "day": "a day", "month": "a month", "total": "in total"}
_OFFER: Final[Kind] = kind_of("offer")


async def show_offer(visit: Visit, _form: Form, fault: Fault | None) -> Response:
    row = await current(visit, _OFFER)
    values = await values_of_one(visit, _OFFER, row)
    parts = {part["table"]["kind"].resource.table.name: part["rows"] for part in values["parts"]}
    fill, problem = await _fill(visit) if parts["cap"] else ([], "")
    known = {
        "fill": fill,
        "names": await names_in(visit, fill, "affiliate"),
        "fill_problem": problem,
        "missing": _missing(row, parts["offer_url"], parts["goal"]),
        "link_href": with_query(LINKS, {"offer_id": row["id"]}),
        "reports_href": with_query(f"{ROOT}/reports", {"offer_id": row["id"]}),
        "zone": row["time_zone"],
    }
    return html("offer.html", visit, {**values, **known}, fault=fault)


async def _fill(visit: Visit) -> tuple[list[dict[str, Any]], str]:
    """How full the offer's caps are, or why that is not known now."""
    try:
        at = {"offer_id": visit.request.path_params["id"]}
        rows = (await ask(visit, "/offers/{offer_id}/cap-fill", at=at)).body["data"]
    except RefusedError as error:
        return [], error.fault.text
    named = [row | {"called": f"{row['counts']} {_PERIODS[row['period']]}"} for row in rows]
    return [row | {"meter": _meter(row)} for row in named], ""


def _meter(row: Row) -> Any:
    whose = "all affiliates" if row["affiliate_id"] is None else f"affiliate {row['affiliate_id']}"
    return charts.meter(f"{row['called']}, {whose}", Decimal(row["used"]), row["amount"])


class Missing(NamedTuple):
    """What an offer lacks, and the page where it is given."""

    text: str
    href: str
    step: str


def _missing(offer: Row, urls: list[Row], goals: list[Row]) -> list[Missing]:
    """What the offer lacks to take clicks, and to be paid for them."""
    href = _OFFER.address(_OFFER.place(offer))
    missing = []
    if not any(url["status"] == "active" for url in urls):
        text = "It has no active URL: its clicks have nowhere to go."
        missing.append(Missing(text, f"{href}/urls/new", "Add a URL"))
    if offer["status"] == "draft":
        text = "It is a draft: only test clicks are served."
        missing.append(Missing(text, f"{href}/edit", "Activate it when it is ready"))
    missing += [
        Missing(
            f"Goal {goal['id']} ({goal['name']}) has no price: its conversions wait on hold.",
            f"{href}/goals/{goal['id']}/edit",
            "Set its price",
        )
        for goal in goals
        if goal["status"] == "active" and not goal["is_priced"]
    ]
    return missing


async def show_copy(visit: Visit, form: Form, fault: Fault | None) -> Response:
    row = await current(visit, _OFFER)
    values = {
        "title": _OFFER.called(row),
        "trail": await trail(visit, _OFFER),
        "href": _OFFER.address(_OFFER.place(row)),
        "action": visit.path,
        "name": form.get("name", f"{row['name']} (copy)"),
    }
    return html("offer_copy.html", visit, values, fault=fault)


async def send_copy(visit: Visit, form: Form) -> Response:
    at = {"offer_id": visit.request.path_params["id"]}
    body = {"name": form.get("name", "")}
    answer = await ask(visit, "/offers/{offer_id}/copy", at=at, method="POST", body=body)
    return done(visit, _OFFER, answer.body)
