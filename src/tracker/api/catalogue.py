"""Endpoints of the catalogue: list, get, create, change and delete, made from one declaration a resource."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.http.auth import lacking
from tracker.api.http.body import JSON, MERGE_PATCH
from tracker.api.http.endpoint import Answer, Body, Call, endpoint
from tracker.api.http.if_match import etag, if_match_holds
from tracker.api.http.later import Later, made_later, model_of
from tracker.api.http.paging import envelope
from tracker.api.http.problems import SECURITY_HEADERS, Problem, answer_problem
from tracker.api.http.routing import ROOT
from tracker.catalogue.errors import CatalogueError, Kind
from tracker.catalogue.resource import (
    MONEY,
    READ,
    WARNINGS,
    Editor,
    Resource,
    change_row,
    check_parent,
    create_row,
    delete_row,
    found,
    path_of,
    place_of,
    wanted,
)
from tracker.catalogue.resources import RESOURCES
from tracker.parameters import Model, PageNumber, PerPage, Query, without_defaults_of_null, words
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Row, Table
from tracker.store.db import Pool

_TAG = "Management"


class PageQuery(Query):
    """The page of a list."""

    per_page: PerPage = Field(default=200, description="Objects per page.")
    page: PageNumber = Field(default=1, description="Page number, from 1.")


class IfMatch(Model):
    """The condition of a change."""

    model_config = ConfigDict(json_schema_extra=without_defaults_of_null)

    if_match: Annotated[str | None, WithJsonSchema({"type": "string", "examples": ['"17"']})] = Field(
        None, alias="If-Match", description="The ETag of the object. If it is not current, the answer is 412."
    )


def routes_of(resource: Resource) -> list[Route]:
    """The endpoints of a resource."""
    path = f"{ROOT}/{resource.path}"
    shown = shown_model(resource)
    one = f"{path}/{{{resource.table.key}}}" if resource.table.key else path
    routes = [Route(one, _get(resource, shown)), Route(one, _change(resource, shown), methods=["PATCH"])]
    if resource.table.key:
        routes += [
            Route(path, _list(resource, shown)),
            Route(path, _create(resource, shown), methods=["POST"]),
            Route(one, _delete(resource), methods=["DELETE"]),
        ]
    return routes


def as_json(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, {**SECURITY_HEADERS, **(headers or {})}, JSON)


Show = Callable[[Row], Row | None]
"""A row as it is shown. None: it is left out."""


async def list_rows(
    pool: Pool, table: Table, query: PageQuery, place: Row, show: Show = lambda row: row
) -> Response:
    """A page of a table: the rows of a place that match the query's filters."""
    number = query.page or 1
    page = await edit.page(pool, table, wanted(place, query), number, query.per_page)
    rows = [shown for row in page.rows if (shown := show(row)) is not None]
    return as_json(envelope(page._replace(rows=rows), per_page=query.per_page, number=number))


@made_later
def query_model(resource: Resource) -> type[PageQuery]:
    """The parameters of a resource's list."""
    return create_model(f"{resource.name}Query", __base__=PageQuery, **resource.parameters)


def _change_query(resource: Resource) -> type[Query]:
    """The parameters of a change: confirmations, if the resource may ask for them."""
    if not resource.confirmable:
        return Query
    text = (
        "Fields whose change you confirm, separated by commas. Without it such a change gets 409, which "
        "names them."
    )
    confirm: Any = (words(*resource.confirmable), Field(None, description=text))
    return create_model(f"{resource.name}ChangeQuery", __base__=Query, confirm=confirm)


@made_later
def shown_model(resource: Resource) -> type[BaseModel]:
    """An object in an answer: its fields, its ids and its version."""
    fixed: dict[str, Any] = {
        column: (str if column == "host" else int, Field(description="Identifies the object. Never changes."))
        for column in resource.table.fixed
    }
    fixed |= resource.facts
    fixed["version"] = (int, Field(description="A new number after each change. The ETag has it too."))
    return _whole_model(f"{resource.name}Shown", resource, resource.fields, fixed)


@made_later
def _made_model(resource: Resource, shown: Later[BaseModel]) -> type[BaseModel]:
    """An object in the answer that creates it."""
    if resource.mint is None:
        return changed_model(resource, shown)()
    once: dict[str, Any] = {
        name: (str | None, Field(description="Shown only in this answer. null: the request gave it."))
        for name in resource.mint({})[1]
    }
    return _whole_model(f"{resource.name}MadeShown", resource, shown, once)


