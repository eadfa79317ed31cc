"""Pages of users: who may sign in, invitations, rights, links for a new password, and sessions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from tracker.dashboard.asking import Answer, ask
from tracker.dashboard.catalogue.names import OF_PARTIES, address_with_ids, names_of_partners, with_ids
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.lists import ids_of, listed
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import Page
from tracker.dashboard.people.open_sessions import browser_of
from tracker.dashboard.visit import Visit
from tracker.domain.access import ROLES
from tracker.people.one_time_links import LASTS

PATH: Final = f"{ROOT}/users"
NEW: Final = f"{PATH}/new"

_ADMINS = Access(scopes=("admin",), owners=(None,))
_FILTERS = ("q", "role", "is_disabled", "affiliate_id", "advertiser_id", "sort")
_FIELDS = ("email", "name", "role", "affiliate_ids", "advertiser_ids", "hides_money")
_ROLES = [(name, f"{name}: {role.about}") for name, role in ROLES.items()]
_DAY = timedelta(days=1)


async def _show_list(visit: Visit, _: Form, fault: Fault | None) -> Response:
    if fault is None and (address := await address_with_ids(visit)):
        return redirect(address)
    users = await listed(visit, "/users", _FILTERS, fault)
    values = {
        "users": users,
        "partners": await names_of_partners(visit, users.rows),
        "roles": [("", "Any"), *((name, name) for name in ROLES)],
        "was_deleted": visit.request.query_params.get("done") == "deleted",
        "zone": visit.settings.time_zone,
    }
    return html("users.html", visit, values, fault=fault)


async def _show_new(visit: Visit, form: Form, fault: Fault | None) -> Response:
    given = visit.request.query_params  # a page of a partner may name it
    typed = {name: form.get(name, given.get(name, "")) for name in _FIELDS}
    return html("user_new.html", visit, {"typed": typed, "roles": _ROLES, "names": _FIELDS}, fault=fault)


async def _invite(visit: Visit, form: Form) -> Response:
    return _link(
        visit, await ask(visit, "/users", method="POST", body=await _fields(visit, form)), "invitation"
    )


async def _show_one(visit: Visit, form: Form, fault: Fault | None) -> Response:
    user = (await ask(visit, "/users/{id}", at=_place(visit))).body
    sessions = (await ask(visit, "/users/{id}/sessions", at=_place(visit))).body["data"]
    typed = {name: form.get(name, "") for name in _FIELDS} if form.get("do") == "save" else _typed(user)
    values = {
        "user": user,
        "partners": await names_of_partners(visit, [user]),
        "stored": _typed(user),
        "typed": typed,
        "names": _FIELDS,
        "roles": _ROLES,
        "sessions": [row | {"browser": browser_of(row["user_agent"])} for row in sessions],
        "done": visit.request.query_params.get("done", ""),
        "zone": visit.settings.time_zone,
    }
    return html("user.html", visit, values, fault=fault)


async def _act(visit: Visit, form: Form) -> Response:
    act = {
        "save": _save,
        "enable": _switch,
        "disable": _switch,
        "reset": _reset,
        "end": _end_sessions,
        "delete": _delete,
    }.get(form.get("do", ""))
    if act is None:
        raise HTTPException(400, "The form cannot be read.")
    return await act(visit, form)


async def _save(visit: Visit, form: Form) -> Response:
    return await _change(visit, form, await _fields(visit, form), "saved")


async def _switch(visit: Visit, form: Form) -> Response:
    is_disabled = form["do"] == "disable"
    return await _change(visit, form, {"is_disabled": is_disabled}, "disabled" if is_disabled else "enabled")


async def _change(visit: Visit, form: Form, fields: Mapping[str, Any], done: str) -> Response:
    headers = {"If-Match": f'"{form.get("version", "")}"'}
    await ask(visit, "/users/{id}", at=_place(visit), method="PATCH", body=fields, headers=headers)
    return redirect(f"{visit.path}?done={done}")


async def _reset(visit: Visit, form: Form) -> Response:
    wanted = {"second_factor": form.get("second_factor") == "yes"}
    made = await ask(visit, "/users/{id}/reset", at=_place(visit), method="POST", body=wanted)
    return _link(visit, made, "reset" if made.body["has_password"] else "invitation")


async def _end_sessions(visit: Visit, form: Form) -> Response:
    """End one session of the user, or all."""
    place, path = _place(visit), "/users/{id}/sessions"
    if form.get("session") != "all":
        place, path = place | {"session_id": form.get("session", "")}, f"{path}/{{session_id}}"
    await ask(visit, path, at=place, method="DELETE")
    return redirect(f"{visit.path}?done=ended")


async def _delete(visit: Visit, form: Form) -> Response:
    """Delete the user once that was confirmed."""
    user = (await ask(visit, "/users/{id}", at=_place(visit))).body
    if form.get("confirmed") != "yes":
        return html("user_delete.html", visit, {"user": user})
    await ask(visit, "/users/{id}", at=_place(visit), method="DELETE")
    return redirect(f"{PATH}?done=deleted")


def _link(visit: Visit, made: Answer, purpose: str) -> Response:
    """The page with a one-time link, which is shown only in this answer.

    Without TRACKER_DASHBOARD_URL it begins as the address at which the admin reaches the pages.
    """
    link: str = made.body["link"]
    if not visit.settings.dashboard_url:
        link = visit.origin + link.removeprefix(visit.settings.dashboard)
    lasts = LASTS["invitation" if purpose == "invitation" else "reset"]
    text = f"{lasts // _DAY} days" if lasts >= _DAY else f"{lasts // timedelta(minutes=1)} minutes"
    return html("user_link.html", visit, {"user": made.body, "link": link, "purpose": purpose, "lasts": text})


async def _fields(visit: Visit, form: Form) -> dict[str, Any]:
    """The fields of a user as the API takes them.

    Raises:
        RefusedError: a partner has no such name.
        FieldError: a partner is no id.
    """
    form = await with_ids(visit, form, OF_PARTIES)
    return {
        **{name: form.get(name, "") for name in ("email", "name", "role")},
        **{name: ids_of(name, form.get(name, "")) for name in OF_PARTIES},
        "hides_money": form.get("hides_money") == "yes",
    }


def _typed(user: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a user as they are typed."""
    return {
        **{name: user[name] for name in ("email", "name", "role")},
        **{name: ", ".join(map(str, user[name])) for name in OF_PARTIES},
        "hides_money": "yes" if user["hides_money"] else "",
    }


def _place(visit: Visit) -> dict[str, object]:
    return {"id": visit.request.path_params["id"]}


pages = [
    Page(PATH, "signed in", _show_list, access=_ADMINS),
    Page(NEW, "signed in", _show_new, _invite, access=_ADMINS),
    Page(f"{PATH}/{{id}}", "signed in", _show_one, _act, access=_ADMINS),
]
