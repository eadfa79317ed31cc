"""Row and column visibility of a token. Every list applies it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from tracker.store.clicks.list import ClickFilter
from tracker.store.conditions import Among, Equals, Further
from tracker.store.conversions.list import MONEY_KEYS, ConversionFilter
from tracker.store.paging import Page, Row
from tracker.store.reports.measures import MEASURES
from tracker.store.token_owner import Owner
from tracker.store.tokens import Token

SomeFilter = TypeVar("SomeFilter", ClickFilter, ConversionFilter)

OF_MONEY = MONEY_KEYS | {name for name, measure in MEASURES.items() if measure.sides}
"""The keys that a token which hides money does not see."""

_NOBODY = 0
"""The id of no affiliate and no advertiser. Counts cover it as any other, so that nothing is read."""


class Visibility(NamedTuple):
    """The rows and keys that the network, or an owner of a token, sees."""

    keys: tuple[str, ...]  # of a row, in their order
    owner: Owner | None = None  # None: the network, which sees the rows of all
    hides_money: bool = False

    def seen_by(self, token: Token) -> Visibility:
        """The part of it that a token sees."""
        keys = tuple(key for key in self.keys if not (token.hides_money and key in OF_MONEY))
        return Visibility(keys, token.owner, token.hides_money)

    def narrow(self, wanted: SomeFilter) -> SomeFilter:
        """The filter without the rows of other owners."""
        if self.owner is None:
            return wanted
        equals, further = _within(self.owner, wanted.equals, wanted.further)
        return wanted._replace(equals=equals, further=further, owner=self.owner)

    def show(self, rows: list[Row]) -> list[Row]:
        if self.owner is None and not self.hides_money:
            return rows
        return [{key: row[key] for key in self.keys} for row in rows]

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
