"""Forms of the catalogue's objects, made from the declarations of their kinds.

A form has the version that it began with. If others saved meanwhile, it is asked which values are meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

from tracker.catalogue.resource import WARNINGS
from tracker.catalogue.validation import replacing
from tracker.dashboard.asking import Answer, RefusedError, ask
from tracker.dashboard.catalogue import rule_rows
from tracker.dashboard.catalogue.fields import Control, beside, form_of, shown, written
from tracker.dashboard.catalogue.kinds import Kind, kind_of
from tracker.dashboard.catalogue.names import names_of, with_ids
from tracker.dashboard.catalogue.views import current, trail
from tracker.dashboard.form import TOKEN, Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.page import page_of
from tracker.dashboard.visit import Visit
from tracker.store.catalogue.edit import Row

_AUDITED = 200  # changes among which the version is looked for that a form began with
_OWN: Final = frozenset({TOKEN, "do", "version", "confirm"})
_KEEP = "keep_"


async def show_new(kind: Kind, visit: Visit, form: Form, fault: Fault | None) -> Response:
    controls = kind.controls(visit, is_new=True)
    state = form or await _first_state(visit, kind, controls)
    values = {"title": f"New {kind.noun}", "row": None, "button": "Create"}
    return await _form_page(visit, kind, controls, state, fault, values)


async def _first_state(visit: Visit, kind: Kind, controls: list[Control]) -> Form:
    """The fields of a new object: defaults, or those of another one, and what the address says."""
    query = visit.request.query_params
    row: Row = {}
    if source := query.get("from"):
        at = {**visit.request.path_params, kind.resource.table.key: source}
        row = (await ask(visit, kind.api_one, at=at)).body
        row |= dict.fromkeys(kind.resource.table.exclusive)
    said = {one.name for one in controls if one.name in query}
    rest = [one for one in controls if one.name not in said]
    return Form([*form_of(rest, row).pairs, *(pair for pair in query.multi_items() if pair[0] in said)])


async def send_new(kind: Kind, visit: Visit, form: Form) -> Response:
    controls = [one for one in kind.controls(visit, is_new=True) if not one.is_locked]
    if form.get("do") == "rule":
        return await show_new(kind, visit, form, None)
    body = await _read(visit, controls, form)
    plain = {one.name: one.default for one in controls}
    body = {name: value for name, value in body.items() if value != plain[name]}
    row = (await _change(visit, kind, controls, "POST", kind.api, body)).body
    return done(visit, kind, row)


async def show_edit(kind: Kind, visit: Visit, form: Form, fault: Fault | None) -> Response:
    row = await current(visit, kind)
    controls = kind.controls(visit, is_new=False)
    locked = [one for one in controls if one.is_locked]
    sent = form.pairs or [*form_of(controls, row).pairs, ("version", str(row["version"]))]
    state = Form([*sent, *(form_of(locked, row).pairs if form else ())])
    values = {"title": f"Change {kind.called(row)}", "row": row, "button": "Save"}
    return await _form_page(visit, kind, controls, state, fault, values)


async def send_edit(kind: Kind, visit: Visit, form: Form) -> Response:
    """Save what was changed. If others saved meanwhile, ask which values are meant."""
    if form.get("do") == "rule":
        return await show_edit(kind, visit, form, None)
    controls = [one for one in kind.controls(visit, is_new=False) if not one.is_locked]
    row = await current(visit, kind)
    if form.get("version") != str(row["version"]):
        return await _ask_which(visit, kind, controls, form, row)
    body = {
        name: replacing(row.get(name), value)
        for name, value in (await _read(visit, controls, form)).items()
        if value != row.get(name) and form.get(_KEEP + name) != "now"
    }
    if not body:
        return redirect(kind.address(kind.place(row)))
    query = {"confirm": ",".join(form.all("confirm"))}
    sent = {**body, "version": row["version"]}
    answer = await _change(visit, kind, controls, "PATCH", kind.api_one, sent, query)
    return done(visit, kind, answer.body)


async def _read(visit: Visit, controls: list[Control], form: Form) -> dict[str, Any]:
    """The values of a form.

    Raises:
        RefusedError: texts cannot be read.
    """
    form = await with_ids(visit, form, {one.name: one.names for one in controls if one.names})
    values, wrong = written(controls, form)
    if wrong:
        raise RefusedError(
            Fault(HTTPStatus.UNPROCESSABLE_ENTITY, "Some fields cannot be read.", fields=wrong)
        )
    return values


async def _change(
    visit: Visit,
    kind: Kind,
    controls: list[Control],
    method: str,
    path: str,
    body: Row,
    query: Mapping[str, str] | None = None,
) -> Answer:
    try:
        at = visit.request.path_params
        return await ask(visit, path, query or {}, at=at, method=method, body=body)
    except RefusedError as error:
        raise RefusedError(beside(error.fault, {one.name for one in controls})) from None


def done(visit: Visit, kind: Kind, row: Row, then: str = "") -> Response:
    """Another page, or the object's, after what is said only now."""
    href = kind.address(kind.place(row))
    secrets = {name: row[name] for name in kind.resource.only_when_new if row.get(name)}
    if not row.get(WARNINGS) and not secrets:
        return redirect(then or href)
    values = {"kind": kind, "title": kind.called(row), "href": href, "notes": row.get(WARNINGS) or []}
    return html("catalogue_saved.html", visit, {**values, "secrets": secrets})


