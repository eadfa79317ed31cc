"""What people call the columns and the filters of clicks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tracker.domain.click_fields import ADV_SUBS, AFF_SUBS

COLUMNS: Final[Mapping[str, str]] = {
    "created_at": "Time",
    "id": "Id",
    "hash": "Click id (hash)",
    "group_hash": "Visitor's first click",
    "offer_id": "Offer id",
    "offer_name": "Offer",
    "offer_url_id": "Offer URL",
    "requested_offer_id": "Offer asked for",
    "requested_url_id": "URL asked for",
    "advertiser_id": "Advertiser id",
    "advertiser_name": "Advertiser",
    "brand_id": "Brand",
    "affiliate_id": "Affiliate id",
    "affiliate_name": "Affiliate",
    "aff_group_id": "Affiliate group",
    "status": "Status",
    "reason": "Reason",
    "is_unique": "Unique",
    "is_bot": "Bot",
    "bot_reason": "Bot rule",
    "is_test": "Test",
    "verdict_late": "Decided late",
    "has_conversions": "Converted",
    "sale_status": "Sale status",
    "advertiser_external_id": "Advertiser's id",
    "country_code": "Country",
    "region_code": "Region",
    "city": "City",
    "isp": "Internet provider",
    "mobile_carrier": "Carrier",
    "ip": "IP address",
    "device_type": "Device",
    "device_brand": "Device brand",
    "device_model": "Device model",
    "device_os": "System",
    "device_os_version": "System version",
    "platform": "Processor",
    "browser": "Browser",
    "browser_version": "Browser version",
    "user_agent": "User-Agent",
    "client_hints": "Client hints",
    "language": "Language",
    "referrer": "Referrer",
    "host": "Host",
    "fetch_dest": "Sec-Fetch-Dest",
    "fetch_user": "Sec-Fetch-User",
    "visitor_key": "Visitor",
    "affiliate_source": "Source",
    **{name: f"Sub id {place}" for place, name in enumerate(AFF_SUBS, start=1)},
    **{name: f"Advertiser sub id {place}" for place, name in enumerate(ADV_SUBS, start=1)},
    "external_id": "External id",
    "gaid": "Google ad id",
    "idfa": "Apple ad id",
    "requested_link": "Link",
    "redirected_link": "Sent to",
    "legacy_id": "Earlier id",
    "legacy_source": "Earlier tracker",
}
"""All columns, in the order in which they are offered."""

FILTERS: Final[Mapping[str, str]] = {
    **COLUMNS,
    "offer_id": "Offer",
    "advertiser_id": "Advertiser",
    "affiliate_id": "Affiliate",
    "ip": "IP address or network",
    "has_conversions": "Converted",
    "is_invalid": "Invalid",
    "created_from": "From",
    "created_to": "To",
    "created_at_from": "From",
    "created_at_to": "To",
    "source": "Earlier tracker",
}
"""By the names of the parameters."""

PERIODS: Final[Mapping[str, str]] = {
    "today": "Today",
    "yesterday": "Yesterday",
    "last_7_days": "Last 7 days",
    "last_30_days": "Last 30 days",
    "this_month": "This month",
    "last_month": "Last month",
    "all": "All time",
}
