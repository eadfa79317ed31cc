"""Clicks: the list, one click, the feed, the export."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.clicks.query import ExportQuery, ListQuery
from tracker.api.clicks.schema import ClickList
from tracker.api.http.auth import authorize
from tracker.api.http.complete_until import complete_until, header
from tracker.api.http.endpoint import documented, needs, responses
from tracker.api.http.exports import answer_export
from tracker.api.http.listing import Walk, answer_feed, answer_list, answer_one, id_or_hash
from tracker.api.http.problems import Problem
from tracker.api.http.query import ZoneQuery, read_query
from tracker.api.http.visibility import Visibility
from tracker.store.clicks import export as click_export
from tracker.store.clicks import list as click_list
from tracker.store.clicks.columns import KEYS

PATH = "/backend/open-api/v1/users/clicks"

_SCOPE = "clicks:read"
_ALL = Visibility(KEYS)


@documented.validate(
    query=ListQuery,
    resp=responses(ClickList, 401, 403, 422, 503),
    security=needs(_SCOPE),
    tags=["Clicks"],
    operation_id="list_clicks",
    skip_validation=True,
)
async def list_clicks(request: Request) -> Response:
    """List clicks

    Filters are joined by "and". `total` is exact; through a cursor it may be that of the walk's first page.
    Page numbers lead anywhere where at most a time range and one of offer_id and affiliate_id are given,
    and through the first 10,000 rows otherwise: beyond them follow `next_cursor`. A local time that the
    clocks show twice is the earlier one in created_from and the later one in created_to.
    """
    await authorize(request, _SCOPE)
    return await answer_clicks(request, read_query(request, ListQuery), _ALL)


@documented.validate(
    query=ZoneQuery,
    resp=responses(ClickList, 401, 403, 404, 422, 503),
    security=needs(_SCOPE),
    tags=["Clicks"],
    operation_id="get_click",
    path_parameter_descriptions={"id": "The click's id, or its hash: 32 hexadecimal digits."},
    skip_validation=True,
)
async def get_click(request: Request) -> Response:
    """Get one click

    By its id or its hash, in the same envelope as the list.
    """
    await authorize(request, _SCOPE)
    return await answer_click(request, _ALL)


@documented.validate(
    query=ExportQuery,
    resp=responses(None, 401, 403, 422, 503),
    security=needs(_SCOPE),
    tags=["Clicks"],
    operation_id="export_clicks",
    skip_validation=True,
)
async def export_clicks(request: Request) -> Response:
    """Export clicks

    All clicks of the filters that are stored when the export begins, as a stream: one JSON object a line, or
    CSV (RFC 4180, CRLF, with a header; null is empty, every text is quoted). Values are written as they are,
    also where a spreadsheet would take them for a formula. For one take `format=excel`: such cells begin with
    an apostrophe, and `tracker import` gives the original values back. An export that an error cuts off ends
    without the closing chunk of its HTTP transfer, which clients report as an incomplete answer.
    """
    await authorize(request, _SCOPE)
    return await answer_click_export(request, read_query(request, ExportQuery), _ALL)


routes: list[BaseRoute] = [
    Route(PATH, list_clicks),
    Route(f"{PATH}/export", export_clicks),
    Route(f"{PATH}/{{id}}", get_click),
]


async def answer_clicks(request: Request, query: ListQuery, sight: Visibility) -> Response:
    """A page of the clicks that are seen, or their feed."""
    query.check_paging()
    if query.after_id is not None:
        return await _feed(request, query, sight, query.after_id)
    complete = await complete_until(request)
    answer = await answer_list(query, _walk(request, query, sight))
    answer.headers.update(complete)
    return answer


async def answer_click(request: Request, sight: Visibility) -> Response:
    """The click that a path names, if it is seen."""
    zone = read_query(request, ZoneQuery).zone(request.app.state.settings.time_zone)
    complete = await complete_until(request)
    key = id_or_hash(request.path_params["id"])
    row = None if key is None else await click_list.one(request.app.state.pool, key, zone, sight.narrow)
    if row is None:
        errors = {"id": ["does not exist"]}
        raise Problem(404, "There is no click with this id or hash.", errors=errors, headers=complete)
    answer = answer_one(*sight.show([row]))
    answer.headers.update(complete)
    return answer


async def answer_click_export(request: Request, query: ExportQuery, sight: Visibility) -> Response:
    """All clicks of the filters that are seen."""
    network_zone, pool = request.app.state.settings.time_zone, request.app.state.pool
    complete = await complete_until(request)
    clicks, order = sight.narrow(query.clicks(network_zone)), query.order(network_zone)
    chunks = click_export.export(pool, clicks, order, sight.keys)
    return await answer_export(request, chunks, name="clicks", keys=sight.keys, query=query, headers=complete)


def _walk(request: Request, query: ListQuery, sight: Visibility) -> Walk:
    network_zone, pool = request.app.state.settings.time_zone, request.app.state.pool
    clicks, order = sight.narrow(query.clicks(network_zone)), query.order(network_zone)
    return Walk(
        sight.showing(partial(click_list.page, pool, clicks, order)),
        sight.showing(partial(click_list.page_after, pool, clicks, order)),
        clicks,
        order.newest_first,
        is_counted=clicks.tally is not None,
    )


async def _feed(request: Request, query: ListQuery, sight: Visibility, after_id: int) -> Response:
    network_zone, tracked = request.app.state.settings.time_zone, request.app.state.complete_until
    clicks, zone = sight.narrow(query.clicks(network_zone)), query.zone(network_zone)
    millis = await tracked.millis()
    feed = await click_list.feed(request.app.state.pool, clicks, zone, after_id, query.per_page)
    answer = answer_feed(sight.show(feed.rows), query, after_id)
    answer.headers.update(header(tracked.of_feed(millis, feed.given, feed.upto)))
    return answer
