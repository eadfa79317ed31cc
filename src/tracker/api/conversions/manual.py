"""Telling of conversions: those that no postback tells of, and what becomes of those that there are."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Any, Literal, NamedTuple

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, RootModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.clicks.create import request_key
from tracker.api.clicks.create_schema import CreateHeaders
from tracker.api.conversions.endpoints import (
    ALL,
    PATH,
    READ_SCOPE,
    as_read,
    found_conversion,
    no_such_conversion,
)
from tracker.api.conversions.schema import ChangedConversion, Status
from tracker.api.http.auth import authorize
from tracker.api.http.body import JSON, MERGE_PATCH, check_storable, read_object, validated
from tracker.api.http.endpoint import documented, needs, responses
from tracker.api.http.listing import answer_one, as_json, id_or_hash
from tracker.api.http.problems import Problem, invalid
from tracker.api.http.query import Query, ZoneQuery, read_query
from tracker.catalogue.fields import Fields, Id, Ident, Text
from tracker.domain.click_id import Mint
from tracker.domain.conversion import NO_PRICE
from tracker.domain.money import read_currency
from tracker.domain.normalise import amount, given, trim, word
from tracker.domain.postback import (
    DEFAULT_WORDS,
    ConversionStatus,
    Postback,
    Source,
    Unreadable,
    no_status,
    read_postback,
)
from tracker.store.clicks.idempotency import Conflict
from tracker.store.conversions import apply_postback, manual, status_words
from tracker.store.conversions import status as conversion_status
from tracker.store.conversions.apply_postback import Applied, Result
from tracker.store.conversions.manual import Found
from tracker.store.db import Connection

SCOPE = "conversions:write"

MAX_CONVERSIONS = 100
"""Most conversions of one request."""

MAX_BODY = 1 << 20
"""Longest body, in bytes."""


def _check_amount(text: str) -> str:
    amount(text)
    return trim(text)


def _check_currency(text: str) -> str:
    return read_currency(text)


def _amount_or_none(text: str) -> str:
    return _check_amount(text) if given(text) else ""


def _currency_or_none(text: str) -> str:
    return _check_currency(text) if given(text) else ""


def _folded(value: Any) -> Any:
    return word(value) if isinstance(value, str) else value


def _without_nulls(body: Any) -> Any:
    if not isinstance(body, dict):
        return body
    return {name: value for name, value in body.items() if value is not None}


_EXAMPLE: dict[str, Any] = {
    "click_id": "01927632a6c87d3f9b1c5e8a4f60d2b7",
    "order_id": "A-1001",
    "status": "approved",
    "sale_amount": "125.00",
    "currency": "EUR",
}

_AnAmount = Annotated[str, Field(examples=["12.50"], max_length=60)]
_Amount = Annotated[_AnAmount, AfterValidator(_amount_or_none)]
_Currency = Annotated[str, AfterValidator(_currency_or_none)]


class NewConversion(Fields):
    """A conversion to create. Fields that are empty, null or an unfilled macro count as missing."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    click_id: Annotated[Ident, Field(min_length=1)] = Field(
        description="Hash of the click, or its id in an earlier tracker."
    )
    order_id: Ident | None = Field(
        None, description="The order id of the advertiser. It tells conversions of one goal apart."
    )
    goal_id: Id | None = Field(None, description="Default: the base goal of the offer.")
    goal: Ident | None = Field(
        None, description="Code or name of the goal, instead of goal_id.", examples=["deposit"]
    )
    status: Ident | None = Field(
        None,
        description="pending, hold, approved or rejected, a usual word for one of them, or one of "
        "status-words. Default: the initial_status of the goal.",
        examples=["approved"],
    )
    sale_status: Text | None = Field(None, description="Status text of the advertiser.")
    payout: _Amount | None = Field(None, description="Default: the payout of the goal.")
    revenue: _Amount | None = Field(None, description="Default: the revenue of the goal.")
    sale_amount: _Amount | None = Field(
        None, description="The amount of the sale. Percentages are of this amount."
    )
    currency: _Currency | None = Field(
        None, description="ISO 4217 code of the amounts. Default: the currency of the goal.", examples=["EUR"]
    )
    refund_amount: _Amount | None = Field(
        None, description="Total refunded so far. With a refund_id: the amount of that refund."
    )
    refund_id: Ident | None = Field(None, description="Id of one refund. A refund is applied once.")
    external_id: Text | None = Field(None, description="Stored as advertiser_external_id.")
    adv_sub: Text | None = None
    adv_sub2: Text | None = None
    adv_sub3: Text | None = None
    adv_sub4: Text | None = None
    adv_sub5: Text | None = None

    def parameters(self) -> dict[str, str]:
        """What is said, as a postback says it."""
        return {name: str(value) for name, value in self.model_dump().items() if value not in (None, "")}


_NewConversion = Annotated[NewConversion, BeforeValidator(_without_nulls)]


