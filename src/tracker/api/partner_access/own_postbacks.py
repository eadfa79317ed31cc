"""Endpoints with which affiliates save their own URLs for postbacks."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.catalogue import (
    IfMatch,
    PageQuery,
    as_json,
    changed_model,
    editor_of,
    list_rows,
    listed,
    patch_model,
    shown_model,
)
from tracker.api.http.auth import VIEWS
from tracker.api.http.body import JSON, MERGE_PATCH
from tracker.api.http.endpoint import Body, Call, endpoint
from tracker.api.http.if_match import etag
from tracker.api.http.problems import SECURITY_HEADERS, conflict, invalid
from tracker.api.partner_access.own_access import one_of, some_of
from tracker.catalogue.advertisers_affiliates import OWN_POSTBACKS, OwnPostback
from tracker.catalogue.fields import Fields, Id
from tracker.catalogue.resource import Editor, change_row, create_row, delete_row, found, read_id
from tracker.catalogue.validation import validated
from tracker.domain import postback_macros
from tracker.domain.macros import TemplateError, compile_url
from tracker.domain.model import MAX_ID
from tracker.parameters import Bool, Query, choice
from tracker.parameters import Id as IdParameter
from tracker.store.catalogue import affiliate_offers, edit
from tracker.store.catalogue.edit import Row, Wanted

PATH = f"{VIEWS['affiliate']}/postbacks"
SCOPE = OWN_POSTBACKS.scope

MOST_URLS = 50
"""Most URLs of an affiliate that are not archived, before it may not add more itself."""

_TABLE = OWN_POSTBACKS.table
_TAG = "Affiliates"
IN_PATH = {"id": "The postback's id."}
_Shown = shown_model(OWN_POSTBACKS)
_Changed = changed_model(OWN_POSTBACKS, _Shown)


class OwnPostbackQuery(PageQuery):
    """Which of your postbacks."""

    affiliate_id: IdParameter = Field(None, description="Postbacks of this one of your affiliates.")
    status: choice("active", "paused") = Field(None, description="Postbacks with this status.")  # type: ignore[valid-type]
    is_archived: Bool = Field(False, description="true: archived postbacks. false: all others.")


_AFFILIATE = Field(None, description="The one of your affiliates that it is for. Needed if you have several.")


class OwnPostbackFields(OwnPostback):
    """A URL of yours that the tracker calls about your conversions."""

    affiliate_id: Id | None = _AFFILIATE


class _Named(Fields):
    affiliate_id: Id | None = _AFFILIATE


@endpoint(
    scope=SCOPE,
    owner="affiliate",
    query=OwnPostbackQuery,
    without_money=OwnPostbackQuery,
    returns=listed("OwnPostbackList", _Shown),
    tag=_TAG,
)
async def list_own_postbacks(call: Call[OwnPostbackQuery]) -> Response:
    """List your postbacks

    The URLs that the tracker calls about your conversions.
    """
    query = call.query
    place = {"affiliate_id": some_of(call.owner, query.affiliate_id)}
    plain = query.model_copy(update={"affiliate_id": None})
    return await list_rows(call.state.pool, _TABLE, plain, place)


@endpoint(
    scope=SCOPE,
    owner="affiliate",
    query=Query,
    without_money=Query,
    body=Body(OwnPostbackFields),
    returns=_Changed,
    status=201,
    may_fail=(409,),
    has_etag=True,
    tag=_TAG,
)
async def create_own_postback(call: Call[Query]) -> Response:
    """Create a postback of yours

    Its URL goes to a public address on port 80 or 443. The network sees it, and may change it.
    """
    fields = await call.object()
    named = validated({"affiliate_id": fields.pop("affiliate_id", None)}, _Named)
    affiliate_id = one_of(call.owner, named.affiliate_id)
    await _check_seen(call, affiliate_id, fields, {})
    _check_macros(call, fields)
    await _check_number(call, affiliate_id, "url")
    row = await create_row(_editor(call), OWN_POSTBACKS, {"affiliate_id": affiliate_id}, fields)
    return as_json(row, 201, {"Location": f"{PATH}/{row['id']}", "ETag": etag(row["version"])})


@endpoint(
    scope=SCOPE,
    owner="affiliate",
    query=Query,
    without_money=Query,
    returns=_Shown,
    has_etag=True,
    tag=_TAG,
    path=IN_PATH,
)
async def get_own_postback(call: Call[Query]) -> Response:
    """Get a postback of yours

    Send its ETag as If-Match when you change it.
    """
    row = await own(call)
    return as_json(row, headers={"ETag": etag(row["version"])})


@endpoint(
    scope=SCOPE,
    owner="affiliate",
    query=Query,
    without_money=Query,
    headers=IfMatch,
    body=Body(patch_model(OWN_POSTBACKS), (JSON, MERGE_PATCH)),
    returns=_Changed,
    may_fail=(409, 412),
    has_etag=True,
    tag=_TAG,
    path=IN_PATH,
)
async def change_own_postback(call: Call[Query]) -> Response:
    """Change a postback of yours

    A merge patch (RFC 7396). A URL that the network saved stays the network's until you change it. What the
    network paused or archived, only the network switches on: 409.
    """
    patch = await call.object()
    before = await own(call)
    await _check_seen(call, before["affiliate_id"], patch, before)
    _check_macros(call, patch)
    if before["is_archived"] and not patch.get("is_archived", True):
        await _check_number(call, before["affiliate_id"], "is_archived")
    row = await change_row(_editor(call), OWN_POSTBACKS, _place_of(before), patch)
    return as_json(row, headers={"ETag": etag(row["version"])})


@endpoint(
    scope=SCOPE,
    owner="affiliate",
    query=Query,
    without_money=Query,
    headers=IfMatch,
    returns=None,
    status=204,
    may_fail=(409, 412),
    tag=_TAG,
    path=IN_PATH,
)
async def delete_own_postback(call: Call[Query]) -> Response:
    """Archive a postback of yours

    Nothing is sent to it any more. The log keeps what was sent.
    """
    await delete_row(_editor(call), OWN_POSTBACKS, _place_of(await own(call)))
    return Response(status_code=204, headers=SECURITY_HEADERS)


routes: list[Route] = [
    Route(PATH, list_own_postbacks),
    Route(PATH, create_own_postback, methods=["POST"]),
    Route(f"{PATH}/{{id}}", get_own_postback),
    Route(f"{PATH}/{{id}}", change_own_postback, methods=["PATCH"]),
    Route(f"{PATH}/{{id}}", delete_own_postback, methods=["DELETE"]),
]


def _editor(call: Call[Any]) -> Editor:
    return editor_of(call)._replace(kind="affiliate")


async def own(call: Call[Query]) -> Row:
    """The postback that the path names, if it is of the token.

    Raises:
        CatalogueError: UNKNOWN.
    """
    place = {"id": read_id(call.path["id"]), "affiliate_id": list(call.owner.ids)}
    return found(await edit.one(call.state.pool, _TABLE, place), OWN_POSTBACKS)


def _place_of(row: Row) -> Row:
    return {name: row[name] for name in ("affiliate_id", "id")}


async def _check_seen(call: Call[Any], affiliate_id: int, fields: Row, before: Row) -> None:
    """Refuse offers and goals that the affiliate may not see, as those that do not exist.

    What is not an id is left to the check of fields.
    """
    offer_id, goal_id = (_new_id(name, fields, before) for name in ("offer_id", "goal_id"))
    unseen = await affiliate_offers.unseen(call.state.pool, affiliate_id, offer_id, goal_id)
    if unseen:
        raise invalid({f"{noun}_id": [f"matches no {noun}"] for noun in unseen})


async def _check_number(call: Call[Any], affiliate_id: int, field: str) -> None:
    """Refuse one more URL if the affiliate has enough: each is a request for each of its conversions."""
    urls = Wanted({"affiliate_id": affiliate_id, "is_archived": False})
    if (await edit.page(call.state.pool, _TABLE, urls, 1, 1)).total >= MOST_URLS:
        raise conflict({field: [f"makes more than {MOST_URLS} postbacks: archive another one first"]})


def _new_id(name: str, fields: Row, before: Row) -> int | None:
    id_ = fields.get(name)
    return id_ if type(id_) is int and 0 < id_ <= MAX_ID and id_ != before.get(name) else None


def _check_macros(call: Call[Any], fields: Row) -> None:
    """Refuse amounts in a URL of a token that hides them, as macros that do not exist."""
    url = fields.get("url")
    if not (call.token.hides_money and isinstance(url, str)):
        return
    try:
        compile_url(url, postback_macros.MACROS.keys() - postback_macros.OF_MONEY)
    except TemplateError as error:
        raise invalid({"url": [str(error)]}) from None
