"""Endpoints of the catalogue's objects, made from one declaration each: list, get, create, change, delete."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.http.auth import authorize
from tracker.api.http.body import JSON, MERGE_PATCH, read_object
from tracker.api.http.endpoint import SHOWN, documented, needs, responses
from tracker.api.http.paging import envelope
from tracker.api.http.problems import SECURITY_HEADERS
from tracker.api.http.query import (
    Bool,
    PageNumber,
    PerPage,
    Query,
    read_query,
    without_defaults_of_null,
    words,
)
from tracker.catalogue.resource import (
    MONEY,
    READ,
    ROOT,
    WARNINGS,
    Editor,
    Resource,
    change_row,
    check_parent,
    create_row,
    delete_row,
    etag,
    found,
    path_of,
    place_of,
)
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Row, Table
from tracker.store.tokens import Token

_TAG = "Management"
_CHANGES = (400, 401, 403, 404, 409, 412, 413, 415, 422, 503)


class PageQuery(Query):
    """Which part of a list."""

    per_page: PerPage = Field(default=200, description="Objects per page.")
    page: PageNumber = Field(default=1, description="Page number, from 1.")


class IfMatch(BaseModel):
    """What a change is conditional on."""

    model_config = ConfigDict(json_schema_extra=without_defaults_of_null)

    if_match: Annotated[str | None, WithJsonSchema({"type": "string", "examples": ['"17"']})] = Field(
        None, alias="If-Match", description="The ETag of the object. If it is not current, the answer is 412."
    )


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


async def list_rows(request: Request, table: Table, query: PageQuery, place: Row) -> Response:
    """A page of a table: the rows of a place that the query's other parameters ask for."""
    asked = query.model_dump(exclude={"page", "per_page"}, exclude_none=True)
    number = query.page or 1
    page = await edit.page(request.app.state.pool, table, {**place, **asked}, number, query.per_page)
    return as_json(envelope(page, per_page=query.per_page, number=number))


def query_model(resource: Resource) -> type[PageQuery]:
    """The parameters of a resource's list."""
    named: dict[str, Any] = {
        column: (type_, Field(None, description=f"Only objects with this {column}."))
        for column, type_ in resource.filters.items()
    }
    if resource.table.can_archive:
        named["is_archived"] = (Bool, Field(False, description="true: archived objects. false: all others."))
    return create_model(f"{resource.name}Query", __base__=PageQuery, **named)


def _change_query(resource: Resource) -> type[Query]:
    """The parameters of a change: what it may do that is asked about first."""
    if not resource.confirmable:
        return Query
    text = "Fields whose change you confirm, separated by commas. Without it such a change gets 409."
    confirm: Any = (words(*resource.confirmable), Field(None, description=text))
    return create_model(f"{resource.name}ChangeQuery", __base__=Query, confirm=confirm)


def _shown_model(resource: Resource) -> type[BaseModel]:
    """An object as it is answered: what is written, what names it, and its version."""
    fixed: dict[str, Any] = {
        column: (str if column == "host" else int, Field(description="Identifies the object. Never changes."))
        for column in resource.table.fixed
    }
    fixed |= resource.facts
    fixed["version"] = (int, Field(description="A new number after each change. The ETag has it too."))
    return _whole_model(f"{resource.name}{SHOWN}", resource, resource.fields, fixed)


def _made_model(resource: Resource, shown: type[BaseModel]) -> type[BaseModel]:
    """An object as it is answered to who makes it."""
    if resource.mint is None:
        return _changed_model(resource, shown)
    once: dict[str, Any] = {
        name: (str, Field(description="Shown only in this answer.")) for name in resource.mint()[1]
    }
    return _whole_model(f"{resource.name}Made{SHOWN}", resource, shown, once)


def _changed_model(resource: Resource, shown: type[BaseModel]) -> type[BaseModel]:
    """An object as it is answered to who makes or changes it."""
    if not resource.can_warn:
        return shown
    text = (
        "Notes about parts of the object that have no effect, or not the usual one. Missing if there is none."
    )
    warnings: Any = {WARNINGS: (list[str] | None, Field(None, description=text))}
    return _whole_model(f"{resource.name}Changed{SHOWN}", resource, shown, warnings)


