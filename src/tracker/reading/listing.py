"""Lists: a page by number or by cursor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from tracker.parameters import ParameterError
from tracker.reading.cursor import Cursor, read_cursor, write_cursor
from tracker.reading.query import PartQuery
from tracker.store.paging import Page, TooDeepError, TooManyToSortError


class Walk(NamedTuple):
    """A list that can be gone through, and what its cursors are bound to."""

    page: Callable[[int, int], Awaitable[Page]]  # by number and rows a page. Raises TooDeepError
    page_after: Callable[[str, int, int | None], Awaitable[Page]]  # by hash, rows a page, total where known
    filters: tuple[object, ...]
    newest_first: bool
    is_counted: bool = False  # its total is had at once, so that a cursor need not carry it


class ListPage(NamedTuple):
    """A page of a list, and the cursor of the next one."""

    page: Page
    number: int
    next_cursor: str | None  # None: the list ends here


async def read_page(query: PartQuery, walk: Walk) -> ListPage:
    """The page that a query names.

    Raises:
        ParameterError: the page is too deep, too many rows would be sorted, or the cursor is of another list.
    """
    try:
        if query.cursor is not None:
            return await _page_after(query, walk, query.cursor)
        number = query.page or 1
        page = await walk.page(number, query.per_page)
    except TooManyToSortError as error:
        message = f"{error}: use fewer days, or filter by an offer or affiliate"
        raise ParameterError({"sort": [message]}) from None
    except TooDeepError as error:
        message = f"{error}: use cursor with the next_cursor of an earlier page"
        raise ParameterError({"page": [message]}) from None
    return _with_cursor(page, walk, number)


async def _page_after(query: PartQuery, walk: Walk, text: str) -> ListPage:
    try:
        cursor = read_cursor(text, walk.filters, newest_first=walk.newest_first)
    except ValueError as error:
        raise ParameterError({"cursor": [str(error)]}) from None
    page = await walk.page_after(cursor.last_hash, query.per_page, cursor.total)
    return _with_cursor(page, walk, cursor.number)


def _with_cursor(page: Page, walk: Walk, number: int) -> ListPage:
    if not page.has_more:
        return ListPage(page, number, None)
    known_total = None if walk.is_counted else page.total
    cursor = Cursor(str(page.rows[-1]["hash"]), number + 1, known_total)
    return ListPage(page, number, write_cursor(cursor, walk.filters, newest_first=walk.newest_first))
