"""The parameters of the clicks' endpoints."""

from __future__ import annotations

from tracker.api.http.query import (
    Bool,
    Country,
    FeedQuery,
    FormatQuery,
    Hash,
    Id,
    SpanQuery,
    Text,
    about,
    choice,
)
from tracker.store.clicks.columns import AFF_SUBS
from tracker.store.clicks.list import ClickFilter
from tracker.store.paging import Value


class FilterQuery(SpanQuery):
    """Which clicks."""

    affiliate_id: Id = about("Clicks of this affiliate.")
    offer_id: Id = about("Clicks that this offer took.")
    id: Id = about("The click with this id.")
    hash: Hash = about("The click with this hash.")
    offer_url_id: Id = about("Clicks sent to this offer URL.")
    advertiser_id: Id = about("Clicks of this advertiser's offers.")
    country_code: Country = about("Clicks from this country (ISO 3166-1 alpha-2).")
    affiliate_source: Text = about("Clicks with exactly this source. Empty: clicks without a source.")
    external_id: Text = about("Clicks with exactly this external id. Empty: clicks without one.")
    status: choice("accepted", "forwarded", "rejected") = about("Clicks with this status.")  # type: ignore[valid-type]
    is_unique: Bool = about(
        "true: unique clicks (the visitor's first in the offer's window). false: all other clicks."
    )
    is_bot: Bool = about("true: clicks of bots. false: clicks of people.")
    has_conversions: Bool = about("true: clicks with a conversion. false: clicks without one.")
    aff_sub: Text = about("Clicks with exactly this aff_sub. Empty: clicks without one.")
    aff_sub2: Text = about("Like aff_sub.")
    aff_sub3: Text = about("Like aff_sub.")
    aff_sub4: Text = about("Like aff_sub.")
    aff_sub5: Text = about("Like aff_sub.")
    aff_sub6: Text = about("Like aff_sub.")
    aff_sub7: Text = about("Like aff_sub.")
    aff_sub8: Text = about("Like aff_sub.")
    aff_sub9: Text = about("Like aff_sub.")
    aff_sub10: Text = about("Like aff_sub.")
    aff_sub11: Text = about("Like aff_sub.")
    aff_sub12: Text = about("Like aff_sub.")
    aff_sub13: Text = about("Like aff_sub.")
    aff_sub14: Text = about("Like aff_sub.")
    aff_sub15: Text = about("Like aff_sub.")
    aff_sub16: Text = about("Like aff_sub.")
    aff_sub17: Text = about("Like aff_sub.")
    aff_sub18: Text = about("Like aff_sub.")
    aff_sub19: Text = about("Like aff_sub.")
    aff_sub20: Text = about("Like aff_sub.")

    def clicks(self, network_zone: str) -> ClickFilter:
        """The filter that is meant.

        Raises:
            Problem: 422 where two parameters contradict each other.
        """
        equals = tuple((column, value) for column in _COLUMNS if (value := _value(self, column)) is not None)
        return ClickFilter(self.span(network_zone), equals, self.has_conversions)


class EveryFilterQuery(FilterQuery):
    """Which clicks, tests among them."""

    is_test: Bool = about("true: test clicks. false: all other clicks.")


class ExportQuery(EveryFilterQuery, FormatQuery):
    """An export: which clicks, in which order and format."""


class ListQuery(EveryFilterQuery, FeedQuery):
    """A list: which clicks, in which order, and which part of them."""


_COLUMNS = (
    *("id", "hash", "offer_id", "affiliate_id", "offer_url_id", "advertiser_id", "country_code"),
    *("affiliate_source", "external_id", "status", "is_unique", "is_bot", "is_test", *AFF_SUBS),
)


def _value(query: FilterQuery, column: str) -> Value | None:
    value: Value | None = getattr(query, column, None)  # reports have no is_test
    return value
