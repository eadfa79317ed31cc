"""Saved views: names for the queries of pages, of their maker or of the whole team."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.catalogue import IfMatch, PageQuery, as_json, editor_of, listed
from tracker.api.http.body import JSON, MERGE_PATCH
from tracker.api.http.endpoint import Body, Call, endpoint
from tracker.api.http.if_match import etag
from tracker.api.http.paging import envelope
from tracker.api.http.problems import SECURITY_HEADERS, Problem, conflict
from tracker.api.kept_queries import ROOTS, SHOWS, QueryText, check_kept
from tracker.catalogue.fields import Fields, Name
from tracker.catalogue.resource import Resource, change_row, create_row, delete_row, found, read_id
from tracker.errors import Errors
from tracker.parameters import Bool, Model, Query, choice
from tracker.store import saved_views
from tracker.store.catalogue.edit import Row
from tracker.store.db import Connection
from tracker.store.saved_views import VIEWS, Reader

MOST_VIEWS = 200
"""Most views of one maker."""

_SCOPE = "reports:read"
_TAG = "Views and shares"
_IN_PATH = {"id": "The view's id."}


class ViewFields(Fields):
    """A view to save."""

    name: Name = Field(description="Unique among your views of the same page.", examples=["Week by offer"])
    shows: Literal[SHOWS] = Field("reports", description="The page that it is a query of.")  # type: ignore[valid-type]
    query: QueryText
    is_shared: bool = Field(
        False, description="true: all who see the same rows as you see the view. false: only you."
    )


class ViewPatch(Model):
    """A merge patch (RFC 7396). A missing field stays as it is. null sets the default."""

    name: str | None = Field(None, examples=["Week by offer"])
    shows: Literal[SHOWS] | None = None  # type: ignore[valid-type]
    query: str | None = Field(None, examples=["group_by=day&period=last_30_days"])
    is_shared: bool | None = None
    version: int | None = Field(
        None, description="The expected version. If it is not current, the answer is 409."
    )


class ViewShown(Model):
    """A saved view."""

    id: int
    name: str = Field(examples=["Week by offer"])
    shows: str = Field(examples=["reports"])
    query: str = Field(examples=["group_by=offer&period=last_7_days"])
    is_shared: bool
    user_id: int | None = Field(description="The user who made it. null: a token did, or the user is gone.")
    token_id: int | None = Field(description="The token that made it.")
    made_by: str = Field(description="The name of the maker at that time.", examples=["jane@net.example"])
    created_at: str
    version: int = Field(description="A new number after each change. The ETag has it too.")


class ViewQuery(PageQuery):
    """Which views."""

    shows: choice(*SHOWS) = Field(None, description="Views of this page.")  # type: ignore[valid-type]
    is_shared: Bool = Field(None, description="true: views of the team. false: private ones.")


async def _no_twin(connection: Connection, row: Row) -> Errors:
    is_taken = await saved_views.is_taken(connection, row)
    return {"name": ["is the name of another view of yours"]} if is_taken else {}


VIEW = Resource("views", "view", VIEWS, ViewFields, scope=_SCOPE, checks=_no_twin)


async def list_views(call: Call[ViewQuery]) -> Response:
    """List saved views

    Your own views, and those of the team: of all who see the same rows. They are in the order of their names.
    """
    query, number = call.query, call.query.page or 1
    page = await saved_views.page(
        call.state.pool, _reader(call), query.shows, query.is_shared, number, query.per_page
    )
    return as_json(envelope(page, per_page=query.per_page, number=number))


async def save_view(call: Call[Query]) -> Response:
    """Save a view

    A name for a query. The view gives no right: all who open it see only what they may see.
    """
    fields, reader = await call.object(), _reader(call)
    if await saved_views.number_of(call.state.pool, reader) >= MOST_VIEWS:
        raise conflict({"name": [f"is one of more than {MOST_VIEWS} views: delete another one first"]})
    maker = {**reader._asdict(), "made_by": call.author.token_name}
    _check_query(call, {"shows": "reports", **fields})
    row = await create_row(editor_of(call), VIEW, maker, fields)
    location = f"{ROOTS[call.contract.owner]}/views/{row['id']}"
    return as_json(row, 201, {"Location": location, "ETag": etag(row["version"])})


async def get_view(call: Call[Query]) -> Response:
    """Get a saved view

    One of yours, or of the team.
    """
    row = await _seen(call)
    return as_json(row, headers={"ETag": etag(row["version"])})


async def change_view(call: Call[Query]) -> Response:
    """Change a saved view

    Only its maker and administrators may.
    """
    patch, before = await call.object(), await _own(call)
    _check_query(call, {**before, **patch})
    row = await change_row(editor_of(call), VIEW, {"id": before["id"]}, patch)
    return as_json(row, headers={"ETag": etag(row["version"])})


async def delete_view(call: Call[Query]) -> Response:
    """Delete a saved view

    For good. Only its maker and administrators may.
    """
    await delete_row(editor_of(call), VIEW, {"id": (await _own(call))["id"]})
    return Response(status_code=204, headers=SECURITY_HEADERS)


def _routes_of(kind: str) -> list[Route]:
    path = f"{ROOTS[kind]}/views"
    one = f"{path}/{{id}}"

    def made(verb: str, query: type[Query] = Query, **contract: Any) -> Any:
        name = f"{verb}_{kind}_view" if kind else f"{verb}_view"
        return endpoint(
            scope=_SCOPE, query=query, without_money=query, owner=kind, tag=_TAG, name=name, **contract
        )

    shown: Any = {"returns": ViewShown, "has_etag": True}
    single: Any = {"path": _IN_PATH}
    change: Any = {"headers": IfMatch, "may_fail": (409, 412)}
    patch = Body(ViewPatch, (JSON, MERGE_PATCH))
    return [
        Route(path, made("list", ViewQuery, returns=listed("ViewList", ViewShown))(list_views)),
        Route(
            path,
            made("save", body=Body(ViewFields), status=201, may_fail=(409,), **shown)(save_view),
            methods=["POST"],
        ),
        Route(one, made("get", **single, **shown)(get_view)),
        Route(one, made("change", body=patch, **single, **change, **shown)(change_view), methods=["PATCH"]),
        Route(
            one,
            made("delete", returns=None, status=204, **single, **change)(delete_view),
            methods=["DELETE"],
        ),
    ]


routes: list[Route] = [route for kind in ROOTS for route in _routes_of(kind)]


def _reader(call: Call[Any]) -> Reader:
    return saved_views.reader(call.author, call.token.owner)


async def _seen(call: Call[Query]) -> Row:
    id_ = read_id(call.path["id"])
    return found(await saved_views.one(call.state.pool, _reader(call), id_) if id_ else None, VIEW)


async def _own(call: Call[Query]) -> Row:
    """A view that the caller may change."""
    row, author = await _seen(call), call.author
    is_own = (row["user_id"], row["token_id"]) == (author.user_id, author.token_id)
    if not is_own and not call.token.allows("admin"):
        raise Problem(403, "Only its maker and administrators change a view of the team.")
    return row


def _check_query(call: Call[Any], fields: Row) -> None:
    """See that the maker may send the query. What is not a query is left to the check of fields."""
    shows, query = fields["shows"], fields.get("query")
    if shows in SHOWS and isinstance(query, str):
        check_kept(shows, call.contract.owner, query.removeprefix("?"), hides_money=call.token.hides_money)
