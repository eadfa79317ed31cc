"""The endpoint that copies an offer with its parts."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from tracker.api.catalogue import as_json, changed_model, editor_of, shown_model
from tracker.api.http.endpoint import Body, Call, endpoint
from tracker.api.http.if_match import etag
from tracker.api.http.routing import ROOT
from tracker.catalogue.offer_copies import OfferCopy, copy_offer
from tracker.catalogue.offers import OFFERS
from tracker.catalogue.resource import WRITE, path_of, place_of
from tracker.catalogue.validation import check_storable, validated
from tracker.parameters import Query

PATH = f"{ROOT}/offers/{{offer_id}}/copy"


@endpoint(
    scope=WRITE,
    query=Query,
    body=Body(OfferCopy),
    returns=changed_model(OFFERS, shown_model(OFFERS)),
    status=201,
    may_fail=(404,),
    has_etag=True,
    tag="Management",
    path={"offer_id": "The offer's id."},
)
async def copy(call: Call[Query]) -> Response:
    """Copy an offer

    The new offer is a draft with the same fields, URLs, goals, terms, free values and caps. Archived parts
    and parts of archived affiliates stay behind, and no affiliate is approved for it. A token without the
    scope `money:write` copies goals without their prices and terms, and `warnings` says so.
    """
    body = await call.object()
    check_storable(body)
    name = validated(body, OfferCopy).name
    row = await copy_offer(editor_of(call), place_of(call.path, "offer_id")["offer_id"], name)
    return as_json(row, 201, {"Location": f"{ROOT}/{path_of(OFFERS, row)}", "ETag": etag(row["version"])})


routes: list[Route] = [Route(PATH, copy, methods=["POST"])]
