"""Lists and pages of the catalogue's objects, made from the declarations of their kinds."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

from tracker.api.catalogue import query_model
from tracker.catalogue.offers import OFFERS
from tracker.dashboard.asking import Answer, RefusedError, ask
from tracker.dashboard.catalogue.fields import Control, controls_of
from tracker.dashboard.catalogue.kinds import OF_PEOPLE, Kind, Listed, filled, kind_of, with_query
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html
from tracker.dashboard.navigation import Access
from tracker.dashboard.visit import Visit
from tracker.domain.normalise import trim
from tracker.store.catalogue.edit import Row

PER_PAGE: Final = 50
_PARTS = 20  # rows of a part that an object's page shows
_FIRST_FILTERS = frozenset({"q", "status", "tag", "is_archived"})
_MOST_NAMES = 200  # objects that a field suggests
_FILTERS = {f"{table}_id": table for table in ("offer", "affiliate", "advertiser")}


async def show_list(kind: Kind, visit: Visit, form: Form, fault: Fault | None) -> Response:
    sent = form if fault else Form(visit.request.query_params.multi_items())
    query = {name: value for name, value in sent.items() if value}
    at = visit.request.path_params
    answer = Answer({"data": [], "total": 0, "page": 1, "pages": 0}, "", "")
    if not fault:
        answer = await ask(visit, kind.api, {"per_page": PER_PAGE, **query}, at=at)
    filters = _filters(kind)
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
    names = await names_in(visit, kind, rows)
    may_change = allows(visit, kind.changes)
    listed: list[Listed] = [kind.listed(row, names, may_change=may_change) for row in rows]
    return {"kind": kind, "headings": kind.headings(rows), "rows": listed}


def _filters(kind: Kind) -> list[Control]:
    left_out = {"page", "per_page", "sort", "id"}
    controls = [one for one in controls_of(query_model(kind.resource)) if one.name not in left_out]
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
    names = await names_in(visit, kind, [row])
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
        "parts": [await _part(visit, part, row) for part in kind.children if allows_to_read(visit, part)],
        "audit": with_query(f"{ROOT}/audit", {"path": kind.address(place).removeprefix(f"{ROOT}/")}),
    }


def _copy_of(kind: Kind, row: Row) -> str:
    """The address of the page that copies an object."""
    place = kind.place(row)
    if kind.resource is OFFERS:
        return kind.address(place, "copy")
    return with_query(f"{filled(kind.path, place)}/new", {"from": row.get(kind.resource.table.key)})


def allows_to_read(visit: Visit, kind: Kind) -> bool:
    assert visit.session
    return kind.reads.allows(visit.session)


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


async def names_in(visit: Visit, kind: Kind, rows: list[Row]) -> dict[tuple[str, int], str]:
    """The names of the objects that rows name, archived or not."""
    found: dict[tuple[str, int], str] = {}
    for table, ids in kind.named_by(rows).items():
        for archived in ("false", "true"):
            query = {"id": ids, "is_archived": archived, "per_page": _MOST_NAMES}
            body = (await ask(visit, kind_of(table).api, query)).body
            found |= {(table, row["id"]): row["name"] for row in body["data"]}
    return found


async def names_of(visit: Visit, kind: Kind) -> list[tuple[int, str]]:
    """Ids and names of the first objects of a kind, by name. None of parts of others."""
    if kind.resource.table.parent:
        return []
    body = (await ask(visit, kind.api, {"per_page": _MOST_NAMES, "sort": "name"})).body
    return [(row["id"], row["name"]) for row in body["data"]]


async def name_at(visit: Visit, table: str, id_: int) -> str:
    """The name of one object. A number alone is easily that of another one."""
    name: str = (await ask(visit, kind_of(table).api_one, at={"id": id_})).body["name"]
    return name


async def with_ids(visit: Visit, form: Form, tables: Mapping[str, str]) -> Form:
    """A form in whose fields a person may write an object's whole name instead of its id: with the ids.

    `tables`: the table of each such field.

    Raises:
        RefusedError: no object has such a name, or several have it.
    """
    ids: dict[str, str] = {}
    wrong: dict[str, str] = {}
    for field, table in tables.items():
        try:
            ids[field] = await _id_of(visit, kind_of(table), trim(form.get(field, "")))
        except ValueError as error:
            wrong[field] = str(error)
    if wrong:
        raise RefusedError(Fault(HTTPStatus.UNPROCESSABLE_ENTITY, "Some names are not known.", fields=wrong))
    return Form((name, ids.get(name) or value) for name in form for value in form.all(name))


async def _id_of(visit: Visit, kind: Kind, text: str) -> str:
    """The id that a name means. A text without a letter is ids. Without a search, a text stays as it is."""
    if not any(map(str.isalpha, text)) or not kind.resource.table.searched:
        return text
    body = (await ask(visit, kind.api, {"q": text, "per_page": _MOST_NAMES})).body
    ids = [str(row["id"]) for row in body["data"] if row["name"].casefold() == text.casefold()]
    if len(ids) == 1:
        return ids[0]
    if not ids:
        raise ValueError(f"no {kind.noun} has this name or id")
    raise ValueError(f"{len(ids)} {kind.plural.lower()} have this name: write the id, {' or '.join(ids)}")


async def address_with_ids(visit: Visit) -> str:
    """The address of a list whose filters say names: with their ids. "" if it has no names.

    A partner does not search the catalogue. Its filters are ids.

    Raises:
        RefusedError: no object has such a name, or several have it.
    """
    sent = Form(visit.request.query_params.multi_items())
    tables = {name: table for name, table in _FILTERS.items() if allows_to_read(visit, kind_of(table))}
    found = await with_ids(visit, sent, tables)
    return with_query(visit.path, {name: found.all(name) for name in found}) if found != sent else ""
