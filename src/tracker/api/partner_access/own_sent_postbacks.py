"""What affiliates see of their postbacks: the log of attempts, and the answer to a test."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field, create_model
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.catalogue import listed
from tracker.api.conversions.affiliate_postbacks import READ_SCOPE, SentPostback, seen_by
from tracker.api.http.auth import VIEWS
from tracker.api.http.endpoint import Body, Call, endpoint
from tracker.api.http.listing import as_json
from tracker.api.http.paging import envelope
from tracker.api.http.problems import conflict
from tracker.api.http.rate_limits import Limit
from tracker.api.partner_access import own_postbacks
from tracker.api.partner_access.own_access import some_of
from tracker.catalogue.fields import Fields, Text
from tracker.catalogue.validation import check_storable, validated
from tracker.domain import postback_macros
from tracker.domain.click_fields import AFF_SUBS
from tracker.domain.public_addresses import Network
from tracker.domain.rates import Rate
from tracker.parameters import Model, Query
from tracker.reading.deliveries import log_page
from tracker.reading.postbacks import SentPostbackQuery
from tracker.store.catalogue import edit
from tracker.store.conversions import sending
from tracker.store.conversions.affiliate_postbacks import FILTERS, POSTBACKS, TESTED, to_test

if TYPE_CHECKING:
    from tracker.outbound_http import Delivery

PATH = f"{VIEWS['affiliate']}/sent-postbacks"
TEST_PATH = f"{own_postbacks.PATH}/{{id}}/test"

TESTS: Final = Rate(10, "minute")
"""Most tests of one affiliate."""

_TAG = "Affiliates"

_SUB_IDS: dict[str, Any] = {
    name: (Text, Field("test", description="The value of the macro.")) for name in AFF_SUBS
}
_TestFields: Any = create_model(
    "OwnPostbackTest",
    __base__=Fields,
    __doc__="The sub ids of the test.",
    **_SUB_IDS,
)


class TestedPostback(Model):
    """What a test sent, and what came back."""

    url: str | None = Field(
        description="The filled URL. null for a token that hides money.",
        examples=["https://partner.example/in?click=test&sum=0.00"],
    )
    status: int | None = Field(
        description="HTTP status of the answer. null if no answer came.", examples=[200]
    )
    error: str = Field(description="Why no answer came.", examples=[""])
    is_taken: bool = Field(description="true: the status is one of success, 200 to 299.")


@endpoint(
    scope=(READ_SCOPE, own_postbacks.SCOPE),
    owner="affiliate",
    query=SentPostbackQuery,
    without_money=SentPostbackQuery,
    returns=listed("OwnSentPostbackList", SentPostback),
    tag=_TAG,
    from_standby=True,
)
async def list_own_sent_postbacks(call: Call[SentPostbackQuery]) -> Response:
    """List postbacks to you

    The log of 90 days, newest first: what was sent, how often, and what came back. Page numbers work for the
    first 10,000 rows.
    """
    query, number = call.query, call.query.page or 1
    place = {"affiliate_id": [*some_of(call.owner, query.affiliate_id)]}
    page = await log_page(call.pool, POSTBACKS, FILTERS, query, call.network_zone, place)
    page = page._replace(rows=[seen_by(call.token, row) for row in page.rows])
    return as_json(envelope(page, per_page=query.per_page, number=number))


@endpoint(
    scope=own_postbacks.SCOPE,
    owner="affiliate",
    query=Query,
    without_money=Query,
    body=Body(_TestFields),
    returns=TestedPostback,
    may_fail=(409, 429),
    tag=_TAG,
    path=own_postbacks.IN_PATH,
)
async def test_own_postback(call: Call[Query]) -> Response:
    """Test a postback of yours

    Sends one request to its URL, about a made-up conversion, with an amount of 0, a click id of
    zeros, and the sub ids of the body. The answer says what came back. Nothing is repeated, and the log does
    not show it. The audit trail does. At most 10 a minute.
    """
    body = await call.object()
    check_storable(body)
    sent: Fields = validated(body, _TestFields)
    row = await own_postbacks.own(call)
    if row["is_archived"]:
        raise conflict({"id": ["is archived"]})
    await _check_sends(call)
    await call.state.limits.spend(Limit(f"postback-test:{row['affiliate_id']}", TESTS), "tests")
    known = await to_test(call.state.pool, row["id"])
    try:
        template = postback_macros.compile(known["url"])
        currency = {"payout_currency": call.state.settings.currency}
        facts = postback_macros.of_a_test({**currency, **known, **sent.model_dump()})
        url = postback_macros.fill(template, facts)
    except ValueError as error:
        raise conflict({"url": [str(error)]}) from None
    delivery = await _sent(url, call.state.settings.postback_networks, is_strict=known["is_strict"])
    await _note(call, row["affiliate_id"], row["id"], delivery)
    return as_json(_told(delivery, None if call.token.hides_money else url))


async def _sent(url: str, allowed: Collection[Network], *, is_strict: bool) -> Delivery:
    from tracker.outbound_http import USER_AGENT, Caller  # it loads aiohttp, a tenth of the API's start

    headers = {"Idempotency-Key": "test", "User-Agent": USER_AGENT, "Accept": "*/*"}
    async with Caller(allowed) as caller:
        return await caller.get(url, headers, is_strict=is_strict)


async def _check_sends(call: Call[Query]) -> None:
    async with call.state.pool.acquire() as connection:
        if await sending.copy_of(connection):
            raise conflict({"id": ["cannot be tested: this tracker holds all sending"]})


async def _note(call: Call[Query], affiliate_id: int, id_: int, delivery: Delivery) -> None:
    path = f"affiliates/{affiliate_id}/postbacks/{id_}/test"
    after = {"status": delivery.status, "error": delivery.error}
    async with edit.changing(call.state.pool) as connection:
        await edit.note(connection, call.author, TESTED, path, None, after)


def _told(delivery: Delivery, url: str | None) -> dict[str, object]:
    is_taken = delivery.status is not None and 200 <= delivery.status < 300
    return {"url": url, "status": delivery.status, "error": delivery.error, "is_taken": is_taken}


routes: list[Route] = [
    Route(PATH, list_own_sent_postbacks),
    Route(TEST_PATH, test_own_postback, methods=["POST"]),
]
