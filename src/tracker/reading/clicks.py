"""Lists and exports of clicks: their parameters, and the store's query for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import tzinfo
from functools import partial
from typing import Any

from pydantic import create_model

from tracker.domain.click_fields import BY_NAME, COLUMN_FILTERS, FILTERS, Field, ordered
from tracker.parameters import Bool, Country, Hash, Id, Query, Text, about, choice
from tracker.reading.listing import Walk, id_or_hash
from tracker.reading.query import FeedQuery, FormatQuery, SpanQuery
from tracker.reading.visibility import Visibility
from tracker.store.clicks import list as click_list
from tracker.store.clicks.list import ClickFilter
from tracker.store.db import Pool
from tracker.store.paging import Row, Value

# The orders that clients know: of parameters in the document, and of filters in cursors. New filters follow.
_DOCUMENTED = (
    *("affiliate_id", "offer_id", "id", "hash", "offer_url_id", "advertiser_id", "country_code"),
    *("affiliate_source", "external_id", "status", "is_unique", "is_bot", "has_conversions"),
)
_BOUND = (
    *("id", "hash", "offer_id", "affiliate_id", "offer_url_id", "advertiser_id", "country_code"),
    *("affiliate_source", "external_id", "status", "is_unique", "is_bot", "is_test"),
)
_COLUMNS = ordered(COLUMN_FILTERS, _BOUND)
_TYPES: dict[type, Any] = {int: Id, bool: Bool, str: Text}
_OWN_TYPES: dict[str, Any] = {"hash": Hash, "country_code": Country}


def _type(field: Field) -> Any:
    return choice(*field.choices) if field.choices else _OWN_TYPES.get(field.name, _TYPES[field.kind])


def parameters(names: Iterable[str], told: Callable[[str], str] = str) -> type[Query]:
    """The filters of some fields of a click. `told` makes the description of what a click's filter says."""
    fields: dict[str, Any] = {
        name: (_type(BY_NAME[name]), about(told(BY_NAME[name].filter))) for name in names
    }
    return create_model("Parameters", __base__=Query, **fields)


_NAMES = ordered((field.name for field in FILTERS if field.name != "is_test"), _DOCUMENTED)


class FilterQuery(parameters(_NAMES), SpanQuery):  # type: ignore[misc] # from the table
    """Which clicks."""

    def clicks(self, network_zone: str) -> ClickFilter:
        """The filter that is meant.

        Raises:
            ParameterError: two parameters contradict each other.
        """
        equals = tuple((column, value) for column in _COLUMNS if (value := _value(self, column)) is not None)
        return ClickFilter(self.span(network_zone), equals, self.has_conversions)


class EveryFilterQuery(parameters(["is_test"]), FilterQuery):  # type: ignore[misc] # from the table
    """Which clicks, tests among them."""


class ExportQuery(EveryFilterQuery, FormatQuery):
    """An export: which clicks, in which order and format."""


class ListQuery(EveryFilterQuery, FeedQuery):
    """A list: which clicks, in which order, and which part of them."""


def walk(pool: Pool, query: ListQuery, network_zone: str, visibility: Visibility) -> Walk:
    """The list of the visible clicks.

    Raises:
        ParameterError: two parameters contradict each other.
    """
    clicks, order = visibility.narrow(query.clicks(network_zone)), query.order(network_zone)
    return Walk(
        visibility.showing(partial(click_list.page, pool, clicks, order)),
        visibility.showing(partial(click_list.page_after, pool, clicks, order)),
        clicks,
        order.newest_first,
        is_counted=clicks.tally is not None,
    )


async def find(pool: Pool, key: str, zone: tzinfo, visibility: Visibility) -> Row | None:
    """The click with an id or a hash, if it exists and is visible."""
    known = id_or_hash(key)
    row = None if known is None else await click_list.one(pool, known, zone, visibility.narrow)
    return None if row is None else visibility.show([row])[0]


def _value(query: FilterQuery, column: str) -> Value | None:
    value: Value | None = getattr(query, column, None)  # reports have no is_test
    return value