class NewConversions(Fields):
    """Conversions to create together. If one of them is invalid, none is created."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"conversions": [_EXAMPLE]}]})

    conversions: list[_NewConversion] = Field(min_length=1, max_length=MAX_CONVERSIONS)


class TellConversions(RootModel[NewConversion | NewConversions]):
    """One conversion, or up to a hundred."""


class Told(BaseModel):
    """The result for one conversion. The log of postbacks has it under its hash."""

    hash: str = Field(examples=["01927a1a3c7e7f0a8b2d4c6e8f012345"])
    result: Literal["stored", "updated", "unchanged", "parked", "held", "rejected"] = Field(
        description="parked: waits for its click, or for an earlier postback. held: waits for its goal, its "
        "status word, or the approval of the refunded conversion. Both are applied later without a new "
        "request."
    )
    reason: str = Field(description="Empty if it was applied.", examples=["unknown click"])
    conversion_id: int | None = Field(description="The conversion that was made or changed.", examples=[902])


class ToldMany(BaseModel):
    """The results, in the order of the request."""

    data: list[Told]


class ToldAnswer(RootModel[Told | ToldMany]):
    """One result for a request with one conversion. An object with `data` for a list."""


class ConversionPatch(Fields):
    """Changes of a conversion. A missing field stays as it is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "approved"}]})

    status: Annotated[Status | None, BeforeValidator(_folded)] = Field(
        None,
        description="pending and hold can become any status. approved and rejected can become each other.",
    )
    sale_status: Text | None = Field(None, description="Status text. Its click shows it too.")
    sale_amount: Annotated[_AnAmount, AfterValidator(_check_amount)] | None = Field(
        None,
        description="The sale. It can change until the approval. A percentage of a sale that only a browser "
        "sent is approved only with it.",
    )
    currency: Annotated[str, AfterValidator(_check_currency)] | None = Field(
        None, description="ISO 4217 code of sale_amount. Default: unchanged.", examples=["EUR"]
    )

    def parameters(self) -> dict[str, str]:
        """What is said, as a postback says it."""
        return {name: str(value) for name, value in self.model_dump().items() if value not in (None, "")}


@documented.validate(
    headers=CreateHeaders,
    json=TellConversions,
    resp=responses(ToldAnswer, 400, 401, 403, 413, 415, 422, 503),
    security=needs(SCOPE),
    tags=["Conversions"],
    operation_id="tell_conversions",
    skip_validation=True,
)
async def tell_conversions(request: Request) -> Response:
    """Tell of conversions

    By the rules of a postback, also where it is told twice: it approves nothing that is on hold for the
    operator, and nothing that was rejected. But no secret is asked for, and amounts always count. If anything
    in the request cannot be read, nothing of it is done; what the rules refuse is a result (`rejected`,
    `reason`). What is answered is stored. After any other answer, or none, repeat the request with the same
    Idempotency-Key; without one, an order id keeps a conversion from being made twice, or a goal that takes
    one conversion a click.
    """
    token = await authorize(request, SCOPE)
    read_query(request, Query)
    key = request_key(request)
    body = await read_object(request, JSON, most=MAX_BODY)
    check_storable(body)
    asked = _read_asked(body)
    await _check_words(request, asked)
    postbacks = [_postback(request, asked, place) for place in range(len(asked.conversions))]
    said = orjson.dumps([conversion.parameters() for conversion in asked.conversions])
    wanted = manual.Request(token.id, key, sha256(said).digest(), postbacks)
    complete_until = await request.app.state.complete_until.millis()
    try:
        taken = await manual.tell(request.app.state.pool, wanted, complete_until)
    except Conflict as error:
        raise invalid({error.field: [str(error)]}) from None
    rows = [_row(each) for each in taken]
    return as_json({"data": rows} if asked.is_list else rows[0])


@documented.validate(
    query=ZoneQuery,
    json=ConversionPatch,
    resp=responses(ChangedConversion, 400, 401, 403, 404, 409, 413, 415, 422, 503),
    security=needs(SCOPE),
    tags=["Conversions"],
    operation_id="change_conversion",
    path_parameter_descriptions={"id": "The conversion's id, or its hash: 32 hexadecimal digits."},
    skip_validation=True,
)
async def change_conversion(request: Request) -> Response:
    """Change a conversion

    Sets its status, its sale_amount, or the advertiser's text. What it cannot get any more is refused with
    409, and nothing is changed; so is the approval of a percentage of a sale_amount that only a browser told,
    unless the sale_amount is given, too. The change is in its history, its money is booked or taken back, and
    its affiliate is told. A token that may not look at conversions (`conversions:read`) is only answered what
    the change came to.
    """
    token = await authorize(request, SCOPE)
    zone = read_query(request, ZoneQuery).zone(request.app.state.settings.time_zone)
    body = await read_object(request, JSON, MERGE_PATCH)
    check_storable(body)
    patch = validated(body, ConversionPatch)
    if patch.status is None and patch.sale_status is None and patch.sale_amount is None:
        raise invalid({"status": ["is missing, and so are sale_status and sale_amount"]})
    if patch.currency is not None and patch.sale_amount is None:
        raise invalid({"sale_amount": ["is missing: a currency needs it"]})
    id_, status = await _change(request, patch, token.name)
    if not token.allows(READ_SCOPE):
        return as_json({"id": id_, "status": status, "sale_status": patch.sale_status})
    return answer_one(as_read(token, await found_conversion(request, zone, ALL)))