async def _form_page(
    visit: Visit,
    kind: Kind,
    controls: list[Control],
    state: Form,
    fault: Fault | None,
    values: Mapping[str, Any],
) -> Response:
    row = values["row"]
    of_rules = [one.name for one in controls if one.kind == "rules"]
    known = {
        "kind": kind,
        "trail": await trail(visit, kind),
        "action": visit.path,
        "back": kind.address(kind.place(row)) if row else visit.path.removesuffix("/new"),
        "controls": controls,
        "state": state,
        "rules": {name: rule_rows.rows(name, state, and_one=True) for name in of_rules},
        "rule_names": rule_rows.RULES,
        "suggested": await _suggested(visit, controls),
        "asked": _asked(kind, fault),
        **values,
    }
    return html("catalogue_form.html", visit, known, fault=fault)


def _asked(kind: Kind, fault: Fault | None) -> dict[str, str]:
    """The effects of a change that must be confirmed, by field."""
    if fault is None or fault.status != HTTPStatus.CONFLICT:
        return {}
    texts = {name: fault.of(name) for name in kind.resource.confirmable}
    return {name: text.partition(" To change it")[0] for name, text in texts.items() if text}


async def _suggested(visit: Visit, controls: list[Control]) -> dict[str, list[tuple[int, str]]]:
    """Ids and names to choose from, by table."""
    tables = {one.names for one in controls if one.names and not one.is_locked}
    return {table: await names_of(visit, kind_of(table)) for table in sorted(tables)}


# A form that began with an earlier version


async def _ask_which(visit: Visit, kind: Kind, controls: list[Control], form: Form, row: Row) -> Response:
    """Both values of each field that differs. What only others changed stays as they saved it."""
    mine = await _read(visit, controls, form)
    before = await _row_at(visit, kind, form.get("version", ""))
    differing = [
        {
            "name": one.name,
            "label": one.label,
            "mine": shown(mine[one.name]),
            "now": shown(row.get(one.name)),
            "is_mine": one.name not in before or mine[one.name] != before[one.name],
        }
        for one in controls
        if one.name in mine and mine[one.name] != row.get(one.name)
    ]
    fields = [pair for pair in form.pairs if pair[0] not in _OWN and not pair[0].startswith(_KEEP)]
    values = {
        "kind": kind,
        "title": kind.called(row),
        "href": kind.address(kind.place(row)),
        "action": visit.path,
        "differing": differing,
        "fields": fields,
        "version": row["version"],
    }
    return html("catalogue_stale.html", visit, values, status=HTTPStatus.CONFLICT)


async def _row_at(visit: Visit, kind: Kind, version: str) -> Row:
    """The object with an earlier version, from the audit trail. Empty if it is not there."""
    path = visit.path.removeprefix(f"{ROOT}/").removesuffix("/edit")
    rows = (await ask(visit, "/audit", {"path": path, "per_page": _AUDITED})).body["data"]
    for change in rows:
        before: Row | None = change["before"]
        if before and str(before.get("version")) == version:
            return before
    return {}


# Other statuses


async def send_status(kind: Kind, visit: Visit, form: Form, /) -> Response:
    body = {"status": form.get("status", "")}
    at = visit.request.path_params
    answer = await ask(visit, kind.api_one, at=at, method="PATCH", body=body)
    return done(visit, kind, answer.body, page_of(form.get("then", "")))


async def send_restore(kind: Kind, visit: Visit, _: Form, /) -> Response:
    at = visit.request.path_params
    answer = await ask(visit, kind.api_one, at=at, method="PATCH", body={"is_archived": False})
    return done(visit, kind, answer.body)
