"""Pages of the catalogue: of each kind of object a list, an object, its forms and its archive."""

from __future__ import annotations

from functools import partial
from typing import Final

from starlette.responses import Response

from tracker.catalogue.offers import OFFERS
from tracker.dashboard.asking import ask
from tracker.dashboard.catalogue.forms import (
    send_edit,
    send_new,
    send_restore,
    send_status,
    show_edit,
    show_new,
)
from tracker.dashboard.catalogue.kinds import KINDS, OF_PEOPLE, Kind, kind_of
from tracker.dashboard.catalogue.offer import send_copy, show_copy, show_offer
from tracker.dashboard.catalogue.views import current, show_list, show_one, trail
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import Page
from tracker.dashboard.visit import Visit

PROBLEMS: Final = f"{ROOT}/catalogue/problems"
_PROBLEMS_ARE_SEEN_BY = Access(("admin",), (None,))
_WORST_FIRST = ("fail", "warn", "ok")


async def show_archive(kind: Kind, visit: Visit, _form: Form, fault: Fault | None) -> Response:
    row = await current(visit, kind)
    goes = []
    for part in kind.children:
        if part.is_read_by(visit):
            at = {part.resource.table.parent: row["id"]}
            total = (await ask(visit, part.api, {"per_page": 1}, at=at)).body["total"]
            goes.append((total, part.plural))
    values = {
        "kind": kind,
        "title": kind.called(row),
        "trail": await trail(visit, kind),
        "href": kind.address(kind.place(row)),
        "action": visit.path,
        "goes": [(total, noun) for total, noun in goes if total],
        "facts": kind.facts(row, {}),
    }
    return html("catalogue_archive.html", visit, values, fault=fault)


async def send_archive(kind: Kind, visit: Visit, _: Form) -> Response:
    at = visit.request.path_params
    await ask(visit, kind.api_one, at=at, method="DELETE")
    return redirect(visit.path.rpartition("/")[0].rpartition("/")[0])


async def show_kinds(visit: Visit, _form: Form, fault: Fault | None) -> Response:
    kinds = [
        kind
        for kind in KINDS
        if not kind.resource.table.parent and kind.resource.path not in OF_PEOPLE and kind.is_read_by(visit)
    ]
    sees_problems = visit.session is not None and _PROBLEMS_ARE_SEEN_BY.allows(visit.session)
    values = {"kinds": kinds, "problems": PROBLEMS if sees_problems else ""}
    return html("catalogue_kinds.html", visit, values, fault=fault)


async def show_problems(visit: Visit, _form: Form, fault: Fault | None) -> Response:
    """What edges leave out of the catalogue, and what does not do what it should."""
    findings = (await ask(visit, "/findings", {"only": "catalogue"})).body["data"]
    findings.sort(key=lambda finding: _WORST_FIRST.index(finding["level"]))
    return html("catalogue_problems.html", visit, {"findings": findings}, fault=fault)


def _pages_of(kind: Kind) -> list[Page]:
    edit = Page(
        f"{kind.one}/edit",
        "signed in",
        partial(show_edit, kind),
        partial(send_edit, kind),
        access=kind.changes,
    )
    show = show_offer if kind.resource is OFFERS else partial(show_one, kind)
    one = Page(kind.one, "signed in", show, access=kind.reads)
    if not kind.resource.table.key:
        return [edit, one]
    new = Page(
        f"{kind.path}/new", "signed in", partial(show_new, kind), partial(send_new, kind), access=kind.creates
    )
    archive = Page(
        f"{kind.one}/archive",
        "signed in",
        partial(show_archive, kind),
        partial(send_archive, kind),
        access=kind.creates,
    )
    listed = Page(kind.path, "signed in", partial(show_list, kind), access=kind.reads)
    return [listed, new, edit, archive, *_targets(kind), one]


def _targets(kind: Kind) -> list[Page]:
    """The targets of buttons."""
    targets = {"status": send_status} if kind.statuses else {}
    if kind.resource.table.can_archive:
        targets["restore"] = send_restore
    return [
        Page(f"{kind.one}/{name}", "signed in", send=partial(send, kind), access=kind.changes)
        for name, send in targets.items()
    ]


pages = [
    Page(f"{ROOT}/catalogue", "signed in", show_kinds, access=KINDS[0].reads),
    Page(PROBLEMS, "signed in", show_problems, access=_PROBLEMS_ARE_SEEN_BY),
    *(page for kind in KINDS for page in _pages_of(kind)),
    Page(f"{kind_of('offer').one}/copy", "signed in", show_copy, send_copy, access=kind_of("offer").creates),
]
