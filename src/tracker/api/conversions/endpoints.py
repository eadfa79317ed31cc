"""Conversions: the list, one conversion, the feed, the export."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from tracker.api.conversions.schema import ConversionList, OneConversion
from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.exports import STREAMED, answer_export
from tracker.api.http.listing import answer_changes, answer_feed, answer_list, answer_one
from tracker.api.http.problems import Problem
from tracker.reading import conversions as reading
from tracker.reading import keys
from tracker.reading.conversions import ConversionExportQuery, ConversionListQuery
from tracker.reading.keys import KEY, KeyQuery
from tracker.reading.visibility import Visibility
from tracker.store.conversions import list as conversion_list
from tracker.store.conversions.list import KEYS
from tracker.store.paging import Row
from tracker.store.tokens import Token

PATH = "/backend/open-api/v1/users/conversions"

READ_SCOPE, BOOK_SCOPE = "conversions:read", "money:read"
ALL = Visibility(KEYS)
WHOLE = Visibility((*KEYS, "changes", "entries", "corrections"))
"""One conversion, with its history and its money."""


@endpoint(
    scope=READ_SCOPE,
    query=ConversionListQuery,
    without_money=ConversionListQuery,
    returns=ConversionList,
    tag="Conversions",
    has_complete_until=True,
    from_standby=True,
)
async def list_conversions(call: Call[ConversionListQuery]) -> Response:
    """List conversions

    A conversion is listed if it matches all filters. `total` is exact. With a cursor it is the total of the
    first page. Page numbers work for the first 10,000 rows: use `next_cursor` from there on. The feed by
    `after_id` has new conversions only. The feed by `updated_after` repeats each conversion that has changed.
    """
    return await answer_conversions(call, call.query, ALL.seen_by(call.token))


@endpoint(
    scope=READ_SCOPE,
    query=KeyQuery,
    without_money=KeyQuery,
    returns=OneConversion,
    tag="Conversions",
    has_complete_until=True,
    path={"id": KEY},
)
async def get_conversion(call: Call[KeyQuery]) -> Response:
    """Get a conversion

    By its id, its hash, or its id in an earlier tracker. An id that means several is 422, and the answer
    names the values of `source` that tell them apart. The envelope is that of the list. It includes the
    history of statuses. With the scope `money:read` it also includes all money booked for the conversion.
    """
    return answer_one(visible_to(call.token, await read_conversion(call, WHOLE.seen_by(call.token))))


@endpoint(
    scope=READ_SCOPE,
    query=ConversionExportQuery,
    without_money=ConversionExportQuery,
    returns=None,
    files=STREAMED,
    tag="Conversions",
    has_complete_until=True,
    from_standby=True,
)
async def export_conversions(call: Call[ConversionExportQuery]) -> Response:
    """Export conversions

    A stream of all conversions that match the filters and are stored when the export begins. The formats are
    those of the export of clicks.
    """
    return await answer_conversion_export(call, call.query, ALL.seen_by(call.token))


async def answer_conversions(call: Call[Any], query: ConversionListQuery, visibility: Visibility) -> Response:
    """A page of the visible conversions, or their feed. Feeds are the primary's, whose locks they read."""
    query.check_paging()
    primary, network_zone = call.state.pool, call.network_zone
    query = await reading.by_hash(call.pool, query, visibility)
    if query.updated_after is not None:
        changed = await reading.changes(primary, query, network_zone, visibility, query.updated_after)
        return answer_changes(*changed, query.per_page)
    if query.after_id is not None:
        conversions, order = visibility.narrow(query.conversions(network_zone)), query.order(network_zone)
        rows = await conversion_list.feed(primary, conversions, order.zone, query.after_id, query.per_page)
        return answer_feed(visibility.show(rows), query, query.after_id)
    return await answer_list(query, reading.walk(call.pool, query, network_zone, visibility))


async def answer_conversion(call: Call[KeyQuery], visibility: Visibility) -> Response:
    """The conversion that the path names, if it is visible."""
    return answer_one(await read_conversion(call, visibility))


async def read_conversion(call: Call[Any], visibility: Visibility) -> Row:
    """The conversion that the path names, with its history and its money.

    Raises:
        Problem: 404 if it does not exist or is not visible.
    """
    zone = call.query.zone(call.network_zone)
    row = await keys.find(call.pool, keys.CONVERSIONS, call.path["id"], call.query.source, zone, visibility)
    if row is None:
        raise no_such_conversion()
    return row


def visible_to(token: Token, row: Row) -> Row:
    """A conversion as a token of the network reads it: without `money:read` the booked money is null.

    A token that hides money has no such keys.
    """
    if token.allows(BOOK_SCOPE) or token.hides_money:
        return row
    return {**row, "entries": None, "corrections": None}


async def answer_conversion_export(
    call: Call[Any], query: ConversionExportQuery, visibility: Visibility
) -> Response:
    """All visible conversions of the filters."""
    zone, keys = call.network_zone, visibility.keys
    query = await reading.by_hash(call.pool, query, visibility)
    conversions, order = visibility.narrow(query.conversions(zone)), query.order(zone)
    chunks = conversion_list.export(call.pool, conversions, order, keys)
    return await answer_export(call.request, chunks, name="conversions", keys=keys, query=query)


def no_such_conversion() -> Problem:
    errors = {"id": ["does not exist"]}
    return Problem(404, "There is no conversion with this id or hash.", errors=errors)


routes: list[Route] = [
    Route(PATH, list_conversions),
    Route(f"{PATH}/export", export_conversions),
    Route(f"{PATH}/{{id}}", get_conversion),
]
