"""Answers that are lists: by page number, by cursor, as a feed, or one row as a list."""

from __future__ import annotations

import orjson
from starlette.responses import Response

from tracker.api.http.paging import changes_envelope, envelope_with_cursor, feed_envelope
from tracker.api.http.problems import SECURITY_HEADERS
from tracker.reading.listing import Walk, read_page
from tracker.reading.query import FeedQuery, PartQuery
from tracker.store.paging import Page, Row


async def answer_list(query: PartQuery, walk: Walk) -> Response:
    """The page that a query names.

    Raises:
        ParameterError: the page is too deep, or the cursor is of another list.
    """
    page, number, next_cursor = await read_page(query, walk)
    return as_json(
        envelope_with_cursor(page, per_page=query.per_page, number=number, next_cursor=next_cursor)
    )


def answer_feed(rows: list[Row], query: FeedQuery, after_id: int) -> Response:
    return as_json(feed_envelope(rows, per_page=query.per_page, after_id=after_id))


def answer_changes(rows: list[Row], next_updated_after: int, per_page: int) -> Response:
    return as_json(changes_envelope(rows, per_page=per_page, next_updated_after=next_updated_after))


def answer_one(row: Row) -> Response:
    return as_json(envelope_with_cursor(Page([row], 1, False), per_page=1, number=1, next_cursor=None))


def as_json(body: object, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, SECURITY_HEADERS, "application/json")
