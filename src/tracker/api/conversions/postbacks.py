"""The log of postbacks that came in."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.http.auth import authorize
from tracker.api.http.endpoint import documented, needs, responses
from tracker.api.http.listing import Walk, answer_list
from tracker.api.http.query import Hash, Id, Ident, PartQuery, SpanQuery, about, choice, read_query
from tracker.catalogue.resource import ROOT
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.apply_postback import Result
from tracker.store.conversions.postbacks import FILTERS, PostbackFilter

PATH = f"{ROOT}/postbacks"

_SCOPE = "conversions:read"
_RESULTS = tuple(Result)


class PostbackLogQuery(SpanQuery, PartQuery):
    """Which postbacks, in which order, and which part of them."""

    hash: Hash = about("The postback with this hash. A conversion has the hash of the postback that made it.")
    result: choice(*_RESULTS) = about("Postbacks with this result.")  # type: ignore[valid-type]
    source: choice("postback", "pixel", "api", "import") = about("Postbacks from this source.")  # type: ignore[valid-type]
    advertiser_id: Id = about("Postbacks with a secret of this advertiser, and refused ones for its clicks.")
    click_id: Ident = about("Postbacks with this click id. Surrounding white space is ignored.")
    conversion_id: Id = about("Postbacks that made or changed this conversion.")

    def postbacks(self, network_zone: str) -> PostbackFilter:
        """The filter that is meant.

        Raises:
            Problem: 422 where two parameters contradict each other.
        """
        equals = tuple((name, value) for name in FILTERS if (value := getattr(self, name)) is not None)
        return PostbackFilter(self.span(network_zone), equals)


class LoggedPostback(BaseModel):
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
    result: Literal["stored", "updated", "unchanged", "parked", "held", "rejected", "refused"]
    reason: str = Field(
        description="Empty if the postback was applied.", examples=["after the goal's window"]
    )
    conversion_id: int | None = Field(
        description="The conversion that the postback made or changed.", examples=[902]
    )
    request: str = Field(
        description="Method and path of a postback that an edge refused. Else empty.",
        examples=["POST /postback"],
    )
    created_at: str = Field(
        description="When the postback arrived, in the time zone of the request.",
        examples=["2024-10-11 05:36:50"],
    )


class PostbackLog(BaseModel):
    """A page of the log."""

    data: list[LoggedPostback]
    total: int = Field(description="The exact number of postbacks that match.", examples=[100])
    per_page: int = Field(examples=[200])
    page: int = Field(examples=[1])
    pages: int = Field(examples=[1])
    next_cursor: str | None = Field(description="Cursor of the next page. null on the last page.")


@documented.validate(
    query=PostbackLogQuery,
    resp=responses(PostbackLog, 401, 403, 422, 503),
    security=needs(_SCOPE),
    tags=["Conversions"],
    operation_id="list_postbacks",
    skip_validation=True,
)
async def list_postbacks(request: Request) -> Response:
    """List postbacks

    Every postback and every conversion that was told of through the API, once, with what became of it and
    why, and the last 10,000 postbacks that edges refused. Page numbers lead through the first 10,000 rows:
    beyond them follow `next_cursor`.
    """
    await authorize(request, _SCOPE)
    query = read_query(request, PostbackLogQuery)
    query.check_paging()
    pool, network_zone = request.app.state.pool, request.app.state.settings.time_zone
    postbacks, order = query.postbacks(network_zone), query.order(network_zone)
    walk = Walk(
        partial(postback_log.page, pool, postbacks, order),
        partial(postback_log.page_after, pool, postbacks, order),
        postbacks,
        order.newest_first,
    )
    return await answer_list(query, walk)


routes: list[BaseRoute] = [Route(PATH, list_postbacks)]
