"""Lists and exports of clicks: their parameters, and the store's query for them."""

from __future__ import annotations

from datetime import tzinfo
from functools import partial

from tracker.parameters import Bool, Country, Hash, Id, Text, about, choice
from tracker.reading.listing import Walk, id_or_hash
from tracker.reading.query import FeedQuery, FormatQuery, SpanQuery
from tracker.reading.visibility import Visibility
from tracker.store.clicks import list as click_list
from tracker.store.clicks.columns import AFF_SUBS
from tracker.store.clicks.list import ClickFilter
from tracker.store.db import Pool
from tracker.store.paging import Row, Value


class FilterQuery(SpanQuery):
    """Which clicks."""

    affiliate_id: Id = about("Clicks of this affiliate.")
    offer_id: Id = about("Clicks of this offer: the one that took them.")
    id: Id = about("The click with this id.")
    hash: Hash = about("The click with this hash.")
    offer_url_id: Id = about("Clicks sent to this URL of an offer.")
    advertiser_id: Id = about("Clicks of this advertiser's offers.")
    country_code: Country = about("Clicks from this country (ISO 3166-1 alpha-2).")
    affiliate_source: Text = about("Clicks with exactly this source; empty: those without one.")
    external_id: Text = about("Clicks with exactly this external id; empty: those without one.")
    status: choice("accepted", "forwarded", "rejected") = about("Clicks that ended so.")  # type: ignore[valid-type]
    is_unique: Bool = about("The visitor's first clicks in the offer's window, or only the others.")
    is_bot: Bool = about("Clicks of bots, or only of people.")
    has_conversions: Bool = about("Clicks with a conversion, or only those without one.")
    aff_sub: Text = about("Clicks with exactly this aff_sub; empty: those without one.")
    aff_sub2: Text = about("As aff_sub.")
    aff_sub3: Text = about("As aff_sub.")
    aff_sub4: Text = about("As aff_sub.")
    aff_sub5: Text = about("As aff_sub.")
    aff_sub6: Text = about("As aff_sub.")
    aff_sub7: Text = about("As aff_sub.")
    aff_sub8: Text = about("As aff_sub.")
    aff_sub9: Text = about("As aff_sub.")
    aff_sub10: Text = about("As aff_sub.")
    aff_sub11: Text = about("As aff_sub.")
    aff_sub12: Text = about("As aff_sub.")
    aff_sub13: Text = about("As aff_sub.")
    aff_sub14: Text = about("As aff_sub.")
    aff_sub15: Text = about("As aff_sub.")
    aff_sub16: Text = about("As aff_sub.")
    aff_sub17: Text = about("As aff_sub.")
    aff_sub18: Text = about("As aff_sub.")
    aff_sub19: Text = about("As aff_sub.")
    aff_sub20: Text = about("As aff_sub.")

    def clicks(self, network_zone: str) -> ClickFilter:
        """The filter that is meant.

        Raises:
            ParameterError: two parameters contradict each other.
        """
        equals = tuple((column, value) for column in _COLUMNS if (value := _value(self, column)) is not None)
        return ClickFilter(self.span(network_zone), equals, self.has_conversions)


class EveryFilterQuery(FilterQuery):
    """Which clicks, tests among them."""

    is_test: Bool = about("Test clicks, or only the others.")


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


_COLUMNS = (
    *("id", "hash", "offer_id", "affiliate_id", "offer_url_id", "advertiser_id", "country_code"),
    *("affiliate_source", "external_id", "status", "is_unique", "is_bot", "is_test", *AFF_SUBS),
)


def _value(query: FilterQuery, column: str) -> Value | None:
    value: Value | None = getattr(query, column, None)  # reports have no is_test
    return value
