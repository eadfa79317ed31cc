"""The log of postbacks that came in."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.listing import Walk, answer_list
from tracker.api.http.query import PartQuery, SpanQuery
from tracker.api.http.routing import ROOT
from tracker.parameters import Hash, Id, Ident, about, choice
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.apply_postback import Result
from tracker.store.conversions.postbacks import FILTERS, PostbackFilter

PATH = f"{ROOT}/postbacks"

_RESULTS = tuple(Result)


class PostbackLogQuery(SpanQuery, PartQuery):
    """Which postbacks, in which order, and which part of them."""

    hash: Hash = about("The postback with this hash; a conversion that it made has the same.")
    result: choice(*_RESULTS) = about("What became of them.")  # type: ignore[valid-type]
    source: choice("postback", "pixel", "api", "import") = about("Whence they came.")  # type: ignore[valid-type]
    advertiser_id: Id = about("Those with a secret of this advertiser; refused ones also of its clicks.")
    click_id: Ident = about("Those that name this click id, white space around it aside.")
    conversion_id: Id = about("Those that made or touched this conversion.")

    def postbacks(self, network_zone: str) -> PostbackFilter:
        """The filter that is meant.

        Raises:
            Problem: 422 where two parameters contradict each other.
        """
        equals = tuple((name, value) for name in FILTERS if (value := getattr(self, name)) is not None)
        return PostbackFilter(self.span(network_zone), equals)


class LoggedPostback(BaseModel):
    """One postback, and what became of it."""

    hash: str = Field(description="Given when it came in.", examples=["01927a1a3c7e7f0a8b2d4c6e8f012345"])
    source: Literal["postback", "pixel", "api", "import"]
    ip: str = Field(examples=["198.51.100.9"])
    advertiser_id: int | None = Field(description="Whose secret it carried.", examples=[1])
    click_id: str | None = Field(
        description="The click that it names.",
        examples=["01927632a6c87d3f9b1c5e8a4f60d2b7"],
    )
    parameters: dict[str, str] = Field(
        description="As sent, without the secret; of refused ones the beginning, without any secrets.",
        examples=[{"click_id": "01927632a6c87d3f9b1c5e8a4f60d2b7", "order_id": "A-1001"}],
    )
    result: Literal["stored", "updated", "unchanged", "parked", "held", "rejected", "refused"]
    reason: str = Field(description="Where it was not simply done.", examples=["after the goal's window"])
    conversion_id: int | None = Field(description="The conversion that it made or touched.", examples=[902])
    request: str = Field(
        description="Method and path of one that an edge refused; else empty.", examples=["POST /postback"]
    )
    created_at: str = Field(description="When it came in, in tz.", examples=["2024-10-11 05:36:50"])


class PostbackLog(BaseModel):
    """A page of the log."""

    data: list[LoggedPostback]
    total: int = Field(description="All postbacks of the filter, exactly.", examples=[100])
    per_page: int = Field(examples=[200])
    page: int = Field(examples=[1])
    pages: int = Field(examples=[1])
    next_cursor: str | None = Field(description="Where the list goes on; null at its end.")


@endpoint(scope="conversions:read", query=PostbackLogQuery, returns=PostbackLog, tag="Conversions")
async def list_postbacks(call: Call[PostbackLogQuery]) -> Response:
    """List postbacks

    Every postback and every conversion that was told of through the API, once, with what became of it and
    why, and the last 10,000 postbacks that edges refused. Page numbers lead through the first 10,000 rows:
    beyond them follow `next_cursor`.
    """
    query, pool, network_zone = call.query, call.state.pool, call.network_zone
    query.check_paging()
    postbacks, order = query.postbacks(network_zone), query.order(network_zone)
    walk = Walk(
        partial(postback_log.page, pool, postbacks, order),
        partial(postback_log.page_after, pool, postbacks, order),
        postbacks,
        order.newest_first,
    )
    return await answer_list(query, walk)


routes: list[Route] = [Route(PATH, list_postbacks)]
