"""Offers that affiliates may run: what they pay, and links to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.catalogue import PageQuery, listed
from tracker.api.http.auth import VIEWS
from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.listing import as_json
from tracker.api.http.paging import envelope
from tracker.api.http.problems import Problem, invalid
from tracker.api.partner_access.own_access import one_of, some_of
from tracker.api.tracking_links import CarryingQuery, TrackingLink
from tracker.catalogue.resource import read_id
from tracker.catalogue.tracking_links import LinkError, carrying, read_link, read_links, wrong_page
from tracker.parameters import Id, Model, Text, about
from tracker.store.catalogue import affiliate_offers
from tracker.store.db import Pool
from tracker.store.tokens import Token

PATH = f"{VIEWS['affiliate']}/offers"
LINK_PATH = f"{PATH}/{{offer_id}}/link"


class OfferPayout(Model):
    """What a goal pays you for a conversion of a click of now."""

    goal_id: int = Field(examples=[3])
    goal_name: str = Field(examples=["Sale"])
    country_code: str | None = Field(description="null: all countries that have no row of their own.")
    payout_type: Literal["fixed", "percent"] = Field(description="percent: of the sale.")
    payout: str = Field(examples=["2.50"])
    currency: str = Field(examples=["EUR"])


class OfferOfAffiliate(Model):
    """An offer that one of your affiliates may run."""

    id: int
    affiliate_id: int = Field(examples=[513])
    name: str
    status: Literal["active", "paused"]
    visibility: Literal["public", "approval", "private"]
    starts_at: str | None = Field(examples=["2026-11-01T00:00:00+00:00"])
    ends_at: str | None
    link: str = Field(
        description="The affiliate's tracking link.", examples=["https://go.example/offer/3?affiliate_id=513"]
    )
    payouts: list[OfferPayout] | None = Field(
        None, description="What its goals pay you now. Absent for a token that hides money."
    )


class OwnOfferQuery(PageQuery):
    """Which of your offers."""

    affiliate_id: Id = about("Offers of this one of your affiliates.")
    q: Text = about("An offer's id, or a part of its name.")


class OwnLinkQuery(CarryingQuery):
    """Which link, and what its clicks are to carry."""

    affiliate_id: Id = about("The one of your affiliates. Needed if you have several.")


@endpoint(
    scope="offers:read",
    owner="affiliate",
    query=OwnOfferQuery,
    without_money=OwnOfferQuery,
    returns=listed("OfferOfAffiliateList", OfferOfAffiliate),
    tag="Affiliates",
)
async def list_affiliate_offers(call: Call[OwnOfferQuery]) -> Response:
    """List your offers

    Public offers and offers that you are approved for, with your tracking links and what they pay you. A
    token of several affiliates gets a row for each offer and affiliate.
    """
    state, query, number = call.state, call.query, call.query.page or 1
    ids = some_of(call.owner, query.affiliate_id)
    page = await affiliate_offers.page(state.pool, ids, query.q, number, query.per_page)
    rows: list[dict[str, Any]] = page.rows
    brands: defaultdict[int, dict[int, int | None]] = defaultdict(dict)
    for row in rows:
        brands[row["affiliate_id"]][row["id"]] = row.pop("brand_id")
    async with state.pool.acquire() as connection:
        links = {
            affiliate_id: await read_links(connection, state.settings, affiliate_id, of_offers)
            for affiliate_id, of_offers in brands.items()
        }
    linked = [{**row, "link": links[row["affiliate_id"]][row["id"]]} for row in rows]
    paid = await with_payouts(state.pool, call.token, linked, "id")
    return as_json(envelope(page._replace(rows=paid), per_page=query.per_page, number=number))


@endpoint(
    scope="offers:read",
    owner="affiliate",
    query=OwnLinkQuery,
    without_money=OwnLinkQuery,
    returns=TrackingLink,
    tag="Affiliates",
    path={"offer_id": "The offer's id."},
)
async def get_affiliate_link(call: Call[OwnLinkQuery]) -> Response:
    """Get a tracking link of yours

    With sub ids, a source and a page of the offer's site, percent-encoded as a link needs them. An offer that
    you may not run is 404.
    """
    query, state = call.query, call.state
    affiliate_id, offer_id = one_of(call.owner, query.affiliate_id), read_id(call.path["offer_id"])
    if offer_id is None or await affiliate_offers.unseen(state.pool, affiliate_id, offer_id, None):
        raise Problem(404, "There is no such offer.")
    said = query.carried()
    if wrong := await wrong_page(state.pool, offer_id, said["url"]):
        raise invalid(wrong)
    async with state.pool.acquire() as connection:
        try:
            link = await read_link(connection, state.settings, offer_id, affiliate_id, query.offer_url_id)
        except LinkError as error:
            raise invalid({"offer_url_id": [str(error)]}) from None
    return as_json({"link": carrying(link, said)})


async def with_payouts(
    pool: Pool, token: Token, rows: Iterable[dict[str, Any]], key: str
) -> list[dict[str, Any]]:
    """Rows of offers and affiliates with what they pay. `key`: the name of the offer's id in a row."""
    listed_rows = [*rows]
    if token.hides_money:
        return listed_rows
    paid = await affiliate_offers.payouts(pool, [(row[key], row["affiliate_id"]) for row in listed_rows])
    return [{**row, "payouts": paid.get((row[key], row["affiliate_id"]), ())} for row in listed_rows]


routes: list[Route] = [Route(PATH, list_affiliate_offers), Route(LINK_PATH, get_affiliate_link)]
