"""Manual conversions: creating them and changing them without a postback."""

from __future__ import annotations

from collections.abc import Set
from functools import partial
from hashlib import sha256
from typing import Annotated, Any, Literal, NamedTuple

import orjson
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, RootModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.clicks.create import request_key
from tracker.api.clicks.create_schema import CreateHeaders
from tracker.api.conversions.endpoints import (
    ALL,
    PATH,
    READ_SCOPE,
    no_such_conversion,
    read_conversion,
    visible_to,
)
from tracker.api.conversions.schema import ChangedConversion, Status
from tracker.api.http.body import JSON, MERGE_PATCH
from tracker.api.http.endpoint import Body, Call, endpoint
from tracker.api.http.listing import answer_one, as_json
from tracker.api.http.problems import Problem, invalid
from tracker.catalogue.fields import Fields, Id, Ident, Text
from tracker.catalogue.validation import check_storable, validated
from tracker.domain.click_id import Mint
from tracker.domain.conversion import NO_PRICE
from tracker.domain.money import read_currency
from tracker.domain.normalise import amount, given, trim, word
from tracker.domain.postback import (
    DEFAULT_WORDS,
    ConversionStatus,
    Postback,
    Result,
    Source,
    Unreadable,
    no_status,
    read_postback,
)
from tracker.domain.unstored import Unstored
from tracker.parameters import Model, Query
from tracker.reading.keys import KEY, KeyQuery
from tracker.store.clicks.idempotency import Conflict
from tracker.store.conversions import apply_postback, manual, status_words
from tracker.store.conversions import status as conversion_status
from tracker.store.conversions.manual import Found
from tracker.store.conversions.results import Applied
from tracker.store.db import Connection
from tracker.stream.ledger import StreamLedger
from tracker.stream.reader import UNREACHABLE

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


def folded(value: Any) -> Any:
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
    """A conversion to create. Fields that are empty, null or an unfilled macro count as missing.

    An empty order_id counts as sent and absent, like an unfilled macro.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    click_id: Annotated[Ident, Field(min_length=1)] = Field(
        description="Hash of the click, or its id in an earlier tracker."
    )
    source: Ident | None = Field(
        None,
        description="The earlier tracker that click_id is of: the name that it has in imports. Only an id "
        "that several have needs it.",
        examples=["keitaro"],
    )
    order_id: Ident | None = Field(
        None,
        description="The order id of the advertiser. It tells conversions of one goal apart. An empty "
        "one, or an unfilled macro, makes at most one conversion of a click and goal.",
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
        None, description="Total refunded of the order so far. With a refund_id: the amount of that refund."
    )
    refund_id: Ident | None = Field(None, description="Id of one refund. A refund is applied once.")
    external_id: Text | None = Field(None, description="Stored as advertiser_external_id.")
    adv_sub: Text | None = None
    adv_sub2: Text | None = None
    adv_sub3: Text | None = None
    adv_sub4: Text | None = None
    adv_sub5: Text | None = None

    def parameters(self) -> dict[str, str]:
        """The parameters, as in a postback."""
        sent = {name: str(value) for name, value in self.model_dump().items() if value not in (None, "")}
        return {"order_id": "", **sent} if self.order_id == "" else sent


_NewConversion = Annotated[NewConversion, BeforeValidator(_without_nulls)]


class NewConversions(Fields):
    """Conversions to create together. If one of them is invalid, none is created."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"conversions": [_EXAMPLE]}]})

    conversions: list[_NewConversion] = Field(min_length=1, max_length=MAX_CONVERSIONS)


class TellConversions(RootModel[NewConversion | NewConversions]):
    """One conversion, or up to a hundred."""


class Told(Model):
    """The result for one conversion. The log of postbacks has it under its hash."""

    hash: str = Field(examples=["01927a1a3c7e7f0a8b2d4c6e8f012345"])
    result: Literal["stored", "updated", "unchanged", "parked", "waiting", "held", "rejected"] = Field(
        description="parked: waits for its click, or for an earlier postback. waiting: its click may be a "
        "dead letter, which the operator has to replay. held: waits for its goal, its status word, or the "
        "approval of the refunded conversion. All three are applied later without a new request."
    )
    reason: str = Field(description="Empty if it was applied.", examples=["unknown click"])
    conversion_id: int | None = Field(description="The conversion that was made or changed.", examples=[902])