def _whole_model(
    name: str, resource: Resource, base: type[BaseModel], fields: dict[str, Any]
) -> type[BaseModel]:
    model: type[BaseModel] = create_model(name, __base__=base, __doc__=f"One {resource.noun}.", **fields)
    model.model_config["json_schema_extra"] = _always_whole
    return model


def _always_whole(schema: dict[str, Any]) -> None:
    """What is answered has every field, and may have more one day."""
    schema.pop("additionalProperties", None)
    schema["required"] = [name for name in schema["properties"] if name != WARNINGS]
    for field in schema["properties"].values():
        if "default" in field:
            field["examples"] = [field.pop("default")]


def _list_model(resource: Resource, shown: type[BaseModel]) -> type[BaseModel]:
    return listed(f"{resource.name}List", shown)


def listed(name: str, shown: type[BaseModel]) -> type[BaseModel]:
    """The envelope of a list."""
    return create_model(
        name,
        __doc__="A page of a list.",
        data=(list[shown], ...),  # type: ignore[valid-type]
        total=(int, Field(description="The exact number of objects that match.", examples=[1])),
        per_page=(int, Field(examples=[200])),
        page=(int, Field(examples=[1])),
        pages=(int, Field(examples=[1])),
    )


def _patch_model(resource: Resource) -> type[BaseModel]:
    """What may be changed: every field may be left out, null sets it back."""
    again = Field(None, description="Cannot be changed. The current value is accepted.")
    fields: dict[str, Any] = {}
    for name, field in resource.fields.model_fields.items():
        about = Field(description=field.description, examples=field.examples)
        fields[name] = (Annotated[field.annotation, about, *field.metadata] | None, None)
    said = (*resource.table.fixed, *resource.table.facts)
    fields |= {name: (int | str | None, again) for name in said if name not in fields}
    return create_model(
        f"{resource.name}Patch",
        __config__=ConfigDict(extra="forbid", json_schema_extra=without_defaults_of_null),
        __doc__="A merge patch (RFC 7396). A missing field stays as it is. null sets the default.",
        **fields,
        version=(
            int | None,
            Field(None, description="The expected version. If it is not current, the answer is 409."),
        ),
    )


_HOW_LISTED = 'Filters are combined with "and". `total` counts all objects that match.'
_HOW_CREATED = (
    "The answer is the whole new object, with the defaults of missing fields. Location has its path."
)
_HOW_GOT = "Send its ETag as If-Match when you change it."
_HOW_CHANGED = """\
A merge patch (RFC 7396). A missing field stays as it is. Send If-Match or `version` to change only the
version that you know. Without them the change applies to the current version. A token without the scope
`offers:read` gets back only the id, the version and the fields that it sent."""


def _money_needed(fields: Collection[str]) -> str:
    named = ", ".join(f"`{name}`" for name in sorted(fields))
    return f"\n\nThese fields need the scope `{MONEY}`: {named}." if fields else ""


_Handler = tuple[str, Callable[..., Any]]
"""A method of HTTP in lower case, and what answers it."""


def _endpoint(*handlers: _Handler) -> type[HTTPEndpoint]:
    return type("Endpoint", (HTTPEndpoint,), dict(handlers))


def _document(
    resource: Resource,
    method: str,
    action: str,
    text: str,
    handler: Callable[..., Any],
    *,
    scopes: Sequence[str],
    **more: Any,
) -> _Handler:
    """Registers a handler with the API's document; the text is its summary and description."""
    handler.__doc__ = text
    table = resource.table
    descriptions = {table.key: f"The {table.key} of the {resource.noun}."}
    if table.parent:
        descriptions[table.parent] = f"The {table.parent_table}'s id."
    decorate = documented.validate(
        tags=[_TAG],
        operation_id=f"{action}_{resource.noun.lower().replace(' ', '_')}",
        path_parameter_descriptions=descriptions,
        security=needs(*scopes),
        skip_validation=True,
        **more,
    )
    return method, decorate(handler)


def editor_of(request: Request, token: Token, confirmed: Iterable[str] = ()) -> Editor:
    given = request.headers.getlist("if-match")
    author = Author(token.id, token.name)
    if_match = ", ".join(given) if given else None
    pool = request.app.state.pool
    return Editor(pool, author, if_match, confirmed=frozenset(confirmed), may=token.allows)


