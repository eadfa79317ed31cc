"""Row and column visibility of a token. Every list applies it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from tracker.store.clicks.list import ClickFilter
from tracker.store.conditions import Among, Equals, Further
from tracker.store.conversions.list import ConversionFilter
from tracker.store.paging import Page, Row
from tracker.store.token_owner import Owner

SomeFilter = TypeVar("SomeFilter", ClickFilter, ConversionFilter)

_NOBODY = 0
"""The id of no affiliate and no advertiser. Counts cover it as any other, so that nothing is read."""


class Visibility(NamedTuple):
    """The rows and keys that the network, or an owner of a token, sees."""

    keys: tuple[str, ...]  # of a row, in their order
    owner: Owner | None = None  # None: the network, which sees the rows of all, whole

    def narrow(self, wanted: SomeFilter) -> SomeFilter:
        """The filter without the rows of other owners."""
        if self.owner is None:
            return wanted
        equals, further = _within(self.owner, wanted.equals, wanted.further)
        return wanted._replace(equals=equals, further=further, owner=self.owner)

    def show(self, rows: list[Row]) -> list[Row]:
        return rows if self.owner is None else [{key: row[key] for key in self.keys} for row in rows]

    def showing(self, read: Callable[..., Awaitable[Page]]) -> Callable[..., Awaitable[Page]]:
        async def shown(*wanted: object) -> Page:
            page = await read(*wanted)
            return page._replace(rows=self.show(page.rows))

        return shown


def _within(owner: Owner, equals: Equals, further: Further) -> tuple[Equals, Further]:
    """Conditions that also keep to the rows of an owner. One id is one value, which most counts cover."""
    own: set[object] = set(owner.ids)
    for column, value in equals:
        if column == owner.column:
            own &= {value}
    for one in further:
        if one.column == owner.column:
            own = own - {*one.values} if one.is_excluded else own & {*one.values}
    equals = tuple(one for one in equals if one[0] != owner.column)
    further = tuple(one for one in further if one.column != owner.column)
    ids = tuple(id_ for id_ in owner.ids if id_ in own)
    if len(ids) > 1:
        return equals, (*further, Among(owner.column, ids))
    return (*equals, (owner.column, ids[0] if ids else _NOBODY)), further
