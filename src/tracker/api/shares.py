"""Shares: links that open one stored report, without a token and for some days.

A share is worth a token that may read this one report of these owners. Nothing that opens it can change its
query. Here are all of its rules, and the page that opens it asks `open_share` and `read_share`.
"""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from secrets import token_urlsafe
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api import reports
from tracker.api.catalogue import PageQuery, as_json, list_rows, listed
from tracker.api.http.endpoint import Body, Call, endpoint
from tracker.api.http.problems import SECURITY_HEADERS, Problem, conflict, invalid
from tracker.api.kept_queries import ROOTS, QueryText, read_kept, sight_of, wrong_query
from tracker.api.partner_access.endpoints import whole
from tracker.catalogue.fields import Fields, Id, Name
from tracker.catalogue.resource import Resource, found, read_id
from tracker.catalogue.validation import check_storable, validated
from tracker.domain.access import MOST_OWNERS, OwnerKind
from tracker.domain.normalise import pairs
from tracker.parameters import Model, ParameterError, Query
from tracker.reading.reports.query import ReportQuery
from tracker.store import shares, tokens
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Row
from tracker.store.db import Connection, Pool
from tracker.store.shares import SHARES, NewShare, Share
from tracker.store.token_owner import Owner
from tracker.store.tokens import Token

PAGE: Final = "/dashboard/share"
"""Where shares open. The id follows, and the secret in the fragment, which browsers send to nobody."""

LONGEST_DAYS: Final = 30
"""The longest life of a share."""

MOST_SHARES: Final = 1_000
"""Most shares of one maker that are listed. Each opening is a report."""

_SCOPE = "reports:read"
_TAG = "Views and shares"
_IN_PATH = {"id": "The share's id."}
_RANDOM_BYTES = 32
_LONGEST_SECRET = 100

_Owners = Annotated[list[Id], Field(max_length=MOST_OWNERS)]


class ShareFields(Fields):
    """A share to make: the query of a report, and whose rows it shows."""

    name: Name = Field(description="The title of the shared page.", examples=["November, by country"])
    query: QueryText
    affiliate_ids: _Owners = Field(
        default_factory=list, description="It shows only rows of these affiliates, as affiliates see them."
    )
    advertiser_ids: _Owners = Field(
        default_factory=list, description="It shows only rows of these advertisers, as advertisers see them."
    )
    hides_money: bool = Field(False, description="true: it shows no amount. Always so if you see none.")
    days: Annotated[int, Field(ge=1, le=LONGEST_DAYS)] = Field(
        7, description="How many days it works. A share ends with its maker's token at the latest."
    )


class ShareShown(Model):
    """A share, without its secret."""

    id: int
    name: str = Field(examples=["November, by country"])
    query: str = Field(
        description="The query that it opens: yours, with its measures and its time zone.",
        examples=["group_by=country&period=last_month&measures=clicks%2Cpayout&tz=UTC"],
    )
    affiliate_ids: list[int]
    advertiser_ids: list[int]
    hides_money: bool
    is_network_wide: bool = Field(description="true: it shows the rows of all affiliates and advertisers.")
    user_id: int | None
    token_id: int | None
    made_by: str = Field(description="The name of the maker.", examples=["jane@net.example"])
    created_at: str
    expires_at: str
    ended_at: str | None = Field(description="When it was revoked, or when its maker lost rights.")


class MadeShareShown(ShareShown):
    """A share with its link. The link is shown only in this answer."""

    link: str = Field(
        description="Opens the report. Anybody who has it can.",
        examples=["https://tracker.example/dashboard/share/5#kX3w…"],
    )


SHARE = Resource("shares", "share", SHARES, ShareFields, scope=_SCOPE)


# Endpoints


async def list_shares(call: Call[PageQuery]) -> Response:
    """List shares

    Those that you made, the last first. Administrators see all. A share that has ended is listed for 30 days.
    """
    return await list_rows(call.state.pool, SHARES, call.query, _whose(call))


