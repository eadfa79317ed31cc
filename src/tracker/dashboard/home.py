"""The first page after signing in: who one is to the network."""

from __future__ import annotations

from starlette.responses import Response

from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.page import HOME, Page
from tracker.dashboard.visit import Visit
from tracker.domain.access import ROLES


async def _show(visit: Visit, _: Form, fault: Fault | None) -> Response:
    assert visit.session
    return html("home.html", visit, {"about": ROLES[visit.session.role].about}, fault=fault)


async def _lead_home(_visit: Visit, _form: Form, _fault: Fault | None) -> Response:
    return redirect(HOME)


pages = [Page(HOME, "signed in", _show), Page(ROOT, "anyone", _lead_home)]
