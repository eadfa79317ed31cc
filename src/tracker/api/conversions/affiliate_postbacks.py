"""The log of postbacks to affiliates, and resending them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, RootModel
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.catalogue import listed
from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.listing import as_json
from tracker.api.http.paging import envelope
from tracker.api.http.problems import Problem, conflict
from tracker.api.http.routing import ROOT
from tracker.catalogue.resource import read_id
from tracker.reading.deliveries import log_page
from tracker.reading.postbacks import SentPostbackQuery
from tracker.reading.query import ZoneQuery
from tracker.store.conversions import affiliate_postbacks
from tracker.store.paging import Row
from tracker.store.tokens import Token

PATH = f"{ROOT}/sent-postbacks"

READ_SCOPE = "conversions:read"
_TAG = "Postbacks to affiliates"
_PATH = {"id": "The postback's id."}


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


@endpoint(
    scope=READ_SCOPE,
    query=SentPostbackQuery,
    without_money=SentPostbackQuery,
    returns=listed("SentPostbackList", SentPostback),
    tag=_TAG,
)
async def list_sent_postbacks(call: Call[SentPostbackQuery]) -> Response:
    """List postbacks to affiliates

    The log of 90 days, newest first. Page numbers work for the first 10,000 rows.
    """
    query, number = call.query, call.query.page or 1
    page = await log_page(
        call.state.pool, affiliate_postbacks.POSTBACKS, affiliate_postbacks.FILTERS, query, call.network_zone
    )
    page = page._replace(rows=[seen_by(call.token, row) for row in page.rows])
    return as_json(envelope(page, per_page=query.per_page, number=number))


@endpoint(
    scope=READ_SCOPE,
    query=ZoneQuery,
    without_money=ZoneQuery,
    returns=SentPostback,
    tag=_TAG,
    path=_PATH,
)
async def get_sent_postback(call: Call[ZoneQuery]) -> Response:
    """Get a postback to an affiliate

    With the number of attempts and the result of the last one.
    """
    return as_json(seen_by(call.token, await _postback(call)))


@endpoint(
    scope="conversions:write",
    query=ZoneQuery,
    returns=FiredAgain,
    may_fail=(409,),
    tag=_TAG,
    path=_PATH,
)
async def fire_sent_postback_again(call: Call[ZoneQuery]) -> Response:
    """Resend a postback

    To the same address with the same key, in any state. It is sent at once and retried like a new one.
    The audit trail records it. If the affiliate is blocked or archived, the answer is 409.
    """
    try:
        await affiliate_postbacks.fire_again(call.state.pool, call.author, _id(call))
    except LookupError:
        raise _no_such_postback() from None
    except ValueError as error:
        raise conflict({"url": [f"cannot be sent: {error}"]}) from None
    row = await _postback(call)
    if not call.token.allows(READ_SCOPE):
        row = {name: row[name] for name in FiredPostback.model_fields}
    return as_json(row)


def seen_by(token: Token, row: Row) -> Row:
    """A postback as a token sees it. Its filled URL may carry amounts."""
    return {name: value for name, value in row.items() if name != "url"} if token.hides_money else row


async def _postback(call: Call[ZoneQuery]) -> Row:
    row = await affiliate_postbacks.POSTBACKS.one(
        call.state.pool, _id(call), call.query.zone(call.network_zone)
    )
    if row is None:
        raise _no_such_postback()
    return row


def _id(call: Call[ZoneQuery]) -> int:
    id_ = read_id(call.path["id"])
    if id_ is None:
        raise _no_such_postback()
    return id_


def _no_such_postback() -> Problem:
    return Problem(404, "The postback does not exist.", errors={"id": ["does not exist"]})


routes: list[Route] = [
    Route(PATH, list_sent_postbacks),
    Route(f"{PATH}/{{id}}", get_sent_postback),
    Route(f"{PATH}/{{id}}/refire", fire_sent_postback_again, methods=["POST"]),
]
