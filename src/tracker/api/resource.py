"""Endpoints of the catalogue's objects, made from one declaration each.

List, get, create, change and delete are the same for all of them. A change is read, checked, written and
noted in one transaction, so two at once come one after the other, and the second sees the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field, create_model
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.auth import authorize
from tracker.api.click_query import Bool, PageNumber, PerPage, Query, read_query, without_defaults_of_null
from tracker.api.fields import Fields, is_host
from tracker.api.json_body import JSON, MERGE_PATCH, check_storable, merged, read_object, validated
from tracker.api.openapi import SHOWN, answers, documented
from tracker.api.paging import envelope
from tracker.api.problems import SECURITY_HEADERS, Problem, invalid
from tracker.store import managed
from tracker.store.managed import Author, Row, Table, TakenError
from tracker.store.pool import Connection, Pool

ROOT = "/backend/open-api/v1/users"

READ, WRITE = "offers:read", "offers:write"

_ID = re.compile(r"[1-9][0-9]{0,17}")
_ETAG = re.compile(r'(W/)?"([^"]*)"')
_TAG = "Management"
_CHANGES = (400, 401, 403, 404, 409, 412, 413, 415, 422, 503)


class Resource(NamedTuple):
    """What there is to say about one kind of object."""

    path: str  # under ROOT, with the parent's id as {offer_id}
    noun: str  # as in "one offer"
    table: Table
    fields: type[Fields]
    filters: Mapping[str, Any] = {}  # parameters of the list, by column: types of click_query

    @property
    def name(self) -> str:
        return self.fields.__name__

    @property
    def list_query(self) -> type[Query]:
        named: dict[str, Any] = {
            column: (type_, Field(None, description=f"Those with this {column}."))
            for column, type_ in self.filters.items()
        }
        if self.table.can_archive:
            named["is_archived"] = (Bool, Field(False, description="The archived ones, or the others."))
        return create_model(f"{self.name}Query", __base__=PageQuery, **named)


class PageQuery(Query):
    """Which part of a list."""

    per_page: PerPage = Field(default=200, description="Objects in a page.")
    page: PageNumber = Field(default=1, description="Page, from 1.")


class IfMatch(BaseModel):
    """What a change is conditional on."""

    model_config = ConfigDict(json_schema_extra=without_defaults_of_null)

    if_match: str | None = Field(
        None, alias="If-Match", description="The ETag of what is to be changed; 412 where it is another now."
    )


class Version(Fields):
    """The version that a change was made for."""

    version: int | None = None


def routes_of(resource: Resource) -> list[BaseRoute]:
    """The endpoints of a resource."""
    path = f"{ROOT}/{resource.path}"
    shown = _shown_model(resource)
    if not resource.table.key:
        return [Route(path, _endpoint(_get(resource, shown), _change(resource, shown)))]
    return [
        Route(path, _endpoint(_list(resource, shown), _create(resource, shown))),
        Route(
            f"{path}/{{{resource.table.key}}}",
            _endpoint(_get(resource, shown), _change(resource, shown), _delete(resource)),
        ),
    ]


def as_json(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, {**SECURITY_HEADERS, **(headers or {})}, JSON)


def read_id(text: str) -> int | None:
    """An id in a path; None where it is none."""
    return int(text) if _ID.fullmatch(text) else None


# What requests do


async def list_rows(request: Request, table: Table, query: PageQuery, place: Row) -> Response:
    """A page of a table: the rows of a place that the query's other parameters ask for."""
    asked = query.model_dump(exclude={"page", "per_page"}, exclude_none=True)
    number = query.page or 1
    page = await managed.page(request.app.state.pool, table, {**place, **asked}, number, query.per_page)
    return as_json(envelope(page, per_page=query.per_page, number=number))


async def _create_row(request: Request, resource: Resource, author: Author) -> Row:
    given = await read_object(request, JSON)
    check_storable(given)
    place = _place(request, resource.table.parent)
    fields = _fields(resource, given)
    async with managed.changing(request.app.state.pool) as connection:
        await _check_parent(connection, place)
        await _check_references(connection, resource.table, {**place, **fields}, {})
        try:
            row = await managed.insert(connection, resource.table, {**place, **fields})
        except TakenError:
            raise _taken(resource.table) from None
        await managed.note(connection, author, resource.table, _path(resource, row), None, row)
    return row


