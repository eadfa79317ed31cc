"""The answers of the conversions' endpoints, for the API's document. The rows come from the store."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, RootModel, create_model

from tracker.api.clicks import schema as click_schema
from tracker.domain.click_fields import BY_NAME
from tracker.parameters import Model
from tracker.store.conversions.list import OF_CLICK

Status = Literal["pending", "hold", "approved", "rejected"]

_AMOUNT = "An exact decimal as a string, with at least two places. Currencies are ISO 4217 codes."

EXAMPLE: dict[str, Any] = {
    "id": 902,
    "hash": "01927a1a3c7e7f0a8b2d4c6e8f012345",
    "click_id": 184568,
    "click_hash": "01927632a6c87d3f9b1c5e8a4f60d2b7",
    "offer_id": 3,
    "offer_name": "Test Offer",
    "offer_url_id": 132,
    "goal_id": 3,
    "goal_name": "Conversion",
    "advertiser_id": 1,
    "advertiser_name": "PlayGamesl",
    "affiliate_id": 513,
    "affiliate_name": "John Doe",
    "order_id": "A-1001",
    "status": "approved",
    "is_over_cap": False,
    "sale_status": "shipped",
    "sale_amount": "125.00",
    "sale_currency": "EUR",
    "refunded": "0.00",
    "payout": "12.50",
    "payout_currency": "EUR",
    "revenue": "18.75",
    "revenue_currency": "EUR",
    "advertiser_external_id": "crm-77",
    "adv_sub": "premium",
    **dict.fromkeys(("adv_sub2", "adv_sub3", "adv_sub4", "adv_sub5")),
    "country_code": "NL",
    "device_type": "desktop",
    "device_os": "Linux",
    "browser": "Chrome",
    "affiliate_source": "",
    "is_test": False,
    "created_at": "2024-10-11 05:36:50",
    "updated_at": "2024-10-12 09:00:01",
    "click_created_at": "2024-10-10 11:24:09",
    **{name: click_schema.EXAMPLE[name] for name in OF_CLICK},
    "click_legacy_id": click_schema.EXAMPLE["legacy_id"],
    "legacy_id": "7731",
    "is_unproven": False,
    "click_legacy_source": "earlier",
    "legacy_source": "earlier",
    "seconds_from_click": 65_801,
}


class _FirstKeys(Model):
    """The keys that clients have known for longer."""

    id: int = Field(description="Grows in the order in which conversions were stored.")
    hash: str = Field(description="Hash of the postback that made it: 32 hexadecimal digits (UUIDv7).")
    click_id: int
    click_hash: str
    offer_id: int
    offer_name: str | None
    offer_url_id: int | None
    goal_id: int
    goal_name: str | None
    advertiser_id: int
    advertiser_name: str | None
    affiliate_id: int
    affiliate_name: str | None
    order_id: str | None = Field(description="The order id of the advertiser.")
    status: Status
    is_over_cap: bool
    sale_status: str = Field(description="The last status text of the advertiser.")
    sale_amount: str | None = Field(description=_AMOUNT)
    sale_currency: str | None
    refunded: str = Field(
        description="The part of sale_amount that was refunded so far. Percentages are paid on the rest. "
        "A refund of all rejects the conversion."
    )
    payout: str = Field(description=f"The payout of the affiliate. {_AMOUNT}")
    payout_currency: str
    revenue: str = Field(description=f"The amount that the advertiser pays. {_AMOUNT}")
    revenue_currency: str
    advertiser_external_id: str | None
    adv_sub: str | None
    adv_sub2: str | None
    adv_sub3: str | None
    adv_sub4: str | None
    adv_sub5: str | None
    country_code: str | None = Field(description="Copied from the click, like the fields that follow.")
    device_type: str | None
    device_os: str
    browser: str | None
    affiliate_source: str
    is_test: bool
    created_at: str = Field(
        description="When its postback arrived: YYYY-MM-DD HH:MM:SS in the time zone of the request."
    )
    updated_at: str = Field(description="When it was last changed, in the same time zone.")
    click_created_at: str = Field(description="The time of the click, in the same time zone.")


_OF_CLICK: dict[str, Any] = {name: (click_schema.type_of(BY_NAME[name]), ...) for name in OF_CLICK}
_OF_CLICK |= {
    name: (bool | None, Field(description=f"{about} null if its click was gone when this was added."))
    for name, about in (("is_unique", "Whether its click was unique."), ("is_bot", "Whether a bot clicked."))
}
_OF_CLICK["requested_offer_id"] = (int | None, Field(description="The offer that the link asked for."))
_LEGACY: dict[str, Any] = {
    "click_legacy_id": (str | None, Field(description="The click's id in an earlier tracker.")),
    "legacy_id": (str | None, Field(description="The conversion's own id in an earlier tracker.")),
}


class Conversion(create_model("Conversion", __base__=_FirstKeys, **_OF_CLICK, **_LEGACY)):  # type: ignore[misc] # from the table
    """One conversion. Every key is always present. null and "" mean that the value is unknown."""

    is_unproven: bool = Field(
        description="true: on hold, because its postback came without a secret or address of the advertiser."
    )
    click_legacy_source: str | None = Field(
        description="The operator's name of the tracker with click_legacy_id. null: not noted."
    )
    legacy_source: str | None = Field(
        description="The operator's name of the tracker with legacy_id. null: not noted."
    )
    seconds_from_click: int = Field(
        description="Whole seconds from click_created_at to created_at. Negative if an import says that the "
        "conversion came first."
    )


class ConversionChange(Model):
    """One change of a conversion's status."""

    at: str = Field(
        description="The time of the change, in the time zone of the request.",
        examples=["2024-10-12 09:00:01"],
    )
    status_before: Status | None = Field(description="null in the first change, which makes the conversion.")
    status_after: Status
    source: str = Field(description="One of: postback, pixel, api, upload, import.", examples=["api"])
    author: str = Field(description="Name of the token. Empty for a postback of an advertiser.")
    postback_hash: str | None = Field(description="Hash of the postback that caused the change.")


