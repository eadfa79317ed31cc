"""The endpoint of tracking links."""

from __future__ import annotations

from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.listing import as_json
from tracker.api.http.problems import Problem
from tracker.api.http.routing import ROOT
from tracker.catalogue.resource import READ, read_id
from tracker.catalogue.tracking_links import LinkError, read_link
from tracker.parameters import Id, Query

LINK_PATH = f"{ROOT}/offers/{{offer_id}}/affiliate/{{affiliate_id}}/link"


class LinkQuery(Query):
    """Which link."""

    offer_url_id: Id = Field(None, description="Make a link to this offer URL.")


class TrackingLink(BaseModel):
    """A tracking link."""

    link: str = Field(examples=["https://go.example/offer/3?affiliate_id=513"])


@endpoint(
    scope=READ,
    without_money=LinkQuery,
    query=LinkQuery,
    returns=TrackingLink,
    tag="Links",
    path={"offer_id": "The offer's id.", "affiliate_id": "The affiliate's id."},
)
async def get_link(call: Call[LinkQuery]) -> Response:
    """Get a tracking link

    The host is the affiliate's, else the brand's, else the default. 404 names what is missing.
    """
    query, state = call.query, call.state
    offer_id, affiliate_id = (read_id(call.path[name]) for name in ("offer_id", "affiliate_id"))
    if offer_id is None or affiliate_id is None:
        raise Problem(404, "The offer or affiliate does not exist.")
    async with state.pool.acquire() as connection:
        try:
            link = await read_link(connection, state.settings, offer_id, affiliate_id, query.offer_url_id)
        except LinkError as error:
            raise Problem(404, f"{str(error).capitalize()}.") from None
    return as_json({"link": link})


routes: list[Route] = [Route(LINK_PATH, get_link)]
