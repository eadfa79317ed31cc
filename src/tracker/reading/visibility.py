"""Row and column visibility of a token. Every list applies it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from tracker.store.clicks.list import ClickFilter
from tracker.store.conversions.list import ConversionFilter
from tracker.store.paging import Page, Row
from tracker.store.token_owner import Owner

SomeFilter = TypeVar("SomeFilter", ClickFilter, ConversionFilter)


class Visibility(NamedTuple):
    """The rows and keys that the network, an affiliate or an advertiser sees."""

    keys: tuple[str, ...]  # of a row, in their order
    owner: Owner | None = None  # None: the network, which sees the rows of all, whole

    def narrow(self, wanted: SomeFilter) -> SomeFilter:
        """The filter without the rows of other owners."""
        if self.owner is None:
            return wanted
        own = (self.owner.column, self.owner.id)
        return wanted._replace(equals=(*wanted.equals, own), owner=self.owner)

    def show(self, rows: list[Row]) -> list[Row]:
        return rows if self.owner is None else [{key: row[key] for key in self.keys} for row in rows]

    def showing(self, read: Callable[..., Awaitable[Page]]) -> Callable[..., Awaitable[Page]]:
        async def shown(*wanted: object) -> Page:
            page = await read(*wanted)
            return page._replace(rows=self.show(page.rows))

        return shown