class ToldMany(Model):
    """The results, in the order of the request."""

    data: list[Told]


class ToldAnswer(RootModel[Told | ToldMany]):
    """One result for a request with one conversion. An object with `data` for a list."""


class ConversionPatch(Fields):
    """Changes of a conversion. A missing field stays as it is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "approved"}]})

    status: Annotated[Status | None, BeforeValidator(folded)] = Field(
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
        """The parameters, as in a postback."""
        return {name: str(value) for name, value in self.model_dump().items() if value not in (None, "")}


@endpoint(
    scope=SCOPE,
    query=Query,
    headers=CreateHeaders,
    body=Body(TellConversions, most=MAX_BODY),
    returns=ToldAnswer,
    tag="Conversions",
)
async def tell_conversions(call: Call[Query]) -> Response:
    """Create conversions

    The rules of a postback apply, also to a repeat: it never approves a conversion that is rejected or on
    hold for the operator. No secret is needed, and amounts always count. If a field cannot be read, nothing
    is done. A conversion that the rules refuse is a result: `rejected` with its `reason`. With the answer 200
    the results are stored. After any other answer or none, repeat the request with the same Idempotency-Key.
    Without one, an order id prevents doubles. So does a goal that takes one conversion a click.
    """
    request, pool = call.request, call.state.pool
    key = request_key(request)
    body = await call.object()
    check_storable(body)
    batch = _read_conversions(body)
    await _check_words(request, batch)
    postbacks = [_postback(request, batch, place) for place in range(len(batch.conversions))]
    digest = sha256(orjson.dumps([conversion.parameters() for conversion in batch.conversions])).digest()
    manual_request = manual.Request(call.token.id, key, digest, postbacks)
    complete_until = await call.state.complete_until.millis()
    ask_unstored = partial(unstored, call.state.stream)
    try:
        applied = await manual.tell(pool, manual_request, complete_until, ask_unstored)
    except Conflict as error:
        raise invalid({error.field: [str(error)]}) from None
    rows = [row_of(each) for each in applied]
    return as_json({"data": rows} if batch.is_list else rows[0])


async def unstored(stream: StreamLedger, minutes: Set[int]) -> Unstored:
    """Which minutes have clicks outside the table. All may have some while the stream server is away."""
    try:
        return await stream.unstored(minutes)
    except UNREACHABLE:
        return Unstored(in_flight=minutes, dead=frozenset())


@endpoint(
    scope=SCOPE,
    query=KeyQuery,
    body=Body(ConversionPatch, (JSON, MERGE_PATCH)),
    returns=ChangedConversion,
    may_fail=(409,),
    tag="Conversions",
    path={"id": KEY},
)
async def change_conversion(call: Call[KeyQuery]) -> Response:
    """Change a conversion

    Sets its status, its sale_amount or the advertiser's text. If the conversion cannot get the status any
    more, the answer is 409 and nothing changes. If its payout is a percentage of a sale_amount that only a
    pixel sent, an approval needs the sale_amount too. The history records the change. The money is booked or
    reversed, and the affiliate gets a postback. A token without `conversions:read` only gets the result of
    the change.
    """
    body = await call.object()
    check_storable(body)
    patch = validated(body, ConversionPatch)
    if patch.status is None and patch.sale_status is None and patch.sale_amount is None:
        raise invalid({"status": ["is missing, and so are sale_status and sale_amount"]})
    if patch.currency is not None and patch.sale_amount is None:
        raise invalid({"sale_amount": ["is missing: a currency needs it"]})
    row = await read_conversion(call, ALL)
    id_, status = await _change(call.request, int(str(row["id"])), patch, call.token.name)
    if not call.token.allows(READ_SCOPE):
        return as_json({"id": id_, "status": status, "sale_status": patch.sale_status})
    return answer_one(visible_to(call.token, await read_conversion(call, ALL)))


routes: list[Route] = [
    Route(PATH, tell_conversions, methods=["POST"]),
    Route(f"{PATH}/{{id}}", change_conversion, methods=["PATCH"]),
]


class _ConversionsRequest(NamedTuple):
    """The conversions of a body: a single one or a list."""

    conversions: list[NewConversion]
    is_list: bool

    def named(self, place: int, field: str) -> str:
        return f"conversions.{place}.{field}" if self.is_list else field


def _read_conversions(body: dict[str, Any]) -> _ConversionsRequest:
    if "conversions" in body:
        return _ConversionsRequest(validated(body, NewConversions).conversions, True)
    return _ConversionsRequest([validated(_without_nulls(body), NewConversion)], False)


def _postback(request: Request, batch: _ConversionsRequest, place: int) -> Postback:
    mint: Mint = request.app.state.mint
    try:
        return read_postback(
            mint.hash(), Source.API, _ip(request), None, batch.conversions[place].parameters()
        )
    except Unreadable as error:
        raise invalid({batch.named(place, error.field): [str(error)]}) from None


async def _check_words(request: Request, batch: _ConversionsRequest) -> None:
    """Check that each status word is known to some advertiser. Its meaning depends on the advertiser.

    Raises:
        Problem: 422 naming the unknown words.
    """
    words = [word(given(conversion.status or "")) for conversion in batch.conversions]
    others = {one for one in words if one not in DEFAULT_WORDS}
    known = {one for _, one in await status_words.read(request.app.state.pool, others)} | {"", *DEFAULT_WORDS}
    wrong = {
        batch.named(place, "status"): [no_status()] for place, one in enumerate(words) if one not in known
    }
    if wrong:
        raise invalid(wrong)


def row_of(applied: Applied) -> dict[str, object]:
    """The result of a postback in the form of Told."""
    return {name: getattr(applied, name) for name in Told.model_fields}


async def _change(
    request: Request, id_: int, patch: ConversionPatch, author: str
) -> tuple[int, ConversionStatus]:
    """Apply a patch. Returns the conversion's id and its new status."""
    async with manual.changing(request.app.state.pool) as connection:
        conversion = await manual.find(connection, id_)
        if conversion is None:
            raise no_such_conversion()
        status = conversion.status if patch.status is None else ConversionStatus(patch.status)
        if patch.sale_amount is None:
            await _set_status(connection, conversion, status, patch.sale_status, author)
        else:
            await _set_sale(connection, conversion, _amendment(request, conversion, patch), author)
    return conversion.id, status