async def _change_row(request: Request, resource: Resource, author: Author) -> Row:
    given = await read_object(request, JSON, MERGE_PATCH)
    check_storable(given)
    return await _changed(request, resource, author, given)


async def _delete_row(request: Request, resource: Resource, author: Author) -> None:
    if resource.table.can_archive:
        await _changed(request, resource, author, {"is_archived": True})
        return
    place = _place(request, *resource.table.fixed)
    async with managed.changing(request.app.state.pool) as connection:
        row = _found(await managed.locked(connection, resource.table, place), resource)
        _check_version(request, None, row)
        await managed.delete(connection, resource.table, place)
        await managed.note(connection, author, resource.table, _path(resource, row), row, None)


async def _changed(request: Request, resource: Resource, author: Author, given: Row) -> Row:
    table = resource.table
    place = _place(request, *table.fixed)
    async with managed.changing(request.app.state.pool) as connection:
        before = _found(await managed.locked(connection, table, place), resource)
        _check_version(request, validated({"version": given.pop("version", None)}, Version).version, before)
        _check_fixed(table, before, given)
        writable = {column: before[column] for column in table.columns}
        fields = _fields(resource, merged(writable, given))
        if fields == writable:
            return before
        await _check_change(connection, table, before, fields)
        try:
            after = await managed.update(connection, table, place, fields)
        except TakenError:
            raise _taken(table) from None
        await managed.note(connection, author, table, _path(resource, after), before, after)
    return after


# What is checked


def _fields(resource: Resource, given: Row) -> Row:
    fields = validated(given, resource.fields)
    clashes = fields.clashes()
    if clashes:
        raise invalid({field: [message] for field, message in clashes.items()})
    return fields.model_dump()


def _check_version(request: Request, version: int | None, row: Row) -> None:
    """A change of what is not current any more is refused.

    Raises:
        Problem: 412 by If-Match, 409 by the body's version.
    """
    current = row["version"]
    errors = {"version": [f"is {current} now"]}
    if "if-match" in request.headers and not _matches(
        ", ".join(request.headers.getlist("if-match")), current
    ):
        detail = f"It was changed since: its version is {current} now."
        raise Problem(412, detail, errors=errors, headers={"ETag": _etag(row)})
    if version not in (None, current):
        detail = f"It was changed since version {version}: its version is {current} now."
        raise Problem(409, detail, errors=errors, headers={"ETag": _etag(row)})


def _matches(condition: str, version: int) -> bool:
    """Whether If-Match holds (RFC 9110, section 13.1.1): weak tags never match."""
    return condition.strip() == "*" or ("", str(version)) in _ETAG.findall(condition)


def _check_fixed(table: Table, before: Row, given: Row) -> None:
    """What names a row may be said again, not changed."""
    changed = [name for name in table.fixed if given.get(name, before[name]) != before[name]]
    if changed:
        raise invalid({name: ["cannot be changed"] for name in changed})
    for name in set(table.fixed) - set(table.columns):
        given.pop(name, None)


async def _check_change(connection: Connection, table: Table, before: Row, fields: Row) -> None:
    is_restored = before.get("is_archived") and not fields["is_archived"]
    known = {} if is_restored else before
    await _check_references(connection, table, {**before, **fields}, known)
    if fields.get("is_archived") and not before["is_archived"]:
        users = await managed.users(connection, table, before["id"])
        if users:
            detail = f"It is still needed by {', '.join(users)}."
            raise Problem(409, detail, errors={"is_archived": [f"is needed by {', '.join(users)}"]})


