"""Clicks: the list, one click, the feed, the export."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from tracker.api.auth import authorize
from tracker.api.click_query import FormatQuery, ListQuery, OneClickQuery, read_query
from tracker.api.click_schema import ClickList
from tracker.api.completeness import complete_until, header
from tracker.api.openapi import answers, documented
from tracker.api.paging import Cursor, envelope_with_cursor, feed_envelope, read_cursor, write_cursor
from tracker.api.problems import SECURITY_HEADERS, Problem, invalid
from tracker.clickhash import HASH_LENGTH
from tracker.model import MAX_ID
from tracker.store import click_list
from tracker.store.click_list import KEYS, ClickFilter, Order, Page, Row

PATH = "/backend/open-api/v1/users/clicks"

_SCOPE = "clicks:read"


@documented.validate(
    query=ListQuery,
    resp=answers(ClickList, 401, 403, 422, 503),
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
    query = read_query(request, ListQuery)
    query.check_paging()
    if query.after_id is not None:
        return await _feed(request, query, query.after_id)
    complete = await complete_until(request)
    answer = await _list(request, query)
    answer.headers.update(complete)
    return answer


@documented.validate(
    query=OneClickQuery,
    resp=answers(ClickList, 401, 403, 404, 422, 503),
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
    zone = read_query(request, OneClickQuery).zone(request.app.state.settings.time_zone)
    complete = await complete_until(request)
    key = request.path_params["id"]
    row = None
    if len(key) == HASH_LENGTH and _is_hex(key):
        row = await click_list.one(request.app.state.pool, "hash", key, zone)
    elif key.isascii() and key.isdigit() and len(key) <= len(str(MAX_ID)):
        row = await click_list.one(request.app.state.pool, "id", int(key), zone)
    if row is None:
        errors = {"id": ["is of no click"]}
        raise Problem(404, "There is no click with this id or hash.", errors=errors, headers=complete)
    answer = _json(envelope_with_cursor(Page([row], 1, False), per_page=1, number=1, next_cursor=None))
    answer.headers.update(complete)
    return answer


@documented.validate(
    query=FormatQuery,
    resp=answers(None, 401, 403, 422, 503),
    tags=["Clicks"],
    operation_id="export_clicks",
    skip_validation=True,
)
async def export_clicks(request: Request) -> Response:
    """Export clicks

    All clicks of the filters that are stored when the export begins, as a stream: one JSON object a line, or
    CSV (RFC 4180, CRLF, with a header; null is empty, every text is quoted). Values are written as they are,
    also where a spreadsheet would take them for a formula: import them as text. An export that an error cuts
    off ends without the closing chunk of its HTTP transfer, which clients report as an incomplete answer.
    """
    await authorize(request, _SCOPE)
    query = read_query(request, FormatQuery)
    settings, pool = request.app.state.settings, request.app.state.pool
    complete = await complete_until(request)
    chunks = click_list.export(pool, query.clicks(settings.time_zone), query.order(settings.time_zone))
    head, write, media_type = _FORMATS[query.format]
    disposition = f'attachment; filename="clicks.{query.format}"'
    headers = {**SECURITY_HEADERS, **complete, "Content-Disposition": disposition}
    if request.method == "HEAD":
        return Response(headers=headers, media_type=media_type)
    # The first chunk is read before the answer begins, so that what fails at once is answered as an error.
    first: list[Row] = await anext(chunks, [])
    return StreamingResponse(
        _stream(head + write(first), chunks, write), headers=headers, media_type=media_type
    )


routes: list[BaseRoute] = [
    Route(PATH, list_clicks),
    Route(f"{PATH}/export", export_clicks),
    Route(f"{PATH}/{{id}}", get_click),
]


async def _list(request: Request, query: ListQuery) -> Response:
    network_zone = request.app.state.settings.time_zone
    clicks, order = query.clicks(network_zone), query.order(network_zone)
    if query.cursor is not None:
        return await _page_after(request, query, clicks, order, query.cursor)
    return await _numbered_page(request, query, clicks, order)


async def _numbered_page(request: Request, query: ListQuery, clicks: ClickFilter, order: Order) -> Response:
    number = query.page or 1
    try:
        page = await click_list.page(request.app.state.pool, clicks, order, number, query.per_page)
    except click_list.TooDeepError as error:
        raise invalid({"page": [f"{error}: go on with cursor, the next_cursor of a page before"]}) from None
    return _list_answer(page, query, clicks, order, number)


async def _page_after(
    request: Request, query: ListQuery, clicks: ClickFilter, order: Order, text: str
) -> Response:
    try:
        cursor = read_cursor(text, clicks, newest_first=order.newest_first)
    except ValueError as error:
        raise invalid({"cursor": [str(error)]}) from None
    page = await click_list.page_after(
        request.app.state.pool, clicks, order, cursor.last_hash, query.per_page, cursor.total
    )
    return _list_answer(page, query, clicks, order, cursor.number)


async def _feed(request: Request, query: ListQuery, after_id: int) -> Response:
    network_zone, tracked = request.app.state.settings.time_zone, request.app.state.complete_until
    millis = await tracked.millis()
    feed = await click_list.feed(
        request.app.state.pool, query.clicks(network_zone), query.zone(network_zone), after_id, query.per_page
    )
    answer = _json(feed_envelope(feed.rows, per_page=query.per_page, after_id=after_id))
    answer.headers.update(header(tracked.of_feed(millis, feed.given, feed.upto)))
    return answer


def _list_answer(page: Page, query: ListQuery, clicks: ClickFilter, order: Order, number: int) -> Response:
    next_cursor = None
    if page.has_more:
        known_total = page.total if clicks.tally is None else None
        cursor = Cursor(str(page.rows[-1]["hash"]), number + 1, known_total)
        next_cursor = write_cursor(cursor, clicks, newest_first=order.newest_first)
    return _json(envelope_with_cursor(page, per_page=query.per_page, number=number, next_cursor=next_cursor))


def _json(body: object) -> Response:
    return Response(orjson.dumps(body), headers=SECURITY_HEADERS, media_type="application/json")


def _is_hex(text: str) -> bool:
    return all(digit in "0123456789abcdefABCDEF" for digit in text)


async def _stream(
    head: bytes, chunks: AsyncIterator[list[Row]], write: Callable[[list[Row]], bytes]
) -> AsyncIterator[bytes]:
    yield head
    async for rows in chunks:
        yield write(rows)


def _ndjson(rows: list[Row]) -> bytes:
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def csv_rows(rows: list[Row]) -> bytes:
    return "".join(",".join(map(_csv_value, row.values())) + "\r\n" for row in rows).encode()


def _csv_value(value: object) -> str:
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return "" if value is None else str(value).lower()  # an id, true or false


_CSV_HEADER = (",".join(KEYS) + "\r\n").encode()
_FORMATS: dict[str, tuple[bytes, Callable[[list[Row]], bytes], str]] = {
    "ndjson": (b"", _ndjson, "application/x-ndjson"),
    "csv": (_CSV_HEADER, csv_rows, "text/csv; charset=utf-8; header=present"),
}
