"""The log of postbacks to affiliates: what was sent, how that went, and sending it again."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, RootModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.catalogue import listed
from tracker.api.http.auth import authorize
from tracker.api.http.endpoint import documented, needs, responses
from tracker.api.http.listing import as_json
from tracker.api.http.paging import envelope
from tracker.api.http.problems import Problem, conflict, invalid
from tracker.api.http.query import (
    Id,
    PageNumber,
    PerPage,
    SpanQuery,
    Text,
    ZoneQuery,
    about,
    choice,
    read_query,
)
from tracker.catalogue.resource import ROOT, read_id
from tracker.store.catalogue.edit import Author
from tracker.store.conversions import affiliate_postbacks
from tracker.store.paging import Row, TooDeepError

PATH = f"{ROOT}/sent-postbacks"

READ_SCOPE, _WRITE = "conversions:read", "conversions:write"
_TAG = "Postbacks to affiliates"
_WHICH = {"id": "The postback's id."}


class SentPostbackQuery(SpanQuery):
    """Which postbacks."""

    affiliate_id: Id = about("Postbacks to this affiliate.")
    affiliate_postback_id: Id = about("Postbacks by this affiliate postback (the configured URL).")
    conversion_id: Id = about("Postbacks of this conversion.")
    state: choice("waiting", "sent", "failed", "held") = about("Postbacks in this state.")  # type: ignore[valid-type]
    host: Text = about("Postbacks to this host.")
    per_page: PerPage = Field(default=200, description="Rows per page.")
    page: PageNumber = Field(default=1, description="Page number, from 1.")


class SentPostback(BaseModel):
    """One postback to an affiliate, and the result of sending it."""

    id: int
    key: str = Field(description="Every attempt sends it in the header Idempotency-Key.")
    conversion_id: int
    change_id: int = Field(description="The id of the status change that the postback reports.")
    affiliate_id: int
    affiliate_postback_id: int
    url: str = Field(examples=["https://partner.example/in?click=abc&sum=12.50"])
    state: Literal["waiting", "sent", "failed", "held"]
    attempts: int = Field(description="Number of attempts since it was created or resent.")
    created_at: str = Field(examples=["2026-11-25 16:00:00"])
    next_attempt_at: str | None = Field(description="null once it was sent or has failed.")
    last_attempt_at: str | None
    give_up_at: str = Field(description="There is no attempt after this time.")
    last_status: int | None = Field(description="HTTP status of the last answer. null if no answer came.")
    last_error: str = Field(examples=["no answer within 10 s"])


class FiredPostback(BaseModel):
    """The result of resending, for a token without the scope conversions:read."""

    id: int
    state: Literal["waiting", "sent", "failed", "held"]


class FiredAgain(RootModel[SentPostback | FiredPostback]):
    """The postback. A token without the scope conversions:read gets only its state."""


@documented.validate(
    query=SentPostbackQuery,
    resp=responses(listed("SentPostbackList", SentPostback), 401, 403, 422, 503),
    security=needs(READ_SCOPE),
    tags=[_TAG],
    operation_id="list_sent_postbacks",
    skip_validation=True,
)
async def list_sent_postbacks(request: Request) -> Response:
    """List postbacks to affiliates

    The log of 90 days, newest first; pages lead through the first 10,000 of a filter.
    """
    await authorize(request, READ_SCOPE)
    query = read_query(request, SentPostbackQuery)
    pool, network_zone = request.app.state.pool, request.app.state.settings.time_zone
    filters = {
        name: value for name in affiliate_postbacks.FILTERS if (value := getattr(query, name)) is not None
    }
    number = query.page or 1
    try:
        page = await affiliate_postbacks.page(
            pool, filters, query.span(network_zone), query.zone(network_zone), number, query.per_page
        )
    except TooDeepError as error:
        raise invalid({"page": [f"{error}: narrow the time"]}) from None
    return as_json(envelope(page, per_page=query.per_page, number=number))


@documented.validate(
    query=ZoneQuery,
    resp=responses(SentPostback, 401, 403, 404, 422, 503),
    security=needs(READ_SCOPE),
    tags=[_TAG],
    operation_id="get_sent_postback",
    path_parameter_descriptions=_WHICH,
    skip_validation=True,
)
async def get_sent_postback(request: Request) -> Response:
    """Get one postback to an affiliate

    With how often it was tried, and what came of the last time.
    """
    await authorize(request, READ_SCOPE)
    return as_json(await _found(request, read_query(request, ZoneQuery)))


@documented.validate(
    query=ZoneQuery,
    resp=responses(FiredAgain, 401, 403, 404, 409, 422, 503),
    security=needs(_WRITE),
    tags=[_TAG],
    operation_id="fire_sent_postback_again",
    path_parameter_descriptions=_WHICH,
    skip_validation=True,
)
async def fire_again(request: Request) -> Response:
    """Fire a postback again

    The same address under the same key, whatever became of it before: at once, and then as often as a new
    one. It is in the audit trail. Blocked and archived affiliates are sent nothing: 409.
    """
    token = await authorize(request, _WRITE)
    query = read_query(request, ZoneQuery)
    try:
        await affiliate_postbacks.fire_again(
            request.app.state.pool, Author(token.id, token.name), _id(request)
        )
    except LookupError:
        raise _no_such_postback() from None
    except ValueError as error:
        raise conflict({"url": [f"cannot be sent: {error}"]}) from None
    row = await _found(request, query)
    if not token.allows(READ_SCOPE):
        row = {name: row[name] for name in FiredPostback.model_fields}
    return as_json(row)


async def _found(request: Request, query: ZoneQuery) -> Row:
    zone = query.zone(request.app.state.settings.time_zone)
    row = await affiliate_postbacks.one(request.app.state.pool, _id(request), zone)
    if row is None:
        raise _no_such_postback()
    return row


def _id(request: Request) -> int:
    id_ = read_id(request.path_params["id"])
    if id_ is None:
        raise _no_such_postback()
    return id_


def _no_such_postback() -> Problem:
    return Problem(404, "The postback does not exist.", errors={"id": ["does not exist"]})


routes: list[BaseRoute] = [
    Route(PATH, list_sent_postbacks),
    Route(f"{PATH}/{{id}}", get_sent_postback),
    Route(f"{PATH}/{{id}}/refire", fire_again, methods=["POST"]),
]