async def make_share(call: Call[Query]) -> Response:
    """Make a share

    Only this answer shows the link. It opens this query and no other, as its owners would see it. Without
    owners it shows the whole network, which takes the scope `admin`. The share ends at once if its maker is
    disabled or gets another role or other owners, or if the token that made it is revoked.
    """
    body = await call.object()
    check_storable(body)
    fields = validated(body, ShareFields)
    owner = _owner(call.token, fields)
    hides_money = call.token.hides_money or fields.hides_money
    query = pinned(fields.query, owner, hides_money=hides_money, network_zone=call.network_zone)
    secret = token_urlsafe(_RANDOM_BYTES)
    new = NewShare(fields.name, query, owner, hides_money, timedelta(days=fields.days))
    async with edit.changing(call.state.pool) as connection:
        await _check_owner(connection, owner)
        if await shares.number_of(connection, call.author) >= MOST_SHARES:
            raise conflict({"name": [f"is one of more than {MOST_SHARES:,} shares of the last days"]})
        row = await shares.add(connection, _digest(secret), call.author, new)
        await edit.note(connection, call.author, SHARES, _place(row), None, row)
    link = f"{call.state.settings.dashboard}{PAGE}/{row['id']}#{secret}"
    location = f"{ROOTS[call.contract.owner]}/shares/{row['id']}"
    return as_json({**row, "link": link}, 201, {"Location": location})


async def get_share(call: Call[Query]) -> Response:
    """Get a share

    One that you made. Administrators get any. The link is never shown again.
    """
    return as_json(await _own(call))


async def revoke_share(call: Call[Query]) -> Response:
    """Revoke a share

    Its link stops working at once, for good.
    """
    before = await _own(call)
    async with edit.changing(call.state.pool) as connection:
        after = await shares.end(connection, before["id"])
        await edit.note(connection, call.author, SHARES, _place(after), before, after)
    return Response(status_code=204, headers=SECURITY_HEADERS)


def _routes_of(kind: str) -> list[Route]:
    path = f"{ROOTS[kind]}/shares"
    one = f"{path}/{{id}}"

    def made(verb: str, query: type[Query] = Query, **contract: Any) -> Any:
        name = f"{verb}_{kind}_share" if kind else f"{verb}_share"
        return endpoint(
            scope=_SCOPE, query=query, without_money=query, owner=kind, tag=_TAG, name=name, **contract
        )

    body: Any = {"body": Body(ShareFields), "status": 201, "may_fail": (409,), "returns": MadeShareShown}
    return [
        Route(path, made("list", PageQuery, returns=listed("ShareList", ShareShown))(list_shares)),
        Route(path, made("make", **body)(make_share), methods=["POST"]),
        Route(one, made("get", returns=ShareShown, path=_IN_PATH)(get_share)),
        Route(
            one,
            made("revoke", returns=None, status=204, path=_IN_PATH)(revoke_share),
            methods=["DELETE"],
        ),
    ]


routes: list[Route] = [route for kind in ROOTS for route in _routes_of(kind)]


# The owners and the query of a share


def _owner(token: Token, fields: ShareFields) -> Owner | None:
    """The owner of a new share: some of the maker's own, or those that a network's maker names.

    Raises:
        Problem: 422 for owners that the maker has not, 403 for a share of the whole network without admin.
    """
    given: dict[OwnerKind, list[int]] = {
        "affiliate": fields.affiliate_ids,
        "advertiser": fields.advertiser_ids,
    }
    named = [Owner(kind, tuple(sorted(set(ids)))) for kind, ids in given.items() if ids]
    if len(named) > 1:
        raise invalid({"advertiser_ids": ["must be empty, because affiliate_ids are given"]})
    if token.owner is not None:
        return _part_of(token.owner, named[0]) if named else token.owner
    if named:
        return named[0]
    if not token.allows("admin"):
        detail = "A share of the whole network needs an administrator. Name affiliate_ids or advertiser_ids."
        raise Problem(403, detail, errors={"affiliate_ids": ["is missing: only administrators share all"]})
    return None