@made_later
def changed_model(resource: Resource, shown: Later[BaseModel]) -> type[BaseModel]:
    """An object in the answer that creates or changes it."""
    if not resource.can_warn:
        return model_of(shown)
    text = "Notes about parts of the object that have no effect, or an unusual one. Absent without notes."
    warnings: Any = {WARNINGS: (list[str] | None, Field(None, description=text))}
    return _whole_model(f"{resource.name}ChangedShown", resource, shown, warnings)


def _whole_model(
    name: str, resource: Resource, base: Later[BaseModel], fields: dict[str, Any]
) -> type[BaseModel]:
    model: type[BaseModel] = create_model(
        name, __base__=model_of(base), __doc__=f"One {resource.noun}.", **fields
    )
    model.model_config["json_schema_extra"] = _always_whole
    return model


def _always_whole(schema: dict[str, Any]) -> None:
    """Answers have every field, and later versions may add more."""
    schema.pop("additionalProperties", None)
    schema["required"] = [name for name in schema["properties"] if name != WARNINGS]
    for field in schema["properties"].values():
        if "default" in field:
            field["examples"] = [field.pop("default")]


@made_later
def listed(name: str, shown: Later[BaseModel]) -> type[BaseModel]:
    """The envelope of a list."""
    row: Any = model_of(shown)
    return create_model(
        name,
        __doc__="A page of a list.",
        data=(list[row], ...),
        total=(int, Field(description="The exact number of objects that match.", examples=[1])),
        per_page=(int, Field(examples=[200])),
        page=(int, Field(examples=[1])),
        pages=(int, Field(examples=[1])),
    )


@made_later
def patch_model(resource: Resource) -> type[BaseModel]:
    """The patch of an object: every field is optional, and null sets its default."""
    again = Field(None, description="Cannot be changed. The current value is accepted.")
    fields: dict[str, Any] = {}
    for name, field in resource.fields.model_fields.items():
        about = Field(description=field.description, examples=field.examples)
        fields[name] = (Annotated[field.annotation, about, *field.metadata] | None, None)
    own = (*resource.table.fixed, *resource.table.facts)
    fields |= {name: (int | str | None, again) for name in own if name not in fields}
    return create_model(
        f"{resource.name}Patch",
        __config__=ConfigDict(extra="forbid", json_schema_extra=without_defaults_of_null, defer_build=True),
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


def editor_of(call: Call[Any], confirmed: Iterable[str] = ()) -> Editor:
    """The editor that makes the changes of a call."""
    editor = Editor(
        call.state.pool,
        call.author,
        confirmed=frozenset(confirmed),
        may=call.token.allows,
        defaults=call.state.settings.catalogue_defaults,
    )
    conditions = call.request.headers.getlist("if-match")
    return editor._replace(expects=partial(if_match_holds, ", ".join(conditions))) if conditions else editor


_STATUSES = {
    Kind.UNKNOWN: 404,
    Kind.INVALID: 422,
    Kind.CONFLICT: 409,
    Kind.STALE: 412,
    Kind.FORBIDDEN: 403,
}


def problem_of(error: CatalogueError) -> Problem:
    """The answer to a change that a rule of the catalogue refuses."""
    if error.scope:
        return lacking((error.scope,), error.errors)
    headers = None if error.version is None else {"ETag": etag(error.version)}
    return Problem(_STATUSES[error.kind], error.detail, errors=error.errors, headers=headers)


async def answer_catalogue_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, CatalogueError)
    return await answer_problem(request, problem_of(error))


def _name(action: str, resource: Resource) -> str:
    return f"{action}_{resource.noun.lower().replace(' ', '_')}"


def _path(resource: Resource) -> dict[str, str]:
    """Descriptions of the path's parameters."""
    table = resource.table
    descriptions = {table.key: f"The {table.key} of the {resource.noun}."}
    if table.parent:
        descriptions[table.parent] = f"The {table.parent_table}'s id."
    return descriptions


