"""Tokens of the API: create, list, change, rotate and revoke them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, TypeVar

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from tracker import parameters
from tracker.api.catalogue import IfMatch, PageQuery, as_json, editor_of, list_rows, listed
from tracker.api.http.body import JSON, MERGE_PATCH
from tracker.api.http.endpoint import Body, Call, endpoint
from tracker.api.http.if_match import etag
from tracker.api.http.problems import SECURITY_HEADERS, Problem, invalid
from tracker.api.http.routing import ROOT
from tracker.catalogue.fields import Fields, Id, Moment, NameOrNone, RateText
from tracker.catalogue.resource import Resource, change_row, found, place_of
from tracker.catalogue.validation import check_storable, validated
from tracker.domain.access import MEANINGS, MOST_OWNERS, SCOPES
from tracker.parameters import Bool, Model, Query
from tracker.store import tokens
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Row
from tracker.store.db import Connection
from tracker.store.tokens import LONGEST_OVERLAP, OVERLAP, TOKENS, Issued, NewToken

PATH = f"{ROOT}/tokens"

_SCOPE = "admin"
_TAG = "Tokens"
_IN_PATH = {"id": "The token's id."}
_SECOND = timedelta(seconds=1)

SomeFields = TypeVar("SomeFields", bound=Fields)

Expiry = Annotated[Moment | None, Field(description="The end of the token. null: never.")]
OwnRate = Annotated[
    RateText | None, Field(description="Requests per time. null: the setting TRACKER_API_RATE.")
]


_Owners = Annotated[list[Id], Field(max_length=MOST_OWNERS)]


class TokenFields(Fields):
    """A token to create, for the network, or for some affiliates or advertisers."""

    name: NameOrNone = ""
    scopes: list[Literal[SCOPES]] = Field(  # type: ignore[valid-type]
        min_length=1,
        description=" ".join(f"{scope}: {meaning}." for scope, meaning in MEANINGS.items()),
        examples=[["clicks:read"]],
    )
    expires_at: Expiry = None
    rate_limit: OwnRate = None
    affiliate_id: Id | None = Field(None, description="The token reads only rows of this affiliate.")
    advertiser_id: Id | None = Field(None, description="The token reads only rows of this advertiser.")
    affiliate_ids: _Owners = Field(
        default_factory=list, description="The token reads only rows of these affiliates."
    )
    advertiser_ids: _Owners = Field(
        default_factory=list, description="The token reads only rows of these advertisers."
    )

    hides_money: bool = Field(
        False,
        description="true: the token sees no amount anywhere, and cannot have a scope that is about amounts.",
    )

    def clashes(self) -> dict[str, str]:
        return NewToken(**self.model_dump()).clashes()


class TokenChange(Fields):
    """The fields of a token that may change."""

    name: NameOrNone = ""
    expires_at: Expiry = None
    rate_limit: OwnRate = None


class TokenPatch(TokenChange):
    """A merge patch (RFC 7396). A missing field stays as it is. null sets the default."""

    version: int | None = Field(
        None, description="The expected version. If it is not current, the answer is 409."
    )


class Rotation(Fields):
    """How to replace the secret of a token."""

    overlap: Annotated[int, Field(ge=0, le=LONGEST_OVERLAP // _SECOND)] = Field(
        OVERLAP // _SECOND,
        description="Seconds for which the previous secret still works. 0 ends all earlier secrets now.",
    )


class TokenShown(Model):
    """A token, without its secret."""

    id: int
    name: str
    expires_at: str | None = Field(examples=["2027-01-01T00:00:00+00:00"])
    rate_limit: str | None = Field(examples=["600/minute"])
    scopes: list[str]
    affiliate_id: int | None = Field(description="The only one of affiliate_ids. null: none or several.")
    advertiser_id: int | None = Field(description="The only one of advertiser_ids. null: none or several.")
    affiliate_ids: list[int]
    advertiser_ids: list[int]
    hides_money: bool = Field(description="true: the token sees no amount anywhere.")
    hint: str = Field(description="The first characters of the secret.", examples=["trk_kX3w"])
    created_at: str
    last_used_at: str | None = Field(description="Exact to the minute.")
    previous_until: str | None = Field(description="The end of the secret before the last rotation.")
    revoked_at: str | None
    is_revoked: bool
    version: int = Field(description="A new number after each change. The ETag has it too.")


class IssuedTokenShown(TokenShown):
    """A token with its secret. The secret is shown only in this answer."""

    token: str = Field(description="The secret. Send it as Authorization: Bearer …", examples=["trk_kX3w…"])


class TokenQuery(PageQuery):
    """Which tokens."""

    name: parameters.Name = Field(None, description="Tokens with this name.")
    affiliate: parameters.Id = Field(None, alias="affiliate_id", description="Tokens of this affiliate.")
    advertiser: parameters.Id = Field(None, alias="advertiser_id", description="Tokens of this advertiser.")
    is_revoked: Bool = Field(False, description="true: revoked tokens. false: all others.")


_CHANGED = Resource("tokens", "token", TOKENS, TokenChange, scope=_SCOPE)


@endpoint(
    scope=_SCOPE,
    query=TokenQuery,
    returns=listed("TokenList", TokenShown),
    tag=_TAG,
    name="list_token",
)
async def list_tokens(call: Call[TokenQuery]) -> Response:
    """List tokens

    The beginning of each secret is shown, never the whole.
    """
    return await list_rows(call.state.pool, TOKENS, call.query, {})


@endpoint(
    scope=_SCOPE,
    query=Query,
    body=Body(TokenFields),
    returns=IssuedTokenShown,
    status=201,
    has_etag=True,
    tag=_TAG,
)
async def create_token(call: Call[Query]) -> Response:
    """Create a token

    Only this answer shows the secret. A token that is bound to affiliates or advertisers reads under
    `/affiliates` or `/advertisers` only. It cannot have a scope that writes.
    """
    fields = await _read(call, TokenFields)
    if clashes := fields.clashes():
        raise invalid({field: [message] for field, message in clashes.items()})
    async with edit.changing(call.state.pool) as connection:
        await _check_owner(connection, fields)
        issued = await tokens.issue(connection, call.author, NewToken(**fields.model_dump()))
    return _answer(issued, 201, {"Location": f"{PATH}/{issued.row['id']}"})


@endpoint(scope=_SCOPE, query=Query, returns=TokenShown, has_etag=True, tag=_TAG, path=_IN_PATH)
async def get_token(call: Call[Query]) -> Response:
    """Get a token

    Its scopes, its owner and its last use. The secret is never shown.
    """
    row = found(await edit.one(call.state.pool, TOKENS, place_of(call.path, "id")), _CHANGED)
    return as_json(row, headers={"ETag": etag(row["version"])})


@endpoint(
    scope=_SCOPE,
    query=Query,
    headers=IfMatch,
    body=Body(TokenPatch, (JSON, MERGE_PATCH)),
    returns=TokenShown,
    may_fail=(409, 412),
    has_etag=True,
    tag=_TAG,
    path=_IN_PATH,
)
async def change_token(call: Call[Query]) -> Response:
    """Change a token

    Sets its name, its expiry and its rate. Scopes and owner cannot change: create another token.
    """
    patch = await call.object()
    row = await change_row(editor_of(call), _CHANGED, place_of(call.path, "id"), patch)
    return as_json(row, headers={"ETag": etag(row["version"])})


@endpoint(scope=_SCOPE, query=Query, returns=None, status=204, tag=_TAG, path=_IN_PATH)
async def revoke_token(call: Call[Query]) -> Response:
    """Revoke a token

    All its secrets stop working for good. The list shows it with `is_revoked=true`.
    """
    async with edit.changing(call.state.pool) as connection:
        await tokens.revoke(connection, call.author, await _locked(connection, call))
    return Response(status_code=204, headers=SECURITY_HEADERS)


@endpoint(
    scope=_SCOPE,
    query=Query,
    body=Body(Rotation),
    returns=IssuedTokenShown,
    may_fail=(409,),
    has_etag=True,
    tag=_TAG,
    path=_IN_PATH,
)
async def rotate_token(call: Call[Query]) -> Response:
    """Rotate a token

    Only this answer shows the new secret. The previous secret works until the overlap ends. Until then
    another rotation gets 409, unless its overlap is 0: that ends both earlier secrets.
    """
    rotation = await _read(call, Rotation)
    async with edit.changing(call.state.pool) as connection:
        row = await _locked(connection, call)
        if row["is_revoked"]:
            raise Problem(409, "The token is revoked.", errors={"id": ["is revoked"]})
        try:
            issued = await tokens.rotate(connection, call.author, row, rotation.overlap * _SECOND)
        except tokens.OverlapError as error:
            raise Problem(409, f"{error}.", errors={"overlap": [f"{error}: 0 ends both"]}) from None
    return _answer(issued)


routes: list[Route] = [
    Route(PATH, list_tokens),
    Route(PATH, create_token, methods=["POST"]),
    Route(f"{PATH}/{{id}}", get_token),
    Route(f"{PATH}/{{id}}", change_token, methods=["PATCH"]),
    Route(f"{PATH}/{{id}}", revoke_token, methods=["DELETE"]),
    Route(f"{PATH}/{{id}}/rotate", rotate_token, methods=["POST"]),
]


async def _read(call: Call[Query], model: type[SomeFields]) -> SomeFields:
    body = await call.object()
    check_storable(body)
    return validated(body, model)


async def _check_owner(connection: Connection, fields: TokenFields) -> None:
    owner = NewToken(**fields.model_dump()).owner
    unknown = await tokens.unknown_of(connection, owner) if owner else None
    if owner and unknown is not None:
        is_one = getattr(fields, owner.column) is not None
        field = owner.column if is_one else f"{owner.kind}_ids"
        raise invalid({field: [f"{'' if is_one else f'{unknown} '}matches no {owner.kind}"]})


async def _locked(connection: Connection, call: Call[Query]) -> Row:
    return found(await edit.locked(connection, TOKENS, place_of(call.path, "id")), _CHANGED)


def _answer(issued: Issued, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = {**issued.row, "token": issued.secret}
    return as_json(body, status, {"ETag": etag(issued.row["version"]), **(headers or {})})
