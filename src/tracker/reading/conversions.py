"""Lists and exports of conversions: their parameters, and the store's query for them."""

from __future__ import annotations

from datetime import tzinfo
from functools import partial

from pydantic import Field

from tracker.parameters import Bool, Country, Hash, Id, Ident, Text, about, choice
from tracker.reading.clicks import parameters
from tracker.reading.listing import Walk, id_or_hash
from tracker.reading.query import FeedQuery, FormatQuery, SpanQuery
from tracker.reading.visibility import Visibility
from tracker.store.conversions import list as conversion_list
from tracker.store.conversions.list import FILTERS, FILTERS_OF_CLICK, ConversionFilter
from tracker.store.db import Pool
from tracker.store.paging import Row


def _of_conversions(of_clicks: str) -> str:
    return of_clicks.replace("Clicks", "Conversions of clicks", 1).replace(": clicks", ": those of clicks")


class ConversionFilterQuery(parameters(FILTERS_OF_CLICK, _of_conversions), SpanQuery):  # type: ignore[misc] # from the table
    """Which conversions."""

    date_basis: choice("conversion", "click") = Field(  # type: ignore[valid-type]
        default="conversion",
        description="Whether the time filters are about the conversions or about their clicks.",
    )
    id: Id = about("The conversion with this id.")
    hash: Hash = about("The conversion with this hash.")
    click_id: Id = about("Conversions of the click with this id.")
    click_hash: Hash = about("Conversions of the click with this hash.")
    offer_id: Id = about("Conversions of this offer.")
    goal_id: Id = about("Conversions of this goal.")
    advertiser_id: Id = about("Conversions of this advertiser's offers.")
    affiliate_id: Id = about("Conversions of this affiliate.")
    order_id: Ident = about("Conversions with this order id. Surrounding white space is ignored.")
    status: choice("pending", "hold", "approved", "rejected") = about("Conversions with this status.")  # type: ignore[valid-type]
    is_over_cap: Bool = about("true: conversions over a cap that only marks them. false: all others.")
    is_test: Bool = about("true: conversions of test clicks. false: all others.")
    sale_status: Text = about("Conversions with exactly this status text of the advertiser.")
    advertiser_external_id: Text = about(
        "Conversions with exactly this external id. Empty: those without one."
    )
    country_code: Country = about("Conversions of clicks from this country (ISO 3166-1 alpha-2).")
    affiliate_source: Text = about(
        "Conversions of clicks with exactly this source. Empty: those without one."
    )

    def conversions(self, network_zone: str) -> ConversionFilter:
        """The filter that is meant.

        Raises:
            ParameterError: two parameters contradict each other.
        """
        equals = tuple((name, value) for name in FILTERS if (value := getattr(self, name)) is not None)
        return ConversionFilter(self.span(network_zone), self.date_basis, equals)


class ConversionExportQuery(ConversionFilterQuery, FormatQuery):
    """An export: which conversions, in which order and format."""


class ConversionListQuery(ConversionFilterQuery, FeedQuery):
    """A list: which conversions, in which order, and which part of them."""


def walk(pool: Pool, query: ConversionListQuery, network_zone: str, visibility: Visibility) -> Walk:
    """The list of the visible conversions.

    Raises:
        ParameterError: two parameters contradict each other.
    """
    conversions, order = visibility.narrow(query.conversions(network_zone)), query.order(network_zone)
    return Walk(
        visibility.showing(partial(conversion_list.page, pool, conversions, order)),
        visibility.showing(partial(conversion_list.page_after, pool, conversions, order)),
        conversions,
        order.newest_first,
    )


async def find(pool: Pool, key: str, zone: tzinfo, visibility: Visibility) -> Row | None:
    """The conversion with an id or a hash, with its history and its money, if it exists and is visible."""
    known = id_or_hash(key)
    row = None if known is None else await conversion_list.one(pool, known, zone, visibility.narrow)
    return None if row is None else visibility.show([row])[0]