routes: list[BaseRoute] = [
    Route(PATH, tell_conversions, methods=["POST"]),
    Route(f"{PATH}/{{id}}", change_conversion, methods=["PATCH"]),
]


class _ConversionsRequest(NamedTuple):
    """The conversions of a body: one by itself, or a list."""

    conversions: list[NewConversion]
    is_list: bool

    def named(self, place: int, field: str) -> str:
        return f"conversions.{place}.{field}" if self.is_list else field


def _read_asked(body: dict[str, Any]) -> _ConversionsRequest:
    if "conversions" in body:
        return _ConversionsRequest(validated(body, NewConversions).conversions, True)
    return _ConversionsRequest([validated(_without_nulls(body), NewConversion)], False)


def _postback(request: Request, asked: _ConversionsRequest, place: int) -> Postback:
    mint: Mint = request.app.state.mint
    try:
        return read_postback(
            mint.hash(), Source.API, _ip(request), None, asked.conversions[place].parameters()
        )
    except Unreadable as error:
        raise invalid({asked.named(place, error.field): [str(error)]}) from None


async def _check_words(request: Request, asked: _ConversionsRequest) -> None:
    """See that somebody knows each status; what it means is its advertiser's.

    Raises:
        Problem: 422 naming those that nobody knows.
    """
    words = [word(given(conversion.status or "")) for conversion in asked.conversions]
    others = {one for one in words if one not in DEFAULT_WORDS}
    known = {one for _, one in await status_words.read(request.app.state.pool, others)} | {"", *DEFAULT_WORDS}
    wrong = {
        asked.named(place, "status"): [no_status()] for place, one in enumerate(words) if one not in known
    }
    if wrong:
        raise invalid(wrong)


def _row(taken: Applied) -> dict[str, object]:
    return {name: value for name, value in taken._asdict().items() if name != "held_at"}


async def _change(request: Request, patch: ConversionPatch, author: str) -> tuple[int, ConversionStatus]:
    """Do it; returns the conversion's id, and the status that it has then."""
    key = id_or_hash(request.path_params["id"])
    async with manual.changing(request.app.state.pool) as connection:
        found = None if key is None else await manual.find(connection, key)
        if found is None:
            raise no_such_conversion()
        wanted = found.status if patch.status is None else ConversionStatus(patch.status)
        if patch.sale_amount is None:
            await _set_status(connection, found, wanted, patch.sale_status, author)
        else:
            await _name_sale(connection, found, _amendment(request, found, patch), author)
    return found.id, wanted


async def _set_status(
    connection: Connection, found: Found, wanted: ConversionStatus, sale_status: str | None, author: str
) -> None:
    said = {} if sale_status is None else {found.id: sale_status}
    ((_, _, after, doubt),) = await conversion_status.set_status(
        connection, [found.id], wanted, source=Source.API, author=author, sale_statuses=said
    )
    if doubt:
        errors = {"sale_amount": ["is missing: the stored one comes only from a browser"]}
        if doubt == NO_PRICE:
            errors = {"status": ["cannot be approved: first set the price of its goal (0 is a price)"]}
        raise Problem(409, f"It stays {found.status}: {doubt}.", errors=errors)
    if after is not wanted:
        errors = {"status": [f"cannot be {wanted} any more"]}
        raise Problem(409, f"It stays {after}: it cannot be {wanted} any more.", errors=errors)


def _amendment(request: Request, found: Found, patch: ConversionPatch) -> Postback:
    """What the network says of one conversion, as a postback says it."""
    mint: Mint = request.app.state.mint
    named = {"click_id": found.click_hash, "goal_id": str(found.goal_id), "status": str(found.status)}
    return read_postback(mint.hash(), Source.API, _ip(request), None, named | patch.parameters())


async def _name_sale(connection: Connection, found: Found, postback: Postback, author: str) -> None:
    taken = await apply_postback.amend(connection, postback, found.id, author)
    after = await manual.find(connection, found.id)
    assert after
    named = postback.sale_amount, postback.currency or after.sale_currency
    if (after.sale_amount, after.sale_currency) != named:
        why = taken.reason if taken.result is Result.REJECTED else "it is approved or rejected already"
        errors = {"sale_amount": [f"cannot be changed: {why}"]}
        raise Problem(409, f"Its sale_amount cannot be changed: {why}.", errors=errors)
    if after.status is not postback.status:
        errors = {"status": [f"cannot be {postback.status}"]}
        raise Problem(409, f"Its status cannot be {postback.status}: {taken.reason}.", errors=errors)


def _ip(request: Request) -> str:
    return request.client.host if request.client else ""
