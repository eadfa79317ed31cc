"""What affiliates and advertisers read, with tokens that are bound to one of them: their own rows, reduced.

The endpoints are the network's, seen through the owner of the token; what that shows is in view_schema.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, Field, create_model
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.catalogue import PageQuery, listed
from tracker.api.clicks import endpoints as clicks
from tracker.api.clicks.schema import Click
from tracker.api.conversions import endpoints as conversions
from tracker.api.conversions.schema import Conversion
from tracker.api.http.auth import VIEWS, authorize_owner
from tracker.api.http.endpoint import documented, needs, responses
from tracker.api.http.listing import as_json
from tracker.api.http.paging import envelope
from tracker.api.http.query import read_query
from tracker.api.partner_access.schema import CLICKS, CONVERSIONS, REPORTS, list_model, query_model, row_model
from tracker.api.reports import ReportAnswer, ReportChanges, ReportRow, ReportSums, answer_report
from tracker.catalogue.tracking_links import read_links
from tracker.parameters import Query
from tracker.reading.clicks import ExportQuery, ListQuery
from tracker.reading.conversions import ConversionExportQuery, ConversionListQuery
from tracker.reading.query import ZoneQuery
from tracker.reading.reports import FIELDS, ReportQuery, groups_of
from tracker.reading.visibility import Visibility
from tracker.store.catalogue import affiliate_offers
from tracker.store.clicks import list as click_list
from tracker.store.conversions import list as conversion_list

SomeQuery = TypeVar("SomeQuery", bound=Query)

_Endpoint = Callable[[Request], Awaitable[Response]]


class PartnerView(NamedTuple):
    """One kind of rows, as the network reads them."""

    noun: str  # in the path, and in the scope
    row: type[BaseModel]
    keys: Mapping[str, tuple[str, ...]]  # what is seen, by whom
    columns: Collection[str]  # that a parameter may be about
    list_query: type[Query]
    export_query: type[Query]
    answer_list: Callable[[Request, Any, Visibility], Awaitable[Response]]
    answer_one: Callable[[Request, Visibility], Awaitable[Response]]
    answer_export: Callable[[Request, Any, Visibility], Awaitable[Response]]


_PARTNER_VIEWS = (
    PartnerView(
        "clicks",
        Click,
        CLICKS,
        click_list.FILTERS,
        ListQuery,
        ExportQuery,
        clicks.answer_clicks,
        clicks.answer_click,
        clicks.answer_click_export,
    ),
    PartnerView(
        "conversions",
        Conversion,
        CONVERSIONS,
        conversion_list.FILTERS,
        ConversionListQuery,
        ConversionExportQuery,
        conversions.answer_conversions,
        conversions.answer_conversion,
        conversions.answer_conversion_export,
    ),
)


class OfferOfAffiliate(BaseModel):
    """An offer that the affiliate may run."""

    id: int
    name: str
    status: Literal["active", "paused"]
    visibility: Literal["public", "approval", "private"]
    starts_at: str | None = Field(examples=["2026-11-01T00:00:00+00:00"])
    ends_at: str | None
    link: str = Field(
        description="The affiliate's tracking link.", examples=["https://go.example/offer/3?affiliate_id=513"]
    )


@documented.validate(
    query=PageQuery,
    resp=responses(listed("OfferOfAffiliateList", OfferOfAffiliate), 401, 403, 422, 503),
    security=needs("offers:read"),
    tags=["Affiliates"],
    operation_id="list_affiliate_offers",
    skip_validation=True,
)
async def list_offers(request: Request) -> Response:
    """List one's offers

    Those that are public and those that the affiliate is approved for, with its tracking links.
    """
    owner = await authorize_owner(request, "affiliate", "offers:read")
    query = read_query(request, PageQuery)
    state, number = request.app.state, query.page or 1
    page = await affiliate_offers.page(state.pool, owner.id, number, query.per_page)
    offers: list[dict[str, Any]] = page.rows
    brands = {offer["id"]: offer.pop("brand_id") for offer in offers}
    async with state.pool.acquire() as connection:
        links = await read_links(connection, state.settings, owner.id, brands)
    rows = [{**offer, "link": links[offer["id"]]} for offer in offers]
    return as_json(envelope(page._replace(rows=rows), per_page=query.per_page, number=number))


def _report(kind: str) -> _Endpoint:
    groups = [group for group, field in FIELDS.items() if field in REPORTS[kind]]
    group_by = (groups_of(groups), ...)
    reduced = query_model(kind, ReportQuery, click_list.FILTERS, CLICKS[kind], group_by=group_by)

    async def report(request: Request) -> Response:
        owner = await authorize_owner(request, kind, "reports:read")
        return await answer_report(
            request, _read(request, reduced, ReportQuery), Visibility(REPORTS[kind], owner)
        )

    row: Any = row_model(kind, ReportRow, REPORTS[kind])
    sums = row_model(kind, ReportSums, REPORTS[kind])
    changes = row_model(kind, ReportChanges, ("text", "conversions", *REPORTS[kind]))
    told = ReportAnswer.model_fields
    fields: Any = {
        "data": (list[row], told["data"]),
        "other": (sums | None, told["other"]),
        "totals": (sums, told["totals"]),
        "changed_since_close": (changes | None, told["changed_since_close"]),
    }
    answer = create_model(f"{kind.capitalize()}Report", __doc__=ReportAnswer.__doc__, **fields)
    text = f"Add one's clicks and conversions up\n\nThe {kind}'s own, as the network's report goes."
    resp = responses(answer, 401, 403, 422, 503)
    return _document(kind, "reports", "read", text, report, query=reduced, resp=resp)


def _routes_of(kind: str, viewed: PartnerView) -> list[BaseRoute]:
    path = f"{VIEWS[kind]}/{viewed.noun}"
    return [
        Route(path, _list(kind, viewed)),
        Route(f"{path}/export", _export(kind, viewed)),
        Route(f"{path}/{{id}}", _one(kind, viewed)),
    ]


def _list(kind: str, viewed: PartnerView) -> _Endpoint:
    reduced = query_model(kind, viewed.list_query, viewed.columns, viewed.keys[kind])

    async def list_(request: Request) -> Response:
        sight = await _sight(request, kind, viewed)
        return await viewed.answer_list(request, _read(request, reduced, viewed.list_query), sight)

    answer = responses(list_model(kind, viewed.row, viewed.keys[kind]), 401, 403, 422, 503)
    text = f"List one's {viewed.noun}\n\nThe {kind}'s own, as the network's list goes; also as a feed."
    return _document(kind, viewed.noun, "list", text, list_, query=reduced, resp=answer)


def _one(kind: str, viewed: PartnerView) -> _Endpoint:
    async def get(request: Request) -> Response:
        return await viewed.answer_one(request, await _sight(request, kind, viewed))

    answer = responses(list_model(kind, viewed.row, viewed.keys[kind]), 401, 403, 404, 422, 503)
    text = f"Get one of one's {viewed.noun}\n\nBy its id or its hash; one of somebody else is 404."
    return _document(kind, viewed.noun, "get", text, get, query=ZoneQuery, resp=answer)


def _export(kind: str, viewed: PartnerView) -> _Endpoint:
    reduced = query_model(kind, viewed.export_query, viewed.columns, viewed.keys[kind])

    async def export(request: Request) -> Response:
        sight = await _sight(request, kind, viewed)
        return await viewed.answer_export(request, _read(request, reduced, viewed.export_query), sight)

    text = f"Export one's {viewed.noun}\n\nAll of the {kind}'s own, as a stream: NDJSON or CSV."
    answer = responses(None, 401, 403, 422, 503)
    return _document(kind, viewed.noun, "export", text, export, query=reduced, resp=answer)


async def _sight(request: Request, kind: str, viewed: PartnerView) -> Visibility:
    owner = await authorize_owner(request, kind, f"{viewed.noun}:read")
    return Visibility(viewed.keys[kind], owner)


def _read(request: Request, reduced: type[Query], model: type[SomeQuery]) -> SomeQuery:
    """The parameters of a view as those of the network's endpoint."""
    given = read_query(request, reduced)
    return model.model_construct(given.model_fields_set, **dict(given))


def _document(kind: str, noun: str, action: str, text: str, endpoint: _Endpoint, **more: Any) -> _Endpoint:
    endpoint.__doc__ = text
    decorate = documented.validate(
        tags=[VIEWS[kind].rpartition("/")[2].capitalize(), noun.capitalize()],
        operation_id=f"{action}_{kind}_{noun}",
        path_parameter_descriptions={"id": "Its id, or its hash: 32 hexadecimal digits."},
        security=needs(f"{noun}:read"),
        skip_validation=True,
        **more,
    )
    decorated: _Endpoint = decorate(endpoint)
    return decorated


routes: list[BaseRoute] = [
    *(route for kind in VIEWS for viewed in _PARTNER_VIEWS for route in _routes_of(kind, viewed)),
    *(Route(f"{root}/reports", _report(kind)) for kind, root in VIEWS.items()),
    Route(f"{VIEWS['affiliate']}/offers", list_offers),
]
