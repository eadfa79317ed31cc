"""What affiliates and advertisers see: keys of rows, and the filters for these keys."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from pydantic import BaseModel, Field, create_model

from tracker.api.clicks import schema as click_schema
from tracker.api.clicks.schema import Click
from tracker.api.conversions import schema as conversion_schema
from tracker.api.conversions.schema import Conversion
from tracker.api.http.later import made_later
from tracker.domain.click_fields import ADV_SUBS, AFF_SUBS, BOTH, BY_NAME, FIELDS, ordered
from tracker.parameters import Query
from tracker.reading.filters import EXCLUDE
from tracker.store.conversions.list import OF_CLICK
from tracker.store.reports.groups import DIMENSIONS, TIMES
from tracker.store.reports.measures import MEASURES

_OF_CLICK = ("country_code", "device_type", "device_os", "browser", "is_test")
_LEGACY = ("click_legacy_id", "legacy_id")
_MOMENTS = ("created_at", "updated_at", "click_created_at")
_LAST = ("seconds_from_click",)

_CLICK_KEYS = (
    *("id", "hash", "group_hash", "offer_id", "offer_name", "offer_url_id", "advertiser_id"),
    *("affiliate_id", "sale_status", "advertiser_external_id", *ADV_SUBS, *AFF_SUBS, "affiliate_source"),
    *("external_id", "user_agent", "device_type", "device_brand", "device_model", "device_os"),
    *("device_os_version", "platform", "browser", "browser_version", "mobile_carrier", "country_code"),
    *("region_code", "city", "referrer", "has_conversions", "requested_link", "redirected_link"),
    *("is_unique", "created_at", "status", "reason", "is_bot", "is_test", "requested_offer_id"),
)
"""The order of the columns in partners' files."""


CLICKS = {
    kind: ordered((field.name for field in FIELDS if kind in field.seen_by), _CLICK_KEYS) for kind in BOTH
}
"""The keys by kind of partner. A new field has none until its row in the table names them."""


def _further(kind: str) -> tuple[str, ...]:
    """The keys of a conversion that its click shows to a partner, too."""
    return tuple(name for name in OF_CLICK if kind in BY_NAME[name].seen_by)


CONVERSIONS = {
    "affiliate": (
        *("id", "hash", "click_id", "click_hash", "offer_id", "offer_name", "offer_url_id", "goal_id"),
        *("goal_name", "affiliate_id", "status", "payout", "payout_currency", "affiliate_source"),
        *(*_OF_CLICK, *_MOMENTS, *_further("affiliate"), *_LEGACY, *_LAST),
    ),
    "advertiser": (
        *("id", "hash", "click_id", "click_hash", "offer_id", "offer_name", "offer_url_id", "goal_id"),
        *("goal_name", "advertiser_id", "affiliate_id", "order_id", "status", "sale_status"),
        *("sale_amount", "sale_currency", "refunded", "revenue", "revenue_currency"),
        "advertiser_external_id",
        *(*ADV_SUBS, *_OF_CLICK, *_MOMENTS, *_further("advertiser"), *_LEGACY, *_LAST),
    ),
}

_SIDES = {"affiliate": {"payout", "pending_payout"}, "advertiser": {"revenue", "pending_revenue"}}


def _grouped(kind: str) -> tuple[str, ...]:
    """The keys of a partner's groups, and names of offers, goals and the partner's own."""
    seen = [one for one in DIMENSIONS.values() if kind in one.seen_by]
    names = (one.name for one in seen if one.names in ("offer", "goal", kind))
    return (*TIMES, *names, *(one.key for one in seen))


def _measured(kind: str) -> tuple[str, ...]:
    """The measures that reveal no other side's money. Caps are the network's."""
    return tuple(
        name
        for name, measure in MEASURES.items()
        if measure.sides <= _SIDES[kind] and name != "conversions_over_cap"
    )


REPORTS = {kind: (*_grouped(kind), *_measured(kind)) for kind in BOTH}


@made_later
def query_model(
    kind: str, model: type[Query], columns: Collection[str], seen: Collection[str], /, **other: Any
) -> type[Query]:
    """The query model without filters on hidden columns."""
    fields: dict[str, Any] = {
        name: (field.annotation, field)
        for name, field in model.model_fields.items()
        if (column := name.removeprefix(EXCLUDE)) not in columns or column in seen
    }
    name = f"{kind.capitalize()}{model.__name__}"
    return create_model(name, __base__=Query, __doc__=model.__doc__, **{**fields, **other})


def row_model(kind: str, row: type[BaseModel], keys: Iterable[str], **other: Any) -> type[BaseModel]:
    """A row with some of its keys, and others."""
    fields: dict[str, Any] = {
        key: (field.annotation, field) for key, field in row.model_fields.items() if key in set(keys)
    }
    return create_model(f"{kind.capitalize()}{row.__name__}", __doc__=row.__doc__, **fields, **other)


@made_later
def list_model(kind: str, row: type[BaseModel], keys: Iterable[str], **other: Any) -> type[BaseModel]:
    """The envelope of a list of reduced rows."""
    shown: Any = row_model(kind, row, keys)
    return create_model(
        f"{shown.__name__}List",
        __doc__="A page of a list. In the feed, total, page and pages are null.",
        data=(list[shown], ...),
        total=(int | None, Field(description="The exact number of rows that match.", examples=[100])),
        per_page=(int, Field(examples=[200])),
        page=(int | None, Field(examples=[1])),
        pages=(int | None, Field(examples=[1])),
        next_cursor=(str | None, Field(None, description="Cursor of the next page. null on the last page.")),
        next_after_id=(int, Field(0, description="Feed only: the after_id for the next request.")),
        **other,
    )


def examples() -> dict[str, dict[str, object]]:
    """One of each kind of row, by the name of its model."""
    return {
        f"{kind.capitalize()}{row.__name__}": {key: example[key] for key in keys}
        for row, example, seen in (
            (Click, click_schema.EXAMPLE, CLICKS),
            (Conversion, conversion_schema.EXAMPLE, CONVERSIONS),
        )
        for kind, keys in seen.items()
    }