def _list(resource: Resource, shown: Later[BaseModel]) -> Answer:
    query = query_model(resource)

    @endpoint(
        scope=READ,
        query=query,
        without_money=None if resource.is_of_money else query,
        returns=listed(f"{resource.name}List", shown),
        tag=_TAG,
        path=_path(resource),
        name=_name("list", resource),
        text=f"List: {resource.noun}\n\n{_HOW_LISTED}",
    )
    async def list_(call: Call[PageQuery]) -> Response:
        place = place_of(call.path, resource.table.parent)
        pool, table = call.state.pool, resource.table
        await check_parent(pool, table, place, or_archived=True)
        if not call.token.hides_money:
            return await list_rows(pool, table, call.query, place)
        plain = {column: list(values) for column, values in resource.plain.items()}
        return await list_rows(pool, table, call.query, place | plain, resource.without_money)

    return list_


def _create(resource: Resource, shown: Later[BaseModel]) -> Answer:
    @endpoint(
        scope=resource.scope,
        query=Query,
        body=Body(resource.new or resource.fields),
        returns=_made_model(resource, shown),
        status=201,
        may_fail=(404, 409),
        has_etag=True,
        tag=_TAG,
        path=_path(resource),
        name=_name("create", resource),
        text=f"Create: {resource.noun}\n\n{_HOW_CREATED}{_money_needed(resource.money_when_new)}",
    )
    async def create(call: Call[Query]) -> Response:
        fields = await call.object()
        place = place_of(call.path, resource.table.parent)
        row = await create_row(editor_of(call), resource, place, fields)
        location = f"{ROOT}/{path_of(resource, row)}"
        return as_json(row, 201, {"Location": location, "ETag": etag(row["version"])})

    return create


def _get(resource: Resource, shown: Later[BaseModel]) -> Answer:
    @endpoint(
        scope=READ,
        query=Query,
        without_money=None if resource.is_of_money else Query,
        returns=shown,
        may_fail=(404,),
        has_etag=True,
        tag=_TAG,
        path=_path(resource),
        name=_name("get", resource),
        text=f"Get: {resource.noun}\n\n{_HOW_GOT}",
    )
    async def get(call: Call[Query]) -> Response:
        place = place_of(call.path, *resource.table.fixed)
        row = found(await edit.one(call.state.pool, resource.table, place), resource)
        seen = found(resource.without_money(row), resource) if call.token.hides_money else row
        return as_json(seen, headers={"ETag": etag(row["version"])})

    return get


def _change(resource: Resource, shown: Later[BaseModel]) -> Answer:
    @endpoint(
        scope=resource.scopes,
        query=_change_query(resource),
        headers=IfMatch,
        body=Body(patch_model(resource), (JSON, MERGE_PATCH)),
        returns=changed_model(resource, shown),
        may_fail=(404, 409, 412),
        has_etag=True,
        tag=_TAG,
        path=_path(resource),
        name=_name("change", resource),
        text=f"Change: {resource.noun}\n\n{_HOW_CHANGED}{_money_needed(resource.money)}",
    )
    async def change(call: Call[Query]) -> Response:
        confirmed = getattr(call.query, "confirm", None) or ()
        patch = await call.object()
        place = place_of(call.path, *resource.table.fixed)
        row = await change_row(editor_of(call, confirmed), resource, place, patch)
        seen = row if call.token.allows(READ) else _what_was_done(resource, row, patch)
        return as_json(seen, headers={"ETag": etag(row["version"])})

    return change


def _what_was_done(resource: Resource, row: Row, patch: Mapping[str, Any]) -> Row:
    """The ids of an object and the fields of the patch, for a token that may not read the others."""
    names = {*resource.table.fixed, "version", *patch}
    return {name: value for name, value in row.items() if name in names}


def _delete(resource: Resource) -> Answer:
    archived = "The object is archived. Edges stop using it. Clicks and reports keep it."
    effect = (
        archived if resource.table.can_archive else "The object is deleted. The audit trail keeps its fields."
    )

    @endpoint(
        scope=resource.scope,
        query=Query,
        headers=IfMatch,
        returns=None,
        status=204,
        may_fail=(409, 412),
        tag=_TAG,
        path=_path(resource),
        name=_name("delete", resource),
        text=f"Delete: {resource.noun}\n\n{effect}",
    )
    async def delete(call: Call[Query]) -> Response:
        place = place_of(call.path, *resource.table.fixed)
        await delete_row(editor_of(call), resource, place)
        return Response(status_code=204, headers=SECURITY_HEADERS)

    return delete


routes: list[Route] = [route for resource in RESOURCES for route in routes_of(resource)]
