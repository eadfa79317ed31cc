"""The parameters of the clicks' endpoints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import create_model

from tracker.api.http.query import (
    Bool,
    Country,
    FeedQuery,
    FormatQuery,
    Hash,
    Id,
    Query,
    SpanQuery,
    Text,
    about,
    choice,
)
from tracker.domain.click_fields import BY_NAME, COLUMN_FILTERS, FILTERS, Field, ordered
from tracker.store.clicks.list import ClickFilter
from tracker.store.paging import Value

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


def _parameters(names: Iterable[str]) -> type[Query]:
    fields: dict[str, Any] = {name: (_type(BY_NAME[name]), about(BY_NAME[name].filter)) for name in names}
    return create_model("Parameters", __base__=Query, **fields)


_NAMES = ordered((field.name for field in FILTERS if field.name != "is_test"), _DOCUMENTED)


class FilterQuery(_parameters(_NAMES), SpanQuery):  # type: ignore[misc] # from the table
    """Which clicks."""

    def clicks(self, network_zone: str) -> ClickFilter:
        """The filter that is meant.

        Raises:
            Problem: 422 where two parameters contradict each other.
        """
        equals = tuple((column, value) for column in _COLUMNS if (value := _value(self, column)) is not None)
        return ClickFilter(self.span(network_zone), equals, self.has_conversions)


class EveryFilterQuery(_parameters(["is_test"]), FilterQuery):  # type: ignore[misc] # from the table
    """Which clicks, tests among them."""


class ExportQuery(EveryFilterQuery, FormatQuery):
    """An export: which clicks, in which order and format."""


class ListQuery(EveryFilterQuery, FeedQuery):
    """A list: which clicks, in which order, and which part of them."""


def _value(query: FilterQuery, column: str) -> Value | None:
    value: Value | None = getattr(query, column, None)  # reports have no is_test
    return value
