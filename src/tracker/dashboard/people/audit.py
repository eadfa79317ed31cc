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
from tracker.dashboard.catalogue.fields import shown
from tracker.dashboard.catalogue.kinds import KINDS, Kind, Names
from tracker.dashboard.catalogue.names import OF_PARTIES, names_by_id
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.lists import listed
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import Page
from tracker.dashboard.visit import Visit
from tracker.dashboard.words import label_of
from tracker.people.editing import UserFields
from tracker.people.seeing import token_of
from tracker.reading.marks import subject
from tracker.store.catalogue.edit import Row
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
_KINDS = {kind.resource.table.name: kind for kind in KINDS}
_NOUNS: Final[Mapping[str, str]] = {
    "user_account": "user",
    "user_session": "session",
    "report_share": "shared report",
    "manual_entry": "entry",
    "conversion_correction": "correction",
    "affiliate_postback_test": "test of a postback",
}
"""What people call things that are not of the catalogue, where their tables have other names."""
_OTHERS: Final = (
    *("conversion", "dead_letter", "import", "note", "period_close", "saved_view", "token", "webhook"),
)
_RESOURCES = {resource.table.name: resource for resource in _CHANGED_BY_PATCH}
_ASKS = 409
_ALERTS = "alerts"


class Side(NamedTuple):
    """A value of a field, for people and as the API has it."""

    text: str  # "" for nothing
    href: str  # the page of what it names
    raw: str


class Difference(NamedTuple):
    """A field that changed."""

    field: str
    label: str
    before: Side
    after: Side


class Plan(NamedTuple):
    """What it takes to set a change back."""

    patch: Mapping[str, Any]
    differences: Sequence[Difference]
    touched: Sequence[str]  # fields that others changed after the change
    etag: str  # of the object as it is now


async def _show_list(visit: Visit, _: Form, fault: Fault | None) -> Response:
    changes = await listed(visit, "/audit", _FILTERS, fault)
    names = await _names(visit, changes.rows)
    rows = [
        change
        | {"brief": _brief(change, names), "thing": _thing(change)}
        | {"page": _page_of(visit, change["path"]), "author": _author_of(change)}
        for change in changes.rows
    ]
    asked = changes.filters["resource"]
    kinds = sorted({*_KINDS, *_NOUNS, *_OTHERS, *filter(None, [asked])}, key=_noun)
    actions = [("", "Any"), ("create", "created"), ("update", "changed"), ("delete", "deleted")]
    values = {
        "changes": changes,
        "rows": rows,
        "actions": actions,
        "kinds": [("", "Any"), *((name, _noun(name)) for name in kinds)],
        "zone": visit.settings.time_zone,
    }
    return html("audit.html", visit, values, fault=fault)


async def _show_one(visit: Visit, _: Form, fault: Fault | None) -> Response:
    change = await _change(visit)
    values = {
        "change": change,
        "thing": _thing(change),
        "differences": differences(
            change["resource"], change["before"], change["after"], await _names(visit, [change])
        ),
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
        "thing": _thing(change),
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
    then = {**now.body, **wanted}
    resource: str = change["resource"]
    names = await _names(visit, [{"resource": resource, "before": now.body, "after": then}])
    touched = [
        one.label for one in differences(resource, change["after"], now.body, names) if one.field in patch
    ]
    return Plan(patch, differences(resource, now.body, then, names), touched, now.etag)


def differences(resource: str, before: Row | None, after: Row | None, names: Names) -> list[Difference]:
    """The fields in which two objects differ. Of a new or a deleted object, those that have a value."""
    old, new = before or {}, after or {}
    columns = [name for name in dict.fromkeys((*old, *new)) if name not in _NOISE]
    kind = _KINDS.get(resource)
    return [
        Difference(
            name,
            kind.label(name) if kind else label_of(name),
            _side(kind, name, old, names),
            _side(kind, name, new, names),
        )
        for name in columns
        if old.get(name) != new.get(name)
        and (old.get(name) not in _EMPTY or new.get(name) not in _EMPTY or (before and after))
    ]


_EMPTY: tuple[Any, ...] = (None, "", [], {}, False)


def _side(kind: Kind | None, name: str, row: Row, names: Names) -> Side:
    value = row.get(name)
    raw = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    if value in (None, "", [], {}):
        return Side("", "", raw)
    if kind is None:
        return Side(_shown(name, value, names), "", raw)
    cell = kind.cell(name, row, names)
    return Side(cell.text, cell.href, raw)


def _shown(name: str, value: Any, names: Names) -> str:
    """A value of what is not of the catalogue. Ids of partners have their names."""
    if name in OF_PARTIES:
        return ", ".join(names.get((OF_PARTIES[name], id_), str(id_)) for id_ in value)
    return shown(value)


async def _names(visit: Visit, changes: Iterable[Mapping[str, Any]]) -> Names:
    """The names of the objects that changes name."""
    ids: dict[str, list[int]] = {}
    for change in changes:
        rows = [row for row in (change["before"], change["after"]) if row]
        kind = _KINDS.get(change["resource"])
        named = (
            kind.named_by(rows)
            if kind
            else {
                table: [id_ for row in rows for id_ in row.get(name) or ()]
                for name, table in OF_PARTIES.items()
            }
        )
        for table, some in named.items():
            ids.setdefault(table, []).extend(some)
    return await names_by_id(visit, {table: dict.fromkeys(some) for table, some in ids.items()})


def _thing(change: Mapping[str, Any]) -> str:
    """What was changed: Offer 3 (Puzzle Quest), Cap 4 of offer 3."""
    return subject(_noun(change["resource"]), change["path"], change["after"] or change["before"] or {})


def _noun(resource: str) -> str:
    kind = _KINDS.get(resource)
    return kind.noun if kind else _NOUNS.get(resource, resource.replace("_", " "))


def _brief(change: Mapping[str, Any], names: Names) -> list[str]:
    """A few words on what an entry changed."""
    before, after = change["before"], change["after"]
    found = differences(change["resource"], before, after, names)
    texts = [
        f"{one.label}: {_cut(one.before.text)} → {_cut(one.after.text)}"
        if before and after
        else f"{one.label}: {_cut(one.after.text or one.before.text)}"
        for one in found[:_BRIEF]
    ]
    return texts + ([f"and {len(found) - _BRIEF} more"] if len(found) > _BRIEF else [])


def _cut(text: str) -> str:
    plain = " ".join((text or "nothing").split())
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
