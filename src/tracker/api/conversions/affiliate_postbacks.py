"""The log of postbacks to affiliates, and resending them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, RootModel
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.catalogue import listed
from tracker.api.conversions.status_upload import MOST_LISTED
from tracker.api.http.endpoint import Body, Call, endpoint
from tracker.api.http.listing import as_json
from tracker.api.http.paging import envelope
from tracker.api.http.problems import Problem, conflict, invalid
from tracker.api.http.routing import ROOT
from tracker.catalogue.fields import Fields
from tracker.catalogue.resource import read_id
from tracker.catalogue.validation import validated
from tracker.parameters import Bool, Id, Model, PageNumber, PerPage, about
from tracker.reading.deliveries import log_page
from tracker.reading.postbacks import RefireQuery, SentPostbackQuery
from tracker.reading.query import ZoneQuery
from tracker.store.conversions import affiliate_postbacks, refire
from tracker.store.conversions.refire import TooManyError
from tracker.store.paging import Row
from tracker.store.tokens import Token

PATH = f"{ROOT}/sent-postbacks"
URLS = f"{ROOT}/postback-urls"

READ_SCOPE = "conversions:read"
_TAG = "Postbacks to affiliates"
_PATH = {"id": "The postback's id."}


class SentPostback(Model):
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


class FiredPostback(Model):
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
    from_standby=True,
)
async def list_sent_postbacks(call: Call[SentPostbackQuery]) -> Response:
    """List postbacks to affiliates

    The log of 90 days, newest first. Page numbers work for the first 10,000 rows.
    """
    query, number = call.query, call.query.page or 1
    page = await log_page(
        call.pool, affiliate_postbacks.POSTBACKS, affiliate_postbacks.FILTERS, query, call.network_zone
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


class SkippedPostback(Model):
    """A postback that is not sent again."""

    id: int
    reason: str = Field(examples=["a later status has been sent since"])


class FiredMany(Model):
    """The result of resending many: matched = fired + skipped."""

    dry_run: bool
    matched: int = Field(examples=[120])
    fired: int = Field(description="Postbacks that are sent at once.", examples=[118])
    skipped: int = Field(examples=[2])
    problems: list[SkippedPostback] = Field(description=f"The first {MOST_LISTED:,} skipped ones.")


class Refire(Fields):
    """How postbacks are sent once more."""

    dry_run: bool = Field(False, description="true: show what would be sent, and change nothing.")


@endpoint(
    scope="conversions:write",
    query=RefireQuery,
    body=Body(Refire),
    returns=FiredMany,
    tag=_TAG,
)
async def fire_sent_postbacks_again(call: Call[RefireQuery]) -> Response:
    """Resend many postbacks

    Those of the log's filters, at most 10,000: the failed ones unless `state` says otherwise. Something has
    to be chosen. Each goes to the same address with the same key, and is retried like a new one. It is
    skipped if its affiliate is blocked or archived, if it never had a valid address, or if a later status of
    its conversion has been sent since. A repeated request finds none that have failed. `dry_run: true` shows
    the same result and changes nothing. The audit trail records it.
    """
    wanted, query = validated(await call.object(), Refire), call.query
    if not query.model_fields_set - {"tz"}:
        raise invalid({"affiliate_id": ["is missing, and so is another filter"]})
    try:
        rows = await refire.refire(
            call.state.pool,
            call.author,
            query.given(affiliate_postbacks.FILTERS),
            query.span(call.network_zone),
            dry_run=wanted.dry_run,
        )
    except TooManyError as error:
        raise invalid({"created_from": [f"{error}: narrow the filter"]}) from None
    skipped = [row._asdict() for row in rows if row.reason]
    counts = {"matched": len(rows), "fired": len(rows) - len(skipped), "skipped": len(skipped)}
    return as_json({"dry_run": wanted.dry_run, **counts, "problems": skipped[:MOST_LISTED]})


class PostbackUrl(Model):
    """The URL of an affiliate that the tracker calls, and how that has been going for seven days."""

    id: int = Field(description="The affiliate_postback_id of the log.")
    affiliate_id: int
    affiliate_name: str
    offer_id: int | None
    goal_id: int | None
    url: str = Field(examples=["https://partner.example/in?click={aff_sub}&sum={payout}"])
    status: Literal["active", "paused"] = Field(
        description="Changed by PATCH of its affiliate's postback. Paused, it is told of no conversion."
    )
    version: int
    sent: int
    failed: int
    waiting: int
    held: int
    last_sent_at: str | None
    last_failed_at: str | None
    last_error: str | None = Field(examples=["no answer within 10 s"])
    is_failing: bool = Field(
        description="Nothing has arrived within a day, and at least five have failed or wait after attempts."
    )


class PostbackUrlQuery(ZoneQuery):
    """Which URLs."""

    affiliate_id: Id = about("URLs of this affiliate.")
    is_failing: Bool = about("true: those that keep failing. false: all others.")
    per_page: PerPage = Field(default=200, description="Rows per page.")
    page: PageNumber = Field(default=1, description="Page number, from 1.")


@endpoint(
    scope=READ_SCOPE,
    query=PostbackUrlQuery,
    without_money=PostbackUrlQuery,
    returns=listed("PostbackUrlList", PostbackUrl),
    tag=_TAG,
)
async def list_postback_urls(call: Call[PostbackUrlQuery]) -> Response:
    """List affiliates' URLs and how they do

    All URLs that are not archived, those that keep failing first. The numbers are of postbacks that were
    created within seven days.
    """
    query, number = call.query, call.query.page or 1
    page = await refire.urls(
        call.state.pool,
        *(query.affiliate_id, query.is_failing, query.zone(call.network_zone), number, query.per_page),
    )
    return as_json(envelope(page, per_page=query.per_page, number=number))


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
    Route(f"{PATH}/refire", fire_sent_postbacks_again, methods=["POST"]),
    Route(f"{PATH}/{{id}}", get_sent_postback),
    Route(f"{PATH}/{{id}}/refire", fire_sent_postback_again, methods=["POST"]),
    Route(URLS, list_postback_urls),
]