async def _check_references(connection: Connection, table: Table, row: Row, known: Row) -> None:
    """Whom a row names must be there, unless it named them before.

    Raises:
        Problem: 422 naming the fields.
    """
    errors = {}
    for column, target, other_than in table.references:
        id_ = row[column]
        if not id_ or id_ == known.get(column):  # 0: every affiliate
            continue
        if other_than and id_ == row.get(other_than):
            errors[column] = ["is the offer itself"]
        elif not await managed.exists(connection, target, id_):
            errors[column] = [f"is of no {target}"]
    if errors:
        raise invalid(errors)


async def _check_parent(source: Pool | Connection, place: Row, *, or_archived: bool = False) -> None:
    if place and not await managed.exists(source, "offer", place["offer_id"], or_archived=or_archived):
        raise Problem(404, "There is no such offer.", errors={"offer_id": ["is of no offer"]})


def _taken(table: Table) -> Problem:
    detail = f"There is another one with the same {', '.join(table.unique)}."
    return Problem(409, detail, errors={column: ["is taken"] for column in table.unique})


# Where things are


def _place(request: Request, *columns: str) -> Row:
    """The columns that a path gives.

    Raises:
        Problem: 404 where one is no id.
    """
    place: Row = {}
    for column in filter(None, columns):
        text = request.path_params[column]
        place[column] = _read_host(text) if column == "host" else read_id(text)
        if place[column] is None:
            raise Problem(404, f"There is none with the {column} {text[:50]!r}.")
    return place


def _read_host(text: str) -> str | None:
    return text if is_host(text) else None


def _found(row: Row | None, resource: Resource) -> Row:
    if row is None:
        raise Problem(404, f"There is no such {resource.noun}.")
    return row


def _path(resource: Resource, row: Row) -> str:
    collection = resource.path.format_map(row)
    return f"{collection}/{row[resource.table.key]}" if resource.table.key else collection


def _etag(row: Row) -> str:
    return f'"{row["version"]}"'


# What is documented


def _shown_model(resource: Resource) -> type[BaseModel]:
    """An object as it is answered: what is written, what names it, and its version."""
    fixed: dict[str, Any] = {
        column: (str if column == "host" else int, Field(description="Names it; never changes."))
        for column in resource.table.fixed
    }
    fixed["version"] = (int, Field(description="Another one after each change; the ETag, too."))
    model: type[BaseModel] = create_model(
        f"{resource.name}{SHOWN}", __base__=resource.fields, __doc__=f"One {resource.noun}.", **fixed
    )
    model.model_config["json_schema_extra"] = _always_whole
    return model


def _always_whole(schema: dict[str, Any]) -> None:
    """What is answered has every field, and may have more one day."""
    del schema["additionalProperties"]
    schema["required"] = list(schema["properties"])
    for field in schema["properties"].values():
        field.pop("default", None)


def _list_model(resource: Resource, shown: type[BaseModel]) -> type[BaseModel]:
    return listed(f"{resource.name}List", shown)


def listed(name: str, shown: type[BaseModel]) -> type[BaseModel]:
    """The envelope of a list."""
    return create_model(
        name,
        __doc__="A page of a list.",
        data=(list[shown], ...),  # type: ignore[valid-type]
        total=(int, Field(description="All of the filter, exactly.", examples=[1])),
        per_page=(int, Field(examples=[200])),
        page=(int, Field(examples=[1])),
        pages=(int, Field(examples=[1])),
    )


def _patch_model(resource: Resource) -> type[BaseModel]:
    """What may be changed: every field may be left out, null sets it back."""
    fields: dict[str, Any] = {}
    for name, field in resource.fields.model_fields.items():
        about = Field(description=field.description, examples=field.examples)
        fields[name] = (Annotated[field.annotation, about, *field.metadata] | None, None)
    return create_model(
        f"{resource.name}Patch",
        __config__=ConfigDict(extra="forbid", json_schema_extra=without_defaults_of_null),
        __doc__="A merge patch (RFC 7396): what is left out stays, null sets back to the default.",
        **fields,
        version=(int | None, Field(None, description="409 where it is another now.")),
    )


_HOW_CHANGED = """\
A merge patch (RFC 7396): what is left out stays as it is. With If-Match or `version` a change that was made
for another version than the current one is refused; without them it is made to whatever is current."""

