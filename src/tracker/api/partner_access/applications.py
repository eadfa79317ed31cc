"""Endpoints of applications: affiliates ask to run offers that need approval, and the network lists them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.routing import Route

from tracker import parameters
from tracker.api.catalogue import PageQuery, as_json, listed
from tracker.api.http.auth import VIEWS
from tracker.api.http.endpoint import Body, Call, endpoint
from tracker.api.http.paging import envelope
from tracker.api.http.problems import conflict, invalid
from tracker.api.http.routing import ROOT
from tracker.api.partner_access.own_access import one_of, some_of
from tracker.api.partner_access.own_offers import OfferPayout, with_payouts
from tracker.catalogue.fields import Fields, Id, Text
from tracker.catalogue.offers import OFFER_AFFILIATES
from tracker.catalogue.validation import check_storable, validated
from tracker.parameters import Model, Query, choice
from tracker.store.catalogue import applications, edit
from tracker.store.catalogue.applications import NoSuchOfferError, RefusedError, Wanted
from tracker.store.paging import Page

PATH = f"{VIEWS['affiliate']}/applications"
OF_NETWORK = f"{ROOT}/applications"
SCOPE = "applications:write"

_STATUSES = ("pending", "approved", "rejected")
_Status = choice(*_STATUSES)


class ApplicationFields(Fields):
    """An offer to ask for."""

    offer_id: Id
    affiliate_id: Annotated[
        Id | None,
        Field(description="The one of your affiliates that asks. Needed if you have several."),
    ] = None
    note: Annotated[Text, Field(description="What the network should know.", examples=["Newsletter"])] = ""


class Application(Model):
    """An offer that needs approval, with the application of an affiliate."""

    offer_id: int = Field(examples=[5])
    offer_name: str
    affiliate_id: int = Field(examples=[513])
    status: Literal["pending", "approved", "rejected"] | None = Field(
        description="pending: asked, and not decided. null: not asked.", examples=["pending"]
    )
    reason: str | None = Field(description="The network's reason for its decision.", examples=[""])
    note: str | None = Field(description="What the affiliate wrote.", examples=["Newsletter"])
    asked_at: str | None = Field(examples=["2026-11-25T16:00:00+00:00"])
    decided_at: str | None = Field(examples=["2026-11-26T09:00:00+00:00"])


class ApplicationForOffer(Application):
    """The same with what the offer pays the affiliate."""

    payouts: list[OfferPayout] | None = Field(
        None, description="What its goals pay. Absent for a token that hides money."
    )


class ApplicationOfAffiliate(Application):
    """An application, for the network."""

    affiliate_name: str
    asked_by: str = Field(
        description="The name of the token, or the e-mail address of the user, that asked.", examples=["Jane"]
    )


class ApplicationQuery(PageQuery):
    """Which applications."""

    affiliate_id: parameters.Id = Field(None, description="Applications of this affiliate.")
    offer_id: parameters.Id = Field(None, description="Applications for this offer.")
    status: _Status = Field(None, description="Applications with this status.")  # type: ignore[valid-type]


@endpoint(
    scope=(SCOPE, "offers:read"),
    owner="affiliate",
    query=ApplicationQuery,
    without_money=ApplicationQuery,
    returns=listed("ApplicationList", ApplicationForOffer),
    tag="Affiliates",
)
async def list_own_applications(call: Call[ApplicationQuery]) -> Response:
    """List offers that need approval

    All that you may ask for, with your applications and what they pay. Private offers are not listed. A token
    of several affiliates gets a row for each offer and affiliate.
    """
    query, number = call.query, call.query.page or 1
    wanted = Wanted(some_of(call.owner, query.affiliate_id), query.status, query.offer_id)
    page = await applications.of_affiliates(call.state.pool, wanted, number, query.per_page)
    rows = [_shown(row, Application) for row in page.rows]
    paid = await with_payouts(call.state.pool, call.token, rows, "offer_id")
    return _listed(page._replace(rows=paid), query)


@endpoint(
    scope=SCOPE,
    owner="affiliate",
    query=Query,
    without_money=Query,
    body=Body(ApplicationFields),
    returns=Application,
    status=201,
    may_fail=(409,),
    tag="Affiliates",
)
async def ask_for_offer(call: Call[Query]) -> Response:
    """Ask to run an offer

    201 if it is new, 200 if it was asked for or approved before. An offer that declined you can be asked for
    again a week after the decision. Before that, and for a public offer, the answer is 409.
    """
    body = await call.object()
    check_storable(body)
    fields = validated(body, ApplicationFields)
    affiliate_id = one_of(call.owner, fields.affiliate_id)
    pool, table = call.state.pool, OFFER_AFFILIATES.table
    try:
        async with edit.changing(pool, editor="affiliate") as connection:
            is_new = await applications.ask(
                connection, call.author, table, fields.offer_id, affiliate_id, fields.note
            )
            row = await applications.one(connection, fields.offer_id, affiliate_id)
    except NoSuchOfferError:
        raise invalid({"offer_id": ["matches no offer"]}) from None
    except RefusedError as error:
        raise conflict({"offer_id": [str(error)]}) from None
    return as_json(_shown(row, Application), 201 if is_new else 200)


@endpoint(
    scope="offers:read",
    query=ApplicationQuery,
    without_money=ApplicationQuery,
    returns=listed("ApplicationOfAffiliateList", ApplicationOfAffiliate),
    tag="Management",
)
async def list_applications(call: Call[ApplicationQuery]) -> Response:
    """List applications

    What affiliates asked for, the latest first. Decide with
    `PATCH …/offers/{offer_id}/affiliates/{affiliate_id}`: set `status` and `reason`.
    """
    query, number = call.query, call.query.page or 1
    ids = None if query.affiliate_id is None else [query.affiliate_id]
    wanted = Wanted(ids, query.status, query.offer_id)
    page = await applications.of_network(call.state.pool, wanted, number, query.per_page)
    return _listed(page._replace(rows=[_shown(row, ApplicationOfAffiliate) for row in page.rows]), query)


routes: list[Route] = [
    Route(PATH, list_own_applications),
    Route(PATH, ask_for_offer, methods=["POST"]),
    Route(OF_NETWORK, list_applications),
]


def _listed(page: Page, query: ApplicationQuery) -> Response:
    return as_json(envelope(page, per_page=query.per_page, number=query.page or 1))


def _shown(row: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    return {name: row[name] for name in model.model_fields}
