"""What affiliates and advertisers see: the keys of their rows, and the parameters that are about these."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from pydantic import BaseModel, Field, create_model

from tracker.api.clicks import schema as click_schema
from tracker.api.clicks.schema import Click
from tracker.api.conversions import schema as conversion_schema
from tracker.api.conversions.schema import Conversion
from tracker.api.http.query import Query
from tracker.store.clicks.columns import ADV_SUBS, AFF_SUBS

_DEVICE = (
    *("device_type", "device_brand", "device_model", "device_os", "device_os_version", "platform"),
    *("browser", "browser_version", "mobile_carrier", "country_code", "region_code", "city"),
)
_OF_CLICK = ("country_code", "device_type", "device_os", "browser", "is_test")
_MOMENTS = ("created_at", "updated_at", "click_created_at")

CLICKS = {
    "affiliate": (
        *("id", "hash", "group_hash", "offer_id", "offer_name", "offer_url_id", "affiliate_id"),
        *(*AFF_SUBS, "affiliate_source", "external_id", "user_agent", *_DEVICE, "referrer"),
        *("has_conversions", "requested_link", "is_unique", "created_at", "status", "reason"),
        *("is_bot", "is_test", "requested_offer_id"),
    ),
    "advertiser": (
        *("id", "hash", "group_hash", "offer_id", "offer_name", "offer_url_id", "advertiser_id"),
        *("affiliate_id", "sale_status", "advertiser_external_id", *ADV_SUBS, "user_agent", *_DEVICE),
        *("has_conversions", "redirected_link", "is_unique", "created_at", "status", "is_bot", "is_test"),
    ),
}
"""Named one by one, so that what the network's rows get one day is not shown to others."""

CONVERSIONS = {
    "affiliate": (
        *("id", "hash", "click_id", "click_hash", "offer_id", "offer_name", "offer_url_id", "goal_id"),
        *("goal_name", "affiliate_id", "status", "payout", "payout_currency", "affiliate_source"),
        *(*_OF_CLICK, *_MOMENTS),
    ),
    "advertiser": (
        *("id", "hash", "click_id", "click_hash", "offer_id", "offer_name", "offer_url_id", "goal_id"),
        *("goal_name", "advertiser_id", "affiliate_id", "order_id", "status", "sale_status"),
        *("sale_amount", "sale_currency", "refunded", "revenue", "revenue_currency"),
        "advertiser_external_id",
        *(*ADV_SUBS, *_OF_CLICK, *_MOMENTS),
    ),
}

_GROUPS = (
    *("day", "hour", "offer_id", "offer_name", "offer_url_id", "country_code", "device_type", "device_os"),
    *("browser", "status"),
)
_COUNTS = (
    *("clicks", "uniques", "duplicates", "invalid", "gross", "conversions_approved"),
    *("conversions_pending", "conversions_hold", "conversions_rejected"),
)

REPORTS = {
    "affiliate": (*_GROUPS, "affiliate_source", "reason", *_COUNTS, "payout", "pending_payout"),
    "advertiser": (*_GROUPS, "affiliate_id", *_COUNTS, "revenue", "pending_revenue"),
}


def query_model(
    kind: str, model: type[Query], columns: Collection[str], seen: Collection[str], **other: Any
) -> type[Query]:
    """The parameters that are about no column, or about one that is seen; whose they are is given."""
    fields: dict[str, Any] = {
        name: (field.annotation, field)
        for name, field in model.model_fields.items()
        if name not in columns or (name in seen and name != f"{kind}_id")
    }
    name = f"{kind.capitalize()}{model.__name__}"
    return create_model(name, __base__=Query, __doc__=model.__doc__, **{**fields, **other})


def row_model(kind: str, row: type[BaseModel], keys: Iterable[str]) -> type[BaseModel]:
    """A row with some of its keys."""
    fields: dict[str, Any] = {
        key: (field.annotation, field) for key, field in row.model_fields.items() if key in set(keys)
    }
    return create_model(f"{kind.capitalize()}{row.__name__}", __doc__=row.__doc__, **fields)


def list_model(kind: str, row: type[BaseModel], keys: Iterable[str]) -> type[BaseModel]:
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
