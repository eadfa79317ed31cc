"""Tests of an offer with an affiliate: a link, its steps, and the advertiser's postback."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from urllib.parse import urlencode, urlsplit

from pydantic import ConfigDict, Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.conversions.endpoints import READ_SCOPE
from tracker.api.conversions.manual import SCOPE
from tracker.api.conversions.postbacks import LoggedPostback
from tracker.api.http.endpoint import Body, Call, endpoint
from tracker.api.http.listing import as_json
from tracker.api.http.problems import Problem, conflict, invalid
from tracker.api.http.routing import ROOT
from tracker.catalogue.fields import Fields, Id, Ident, Text
from tracker.catalogue.resource import read_id
from tracker.catalogue.tracking_links import LinkError, read_link
from tracker.catalogue.validation import check_storable, validated
from tracker.ops.fire_postback import fire
from tracker.parameters import Model
from tracker.reading.postbacks import without_money
from tracker.reading.query import ZoneQuery
from tracker.reading.test_runs import steps
from tracker.store import test_runs
from tracker.store.catalogue.edit import Row
from tracker.store.conversions.list import shown
from tracker.store.test_runs import Proof, Run, Traces

PATH = f"{ROOT}/test-runs"

_TAG = "Test runs"
_IN_PATH = {"id": "The test's id."}
_VALID: Final = timedelta(hours=24)
_MOST_LISTED: Final = 50
_HIDDEN: Final = "…"


class NewTestRun(Fields):
    """Which offer and affiliate to test."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"offer_id": 3, "affiliate_id": 513}]})

    offer_id: Id
    affiliate_id: Id
    offer_url_id: Id | None = Field(None, description="Test this URL of the offer. Default: as it is chosen.")
    goal_id: Id | None = Field(None, description="The goal of the postback. Default: the offer's base goal.")
    aff_sub: Text | None = Field(
        None, description="The affiliate's own click id, which its postback gets back.", examples=["my-click"]
    )


class TestStep(Model):
    """One step of a test."""

    name: Literal[
        "link_opened", "click_id_handed_on", "postback_received", "conversion_made", "affiliate_told"
    ]
    title: str = Field(examples=["The link was opened"])
    state: Literal["waiting", "done", "failed"]
    text: str = Field(description="What was seen.", examples=["No click of the link is stored yet."])
    advice: str = Field(
        description="What to do. Empty without need.", examples=["Open the link in a browser."]
    )
    at: str | None = Field(examples=["2026-11-25 16:00:00"])


class ToldAffiliate(Model):
    """A postback that the affiliate would get if this were no test."""

    affiliate_postback_id: int
    status: str = Field(examples=["approved"])
    url: str | None = Field(description="null for a token that hides money.")
    state: Literal["waiting", "held", "failed"]
    error: str = Field(examples=["unknown macro {nonsense}"])


class TestRun(Model):
    """A test and its steps."""

    id: int
    created_at: str = Field(examples=["2026-11-25 16:00:00"])
    created_by: str = Field(description="Name of the token, or the user's e-mail address.")
    expires_at: str = Field(description="Until then the link makes test clicks.")
    offer_id: int
    affiliate_id: int
    offer_url_id: int | None
    goal_id: int | None
    link: str = Field(examples=["https://go.example/offer/3?affiliate_id=513&test=1764115200.5f1c…"])
    advertiser_url: str = Field(
        description="The URL for the advertiser. It fills what is in braces.",
        examples=["https://go.example/postback?click_id={click_id}&order_id={order_id}&token={secret}"],
    )
    click_hash: str | None = Field(description="The latest click of the link. null: it is not stored yet.")


class TestRunState(TestRun):
    """A test, its steps and what they have made."""

    steps: list[TestStep]
    is_done: bool = Field(description="true if all steps are done.")
    postbacks: list[LoggedPostback] = Field(description="The postbacks of the click, newest first.")
    conversion_ids: list[int] = Field(description="The conversions of the click, newest first.")
    affiliate_postbacks: list[ToldAffiliate]


