"""Lists and exports of conversions: their parameters, and the store's query for them."""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple, TypeVar

from pydantic import Field

from tracker.parameters import (
    AfterId,
    Bool,
    From,
    Idents,
    Ids,
    Keys,
    ParameterError,
    Seconds,
    Texts,
    To,
    about,
    choice,
    choices,
)
from tracker.reading import keys
from tracker.reading.filters import EXCLUDE, Filters, conditions, of_clicks, parameters
from tracker.reading.keys import SourceQuery
from tracker.reading.listing import Walk
from tracker.reading.query import FeedQuery, FormatQuery, SpanQuery
from tracker.reading.visibility import Visibility
from tracker.store.conversions import list as conversion_list
from tracker.store.conversions.list import FILTERS, FILTERS_OF_CLICK, MOST_SORTED, ConversionFilter
from tracker.store.db import Pool
from tracker.store.feeds import AheadError
from tracker.store.paging import Order, Row


def _of_conversions(of_clicks: str) -> str:
    text = of_clicks.replace("Clicks", "Conversions of clicks", 1).replace("Empty: ", "Empty: those of ")
    return text.replace("true: ", "true: those of ").replace("false: ", "false: those of ")


_FILTERS: Filters = {
    "id": (Ids, "The conversion with this id."),
    "hash": (Keys, "The conversion with this hash, or with this id in an earlier tracker."),
    "click_id": (Ids, "Conversions of the click with this id."),
    "click_hash": (
        Keys,
        "Conversions of the click with this hash, or with this id in an earlier tracker.",
    ),
    "offer_id": (Ids, "Conversions of this offer."),
    "goal_id": (Ids, "Conversions of this goal."),
    "advertiser_id": (Ids, "Conversions of this advertiser's offers."),
    "affiliate_id": (Ids, "Conversions of this affiliate."),
    "order_id": (Idents, "Conversions with this order id. Surrounding white space is ignored."),
    "status": (choices("pending", "hold", "approved", "rejected"), "Conversions with this status."),
    "is_over_cap": (Bool, "true: conversions over a cap that only marks them. false: all others."),
    "is_unproven": (Bool, "true: conversions on hold that nobody has proven. false: all others."),
    "is_test": (Bool, "true: conversions of test clicks. false: all others."),
    "sale_status": (Texts, "Conversions with exactly this status text of the advertiser."),
    "advertiser_external_id": (Texts, "Conversions with exactly this external id. Empty: those without one."),
    **of_clicks(("country_code", "affiliate_source", *FILTERS_OF_CLICK), _of_conversions),
}


class ConversionFilterQuery(parameters(_FILTERS), SourceQuery, SpanQuery):  # type: ignore[misc] # from the table
    """Which conversions."""

    date_basis: choice("conversion", "click") = Field(  # type: ignore[valid-type]
        default="conversion",
        description="Whether the time filters are about the conversions or about their clicks.",
    )
    updated_from: From = about("Earliest local time of the last change. A date alone means its first second.")
    updated_to: To = about(
        "Latest local time of the last change, inclusive. A date alone means its last second."
    )

    seconds_from_click_from: Seconds = about("The fewest seconds from the click to the conversion.")
    seconds_from_click_to: Seconds = about("The most seconds from the click to the conversion, inclusive.")

    def conversions(self, network_zone: str) -> ConversionFilter:
        """The filter that is meant.

        Raises:
            ParameterError: two parameters contradict each other.
        """
        equals, further = conditions(self, FILTERS)
        updated = self.span_named("updated", network_zone)
        fewest, most = self.seconds_from_click_from, self.seconds_from_click_to
        if fewest is not None and most is not None and fewest > most:
            raise ParameterError({"seconds_from_click_to": ["is before seconds_from_click_from"]})
        return ConversionFilter(
            self.span(network_zone),
            self.date_basis,
            equals,
            updated=updated,
            further=further,
            seconds=(fewest, most),
        )


SomeQuery = TypeVar("SomeQuery", bound=ConversionFilterQuery)


async def by_hash(pool: Pool, query: SomeQuery, visibility: Visibility) -> SomeQuery:
    """The query with hashes for ids of earlier trackers.

    Raises:
        ParameterError: an id means several rows.
    """
    hashes = {"hash": keys.CONVERSIONS, "click_hash": keys.CLICKS}
    ids = {"id": keys.CONVERSIONS, "click_id": keys.CLICKS}
    return await keys.by_hash(pool, query, visibility.owner, hashes, ids)


class ConversionExportQuery(ConversionFilterQuery, FormatQuery):
    """An export: which conversions, in which order and format."""


_CHANGING = ("order_id", "status", "is_over_cap", "is_unproven", "sale_status", "advertiser_external_id")
"""Filters by what a change may change: a feed would not tell that a conversion left them."""
_NOT_WITH_CHANGES = (
    *("page", "cursor", "sort", "after_id", "updated_from", "updated_to"),
    *(name for column in _CHANGING for name in (column, EXCLUDE + column)),
)


class ConversionListQuery(ConversionFilterQuery, FeedQuery):
    """A list: which conversions, in which order, and which part of them."""

    updated_after: AfterId = about(
        "Change feed: conversions that are new or changed since the last request, in the order of their "
        "changes. No change is skipped. Start with 0, then send next_updated_after. It cannot be combined "
        "with sort, page, cursor or after_id, or with filters by what changes: order_id, status, "
        "is_over_cap, is_unproven, sale_status, advertiser_external_id, updated_from and updated_to."
    )

    sort: choice("-created_at", "created_at", "-seconds_from_click", "seconds_from_click") = Field(  # type: ignore[valid-type]
        default="-created_at",
        description="-created_at: newest first. created_at: oldest first. seconds_from_click: by the time "
        f"from the click, of at most {MOST_SORTED:,} conversions.",
    )

    def order(self, network_zone: str) -> Order:
        is_by_time_from_click = self.sort.endswith("seconds_from_click")
        by: Literal["created_at", "seconds_from_click"] = (
            "seconds_from_click" if is_by_time_from_click else "created_at"
        )
        return Order(self.sort.startswith("-"), self.zone(network_zone), by)

    def check_paging(self) -> None:
        self._check_clashes("updated_after", _NOT_WITH_CHANGES)
        super().check_paging()


class ConversionChanges(NamedTuple):
    """The visible conversions of a change feed, and where to go on."""

    rows: list[Row]
    next_updated_after: int


async def changes(
    pool: Pool, query: ConversionListQuery, network_zone: str, visibility: Visibility, after: int
) -> ConversionChanges:
    """The visible conversions that changed after a version.

    Raises:
        ParameterError: two parameters contradict each other, or there has been no such version.
    """
    conversions, zone = visibility.narrow(query.conversions(network_zone)), query.zone(network_zone)
    try:
        rows, upto = await conversion_list.changes(pool, conversions, zone, after, query.per_page)
    except AheadError as error:
        raise ParameterError({"updated_after": [str(error)]}) from None
    return ConversionChanges(visibility.show(rows), upto)


def walk(pool: Pool, query: ConversionListQuery, network_zone: str, visibility: Visibility) -> Walk:
    """The list of the visible conversions.

    Raises:
        ParameterError: two parameters contradict each other.
    """
    conversions, order = visibility.narrow(query.conversions(network_zone)), query.order(network_zone)
    return Walk(
        visibility.showing(partial(conversion_list.page, pool, conversions, order)),
        visibility.showing(partial(conversion_list.page_after, pool, conversions, order)),
        conversions if order.by == "created_at" else (*conversions, order.by),
        order.newest_first,
    )
