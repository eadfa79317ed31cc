"""Answers that are lists: by page number, by cursor, as a feed; or one row in the envelope of a list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import orjson
from starlette.responses import Response

from tracker.api.http.paging import Cursor, envelope_with_cursor, feed_envelope, read_cursor, write_cursor
from tracker.api.http.problems import SECURITY_HEADERS, invalid
from tracker.api.http.query import FeedQuery, PartQuery
from tracker.domain import normalise
from tracker.domain.model import MAX_ID
from tracker.domain.normalise import trim
from tracker.store.paging import Page, Row, TooDeepError


class Walk(NamedTuple):
    """A list that can be gone through, and what its cursors are bound to."""

    page: Callable[[int, int], Awaitable[Page]]  # by number and rows a page; raises TooDeepError
    page_after: Callable[[str, int, int | None], Awaitable[Page]]  # by hash, rows a page, total where known
    filters: tuple[object, ...]
    newest_first: bool
    is_counted: bool = False  # its total is had at once, so that a cursor need not carry it


async def answer_list(query: PartQuery, walk: Walk) -> Response:
    """The page that is asked for.

    Raises:
        Problem: 422 for a page that is too deep, or a cursor of another list.
    """
    if query.cursor is not None:
        return await _page_after(query, walk, query.cursor)
    number = query.page or 1
    try:
        page = await walk.page(number, query.per_page)
    except TooDeepError as error:
        raise invalid({"page": [f"{error}: use cursor with the next_cursor of an earlier page"]}) from None
    return _answer(page, query, walk, number)


def answer_feed(rows: list[Row], query: FeedQuery, after_id: int) -> Response:
    return as_json(feed_envelope(rows, per_page=query.per_page, after_id=after_id))


def answer_one(row: Row) -> Response:
    return as_json(envelope_with_cursor(Page([row], 1, False), per_page=1, number=1, next_cursor=None))


def as_json(body: object, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, SECURITY_HEADERS, "application/json")


def id_or_hash(key: str) -> int | str | None:
    """What a path names a row by: an id, a hash, or nothing that could be one."""
    key = trim(key)
    if found := normalise.hash_(key):
        return found
    return int(key) if key.isascii() and key.isdigit() and len(key) <= len(str(MAX_ID)) else None


async def _page_after(query: PartQuery, walk: Walk, text: str) -> Response:
    try:
        cursor = read_cursor(text, walk.filters, newest_first=walk.newest_first)
    except ValueError as error:
        raise invalid({"cursor": [str(error)]}) from None
    page = await walk.page_after(cursor.last_hash, query.per_page, cursor.total)
    return _answer(page, query, walk, cursor.number)


def _answer(page: Page, query: PartQuery, walk: Walk, number: int) -> Response:
    next_cursor = None
    if page.has_more:
        known_total = None if walk.is_counted else page.total
        cursor = Cursor(str(page.rows[-1]["hash"]), number + 1, known_total)
        next_cursor = write_cursor(cursor, walk.filters, newest_first=walk.newest_first)
    return as_json(
        envelope_with_cursor(page, per_page=query.per_page, number=number, next_cursor=next_cursor)
    )
