"""Pages of the audit trail: who changed what, and a change set back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson
from starlette.responses import Response
from starlette.routing import Match

from tracker.api.tokens import TokenChange
from tracker.catalogue.resource import MONEY, Resource
from tracker.catalogue.resources import RESOURCES
from tracker.catalogue.validation import replacing
from tracker.dashboard.asking import RefusedError, ask
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.lists import listed
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import Page
from tracker.dashboard.visit import Visit
from tracker.people.editing import UserFields
from tracker.people.seeing import token_of
from tracker.store.people.users import USERS
from tracker.store.tokens import TOKENS

PATH: Final = f"{ROOT}/audit"

_ACCESS = Access(scopes=("offers:read",), owners=(None,), shows_money=True)
_FILTERS = ("at_from", "at_to", "under", "path", "resource", "action", "user_id", "token_id")
_BRIEF = 3  # changed fields of an entry in the list
_LONGEST = 80  # characters of a value there
_NOISE = ("id", "version")
_CHANGED_BY_PATCH = (
    *RESOURCES,
    Resource("tokens", "token", TOKENS, TokenChange, scope="admin"),
    Resource("users", "user", USERS, UserFields, scope="admin"),
)
_RESOURCES = {resource.table.name: resource for resource in _CHANGED_BY_PATCH}
_ASKS = 409
_ALERTS = "alerts"


class Difference(NamedTuple):
    """A field that changed. A value that is not there is None, and so is null."""

    field: str
    before: str | None
    after: str | None


class Plan(NamedTuple):
    """What it takes to set a change back."""

    patch: Mapping[str, Any]
    differences: Sequence[Difference]
    touched: Sequence[str]  # fields that others changed after the change
    etag: str  # of the object as it is now


async def _show_list(visit: Visit, _: Form, fault: Fault | None) -> Response:
    changes = await listed(visit, "/audit", _FILTERS, fault)
    rows = [
        change
        | {"brief": _brief(change), "page": _page_of(visit, change["path"]), "author": _author_of(change)}
        for change in changes.rows
    ]
    actions = [("", "Any"), ("create", "created"), ("update", "changed"), ("delete", "deleted")]
    values = {"changes": changes, "rows": rows, "actions": actions, "zone": visit.settings.time_zone}
    return html("audit.html", visit, values, fault=fault)


async def _show_one(visit: Visit, _: Form, fault: Fault | None) -> Response:
    change = await _change(visit)
    values = {
        "change": change,
        "differences": differences(change["before"], change["after"]),
        "page": _page_of(visit, change["path"]),
        "author": _author_of(change),
        "may_go_back": _may_go_back(visit, change),
        "was_set_back": visit.request.query_params.get("done") == "back",
        "zone": visit.settings.time_zone,
    }
    return html("change.html", visit, values, fault=fault)


async def _show_back(visit: Visit, form: Form, fault: Fault | None) -> Response:
    change = await _change(visit)
    plan = await _plan(visit, change)
    confirmable = _RESOURCES[change["resource"]].confirmable
    is_asked = fault is not None and fault.status == _ASKS
    values = {
        "change": change,
        "plan": plan,
        "asked": [
            name for name in plan.patch if fault and is_asked and name in confirmable and fault.of(name)
        ],
        "confirmed": form.all("confirm"),
        "zone": visit.settings.time_zone,
    }
    return html("change_back.html", visit, values, fault=fault)


async def _set_back(visit: Visit, form: Form) -> Response:
    """Set a change back as it was shown: the API refuses if the object was changed since."""
    change = await _change(visit)
    plan = await _plan(visit, change)
    confirmed = ",".join(form.all("confirm"))
    await ask(
        visit,
        f"/{change['path']}",
        {"confirm": confirmed},
        method="PATCH",
        body=dict(plan.patch),
        headers={"If-Match": form.get("etag", "")},
    )
    return redirect(f"{PATH}/{change['id']}?done=back")


async def _change(visit: Visit) -> dict[str, Any]:
    change: dict[str, Any] = (
        await ask(visit, "/audit/{id}", at={"id": visit.request.path_params["id"]})
    ).body
    return change


def _may_go_back(visit: Visit, change: Mapping[str, Any]) -> bool:
    """Whether a change has fields that this session may set to their values before."""
    assert visit.session
    resource, fields = _RESOURCES.get(change["resource"]), _fields(change)
    if resource is None or visit.session.seen_as:
        return False
    scopes = {MONEY if name in resource.money else resource.scope for name in fields}
    return bool(fields) and all(map(token_of(visit.session).allows, scopes))


def _fields(change: Mapping[str, Any]) -> list[str]:
    """The fields that a change changed, and that can be written."""
    before, after = change["before"] or {}, change["after"] or {}
    resource = _RESOURCES.get(change["resource"])
    columns = resource.table.columns if resource else ()
    return [name for name in columns if name in before and name in after and before[name] != after[name]]


async def _plan(visit: Visit, change: Mapping[str, Any]) -> Plan:
    """What sets a change back, from the object as it is now.

    Raises:
        RefusedError: 404 for a change that cannot be set back, or whose object is gone.
    """
    if not _may_go_back(visit, change):
        raise RefusedError(Fault(404, "This change cannot be set back here."))
    now = await ask(visit, f"/{change['path']}")
    wanted = {name: change["before"][name] for name in _fields(change)}
    patch = {
        name: replacing(now.body[name], value) for name, value in wanted.items() if now.body[name] != value
    }
    touched = [name for name in patch if now.body[name] != change["after"][name]]
    shown = differences(now.body, {**now.body, **wanted})
    return Plan(patch, shown, touched, now.etag)


def differences(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[Difference]:
    """The fields in which two objects differ. Of a new or a deleted object, those that have a value."""
    old, new = before or {}, after or {}
    names = [name for name in dict.fromkeys((*old, *new)) if name not in _NOISE]
    pairs = [(name, old.get(name), new.get(name)) for name in names]
    return [
        Difference(name, _text(one), _text(other))
        for name, one, other in pairs
        if one != other and (one not in _EMPTY or other not in _EMPTY or (before and after))
    ]


_EMPTY: tuple[Any, ...] = (None, "", [], {}, False)


def _text(value: Any) -> str | None:
    """A value for people. None for null."""
    match value:
        case None:
            return None
        case str():
            return value or '""'
        case list() if all(isinstance(one, (str, int)) for one in value):
            return ", ".join(map(_in_list, value)) or "[]"
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _in_list(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _brief(change: Mapping[str, Any]) -> list[str]:
    """A few words on what an entry changed."""
    before, after = change["before"], change["after"]
    found = differences(before, after)
    texts = [
        f"{one.field}: {_cut(one.before)} → {_cut(one.after)}"
        if before and after
        else f"{one.field}: {_cut(one.after or one.before)}"
        for one in found[:_BRIEF]
    ]
    return texts + ([f"and {len(found) - _BRIEF} more"] if len(found) > _BRIEF else [])


def _cut(text: str | None) -> str:
    plain = " ".join((text if text is not None else "nothing").split())
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}…"


def _author_of(change: Mapping[str, Any]) -> str:
    """The page of the author. "" for the command line."""
    if change["user_id"] is not None:
        return f"{ROOT}/users/{change['user_id']}"
    return f"{ROOT}/tokens/{change['token_id']}" if change["token_id"] is not None else ""


def _page_of(visit: Visit, path: str) -> str:
    """The page of the object at a path of the trail, or of the nearest one above it. "" without one."""
    parts = path.split("/")
    if parts[0] == _ALERTS:
        parts = parts[2:]  # the alert's kind goes before its object
    for end in range(len(parts), 1, -1):
        address = f"{ROOT}/{quote('/'.join(parts[:end]))}"
        if _has_page(visit, address):
            return address
    return ""


def _has_page(visit: Visit, address: str) -> bool:
    scope = {"type": "http", "method": "GET", "path": address, "root_path": ""}
    routes: Iterable[Any] = visit.request.app.routes
    return any(route.matches(scope)[0] is Match.FULL for route in routes)


pages = [
    Page(PATH, "signed in", _show_list, access=_ACCESS),
    Page(f"{PATH}/{{id}}", "signed in", _show_one, access=_ACCESS),
    Page(f"{PATH}/{{id}}/back", "signed in", _show_back, _set_back, access=_ACCESS),
]