_Handler = tuple[str, Callable[..., Any]]
"""A method of HTTP in lower case, and what answers it."""


def _endpoint(*handlers: _Handler) -> type[HTTPEndpoint]:
    return type("Endpoint", (HTTPEndpoint,), dict(handlers))


def _document(
    resource: Resource, method: str, action: str, text: str, handler: Callable[..., Any], **more: Any
) -> _Handler:
    """Registers a handler with the API's document; the text is its summary and description."""
    handler.__doc__ = text
    descriptions = {
        "offer_id": "The offer's id.",
        resource.table.key: f"Which {resource.noun}: its {resource.table.key}.",
    }
    decorate = documented.validate(
        tags=[_TAG],
        operation_id=f"{action}_{resource.noun.lower().replace(' ', '_')}",
        path_parameter_descriptions=descriptions,
        skip_validation=True,
        **more,
    )
    return method, decorate(handler)


def _list(resource: Resource, shown: type[BaseModel]) -> _Handler:
    query_model = resource.list_query

    async def list_(_self: HTTPEndpoint, request: Request) -> Response:
        await authorize(request, READ)
        query = read_query(request, query_model)
        place = _place(request, resource.table.parent)
        await _check_parent(request.app.state.pool, place, or_archived=True)
        assert isinstance(query, PageQuery)
        return await list_rows(request, resource.table, query, place)

    answer = answers(_list_model(resource, shown), 401, 403, 404, 422, 503)
    return _document(resource, "get", "list", f"List: {resource.noun}", list_, query=query_model, resp=answer)


def _create(resource: Resource, shown: type[BaseModel]) -> _Handler:
    async def create(_self: HTTPEndpoint, request: Request) -> Response:
        token = await authorize(request, WRITE)
        read_query(request, Query)
        row = await _create_row(request, resource, Author(token.id, token.name))
        location = f"{ROOT}/{_path(resource, row)}"
        return as_json(row, 201, {"Location": location, "ETag": _etag(row)})

    errors = tuple(status for status in _CHANGES if status != 412)
    answer = answers(shown, *errors, status=201)
    return _document(
        resource, "post", "create", f"Create: {resource.noun}", create, json=resource.fields, resp=answer
    )


def _get(resource: Resource, shown: type[BaseModel]) -> _Handler:
    async def get(_self: HTTPEndpoint, request: Request) -> Response:
        await authorize(request, READ)
        read_query(request, Query)
        place = _place(request, *resource.table.fixed)
        row = _found(await managed.one(request.app.state.pool, resource.table, place), resource)
        return as_json(row, headers={"ETag": _etag(row)})

    answer = answers(shown, 401, 403, 404, 422, 503)
    return _document(resource, "get", "get", f"Get: {resource.noun}", get, resp=answer)


def _change(resource: Resource, shown: type[BaseModel]) -> _Handler:
    async def change(_self: HTTPEndpoint, request: Request) -> Response:
        token = await authorize(request, WRITE)
        read_query(request, Query)
        row = await _change_row(request, resource, Author(token.id, token.name))
        return as_json(row, headers={"ETag": _etag(row)})

    return _document(
        resource,
        "patch",
        "change",
        f"Change: {resource.noun}\n\n{_HOW_CHANGED}",
        change,
        json=_patch_model(resource),
        headers=IfMatch,
        resp=answers(shown, *_CHANGES),
    )


def _delete(resource: Resource) -> _Handler:
    async def delete(_self: HTTPEndpoint, request: Request) -> Response:
        token = await authorize(request, WRITE)
        read_query(request, Query)
        await _delete_row(request, resource, Author(token.id, token.name))
        return Response(status_code=204, headers=SECURITY_HEADERS)

    kept = "It is archived: edges do not know it any more, clicks and reports do."
    what = kept if resource.table.can_archive else "It is gone; the audit trail says what it was."
    return _document(
        resource,
        "delete",
        "delete",
        f"Delete: {resource.noun}\n\n{what}",
        delete,
        headers=IfMatch,
        resp=answers(None, 401, 403, 404, 409, 412, 422, 503, status=204),
    )