class TestRunList(Model):
    """The latest tests."""

    data: list[TestRun]


class TestPostback(Fields):
    """The parameters of the postback. Its click is that of the test."""

    status: Ident | None = Field(None, description="Default: the initial_status of the goal.")
    order_id: Ident | None = Field(None, examples=["test-1"])
    goal: Ident | None = Field(None, description="Code or name of the goal. Default: that of the test.")
    sale_amount: Ident | None = Field(None, examples=["125.00"])
    payout: Ident | None = None
    revenue: Ident | None = None
    currency: Ident | None = Field(None, examples=["EUR"])
    sale_status: Text | None = None
    token: Ident | None = Field(
        None, description="The advertiser's secret, to test it too. Without it you vouch for the postback."
    )


class FiredTestPostback(Model):
    """What an edge answers to the postback."""

    url: str = Field(description="What was read, without the secret.")
    http_status: int = Field(examples=[200])
    hash: str | None = Field(description="The postback in the log. null: it was refused.")
    reason: str = Field(description="Why it was refused. Else empty.")


@endpoint(
    scope=SCOPE,
    query=ZoneQuery,
    body=Body(NewTestRun),
    returns=TestRun,
    status=201,
    tag=_TAG,
)
async def create_test_run(call: Call[ZoneQuery]) -> Response:
    """Create a test

    A signed link whose clicks are test clicks for 24 hours: they pass statuses, targeting and caps, and count
    nowhere. Conversions of test clicks are not booked, and no affiliate and no webhook is told of them.
    """
    body = await call.object()
    check_storable(body)
    wanted = validated(body, NewTestRun)
    async with call.state.pool.acquire() as connection, connection.transaction():
        if wanted.goal_id and not await test_runs.is_goal(connection, wanted.goal_id, wanted.offer_id):
            raise invalid({"goal_id": ["matches no goal of the offer"]})
        run = await _made(call, connection, wanted)
    return as_json(await _shown(call, run), 201)


@endpoint(scope=READ_SCOPE, query=ZoneQuery, without_money=ZoneQuery, returns=TestRunList, tag=_TAG)
async def list_test_runs(call: Call[ZoneQuery]) -> Response:
    """List tests

    The latest 50, newest first. Tests are kept for 90 days.
    """
    runs = await test_runs.latest(call.state.pool, _MOST_LISTED)
    return as_json({"data": [await _shown(call, run) for run in runs]})


@endpoint(
    scope=READ_SCOPE,
    query=ZoneQuery,
    without_money=ZoneQuery,
    returns=TestRunState,
    tag=_TAG,
    path=_IN_PATH,
    has_complete_until=True,
)
async def get_test_run(call: Call[ZoneQuery]) -> Response:
    """Get a test

    Its steps: the link was opened, the advertiser got the click id, the postback came, a conversion was made,
    the affiliate would be told. Each has its state, and advice if something is missing.
    """
    run = await _run(call)
    hash_ = await test_runs.latest_click(call.state.pool, run)
    zone = call.query.zone(call.network_zone)
    traces = await test_runs.traces(call.state.pool, hash_, zone) if hash_ else None
    told = steps(run, traces, call.complete_until)
    return as_json(
        {
            **await _shown(call, run._replace(click_hash=hash_)),
            "steps": [step._asdict() for step in told],
            "is_done": all(step.state == "done" for step in told),
            **_found(traces, hides_money=call.token.hides_money),
        }
    )


