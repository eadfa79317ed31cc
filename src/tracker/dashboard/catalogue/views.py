"""Lists and pages of the catalogue's objects, made from the declarations of their kinds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from tracker.api.catalogue import query_model
from tracker.catalogue.offers import OFFERS
from tracker.dashboard.asking import Answer, ask
from tracker.dashboard.catalogue.fields import Control, controls_of
from tracker.dashboard.catalogue.kinds import KINDS, OF_PEOPLE, Kind, Listed, filled, with_query
from tracker.dashboard.catalogue.names import address_with_ids, names_by_id
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.navigation import Access
from tracker.dashboard.visit import Visit
from tracker.store.catalogue.edit import Row

PER_PAGE: Final = 50
_PARTS = 20  # rows of a part that an object's page shows
_FIRST_FILTERS = frozenset({"q", "status", "tag", "is_archived"})


async def show_list(kind: Kind, visit: Visit, form: Form, fault: Fault | None) -> Response:
    sent = form if fault else Form(visit.request.query_params.multi_items())
    query = {name: value for name, value in sent.items() if value}
    at, filters = visit.request.path_params, _filters(kind)
    named = {one.name: one.names for one in filters if one.names}
    if not fault and (address := await address_with_ids(visit, named)):
        return redirect(address)
    answer = Answer({"data": [], "total": 0, "page": 1, "pages": 0}, "", "")
    if not fault:
        answer = await ask(visit, kind.api, {"per_page": PER_PAGE, **query}, at=at)
    first = _FIRST_FILTERS if kind.resource.table.searched else {one.name for one in filters}
    body, number = answer.body, answer.body["page"]
    values = {
        "kind": kind,
        "trail": await trail(visit, kind),
        "path": visit.path,
        "filters": [one for one in filters if one.name in first],
        "more_filters": [one for one in filters if one.name not in first],
        "sent": Form(query.items()),
        "table": await table_of(visit, kind, body["data"]),
        "total": body["total"],
        "before": with_query(visit.path, query | {"page": number - 1}) if number > 1 else "",
        "after": with_query(visit.path, query | {"page": number + 1}) if number < body["pages"] else "",
        "sorts": _sorts(visit, kind, query),
        "may_create": allows(visit, kind.creates),
        "is_filtered": bool(query),
    }
    return html("catalogue_list.html", visit, values, fault=fault)


async def table_of(visit: Visit, kind: Kind, rows: list[Row]) -> dict[str, Any]:
    """A table of objects."""
    names = await names_by_id(visit, kind.named_by(rows))
    may_change = allows(visit, kind.changes)
    listed: list[Listed] = [kind.listed(row, names, may_change=may_change) for row in rows]
    return {"kind": kind, "headings": kind.headings(rows), "rows": listed}


_QUERIES = {kind.resource.name: query_model(kind.resource) for kind in KINDS}


def _filters(kind: Kind) -> list[Control]:
    left_out = {"page", "per_page", "sort", "id"}
    known = [one for one in controls_of(_QUERIES[kind.resource.name]()) if one.name not in left_out]
    controls = [one._replace(names=kind.table_named_by(one.name)) for one in known]
    return sorted(controls, key=lambda one: (one.name != "q", one.name == "is_archived"))


def _sorts(visit: Visit, kind: Kind, query: Mapping[str, str]) -> dict[str, str]:
    """Where the headings of sorted columns lead."""
    if not kind.resource.table.searched:
        return {}
    now = query.get("sort", "id")
    wanted = {name: f"-{name}" if now == name else name for name in ("id", "name")}
    kept = {name: value for name, value in query.items() if name != "page"}
    return {name: with_query(visit.path, kept | {"sort": sort}) for name, sort in wanted.items()}


def allows(visit: Visit, access: Access) -> bool:
    assert visit.session
    return access.allows(visit.session) and not visit.session.seen_as


# One object


async def show_one(kind: Kind, visit: Visit, _form: Form, fault: Fault | None) -> Response:
    row = await current(visit, kind)
    return html("catalogue_one.html", visit, await values_of_one(visit, kind, row), fault=fault)


async def values_of_one(visit: Visit, kind: Kind, row: Row) -> dict[str, Any]:
    place = kind.place(row)
    names = await names_by_id(visit, kind.named_by([row]))
    return {
        "kind": kind,
        "row": row,
        "title": kind.called(row),
        "trail": await trail(visit, kind),
        "facts": kind.facts(row, names),
        "href": kind.address(place),
        "copy_href": _copy_of(kind, row),
        "listed": kind.listed(row, names, may_change=allows(visit, kind.changes)),
        "may_change": allows(visit, kind.changes),
        "may_create": allows(visit, kind.creates),
        "parts": [await _part(visit, part, row) for part in kind.children if part.is_read_by(visit)],
        "audit": with_query(f"{ROOT}/audit", {"path": kind.address(place).removeprefix(f"{ROOT}/")}),
    }


def _copy_of(kind: Kind, row: Row) -> str:
    """The address of the page that copies an object."""
    place = kind.place(row)
    if kind.resource is OFFERS:
        return kind.address(place, "copy")
    return with_query(f"{filled(kind.path, place)}/new", {"from": row.get(kind.resource.table.key)})


async def _part(visit: Visit, part: Kind, row: Row) -> dict[str, Any]:
    """The first rows of one kind of part."""
    at = {part.resource.table.parent: row["id"]}
    body = (await ask(visit, part.api, {"per_page": _PARTS}, at=at)).body
    href = part.path.replace(f"{{{part.resource.table.parent}}}", str(row["id"]))
    return {
        "table": await table_of(visit, part, body["data"]),
        "rows": body["data"],
        "total": body["total"],
        "href": href,
        "may_create": allows(visit, part.creates) and not row.get("is_archived"),
    }


async def current(visit: Visit, kind: Kind) -> Row:
    """The object of the page's address."""
    row: Row = (await ask(visit, kind.api_one, at=visit.request.path_params)).body
    return row


async def trail(visit: Visit, kind: Kind) -> list[tuple[str, str]]:
    """The addresses and names of the pages above, the highest first."""
    steps: list[tuple[str, str]] = []
    parent = kind.parent
    if parent is None:
        return [(f"{ROOT}/catalogue", "Catalogue")] if kind.resource.path not in OF_PEOPLE else []
    id_ = visit.request.path_params[kind.resource.table.parent]
    if parent.resource.table.parent:  # its own parent is not in this address
        return [(f"{ROOT}/offers", "Offers")]
    row = (await ask(visit, parent.api_one, at={"id": id_})).body
    steps += [(parent.path, parent.plural), (parent.address({"id": id_}), parent.called(row))]
    return steps
