"""Conversions: the list, one conversion, the feed, the export."""

from __future__ import annotations

from datetime import tzinfo
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.conversions.query import ConversionExportQuery, ConversionListQuery
from tracker.api.conversions.schema import ConversionList, OneConversion
from tracker.api.http.auth import authorize
from tracker.api.http.endpoint import documented, needs, responses
from tracker.api.http.exports import answer_export
from tracker.api.http.listing import Walk, answer_feed, answer_list, answer_one, id_or_hash
from tracker.api.http.problems import Problem
from tracker.api.http.query import ZoneQuery, read_query
from tracker.api.http.visibility import Visibility
from tracker.store.conversions import list as conversion_list
from tracker.store.conversions.list import KEYS
from tracker.store.paging import Row
from tracker.store.tokens import Token

PATH = "/backend/open-api/v1/users/conversions"

READ_SCOPE, BOOK_SCOPE = "conversions:read", "money:read"
ALL = Visibility(KEYS)


@documented.validate(
    query=ConversionListQuery,
    resp=responses(ConversionList, 401, 403, 422, 503),
    security=needs(READ_SCOPE),
    tags=["Conversions"],
    operation_id="list_conversions",
    skip_validation=True,
)
async def list_conversions(request: Request) -> Response:
    """List conversions

    Filters are joined by "and". `total` is exact; through a cursor it is that of the walk's first page. Page
    numbers lead through the first 10,000 rows: beyond them follow `next_cursor`. The feed tells of new
    conversions, not of changes of those that it has told of.
    """
    await authorize(request, READ_SCOPE)
    return await answer_conversions(request, read_query(request, ConversionListQuery), ALL)


@documented.validate(
    query=ZoneQuery,
    resp=responses(OneConversion, 401, 403, 404, 422, 503),
    security=needs(READ_SCOPE),
    tags=["Conversions"],
    operation_id="get_conversion",
    path_parameter_descriptions={"id": "The conversion's id, or its hash: 32 hexadecimal digits."},
    skip_validation=True,
)
async def get_conversion(request: Request) -> Response:
    """Get one conversion

    By its id or its hash, in the same envelope as the list, with every status it has had and, with the scope
    `money:read` too, all money that was booked for it.
    """
    token = await authorize(request, READ_SCOPE)
    zone = read_query(request, ZoneQuery).zone(request.app.state.settings.time_zone)
    return answer_one(as_read(token, await found_conversion(request, zone, ALL)))


@documented.validate(
    query=ConversionExportQuery,
    resp=responses(None, 401, 403, 422, 503),
    security=needs(READ_SCOPE),
    tags=["Conversions"],
    operation_id="export_conversions",
    skip_validation=True,
)
async def export_conversions(request: Request) -> Response:
    """Export conversions

    All conversions of the filters that are stored when the export begins, as a stream, in the formats of
    the export of clicks.
    """
    await authorize(request, READ_SCOPE)
    return await answer_conversion_export(request, read_query(request, ConversionExportQuery), ALL)


async def answer_conversions(request: Request, query: ConversionListQuery, sight: Visibility) -> Response:
    """A page of the conversions that are seen, or their feed."""
    query.check_paging()
    pool, network_zone = request.app.state.pool, request.app.state.settings.time_zone
    conversions, order = sight.narrow(query.conversions(network_zone)), query.order(network_zone)
    if query.after_id is not None:
        rows = await conversion_list.feed(pool, conversions, order.zone, query.after_id, query.per_page)
        return answer_feed(sight.show(rows), query, query.after_id)
    walk = Walk(
        sight.showing(partial(conversion_list.page, pool, conversions, order)),
        sight.showing(partial(conversion_list.page_after, pool, conversions, order)),
        conversions,
        order.newest_first,
    )
    return await answer_list(query, walk)


async def answer_conversion(request: Request, sight: Visibility) -> Response:
    """The conversion that a path names, if it is seen."""
    zone = read_query(request, ZoneQuery).zone(request.app.state.settings.time_zone)
    return answer_one(*sight.show([await found_conversion(request, zone, sight)]))


async def found_conversion(request: Request, zone: tzinfo, sight: Visibility) -> Row:
    """The conversion that a path names, with its history and its money.

    Raises:
        Problem: 404 if the token sees no such conversion.
    """
    key = id_or_hash(request.path_params["id"])
    pool = request.app.state.pool
    row = None if key is None else await conversion_list.one(pool, key, zone, sight.narrow)
    if row is None:
        raise no_such_conversion()
    return row


def as_read(token: Token, row: Row) -> Row:
    """A whole conversion as a token of the network reads it."""
    return row if token.allows(BOOK_SCOPE) else {**row, "entries": None}


async def answer_conversion_export(
    request: Request, query: ConversionExportQuery, sight: Visibility
) -> Response:
    """All conversions of the filters that are seen."""
    network_zone = request.app.state.settings.time_zone
    conversions, order = sight.narrow(query.conversions(network_zone)), query.order(network_zone)
    chunks = conversion_list.export(request.app.state.pool, conversions, order, sight.keys)
    return await answer_export(request, chunks, name="conversions", keys=sight.keys, query=query, headers={})


def no_such_conversion() -> Problem:
    errors = {"id": ["does not exist"]}
    return Problem(404, "There is no conversion with this id or hash.", errors=errors)


routes: list[BaseRoute] = [
    Route(PATH, list_conversions),
    Route(f"{PATH}/export", export_conversions),
    Route(f"{PATH}/{{id}}", get_conversion),
]