@endpoint(
    scope=SCOPE,
    query=ZoneQuery,
    body=Body(TestPostback),
    returns=FiredTestPostback,
    may_fail=(409,),
    tag=_TAG,
    path=_IN_PATH,
)
async def fire_test_postback(call: Call[ZoneQuery]) -> Response:
    """Fire the postback of a test

    It is read as an edge reads it, goes the way of every postback, and is in the log within a second. Before
    the link was opened there is no click to name: 409. With `token` the secret is checked as that of the
    advertiser.
    """
    body = await call.object()
    check_storable(body)
    wanted, run = validated(body, TestPostback), await _run(call)
    hash_ = await test_runs.latest_click(call.state.pool, run)
    if hash_ is None:
        raise conflict({"id": ["has no stored click yet: open its link first"]})
    proof = await test_runs.proof(call.state.pool, run.offer_id)
    sent = {"click_id": hash_, **_goal(run, wanted), **wanted.model_dump(exclude_none=True)}
    async with call.state.pool.acquire() as connection:
        fired = await fire(
            connection,
            call.state.postbacks,
            _postback_url(run, sent),
            call.state.limits.address_of(call.request),
            None if wanted.token else proof.advertiser_id,
        )
    hidden = sent | ({"token": _HIDDEN} if wanted.token else {})
    return as_json({"url": _postback_url(run, hidden), **fired._asdict()})


routes: list[Route] = [
    Route(PATH, list_test_runs),
    Route(PATH, create_test_run, methods=["POST"]),
    Route(f"{PATH}/{{id}}", get_test_run),
    Route(f"{PATH}/{{id}}/postback", fire_test_postback, methods=["POST"]),
]


async def _made(call: Call[ZoneQuery], connection: Any, wanted: NewTestRun) -> Run:
    """A test with a link of its own: the expiry, which the signature has, is no other test's."""
    now = datetime.now(UTC)
    until = now.replace(microsecond=0) + _VALID
    while True:
        try:
            link = await read_link(
                connection,
                call.state.settings,
                *(wanted.offer_id, wanted.affiliate_id, wanted.offer_url_id, until),
            )
        except LinkError as error:
            raise invalid({_field(str(error)): ["does not exist"]}) from None
        if wanted.aff_sub:
            link += "&" + urlencode({"aff_sub": wanted.aff_sub})
        ids = (wanted.offer_id, wanted.affiliate_id, wanted.offer_url_id, wanted.goal_id)
        run = await test_runs.make(connection, Run(0, now, call.token.name, *ids, link, until))
        if run is not None:
            return run
        until += timedelta(seconds=1)


def _field(error: str) -> str:
    """The field that an error about a link is about."""
    return "offer_url_id" if "URL" in error else "affiliate_id" if "affiliate" in error else "offer_id"


async def _run(call: Call[ZoneQuery]) -> Run:
    id_ = read_id(call.path["id"])
    run = None if id_ is None else await test_runs.one(call.state.pool, id_)
    if run is None:
        raise Problem(404, "There is no such test.", errors={"id": ["does not exist"]})
    return run


async def _shown(call: Call[ZoneQuery], run: Run) -> Row:
    proof = await test_runs.proof(call.state.pool, run.offer_id)
    times = {name: getattr(run, name) for name in ("created_at", "expires_at")}
    return {
        **run._asdict(),
        **shown(times, call.query.zone(call.network_zone)),
        "advertiser_url": _advertiser_url(run, proof),
    }


def _advertiser_url(run: Run, proof: Proof) -> str:
    query = {"click_id": "{click_id}", "order_id": "{order_id}"}
    if run.goal_id:
        query["goal_id"] = str(run.goal_id)
    if proof.is_needed and not proof.by_address:
        query |= {"token": "{secret}"}
    return _postback_url(run, query)


def _postback_url(run: Run, query: dict[str, str]) -> str:
    """The postback's URL on the host of the link."""
    return urlsplit(run.link)._replace(path="/postback", query=urlencode(query, safe="{}")).geturl()


def _goal(run: Run, wanted: TestPostback) -> dict[str, str]:
    return {"goal_id": str(run.goal_id)} if run.goal_id and not wanted.goal else {}


def _found(traces: Traces | None, *, hides_money: bool) -> Row:
    if traces is None:
        return {"postbacks": [], "conversion_ids": [], "affiliate_postbacks": []}
    told = [one._asdict() | ({"url": None} if hides_money else {}) for one in traces.told]
    return {
        "postbacks": [without_money(row) if hides_money else row for row in traces.postbacks],
        "conversion_ids": [row["id"] for row in traces.conversions],
        "affiliate_postbacks": told,
    }
