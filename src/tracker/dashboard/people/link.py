"""The page of a one-time link: an invitation, a reset, or the first admin's."""

from __future__ import annotations

from starlette.responses import Response

from tracker.dashboard.form import Form
from tracker.dashboard.html import Fault, html
from tracker.dashboard.page import Page
from tracker.dashboard.people.sign_in import enter
from tracker.dashboard.visit import Visit
from tracker.people import one_time_links
from tracker.people.one_time_links import PARAMETER, PATH
from tracker.people.passwords import SHORTEST
from tracker.people.sign_in import FieldError, LinkIsOverError


async def _show(visit: Visit, form: Form, fault: Fault | None) -> Response:
    secret = form.get(PARAMETER, "") or visit.request.query_params.get(PARAMETER, "")
    link = await one_time_links.find(visit.pool, secret)
    if link is None:
        return _over(visit)
    values = {"link": link, "secret": secret, "form": form, "shortest": SHORTEST}
    return html("link.html", visit, values, fault=fault)


async def _use(visit: Visit, form: Form) -> Response:
    password = form.get("password", "")
    if password != form.get("again", ""):
        raise FieldError("again", "is not the same as the first")
    names = {name: form.get(name, "") for name in ("email", "name")}
    try:
        secret = form.get(PARAMETER, "")
        signed_in = await visit.sign_in.with_link(secret, password, visit.visitor, **names)
    except LinkIsOverError:
        return _over(visit)
    return await enter(visit, signed_in)


def _over(visit: Visit) -> Response:
    return html("link_is_over.html", visit, {}, status=410)


pages = [Page(PATH, "anyone", _show, _use, is_private=True)]