def _part_of(own: Owner, named: Owner) -> Owner:
    foreign = [id_ for id_ in named.ids if named.kind != own.kind or id_ not in own.ids]
    if foreign:
        raise invalid({f"{named.kind}_ids": [f"{foreign[0]} matches no {named.kind}"]})
    return named


async def _check_owner(connection: Connection, owner: Owner | None) -> None:
    unknown = await tokens.unknown_of(connection, owner) if owner else None
    if owner and unknown is not None:
        raise invalid({f"{owner.kind}_ids": [f"{unknown} matches no {owner.kind}"]})


def pinned(text: str, owner: Owner | None, *, hides_money: bool, network_zone: str) -> str:
    """The query of a share: what it leaves to defaults is written out, so that no later default widens it.

    Raises:
        CatalogueError: INVALID. It names the wrong parameters.
    """
    query = _read(text, owner, hides_money=hides_money)
    try:
        query.checked(network_zone)
        if query.format != "json":
            raise ParameterError({"format": ["must be json: a share is a page"]})
    except ParameterError as error:
        raise wrong_query(error) from None
    left = [(name, value) for name, value in pairs(text.encode()) if name not in ("measures", "tz")]
    measures = ",".join(query.shown(sight_of(owner, hides_money=hides_money)))
    zone = str(query.zone(network_zone))
    return urlencode([*left, ("measures", measures), ("tz", zone)])


def _read(text: str, owner: Owner | None, *, hides_money: bool) -> ReportQuery:
    kind = owner.kind if owner else ""
    return whole(read_kept("reports", kind, text, hides_money=hides_money), ReportQuery)


# The way of the page


async def open_share(pool: Pool, id_: int, secret: str) -> Share | None:
    """The share of a secret, if it still opens."""
    if not 0 < len(secret) <= _LONGEST_SECRET:
        return None
    return await shares.find(pool, id_, _digest(secret))


async def read_share(pool: Pool, network_zone: str, share: Share) -> tuple[ReportQuery, dict[str, Any]]:
    """The query of a share with the days of now, and what the API would answer.

    Raises:
        Problem: 503 if its clicks cannot be read in time.
        CatalogueError: INVALID, if its query means something else since an upgrade.
    """
    hides_money = share.row["hides_money"]
    query = _read(share.row["query"], share.owner, hides_money=hides_money)
    query = query.checked(network_zone)
    sight = sight_of(share.owner, hides_money=hides_money)
    return query, await reports.report_of(pool, query, network_zone, sight)


async def note_use(pool: Pool, share: Share, client: str, address: str) -> None:
    """Note in the audit trail that a share was opened, once an hour and client.

    `client`: the network of the address.
    """
    async with pool.acquire() as connection, connection.transaction():
        if await shares.is_first_use(connection, share.id, client):
            author = Author(None, f"share {share.id}", None, address)
            after = {**share.row, "opened_from": address}
            await edit.note(connection, author, SHARES, _place(share.row), share.row, after)


def _whose(call: Call[Any]) -> Row:
    """The shares that the caller sees: those that it made, or all."""
    if call.token.allows("admin"):
        return {}
    author = call.author
    return {"user_id": author.user_id} if author.user_id is not None else {"token_id": author.token_id}


async def _own(call: Call[Query]) -> Row:
    id_ = read_id(call.path["id"])
    place = {"id": id_, **_whose(call)}
    return found(await edit.one(call.state.pool, SHARES, place) if id_ else None, SHARE)


def _place(row: Row) -> str:
    return f"shares/{row['id']}"


def _digest(secret: str) -> bytes:
    return sha256(secret.encode(errors="replace")).digest()
