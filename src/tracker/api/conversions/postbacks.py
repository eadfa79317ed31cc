"""The log of received postbacks."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Literal

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.conversions.manual import row_of, unstored
from tracker.api.conversions.status_upload import MOST_LISTED
from tracker.api.http.endpoint import Body, Call, endpoint
from tracker.api.http.listing import answer_list, as_json
from tracker.api.http.problems import invalid
from tracker.api.http.routing import ROOT
from tracker.catalogue.fields import Fields
from tracker.catalogue.validation import validated
from tracker.parameters import Model
from tracker.reading.postbacks import PostbackLogQuery, ReplayQuery, walk
from tracker.store.conversions import replay
from tracker.store.conversions.replay import TooManyError

PATH = f"{ROOT}/postbacks"


class LoggedPostback(Model):
    """One postback and its result."""

    hash: str = Field(
        description="Assigned when the postback arrived.", examples=["01927a1a3c7e7f0a8b2d4c6e8f012345"]
    )
    source: Literal["postback", "pixel", "api", "import"]
    ip: str = Field(examples=["198.51.100.9"])
    advertiser_id: int | None = Field(
        description="The advertiser whose secret the postback carried.", examples=[1]
    )
    click_id: str | None = Field(
        description="The click id in the postback.",
        examples=["01927632a6c87d3f9b1c5e8a4f60d2b7"],
    )
    parameters: dict[str, str] = Field(
        description="As sent, without secrets. Of a refused postback only the beginning.",
        examples=[{"click_id": "01927632a6c87d3f9b1c5e8a4f60d2b7", "order_id": "A-1001"}],
    )
    result: Literal["stored", "updated", "unchanged", "parked", "waiting", "held", "rejected", "refused"]
    reason: str = Field(
        description="Empty if the postback was applied.", examples=["after the goal's window"]
    )
    conversion_id: int | None = Field(
        description="The conversion that the postback made or changed.", examples=[902]
    )
    request: str = Field(
        description="Method and path of a refused postback. The path of one in a form. Else empty.",
        examples=["POST /postback"],
    )
    form: str | None = Field(
        description="The name of the postback form that it came in. null: it came in ours.",
        examples=["TUNE"],
    )
    read_as: dict[str, str] | None = Field(
        description="The parameters by our names, as its form reads them. null without a form or if refused.",
        examples=[{"click_id": "01927632a6c87d3f9b1c5e8a4f60d2b7", "status": "approved"}],
    )
    created_at: str = Field(
        description="When the postback arrived, in the time zone of the request.",
        examples=["2024-10-11 05:36:50"],
    )


class PostbackLog(Model):
    """A page of the log."""

    data: list[LoggedPostback]
    total: int = Field(description="The exact number of postbacks that match.", examples=[100])
    per_page: int = Field(examples=[200])
    page: int = Field(examples=[1])
    pages: int = Field(examples=[1])
    next_cursor: str | None = Field(description="Cursor of the next page. null on the last page.")


@endpoint(
    scope="conversions:read",
    query=PostbackLogQuery,
    without_money=PostbackLogQuery,
    returns=PostbackLog,
    tag="Conversions",
    from_standby=True,
)
async def list_postbacks(call: Call[PostbackLogQuery]) -> Response:
    """List postbacks

    Every postback and every conversion sent to the API, with its result and reason. The last 10,000 postbacks
    that edges refused are included. Page numbers work for the first 10,000 rows: use `next_cursor` from there
    on.
    """
    query, pool, network_zone = call.query, call.pool, call.network_zone
    query.check_paging()
    return await answer_list(query, walk(pool, query, network_zone, hides_money=call.token.hides_money))


class ReplayedPostback(Model):
    """A postback that was applied once more."""

    hash: str = Field(examples=["01927a1a3c7e7f0a8b2d4c6e8f012345"])
    result_before: Literal["rejected", "held", "waiting"]
    result: Literal["stored", "updated", "unchanged", "parked", "waiting", "held", "rejected"]
    reason: str = Field(examples=["after the goal's window"])
    conversion_id: int | None = Field(examples=[902])


class ReplayAnswer(Model):
    """What became of the postbacks."""

    dry_run: bool
    matched: int = Field(description="Postbacks that were applied once more.", examples=[41])
    results: dict[str, int] = Field(
        description="The number of each result.", examples=[{"stored": 40, "rejected": 1}]
    )
    data: list[ReplayedPostback] = Field(description=f"The first {MOST_LISTED:,}, oldest first.")


class Replay(Fields):
    """How postbacks are applied once more."""

    dry_run: bool = Field(False, description="true: show what would become of them, and change nothing.")


@endpoint(
    scope="conversions:write",
    query=ReplayQuery,
    body=Body(Replay),
    returns=ReplayAnswer,
    tag="Conversions",
)
async def replay_postbacks(call: Call[ReplayQuery]) -> Response:
    """Apply postbacks once more

    Postbacks that were `rejected`, `held` or are `waiting`, by the filters of the log: at most 2,000.
    Something has to be chosen, such as one `hash`. They follow the rules and the catalogue of now, and keep
    the time at which they arrived. So correct what was wrong first, such as a goal's window. Each is still
    applied at most once. What an edge refused cannot be replayed, because it was not kept whole: create its
    conversion instead. `dry_run: true` shows the same result and changes nothing. The audit trail records it.
    """
    body = await call.object()
    wanted = validated(body, Replay)
    if not call.query.model_fields_set - {"tz"}:
        raise invalid({"hash": ["is missing, and so is another filter"]})
    complete_until = await call.state.complete_until.millis()
    try:
        done = await replay.replay(
            call.state.pool,
            call.author,
            call.query.postbacks(call.network_zone),
            complete_until,
            partial(unstored, call.state.stream),
            dry_run=wanted.dry_run,
        )
    except TooManyError as error:
        raise invalid({"created_from": [f"{error}: narrow the filter"]}) from None
    shown = [{"result_before": before, **row_of(applied)} for before, applied in done[:MOST_LISTED]]
    results = Counter(str(applied.result) for _, applied in done)
    return as_json({"dry_run": wanted.dry_run, "matched": len(done), "results": results, "data": shown})


routes: list[Route] = [
    Route(PATH, list_postbacks),
    Route(f"{PATH}/replay", replay_postbacks, methods=["POST"]),
]
