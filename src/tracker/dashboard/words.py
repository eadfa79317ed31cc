"""What people call fields, and the groups, the filters and the measures of reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tracker.domain.click_fields import ADV_SUBS, AFF_SUBS

_SUBS: Final[Mapping[str, str]] = {
    **{name: f"Sub id {place}" for place, name in enumerate(AFF_SUBS, start=1)},
    **{name: f"Advertiser sub id {place}" for place, name in enumerate(ADV_SUBS, start=1)},
}

GROUPS: Final[Mapping[str, str]] = {
    "hour": "Hour",
    "day": "Day",
    "week": "Week",
    "month": "Month",
    "offer": "Offer",
    "requested_offer": "Offer asked for",
    "offer_url": "Offer URL",
    "affiliate": "Affiliate",
    "advertiser": "Advertiser",
    "affiliate_group": "Affiliate group",
    "brand": "Brand",
    "country": "Country",
    "region": "Region",
    "city": "City",
    "isp": "Internet provider",
    "device_type": "Device",
    "os": "System",
    "browser": "Browser",
    "affiliate_source": "Source",
    **_SUBS,
    "referrer_host": "Referring site",
    "status": "Click status",
    "reason": "Reason for the status",
    "bot_reason": "Bot rule",
    "goal": "Goal",
    "sale_status": "Sale status",
}
"""By the names that group_by has."""

FILTERS: Final[Mapping[str, str]] = {
    "id": "Click id",
    "hash": "Click hash",
    "offer_id": "Offer",
    "requested_offer_id": "Offer asked for",
    "offer_url_id": "Offer URL",
    "advertiser_id": "Advertiser",
    "affiliate_id": "Affiliate",
    "aff_group_id": "Affiliate group",
    "brand_id": "Brand",
    "country_code": "Country",
    "region_code": "Region",
    "city": "City",
    "isp": "Internet provider",
    "device_type": "Device",
    "device_os": "System",
    "browser": "Browser",
    "ip": "IP address or network",
    "visitor_key": "Visitor",
    "affiliate_source": "Source",
    "external_id": "External id",
    **_SUBS,
    "status": "Click status",
    "reason": "Reason for the status",
    "bot_reason": "Bot rule",
    "is_unique": "Unique",
    "is_bot": "Bot",
    "has_conversions": "Has conversions",
}
"""By the names of the parameters."""

MEASURES: Final[Mapping[str, str]] = {
    "clicks": "Clicks",
    "uniques": "Uniques",
    "duplicates": "Duplicates",
    "invalid": "Invalid",
    "gross": "Gross",
    "conversions_approved": "Approved",
    "conversions_pending": "Pending",
    "conversions_hold": "On hold",
    "conversions_rejected": "Rejected",
    "conversions_over_cap": "Over cap",
    "payout": "Payout",
    "revenue": "Revenue",
    "pending_payout": "Open payout",
    "pending_revenue": "Open revenue",
    "cr": "CR",
    "approval_rate": "Approval rate",
    "invalid_rate": "Invalid rate",
    "epc": "EPC",
    "rpc": "RPC",
    "profit": "Profit",
    "margin": "Margin",
    "time_to_conversion": "Time to conversion",
    "under_10_seconds": "Under 10 s",
    "over_24_hours": "Over 24 h",
}
"""The heads of columns."""

PERIODS: Final[Mapping[str, str]] = {
    "today": "Today",
    "yesterday": "Yesterday",
    "last_7_days": "Last 7 days",
    "last_30_days": "Last 30 days",
    "this_month": "This month",
    "last_month": "Last month",
}

BASES: Final[Mapping[str, str]] = {
    "click": "time of the click",
    "conversion": "time of the conversion",
    "booked": "time of the booking",
}

COMPARISONS: Final[Mapping[str, str]] = {
    "previous": "the span before",
    "last_week": "the same days a week earlier",
    "last_month": "the same days a month earlier",
    "last_year": "the same days a year earlier",
    "custom": "other days",
}

_WORDS: Final[Mapping[str, str]] = {
    "id": "id",
    "ids": "ids",
    "url": "URL",
    "urls": "URLs",
    "ip": "IP",
    "iso": "ISO",
    "http": "HTTP",
    "os": "system",
    "email": "e-mail",
}


def label_of(name: str) -> str:
    """The name of a field, for people: Advertiser id, URL, Ends at, Archived."""
    return sentence(" ".join(_WORDS.get(word, word) for word in name.removeprefix("is_").split("_")))


def sentence(words: str) -> str:
    """Words of ours as they begin a line."""
    return words[:1].upper() + words[1:]


def amount(text: str) -> str:
    """An exact amount with its thousands apart, and at least two decimals where it has any."""
    whole, _, decimals = text.partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(digits or 0):,}" + (f".{decimals:0<2}" if decimals else "")


def lasting(seconds: int) -> str:
    """A length of time in its largest whole unit: 24 hours, 30 days, 90 seconds."""
    for size, unit in _UNITS:
        number = seconds // size
        if number and seconds % size == 0 and (number > 1 or size < _DAY):
            return f"{number} {unit}" if number == 1 else f"{number:,} {unit}s"
    return f"{seconds:,} seconds"


_DAY: Final = 86_400
_UNITS: Final = ((_DAY, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