def _list(resource: Resource, shown: type[BaseModel]) -> _Handler:
    parameters = query_model(resource)

    async def list_(_self: HTTPEndpoint, request: Request) -> Response:
        await authorize(request, READ)
        query = read_query(request, parameters)
        place = place_of(request.path_params, resource.table.parent)
        await check_parent(request.app.state.pool, resource.table, place, or_archived=True)
        return await list_rows(request, resource.table, query, place)

    answer = responses(_list_model(resource, shown), 401, 403, 404, 422, 503)
    return _document(
        resource,
        "get",
        "list",
        f"List: {resource.noun}\n\n{_HOW_LISTED}",
        list_,
        scopes=(READ,),
        query=parameters,
        resp=answer,
    )


def _create(resource: Resource, shown: type[BaseModel]) -> _Handler:
    async def create(_self: HTTPEndpoint, request: Request) -> Response:
        token = await authorize(request, resource.scope)
        read_query(request, Query)
        given = await read_object(request, JSON)
        place = place_of(request.path_params, resource.table.parent)
        row = await create_row(editor_of(request, token), resource, place, given)
        location = f"{ROOT}/{path_of(resource, row)}"
        return as_json(row, 201, {"Location": location, "ETag": etag(row)})

    errors = tuple(status for status in _CHANGES if status != 412)
    answer = responses(_made_model(resource, shown), *errors, status=201)
    return _document(
        resource,
        "post",
        "create",
        f"Create: {resource.noun}\n\n{_HOW_CREATED}{_money_needed(resource.money_when_new)}",
        create,
        scopes=(resource.scope,),
        json=resource.fields,
        resp=answer,
    )


def _get(resource: Resource, shown: type[BaseModel]) -> _Handler:
    async def get(_self: HTTPEndpoint, request: Request) -> Response:
        await authorize(request, READ)
        read_query(request, Query)
        place = place_of(request.path_params, *resource.table.fixed)
        row = found(await edit.one(request.app.state.pool, resource.table, place), resource)
        return as_json(row, headers={"ETag": etag(row)})

    answer = responses(shown, 401, 403, 404, 422, 503)
    text = f"Get: {resource.noun}\n\n{_HOW_GOT}"
    return _document(resource, "get", "get", text, get, scopes=(READ,), resp=answer)


def _change(resource: Resource, shown: type[BaseModel]) -> _Handler:
    parameters = _change_query(resource)

    async def change(_self: HTTPEndpoint, request: Request) -> Response:
        token = await authorize(request, *resource.scopes)
        confirmed = getattr(read_query(request, parameters), "confirm", None) or ()
        given = await read_object(request, JSON, MERGE_PATCH)
        place = place_of(request.path_params, *resource.table.fixed)
        row = await change_row(editor_of(request, token, confirmed), resource, place, given)
        seen = row if token.allows(READ) else _what_was_done(resource, row, given)
        return as_json(seen, headers={"ETag": etag(row)})

    return _document(
        resource,
        "patch",
        "change",
        f"Change: {resource.noun}\n\n{_HOW_CHANGED}{_money_needed(resource.money)}",
        change,
        scopes=resource.scopes,
        json=_patch_model(resource),
        headers=IfMatch,
        **({"query": parameters} if resource.confirmable else {}),
        resp=responses(_changed_model(resource, shown), *_CHANGES),
    )


def _what_was_done(resource: Resource, row: Row, given: Mapping[str, Any]) -> Row:
    """What names an object, and the fields that were given: for a token that may not look at the others."""
    named = {*resource.table.fixed, "version", *given}
    return {name: value for name, value in row.items() if name in named}


def _delete(resource: Resource) -> _Handler:
    async def delete(_self: HTTPEndpoint, request: Request) -> Response:
        token = await authorize(request, resource.scope)
        read_query(request, Query)
        place = place_of(request.path_params, *resource.table.fixed)
        await delete_row(editor_of(request, token), resource, place)
        return Response(status_code=204, headers=SECURITY_HEADERS)

    kept = "The object is archived. Edges stop using it. Clicks and reports keep it."
    what = kept if resource.table.can_archive else "The object is deleted. The audit trail keeps its fields."
    return _document(
        resource,
        "delete",
        "delete",
        f"Delete: {resource.noun}\n\n{what}",
        delete,
        scopes=(resource.scope,),
        headers=IfMatch,
        resp=responses(None, 401, 403, 404, 409, 412, 422, 503, status=204),
    )
