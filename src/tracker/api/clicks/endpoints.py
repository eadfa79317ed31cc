"""Clicks: the list, one click, the feed, the export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from tracker.api.clicks.schema import ClickList
from tracker.api.http.complete_until import header
from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.exports import STREAMED, answer_export
from tracker.api.http.listing import answer_feed, answer_list, answer_one
from tracker.api.http.problems import Problem
from tracker.ops.ledger import rfc3339
from tracker.reading import clicks, keys
from tracker.reading.clicks import ExportQuery, ListQuery
from tracker.reading.complete_until import CompleteUntil
from tracker.reading.keys import KEY, KeyQuery
from tracker.reading.visibility import Visibility
from tracker.store.clicks import export as click_export
from tracker.store.clicks import list as click_list
from tracker.store.clicks.columns import KEYS
from tracker.store.paging import Row
from tracker.store.reports.sources import NARROW, TooManyClicksError

PATH = "/backend/open-api/v1/users/clicks"

SCOPE = "clicks:read"
ALL = Visibility(KEYS)


@endpoint(
    scope=SCOPE,
    query=ListQuery,
    without_money=ListQuery,
    returns=ClickList,
    tag="Clicks",
    has_complete_until=True,
    from_standby=True,
)
async def list_clicks(call: Call[ListQuery]) -> Response:
    """List clicks

    A click is listed if it matches all filters. `total` is exact. With a cursor it may be the total of the
    first page. Any page number works with at most a time range and one of offer_id and affiliate_id. With
    other filters pages end after 10,000 rows: use `next_cursor` from there on. When clocks go back, a local
    time occurs twice: created_from means the earlier one and created_to the later one.
    """
    return await answer_clicks(call, call.query, ALL.seen_by(call.token))


@endpoint(
    scope=SCOPE,
    query=KeyQuery,
    without_money=KeyQuery,
    returns=ClickList,
    tag="Clicks",
    path={"id": KEY},
    may_fail=(410,),
    has_complete_until=True,
)
async def get_click(call: Call[KeyQuery]) -> Response:
    """Get a click

    By its id, its hash, or its id in an earlier tracker. An id that means several clicks is 422, and the
    answer names the values of `source` that tell them apart. The envelope is that of the list.
    """
    return await answer_click(call, ALL.seen_by(call.token))


@endpoint(
    scope=SCOPE,
    query=ExportQuery,
    without_money=ExportQuery,
    returns=None,
    files=STREAMED,
    tag="Clicks",
    has_complete_until=True,
    from_standby=True,
)
async def export_clicks(call: Call[ExportQuery]) -> Response:
    """Export clicks

    A stream of all clicks that match the filters and are stored when the export begins. NDJSON has one object
    a line. CSV (RFC 4180) has a header and CRLF, null is empty and every text is quoted. Both keep values as
    they are, even if a spreadsheet takes one for a formula. With `format=excel` such cells begin with an
    apostrophe, and `tracker import` restores the original values. An export that fails ends without the last
    chunk of its HTTP transfer, and clients report an incomplete answer.
    """
    return await answer_click_export(call, call.query, ALL.seen_by(call.token))


routes: list[Route] = [
    Route(PATH, list_clicks),
    Route(f"{PATH}/export", export_clicks),
    Route(f"{PATH}/{{id}}", get_click),
]


async def answer_clicks(call: Call[Any], query: ListQuery, visibility: Visibility) -> Response:
    """A page of the visible clicks, or their feed."""
    query.check_paging()
    query = await clicks.by_hash(call.pool, query, visibility)
    if query.after_id is not None:
        return await _feed(call, query, visibility, query.after_id)
    try:
        return await answer_list(query, clicks.walk(call.pool, query, call.network_zone, visibility))
    except TooManyClicksError as error:
        detail = f"These filters match {error}."
        raise Problem(503, detail, errors={"created_from": [NARROW]}) from None


async def answer_click(call: Call[KeyQuery], visibility: Visibility) -> Response:
    """The click that the path names, if it is visible."""
    return answer_one(await read_click(call, visibility))


async def read_click(call: Call[KeyQuery], visibility: Visibility) -> Row:
    """The click that the path names.

    Raises:
        Problem: 404 if it does not exist or is not visible, 410 if its day is not kept.
    """
    zone = call.query.zone(call.network_zone)
    row = await keys.find(call.pool, keys.CLICKS, call.path["id"], call.query.source, zone, visibility)
    if row is None:
        told = header(call.complete_until, call.kept_since)
        named = (call.path["id"], call.query.source, visibility.owner)
        if await keys.is_before(call.pool, *named, call.kept_since):
            detail = (
                f"Clicks before {rfc3339(call.kept_since)} are not kept one by one. Their counts are in "
                "reports. Their conversions are kept: list conversions by click_hash."
            )
            raise Problem(410, detail, errors={"id": ["is of a day that is not kept"]}, headers=told)
        errors = {"id": ["does not exist"]}
        raise Problem(404, "There is no click with this id or hash.", errors=errors, headers=told)
    return row


async def answer_click_export(call: Call[Any], query: ExportQuery, visibility: Visibility) -> Response:
    """All visible clicks of the filters."""
    query = await clicks.by_hash(call.pool, query, visibility)
    filtered, order = visibility.narrow(query.clicks(call.network_zone)), query.order(call.network_zone)
    chosen: Sequence[str] | None = query.columns
    keys = tuple(dict.fromkeys(chosen or visibility.keys))
    chunks = click_export.export(call.pool, filtered, order, keys)
    return await answer_export(call.request, chunks, name="clicks", keys=keys, query=query)


async def _feed(call: Call[Any], query: ListQuery, visibility: Visibility, after_id: int) -> Response:
    """A part of the feed. It is the primary's, whose locks say how far the feed goes."""
    filtered, zone = visibility.narrow(query.clicks(call.network_zone)), query.zone(call.network_zone)
    tracked: CompleteUntil = call.state.complete_until
    known = await tracked.millis()
    feed = await click_list.feed(call.state.pool, filtered, zone, after_id, query.per_page)
    call.complete_until = tracked.of_feed(known, feed.given, feed.upto)
    return answer_feed(visibility.show(feed.rows), query, after_id)
