"""The endpoint of tracking links."""

from __future__ import annotations

from typing import Any

from pydantic import Field, create_model
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.listing import as_json
from tracker.api.http.problems import Problem, invalid
from tracker.api.http.routing import ROOT
from tracker.catalogue.resource import READ, read_id
from tracker.catalogue.tracking_links import CARRIED, LinkError, carrying, read_link, with_host, wrong_page
from tracker.parameters import Id, Model, Query, Text, about

LINK_PATH = f"{ROOT}/offers/{{offer_id}}/affiliate/{{affiliate_id}}/link"


class LinkQuery(Query):
    """Which link."""

    offer_url_id: Id = Field(None, description="Make a link to this offer URL.")


_CARRIED: dict[str, Any] = {
    **{name: (Text, about("The same of each click.")) for name in CARRIED if name != "url"},
    "url": (Text, about("A page that the link leads to. The offer has to allow its host.")),
}
_Carrying: Any = create_model("_Carrying", __base__=LinkQuery, **_CARRIED)


class CarryingQuery(_Carrying):  # type: ignore[misc]
    """Which link, and what its clicks are to carry."""

    def carried(self) -> dict[str, str | None]:
        """What the clicks are to carry, by parameter of the link."""
        return {name: getattr(self, name) for name in CARRIED}


class NetworkLinkQuery(CarryingQuery):
    """Which link, with which host."""

    host: Text = about("One of the tracking hosts. Default: the affiliate's, the brand's or a common one.")


class TrackingLink(Model):
    """A tracking link."""

    link: str = Field(examples=["https://go.example/offer/3?affiliate_id=513"])


@endpoint(
    scope=READ,
    without_money=NetworkLinkQuery,
    query=NetworkLinkQuery,
    returns=TrackingLink,
    tag="Links",
    path={"offer_id": "The offer's id.", "affiliate_id": "The affiliate's id."},
)
async def get_link(call: Call[NetworkLinkQuery]) -> Response:
    """Get a tracking link

    The host is the affiliate's, else the brand's, else the default, or the one that is asked for. With sub
    ids, a source and a page of the offer's site, percent-encoded as a link needs them. 404 names what is
    missing.
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
        said = query.carried()
        wrong = await wrong_page(connection, offer_id, said["url"])
        if query.host:
            link, why = await with_host(connection, link, query.host, offer_id, affiliate_id)
            wrong = {**wrong, "host": [why]} if why else wrong
    if wrong:
        raise invalid(wrong)
    return as_json({"link": carrying(link, said)})


routes: list[Route] = [Route(LINK_PATH, get_link)]
