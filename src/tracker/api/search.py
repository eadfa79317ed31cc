"""The search for anything by its id or name."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.clicks.endpoints import ALL as CLICKS
from tracker.api.conversions.endpoints import ALL as CONVERSIONS
from tracker.api.http.auth import VIEWS
from tracker.api.http.endpoint import Answer, Call, endpoint
from tracker.api.http.listing import as_json
from tracker.api.http.routing import ROOT
from tracker.api.partner_access import schema as partners
from tracker.parameters import Model, Search
from tracker.reading.query import ZoneQuery
from tracker.reading.search import MOST, Sight, search
from tracker.reading.visibility import Visibility
from tracker.store.tokens import Token

_TAG = "Search"
_SCOPES = ("clicks:read", "conversions:read", "offers:read")
_CLICKS, _CONVERSIONS, _OFFERS = _SCOPES


class SearchQuery(ZoneQuery):
    """What is looked for."""

    q: Search = Field(
        description="An id (of a click, a conversion, an order, the catalogue, or of an earlier tracker), a "
        "hash, a part of a name, or a whole sub id."
    )


class SearchResult(Model):
    """One thing that was found."""

    kind: Literal["click", "conversion", "postbacks", "offer", "affiliate", "advertiser", "sub_id"]
    id: str = Field(
        description="The click's hash, the click id in postbacks, the field of a sub id, or the id.",
        examples=["3"],
    )
    label: str = Field(examples=["Offer 3: Test Offer"])
    detail: str = Field(examples=["active"])
    is_exact: bool = Field(description="Whether q is its id or its whole name.")
    path: str = Field(description="Its place in the API.", examples=["offers/3"])


class SearchResults(Model):
    """What was found, exact results first."""

    data: list[SearchResult] = Field(max_length=MOST)


@endpoint(scope=_SCOPES, query=SearchQuery, without_money=SearchQuery, returns=SearchResults, tag=_TAG)
async def find_anything(call: Call[SearchQuery]) -> Response:
    """Search

    Clicks by hash, id or id in an earlier tracker. Conversions by these, and by order id. Postbacks by the
    click id that they name. Offers, affiliates and advertisers by id or a part of the name. If nothing has
    the text as its id or whole name: clicks with it as a sub id, source or external id, among the latest
    100,000 clicks of 30 days. Each scope finds what it reads.
    """
    token = call.token
    sees = token.allows(_CONVERSIONS)
    sight = Sight(
        call.query.zone(call.network_zone),
        clicks=CLICKS.seen_by(token) if token.allows(_CLICKS) else None,
        conversions=CONVERSIONS.seen_by(token) if sees else None,
        has_postbacks=sees,
        has_catalogue=token.allows(_OFFERS),
    )
    return await _answer(call, sight)


async def _answer(call: Call[SearchQuery], sight: Sight) -> Response:
    found = await search(call.state.pool, call.query.q, sight)
    return as_json({"data": [one._asdict() for one in found]})


def _of_partner(kind: str) -> Answer:
    @endpoint(
        scope=_SCOPES if kind == "affiliate" else _SCOPES[:2],
        owner=kind,
        query=SearchQuery,
        without_money=SearchQuery,
        returns=SearchResults,
        tag=_TAG,
        name=f"find_anything_of_{kind}",
        text="Search your rows\n\nThe same as the network's search, limited to what you see.",
    )
    async def find(call: Call[SearchQuery]) -> Response:
        return await _answer(call, _seen_by(call.token, call, kind))

    return find


def _seen_by(token: Token, call: Call[Any], kind: str) -> Sight:
    def seen(scope: str, keys: tuple[str, ...]) -> Visibility | None:
        return Visibility(keys).seen_by(token) if token.allows(scope) else None

    return Sight(
        call.query.zone(call.network_zone),
        clicks=seen(_CLICKS, partners.CLICKS[kind]),
        conversions=seen(_CONVERSIONS, partners.CONVERSIONS[kind]),
        offers_of=call.owner.ids if kind == "affiliate" and token.allows(_OFFERS) else (),
    )


routes: list[Route] = [
    Route(f"{ROOT}/search", find_anything),
    *(Route(f"{root}/search", _of_partner(kind)) for kind, root in VIEWS.items()),
]
