"""The page of one conversion: its history, its money, its click, and the postbacks in and out."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response

from tracker.dashboard.asking import ask
from tracker.dashboard.form import Form
from tracker.dashboard.html import Fault, html, redirect
from tracker.dashboard.money.statements import BOOKS
from tracker.dashboard.page import Page
from tracker.dashboard.traffic.conversions import LIST, READS, may_write
from tracker.dashboard.visit import Visit
from tracker.people.seeing import token_of

_ONE: Final = "/conversions/{id}"
_FIRST_KEYS: Final = ("changes", "entries", "corrections")


async def _show(visit: Visit, form: Form, fault: Fault | None) -> Response:
    assert visit.session
    id_ = visit.request.path_params["id"]
    source = {"source": visit.request.query_params.get("source", "")}
    answer = await ask(visit, _ONE, source, at={"id": id_})
    row = answer.body["data"][0]
    is_network = token_of(visit.session).owner is None
    asked = {"conversion_id": row["id"], "per_page": 50}
    values = {
        "row": row,
        "complete_until": answer.complete_until,
        "others": {name: value for name, value in row.items() if name not in _FIRST_KEYS},
        "came": (await ask(visit, "/postbacks", asked)).body["data"] if is_network else [],
        "sent": (await ask(visit, "/sent-postbacks", asked)).body["data"] if is_network else [],
        "is_network": is_network,
        "may_write": may_write(visit),
        "may_correct": BOOKS.allows(visit.session),
        "given": form,
        "told": visit.request.query_params.get("told", ""),
        "zone": visit.settings.time_zone,
    }
    return html("conversion.html", visit, values, fault=fault)


async def _change(visit: Visit, form: Form) -> Response:
    """Set the status, or the sale."""
    names = ("status", "sale_amount", "currency", "sale_status")
    body: dict[str, Any] = {name: form[name] for name in names if form.get(name)}
    id_ = visit.request.path_params["id"]
    await ask(visit, _ONE, at={"id": id_}, method="PATCH", body=body)
    return redirect(f"{LIST}/{id_}?told=changed")


pages = [Page(f"{LIST}/{{id}}", "signed in", _show, _change, access=READS)]
