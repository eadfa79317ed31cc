"""Pages by which an admin sees what a partner sees."""

from __future__ import annotations

from typing import Final, get_args

from starlette.exceptions import HTTPException
from starlette.responses import Response

from tracker.dashboard.catalogue.names import with_ids
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import HOME, Page
from tracker.dashboard.visit import Visit
from tracker.domain import normalise
from tracker.domain.access import OwnerKind
from tracker.people import seeing
from tracker.people.seeing import NotAdminError, UnknownPartnerError
from tracker.people.sign_in import FieldError

PATH: Final = f"{ROOT}/see-as"

_KINDS: tuple[OwnerKind, ...] = get_args(OwnerKind)


async def _show(visit: Visit, form: Form, fault: Fault | None) -> Response:
    return html(
        "see_as.html", visit, {"kinds": _KINDS, "form": form or visit.request.query_params}, fault=fault
    )


async def _begin(visit: Visit, form: Form) -> Response:
    assert visit.session
    kind = next((kind for kind in _KINDS if kind == form.get("kind")), None)
    if kind is None:
        raise FieldError("kind", "is neither affiliate nor advertiser")
    form = await with_ids(visit, form, {"id": kind})
    try:
        await seeing.begin(visit.pool, visit.session, kind, _id(form.get("id", "")), visit.visitor)
    except NotAdminError:
        raise HTTPException(403, "Only administrators look as a partner.") from None
    except UnknownPartnerError:
        raise FieldError("id", f"matches no {kind}") from None
    return redirect(HOME)


async def _end(visit: Visit, _: Form) -> Response:
    assert visit.session
    await seeing.end(visit.pool, visit.session, visit.visitor)
    return redirect(HOME)


def _id(text: str) -> int:
    id_ = normalise.id_(text)
    if id_ is None:
        raise FieldError("id", "is not a number")
    return id_


pages = [
    Page(PATH, "signed in", _show, _begin, access=Access(("admin",), owners=(None,))),
    Page(f"{PATH}/end", "signed in", send=_end, changes_nothing=True),
]
