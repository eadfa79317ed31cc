"""The assistant that tests an offer: a link, its steps turning green, and the advertiser's postback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from tracker.dashboard.asking import Answer, ask
from tracker.dashboard.catalogue.kinds import kind_of
from tracker.dashboard.catalogue.links import OF_LINK
from tracker.dashboard.catalogue.names import name_at, names_in, names_of, with_ids
from tracker.dashboard.form import Form, number_or_text
from tracker.dashboard.html import HEADERS, ROOT, Fault, html, redirect
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import Page
from tracker.dashboard.traffic.conversions import may_write
from tracker.dashboard.visit import Visit

TEST: Final = f"{ROOT}/test"

_READS: Final = Access(scopes=("conversions:read",), owners=(None,))
_IDS: Final = ("offer_id", "affiliate_id", "offer_url_id", "goal_id")
_SAID: Final = (
    ("status", "Status", "Such as approved. Without one it is as the goal says."),
    ("order_id", "Order id", ""),
    ("sale_amount", "Sale amount", ""),
    ("currency", "Currency", ""),
    ("goal", "Goal", "Its code or name, if it is another than that of the test."),
    ("secret", "Advertiser's secret", "To test it too. Without it you vouch for the postback."),
)

_NAMES: Final = {"secret": "token"}  # a form's token is that of its session


async def _show(visit: Visit, form: Form, fault: Fault | None) -> Response:
    runs = (await ask(visit, "/test-runs")).body["data"]
    given = form or Form(visit.request.query_params.multi_items())
    values = {
        "runs": runs,
        "names": await names_in(visit, runs, *OF_LINK.values()),
        "given": given,
        "offers": await names_of(visit, kind_of("offer")),
        "affiliates": await names_of(visit, kind_of("affiliate")),
        "may_write": may_write(visit),
        "zone": visit.settings.time_zone,
    }
    return html("tests.html", visit, values, fault=fault)


async def _create(visit: Visit, form: Form) -> Response:
    form = await with_ids(visit, form, OF_LINK)
    body: dict[str, Any] = {name: number_or_text(form[name]) for name in _IDS if form.get(name)}
    if form.get("aff_sub"):
        body["aff_sub"] = form["aff_sub"]
    run = (await ask(visit, "/test-runs", method="POST", body=body)).body
    return redirect(f"{TEST}/{run['id']}")


async def _show_run(visit: Visit, form: Form, fault: Fault | None) -> Response:
    return await _page(visit, form, fault=fault)


async def _page(
    visit: Visit, form: Form, *, fault: Fault | None = None, fired: Mapping[str, Any] | None = None
) -> Response:
    """The steps of a test. `fired`: what an edge answered to its postback, if that was just fired."""
    answer = await _run(visit)
    values = {
        "run": answer.body,
        "offer": await name_at(visit, "offer", answer.body["offer_id"]),
        "affiliate": await name_at(visit, "affiliate", answer.body["affiliate_id"]),
        "goal": await _goal(visit, answer.body),
        "said": _SAID,
        "given": form or Form([("order_id", f"test-{answer.body['id']}")]),
        "fired": fired,
        "may_write": may_write(visit),
        "complete_until": answer.complete_until,
        "zone": visit.settings.time_zone,
    }
    return html("test_run.html", visit, values, fault=fault)


async def _goal(visit: Visit, run: Mapping[str, Any]) -> str:
    """The name of the goal of a test. "" if it is the offer's base goal."""
    if not run["goal_id"]:
        return ""
    at = {"offer_id": run["offer_id"], "id": run["goal_id"]}
    name: str = (await ask(visit, kind_of("goal").api_one, at=at)).body["name"]
    return name


async def _run(visit: Visit) -> Answer:
    return await ask(visit, "/test-runs/{id}", at={"id": visit.request.path_params["id"]})


async def _show_states(visit: Visit, _form: Form, _fault: Fault | None) -> Response:
    """The states of the steps, which the page's module asks for until one has changed."""
    run = (await _run(visit)).body
    states = [step["state"] for step in run["steps"]]
    return JSONResponse({"states": states, "postbacks": len(run["postbacks"])}, headers=dict(HEADERS))


async def _fire(visit: Visit, form: Form) -> Response:
    id_ = visit.request.path_params["id"]
    body = {_NAMES.get(name, name): form[name] for name, *_ in _SAID if form.get(name)}
    fired = (await ask(visit, "/test-runs/{id}/postback", at={"id": id_}, method="POST", body=body)).body
    return await _page(visit, form, fired=fired)


pages = [
    Page(TEST, "signed in", _show, _create, access=_READS),
    Page(f"{TEST}/{{id}}", "signed in", _show_run, _fire, access=_READS),
    Page(f"{TEST}/{{id}}/states", "signed in", _show_states, access=_READS, is_file=True),
]
