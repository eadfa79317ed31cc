"""The log of received postbacks."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.listing import answer_list
from tracker.api.http.routing import ROOT
from tracker.reading.postbacks import PostbackLogQuery, walk

PATH = f"{ROOT}/postbacks"


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


class PostbackLog(BaseModel):
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
)
async def list_postbacks(call: Call[PostbackLogQuery]) -> Response:
    """List postbacks

    Every postback and every conversion sent to the API, with its result and reason. The last 10,000 postbacks
    that edges refused are included. Page numbers work for the first 10,000 rows: use `next_cursor` from there
    on.
    """
    query, pool, network_zone = call.query, call.state.pool, call.network_zone
    query.check_paging()
    return await answer_list(query, walk(pool, query, network_zone, hides_money=call.token.hides_money))


routes: list[Route] = [Route(PATH, list_postbacks)]