async def _set_status(
    connection: Connection,
    conversion: Found,
    status: ConversionStatus,
    sale_status: str | None,
    author: str,
) -> None:
    sale_statuses = {} if sale_status is None else {conversion.id: sale_status}
    ((_, _, after, doubt),) = await conversion_status.set_status(
        connection, [conversion.id], status, source=Source.API, author=author, sale_statuses=sale_statuses
    )
    if doubt:
        errors = {"sale_amount": ["is missing: the stored one comes only from a browser"]}
        if doubt == NO_PRICE:
            errors = {"status": ["cannot be approved: first set the price of its goal (0 is a price)"]}
        raise Problem(409, f"It stays {conversion.status}: {doubt}.", errors=errors)
    if after is not status:
        errors = {"status": [f"cannot be {status} any more"]}
        raise Problem(409, f"It stays {after}: it cannot be {status} any more.", errors=errors)


def _amendment(request: Request, conversion: Found, patch: ConversionPatch) -> Postback:
    """The postback that a patch of a conversion stands for."""
    mint: Mint = request.app.state.mint
    parameters = {
        "click_id": conversion.click_hash,
        "goal_id": str(conversion.goal_id),
        "status": str(conversion.status),
        **patch.parameters(),
    }
    return read_postback(mint.hash(), Source.API, _ip(request), None, parameters)


async def _set_sale(connection: Connection, conversion: Found, postback: Postback, author: str) -> None:
    applied = await apply_postback.amend(connection, postback, conversion.id, author)
    after = await manual.find(connection, conversion.id)
    assert after
    sale = postback.sale_amount, postback.currency or after.sale_currency
    if (after.sale_amount, after.sale_currency) != sale:
        why = applied.reason if applied.result is Result.REJECTED else "it is approved or rejected already"
        errors = {"sale_amount": [f"cannot be changed: {why}"]}
        raise Problem(409, f"Its sale_amount cannot be changed: {why}.", errors=errors)
    if after.status is not postback.status:
        errors = {"status": [f"cannot be {postback.status}"]}
        raise Problem(409, f"Its status cannot be {postback.status}: {applied.reason}.", errors=errors)


def _ip(request: Request) -> str:
    return request.client.host if request.client else ""
