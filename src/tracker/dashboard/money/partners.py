"""Pages of affiliates: offers that they may run or ask for, links, and their own postbacks.

The network decides about applications on a page here, too.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response

from tracker.dashboard.asking import RefusedError, ask, query_string
from tracker.dashboard.catalogue.names import address_with_ids, names_in
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.lists import PER_PAGE, listed
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import Page
from tracker.dashboard.visit import Visit
from tracker.domain import postback_macros
from tracker.domain.click_fields import AFF_SUBS
from tracker.domain.normalise import id_, trim
from tracker.people.seeing import token_of

OFFERS: Final = f"{ROOT}/own-offers"
LINKS: Final = f"{ROOT}/own-links"
POSTBACKS: Final = f"{ROOT}/own-postbacks"
APPLICATIONS: Final = f"{ROOT}/applications"

_AFFILIATES: Final = ("affiliate",)
_SEES_OFFERS = Access(scopes=("offers:read",), owners=_AFFILIATES)
_ASKS = Access(scopes=("applications:write",), owners=_AFFILIATES)
_SEES_POSTBACKS = Access(scopes=("own-postbacks:write", "conversions:read"), owners=_AFFILIATES)
_SAVES_POSTBACKS = Access(scopes=("own-postbacks:write",), owners=_AFFILIATES)
_SEES_APPLICATIONS = Access(scopes=("offers:read",), owners=(None,))
_DECIDES = Access(scopes=("offers:write",), owners=(None,))

_SUBS_SHOWN = 5
_OF_LINK = ("affiliate_id", *AFF_SUBS, "source", "url")
_LOG_FILTERS = ("state", "affiliate_postback_id", "conversion_id", "host")
_CHANGES: Final[dict[str, dict[str, object]]] = {
    "pause": {"status": "paused"},
    "activate": {"status": "active"},
    "archive": {"is_archived": True},
}
_STATUSES = (
    ("pending", "Pending"),
    ("hold", "On hold"),
    ("approved", "Approved"),
    ("rejected", "Rejected"),
)


def _own_ids(visit: Visit) -> tuple[int, ...]:
    """The affiliates of a session. It has to choose one if there are several."""
    assert visit.session
    owner = token_of(visit.session).owner
    return owner.ids if owner else ()


def _given(visit: Visit, form: Form, *names: str) -> dict[str, str]:
    given = form or visit.request.query_params
    return {name: given.get(name, "") for name in names}


def _chosen(visit: Visit, form: Form) -> dict[str, object]:
    """The affiliate that a form names, for the body of a request. Nothing if there is only one."""
    named = trim(form.get("affiliate_id", ""))
    return {"affiliate_id": id_(named) or named} if len(_own_ids(visit)) > 1 and named else {}


async def _show_offers(visit: Visit, form: Form, fault: Fault | None) -> Response:
    assert visit.session
    given = visit.request.query_params
    unless = None if form.get("offer_id") else fault
    offers, applications = await listed(visit, "/offers", ("q", "affiliate_id"), unless), None
    if unless is None:
        of_one = {"affiliate_id": given.get("affiliate_id", ""), "page": given.get("asked", "")}
        applications = (await ask(visit, "/applications", {**of_one, "per_page": PER_PAGE})).body
    values = {
        "offers": offers,
        "applications": applications,
        "own": _own_ids(visit),
        "may_ask": _ASKS.allows(visit.session),
        "done": given.get("done", "") == "asked",
        "address": lambda **other: f"{OFFERS}?{query_string({**offers.filters, **other})}",
        "zone": visit.settings.time_zone,
    }
    return html("own_offers.html", visit, values, fault=fault)


async def _apply(visit: Visit, form: Form) -> Response:
    body = {"offer_id": id_(form.get("offer_id", "")) or 0, "note": form.get("note", "")}
    named = {"affiliate_id": id_(form.get("affiliate_id", ""))} if form.get("affiliate_id") else {}
    await ask(visit, "/applications", method="POST", body={**body, **named})
    return redirect(f"{OFFERS}?done=asked")


async def _show_links(visit: Visit, _: Form, fault: Fault | None) -> Response:
    given = visit.request.query_params
    fields = {name: given.get(name, "") for name in ("offer_id", *_OF_LINK)}
    link = ""
    if fields["offer_id"] and fault is None:
        asked = {name: fields[name] for name in _OF_LINK}
        at = {"offer_id": fields["offer_id"]}
        try:
            link = (await ask(visit, "/offers/{offer_id}/link", asked, at=at)).body["link"]
        except RefusedError as error:
            if error.fault.status != 404:
                raise
            raise RefusedError(Fault(422, "is not one of your offers", "offer_id")) from None
    shown = [name for place, name in enumerate(AFF_SUBS) if place < _SUBS_SHOWN or fields[name]]
    values = {"fields": fields, "link": link, "own": _own_ids(visit), "subs": shown, "more": len(AFF_SUBS)}
    return html("own_links.html", visit, values, fault=fault)


async def _show_postbacks(
    visit: Visit, form: Form, fault: Fault | None, tested: dict[str, Any] | None = None
) -> Response:
    assert visit.session
    given = visit.request.query_params
    may_save = _SAVES_POSTBACKS.allows(visit.session)
    saved = (await ask(visit, "/postbacks", {"per_page": 200})).body if may_save else None
    log = await listed(visit, "/sent-postbacks", _LOG_FILTERS, None if form else fault)
    hidden = postback_macros.OF_MONEY if visit.session.hides_money else frozenset()
    values = {
        "saved": saved,
        "log": log,
        "fields": _given(visit, form, "affiliate_id", "url", "offer_id", "goal_id"),
        "chosen": form.all("statuses") or ["approved"],
        "statuses": _STATUSES,
        "own": _own_ids(visit),
        "tested": tested,
        "tested_id": form.get("id", "") if tested else "",
        "macros": sorted(postback_macros.MACROS.keys() - hidden),
        "done": given.get("done", ""),
        "zone": visit.settings.time_zone,
    }
    return html("own_postbacks.html", visit, values, fault=fault)


async def _send_postback(visit: Visit, form: Form) -> Response:
    do, at = form.get("do", ""), {"id": form.get("id", "")}
    if do == "save":
        await ask(visit, "/postbacks", method="POST", body=_postback(visit, form))
        return redirect(f"{POSTBACKS}?done=saved")
    if do == "test":
        tested = await ask(visit, "/postbacks/{id}/test", at=at, method="POST", body={})
        return await _show_postbacks(visit, form, None, tested.body)
    if do not in _CHANGES:
        raise RefusedError(Fault(422, "Choose what to do."))
    await ask(visit, "/postbacks/{id}", at=at, method="PATCH", body=_CHANGES[do])
    return redirect(f"{POSTBACKS}?done=changed")


def _postback(visit: Visit, form: Form) -> dict[str, object]:
    ids = {name: trim(form.get(name, "")) for name in ("offer_id", "goal_id")}
    named = {name: id_(text) or text for name, text in ids.items() if text}
    return {"url": form.get("url", ""), "statuses": form.all("statuses"), **named, **_chosen(visit, form)}


async def _show_applications(visit: Visit, form: Form, fault: Fault | None) -> Response:
    assert visit.session
    if fault is None and (address := await address_with_ids(visit)):
        return redirect(address)
    given = visit.request.query_params
    filters = {"status": given.get("status", "pending"), "affiliate_id": given.get("affiliate_id", "")}
    answer = None
    if fault is None or form.get("do"):
        asked = {name: value for name, value in filters.items() if value != "all"}
        paged = {**asked, "page": given.get("page", ""), "per_page": PER_PAGE}
        answer = (await ask(visit, "/applications", paged)).body
    rows = answer["data"] if answer else []
    values = {
        "answer": answer,
        "names": await names_in(visit, rows, "affiliate"),
        "filters": filters,
        "chosen": form.all("pairs"),
        "reason": form.get("reason", ""),
        "may_decide": _DECIDES.allows(visit.session),
        "done": id_(given.get("done", "")),
        "address": lambda **other: f"{APPLICATIONS}?{query_string({**filters, **other})}",
        "zone": visit.settings.time_zone,
    }
    return html("applications.html", visit, values, fault=fault)


async def _decide(visit: Visit, form: Form) -> Response:
    """Approve or decline applications: each is a change of the terms of an offer and an affiliate."""
    status, pairs = form.get("do", ""), form.all("pairs")
    if status not in ("approved", "rejected") or not pairs:
        raise RefusedError(Fault(422, "Choose one or more applications first.", "pairs"))
    for pair in pairs:
        offer_id, _, affiliate_id = pair.partition("-")
        at = {"offer_id": offer_id, "affiliate_id": affiliate_id}
        body = {"status": status, "reason": form.get("reason", "")}
        await ask(visit, "/offers/{offer_id}/affiliates/{affiliate_id}", at=at, method="PATCH", body=body)
    return redirect(f"{APPLICATIONS}?done={len(pairs)}")


pages = [
    Page(OFFERS, "signed in", _show_offers, _apply, access=_SEES_OFFERS),
    Page(LINKS, "signed in", _show_links, access=_SEES_OFFERS),
    Page(POSTBACKS, "signed in", _show_postbacks, _send_postback, access=_SEES_POSTBACKS),
    Page(APPLICATIONS, "signed in", _show_applications, _decide, access=_SEES_APPLICATIONS),
]
