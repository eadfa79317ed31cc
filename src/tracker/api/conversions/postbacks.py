"""The log of postbacks that came in."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.http.auth import authorize
from tracker.api.http.endpoint import documented, needs, responses
from tracker.api.http.listing import answer_list
from tracker.api.http.query import read_query
from tracker.api.http.routing import ROOT
from tracker.reading.postbacks import PostbackLogQuery, walk

PATH = f"{ROOT}/postbacks"

_SCOPE = "conversions:read"


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
    state = request.app.state
    return await answer_list(query, walk(state.pool, query, state.settings.time_zone))


routes: list[BaseRoute] = [Route(PATH, list_postbacks)]
