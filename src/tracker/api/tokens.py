"""Tokens of the API: made, listed, changed, rotated and revoked through it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.catalogue import IfMatch, PageQuery, as_json, editor_of, list_rows, listed
from tracker.api.http import query
from tracker.api.http.auth import authorize
from tracker.api.http.body import JSON, MERGE_PATCH, check_storable, read_object, validated
from tracker.api.http.endpoint import documented, needs, responses
from tracker.api.http.problems import SECURITY_HEADERS, Problem, invalid
from tracker.api.http.query import Bool, Query, read_query
from tracker.catalogue.fields import Fields, Id, Moment, NameOrNone, RateText
from tracker.catalogue.resource import ROOT, Resource, change_row, etag, found, place_of
from tracker.store import tokens
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Row
from tracker.store.db import Connection
from tracker.store.tokens import LONGEST_OVERLAP, MEANINGS, OVERLAP, SCOPES, TOKENS, Issued, NewToken

PATH = f"{ROOT}/tokens"

_SCOPE = "admin"
_SECOND = timedelta(seconds=1)
_CHANGES = (400, 401, 403, 404, 409, 412, 413, 415, 422, 503)

Expiry = Annotated[Moment | None, Field(description="The end of the token. null: never.")]
OwnRate = Annotated[RateText | None, Field(description="null: the setting TRACKER_API_RATE.")]


class TokenFields(Fields):
    """A token to create, for the network or for one affiliate or advertiser."""

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

    def clashes(self) -> dict[str, str]:
        return NewToken(**self.model_dump()).clashes()


class TokenChange(Fields):
    """What of a token may be changed; a merge patch (RFC 7396)."""

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


class TokenShown(BaseModel):
    """A token, without its secret."""

    id: int
    name: str
    expires_at: str | None = Field(examples=["2027-01-01T00:00:00+00:00"])
    rate_limit: str | None = Field(examples=["600/minute"])
    scopes: list[str]
    affiliate_id: int | None
    advertiser_id: int | None
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

    name: query.Name = Field(None, description="Tokens with this name.")
    affiliate_id: query.Id = Field(None, description="Tokens of this affiliate.")
    advertiser_id: query.Id = Field(None, description="Tokens of this advertiser.")
    is_revoked: Bool = Field(False, description="true: revoked tokens. false: all others.")


Handler = TypeVar("Handler", bound=Callable[..., Any])

_CHANGED = Resource("tokens", "token", TOKENS, TokenChange, scope=_SCOPE)


def _documented(action: str, **more: Any) -> Callable[[Handler], Handler]:
    return documented.validate(
        tags=["Tokens"],
        operation_id=f"{action}_token",
        path_parameter_descriptions={"id": "The token's id."},
        security=needs(_SCOPE),
        skip_validation=True,
        **more,
    )


class Tokens(HTTPEndpoint):
    """All tokens."""

    @_documented(
        "list", query=TokenQuery, resp=responses(listed("TokenList", TokenShown), 401, 403, 422, 503)
    )
    async def get(self, request: Request) -> Response:
        """List tokens

        Of each secret only how it begins.
        """
        await authorize(request, _SCOPE)
        return await list_rows(request, TOKENS, read_query(request, TokenQuery), {})

    @_documented(
        "create",
        json=TokenFields,
        resp=responses(IssuedTokenShown, 400, 401, 403, 413, 415, 422, 503, status=201),
    )
    async def post(self, request: Request) -> Response:
        """Make a token

        This answer is the only place where its secret is ever seen. Bound to an affiliate or advertiser it
        reads under `/affiliates` or `/advertisers` only, and may have no scope that writes.
        """
        author = await _author(request)
        read_query(request, Query)
        fields = await _read(request, TokenFields)
        if clashes := fields.clashes():
            raise invalid({field: [message] for field, message in clashes.items()})
        async with edit.changing(request.app.state.pool) as connection:
            await _check_owner(connection, fields)
            issued = await tokens.issue(connection, author, NewToken(**fields.model_dump()))
        return _answer(issued, 201, {"Location": f"{PATH}/{issued.row['id']}"})


class OneToken(HTTPEndpoint):
    """One token."""

    @_documented("get", resp=responses(TokenShown, 401, 403, 404, 422, 503))
    async def get(self, request: Request) -> Response:
        """Get a token

        What it may do, whose it is, and when it was used last; never its secret.
        """
        await authorize(request, _SCOPE)
        read_query(request, Query)
        row = found(
            await edit.one(request.app.state.pool, TOKENS, place_of(request.path_params, "id")), _CHANGED
        )
        return as_json(row, headers={"ETag": etag(row)})

    @_documented("change", json=TokenPatch, headers=IfMatch, resp=responses(TokenShown, *_CHANGES))
    async def patch(self, request: Request) -> Response:
        """Change a token

        Its name, its end and its rate. What it may do and whose it is never changes: make another one.
        """
        token = await authorize(request, _SCOPE)
        read_query(request, Query)
        given = await read_object(request, JSON, MERGE_PATCH)
        place = place_of(request.path_params, "id")
        row = await change_row(editor_of(request, token), _CHANGED, place, given)
        return as_json(row, headers={"ETag": etag(row)})

    @_documented("revoke", resp=responses(None, 401, 403, 404, 422, 503, status=204))
    async def delete(self, request: Request) -> Response:
        """Revoke a token

        For good, with all of its secrets. It is listed with `is_revoked=true`.
        """
        author = await _author(request)
        read_query(request, Query)
        async with edit.changing(request.app.state.pool) as connection:
            await tokens.revoke(connection, author, await _locked(connection, request))
        return Response(status_code=204, headers=SECURITY_HEADERS)


@_documented(
    "rotate", json=Rotation, resp=responses(IssuedTokenShown, 400, 401, 403, 404, 409, 413, 415, 422, 503)
)
async def rotate_token(request: Request) -> Response:
    """Give a token another secret

    This answer is the only place where it is ever seen. The secret before works until the overlap has passed;
    while one from before does, another rotation is 409, or ends both with an overlap of 0.
    """
    author = await _author(request)
    read_query(request, Query)
    rotation = await _read(request, Rotation)
    async with edit.changing(request.app.state.pool) as connection:
        row = await _locked(connection, request)
        if row["is_revoked"]:
            raise Problem(409, "The token is revoked.", errors={"id": ["is revoked"]})
        try:
            issued = await tokens.rotate(connection, author, row, rotation.overlap * _SECOND)
        except tokens.OverlapError as error:
            raise Problem(409, f"{error}.", errors={"overlap": [f"{error}: 0 ends both"]}) from None
    return _answer(issued)


routes: list[BaseRoute] = [
    Route(PATH, Tokens),
    Route(f"{PATH}/{{id}}", OneToken),
    Route(f"{PATH}/{{id}}/rotate", rotate_token, methods=["POST"]),
]


async def _author(request: Request) -> Author:
    token = await authorize(request, _SCOPE)
    return Author(token.id, token.name)


async def _read(request: Request, model: Any) -> Any:
    given = await read_object(request, JSON)
    check_storable(given)
    return validated(given, model)


async def _check_owner(connection: Connection, fields: TokenFields) -> None:
    for kind in tokens.BOUND_SCOPES:
        id_ = getattr(fields, f"{kind}_id")
        if id_ is not None and not await edit.exists(connection, kind, id_):
            raise invalid({f"{kind}_id": [f"matches no {kind}"]})


async def _locked(connection: Connection, request: Request) -> Row:
    return found(await edit.locked(connection, TOKENS, place_of(request.path_params, "id")), _CHANGED)


def _answer(issued: Issued, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = {**issued.row, "token": issued.secret}
    return as_json(body, status, {"ETag": etag(issued.row), **(headers or {})})
