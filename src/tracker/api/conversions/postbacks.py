"""The log of received postbacks."""

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

    hash: Hash = about("The postback with this hash. The conversion that it created has the same hash.")
    result: choice(*_RESULTS) = about("Postbacks with this result.")  # type: ignore[valid-type]
    source: choice("postback", "pixel", "api", "import") = about("Postbacks from this source.")  # type: ignore[valid-type]
    advertiser_id: Id = about("Postbacks with a secret of this advertiser. Refused ones: also of its clicks.")
    click_id: Ident = about("Postbacks that name this click id. White space around it is ignored.")
    conversion_id: Id = about("Postbacks that created or changed this conversion.")

    def postbacks(self, network_zone: str) -> PostbackFilter:
        """The filter that is meant.

        Raises:
            Problem: 422 where two parameters contradict each other.
        """
        equals = tuple((name, value) for name in FILTERS if (value := getattr(self, name)) is not None)
        return PostbackFilter(self.span(network_zone), equals)


class LoggedPostback(BaseModel):
    """A postback and its result."""

    hash: str = Field(description="Made when it was received.", examples=["01927a1a3c7e7f0a8b2d4c6e8f012345"])
    source: Literal["postback", "pixel", "api", "import"]
    ip: str = Field(examples=["198.51.100.9"])
    advertiser_id: int | None = Field(description="The advertiser whose secret it carried.", examples=[1])
    click_id: str | None = Field(
        description="The click that it names.",
        examples=["01927632a6c87d3f9b1c5e8a4f60d2b7"],
    )
    parameters: dict[str, str] = Field(
        description="As sent, without secrets. Of refused postbacks only the beginning.",
        examples=[{"click_id": "01927632a6c87d3f9b1c5e8a4f60d2b7", "order_id": "A-1001"}],
    )
    result: Literal["stored", "updated", "unchanged", "parked", "held", "rejected", "refused"]
    reason: str = Field(
        description="Why the postback was not simply applied.", examples=["after the goal's window"]
    )
    conversion_id: int | None = Field(
        description="The conversion that it created or changed.", examples=[902]
    )
    request: str = Field(
        description="Method and path of a postback that an edge refused, else empty.",
        examples=["POST /postback"],
    )
    created_at: str = Field(description="When it was received, in tz.", examples=["2024-10-11 05:36:50"])


class PostbackLog(BaseModel):
    """A page of the log."""

    data: list[LoggedPostback]
    total: int = Field(description="Postbacks that match the filters, exactly.", examples=[100])
    per_page: int = Field(examples=[200])
    page: int = Field(examples=[1])
    pages: int = Field(examples=[1])
    next_cursor: str | None = Field(description="The cursor of the next page. null at the end.")


@endpoint(scope="conversions:read", query=PostbackLogQuery, returns=PostbackLog, tag="Conversions")
async def list_postbacks(call: Call[PostbackLogQuery]) -> Response:
    """List postbacks

    Every postback and every conversion sent to the API, with its result and reason. The last 10,000 postbacks
    that edges refused are included. Page numbers work for the first 10,000 rows: use `next_cursor` from there
    on.
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