class ConversionEntry(Model):
    """One booking. An approval books money, and a rejection takes it back."""

    id: int
    booked_at: str = Field(
        description="The time of the conversion, or of the booking if the period was closed before."
    )
    kind: Literal["approval", "reversal", "correction"] = Field(
        description="A reversal takes back the whole amount booked before. A correction books a difference."
    )
    is_adjustment: bool = Field(
        description="true if the period of the conversion was closed before the booking."
    )
    payout: str = Field(description="Negative in a reversal.", examples=["-12.50"])
    payout_currency: str
    revenue: str = Field(description="Negative in a reversal.", examples=["-18.75"])
    revenue_currency: str
    author: str = Field(description="Name of the token. Empty for a postback of an advertiser.")
    reason: str = Field(description="The reason of a correction. Else empty.", examples=["wrong price"])


class ConversionCorrection(Model):
    """One correction of amounts by the operator."""

    at: str = Field(
        description="The time of the correction, in the time zone of the request.",
        examples=["2024-10-12 09:00:01"],
    )
    payout_before: str
    payout: str
    revenue_before: str
    revenue: str
    sale_amount_before: str | None
    sale_amount: str | None
    reason: str = Field(examples=["wrong price"])
    author: str = Field(description="Name of the token.")


class WholeConversion(Conversion):
    """One conversion with its status changes, bookings and corrections."""

    changes: list[ConversionChange] = Field(description="Oldest first.")
    entries: list[ConversionEntry] | None = Field(
        description="Oldest first. Their sum is the amount owed. null without the scope money:read."
    )
    corrections: list[ConversionCorrection] | None = Field(
        description="Amounts that the operator set, oldest first. null without the scope money:read."
    )


class ConversionList(Model):
    """A page of conversions. In both feeds, total, page and pages are null."""

    data: list[Conversion]
    total: int | None = Field(description="The exact number of conversions that match.", examples=[100])
    per_page: int = Field(examples=[200])
    page: int | None = Field(examples=[1])
    pages: int | None = Field(examples=[1])
    next_cursor: str | None = Field(
        default=None, description="Cursor of the next page. null on the last page."
    )
    next_after_id: int = Field(default=0, description="Feed only: the after_id for the next request.")
    next_updated_after: int = Field(
        default=0, description="Change feed only: the updated_after for the next request."
    )


class OneConversion(Model):
    """One conversion, in the same envelope as a list."""

    data: list[WholeConversion] = Field(min_length=1, max_length=1)
    total: Literal[1]
    per_page: Literal[1]
    page: Literal[1]
    pages: Literal[1]
    next_cursor: None


class ConversionOutcome(Model):
    """The result of a change, for a token without the scope conversions:read."""

    id: int = Field(examples=[902])
    status: Status = Field(description="The current status.")
    sale_status: str | None = Field(
        description="The text of the request. null if it had none.", examples=["shipped"]
    )


class ChangedConversion(RootModel[OneConversion | ConversionOutcome]):
    """The changed conversion. A token without the scope conversions:read gets only the result."""
