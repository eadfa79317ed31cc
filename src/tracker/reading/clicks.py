"""Lists and exports of clicks: their parameters, and the store's query for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

from tracker.domain.click_fields import COLUMN_FILTERS, FILTERS, ordered
from tracker.parameters import Bool, about, words
from tracker.reading import keys
from tracker.reading.filters import conditions, of_clicks, parameters
from tracker.reading.keys import SourceQuery
from tracker.reading.listing import Walk
from tracker.reading.query import FeedQuery, FormatQuery, SpanQuery
from tracker.reading.visibility import Visibility
from tracker.store.clicks import list as click_list
from tracker.store.clicks.columns import KEYS
from tracker.store.clicks.list import ClickFilter
from tracker.store.db import Pool
from tracker.store.reports import totals

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
_NAMES = ordered((field.name for field in FILTERS if field.name != "is_test"), _DOCUMENTED)


class FilterQuery(parameters(of_clicks(_NAMES)), SourceQuery, SpanQuery):  # type: ignore[misc] # from the table
    """Which clicks."""

    def clicks(self, network_zone: str) -> ClickFilter:
        """The filter that is meant.

        Raises:
            ParameterError: two parameters contradict each other.
        """
        equals, further = conditions(self, _COLUMNS)
        return ClickFilter(self.span(network_zone), equals, self.has_conversions, further=further)


SomeQuery = TypeVar("SomeQuery", bound=FilterQuery)


async def by_hash(pool: Pool, query: SomeQuery, visibility: Visibility) -> SomeQuery:
    """The query with hashes for ids of earlier trackers.

    Raises:
        ParameterError: an id means several clicks.
    """
    return await keys.by_hash(pool, query, visibility.owner, {"hash": keys.CLICKS}, {"id": keys.CLICKS})


class EveryFilterQuery(parameters(of_clicks(["is_test"])), FilterQuery):  # type: ignore[misc] # from the table
    """Which clicks, tests among them."""

    is_invalid: Bool = about(
        "true: clicks that reports count as invalid: rejected, forwarded, or of a bot, and no test. "
        "false: all other clicks."
    )

    def clicks(self, network_zone: str) -> ClickFilter:
        found: ClickFilter = super().clicks(network_zone)
        return found._replace(is_invalid=self.is_invalid)


def columns_of(keys: Sequence[str]) -> Any:
    """The type of `columns`, and its default: some of the keys that a row has."""
    return words(*keys), about(
        "Only these columns, in this order, separated by commas. Default: all that a row has."
    )


_columns, _columns_field = columns_of(KEYS)


class ExportQuery(EveryFilterQuery, FormatQuery):
    """An export: which clicks, in which order and format, with which columns."""

    columns: _columns = _columns_field  # type: ignore[valid-type]


class ListQuery(EveryFilterQuery, FeedQuery):
    """A list: which clicks, in which order, and which part of them."""


def walk(pool: Pool, query: ListQuery, network_zone: str, visibility: Visibility) -> Walk:
    """The list of the visible clicks.

    Raises:
        ParameterError: two parameters contradict each other.
    """
    clicks, order = visibility.narrow(query.clicks(network_zone)), query.order(network_zone)
    return Walk(
        visibility.showing(partial(click_list.page, pool, clicks, order, counted_by=totals.count)),
        visibility.showing(partial(click_list.page_after, pool, clicks, order)),
        clicks,
        order.newest_first,
        is_counted=clicks.tally is not None,
    )
