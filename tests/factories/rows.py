"""Complete rows of the catalogue, as store.catalogue.read reads them."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


def url_row(id_: int, url: str = "https://x.test/?c={hash}", **changes: Any) -> Row:
    row = {"id": id_, "name": f"page {id_}", "url": url, "weight": 1, "targeting": {}}
    return row | {"fallback_url": None, "fallback_offer_id": None} | changes


def offer_row(id_: int = 3, **changes: Any) -> Row:
    row: Row = {
        "id": id_,
        "name": f"Offer {id_}",
        "advertiser_id": 1,
        "brand_id": None,
        "status": "active",
        "starts": None,
        "ends": None,
        "closed_until": None,
        "visibility": "public",
        "time_zone": "UTC",
        "targeting": {},
        "fallback_url": None,
        "fallback_offer_id": None,
        "unique_window": 86_400,
        "unique_scope": "offer",
        "visitor_cookie": False,
        "duplicates": "redirect",
        "duplicates_forced": False,
        "redirect_status": 302,
        "referrer_policy": "",
        "deep_link_hosts": [],
        "urls": [url_row(id_ * 10, f"https://offer{id_}.test/?c={{hash}}")],
        "caps": [],
        "free": [""] * 10,
    }
    return row | changes


def affiliate_row(id_: int = 513, **changes: Any) -> Row:
    return {"id": id_, "name": "John Doe", "group_id": None, "status": "active", "is_test": False} | changes


def terms_row(**changes: Any) -> Row:
    return {"status": "approved", "closed_until": None, "caps": [], "free": [""] * 10} | changes


def cap_row(amount: int, **changes: Any) -> Row:
    return {"affiliate_id": None, "counts": "clicks", "period": "day", "amount": amount} | changes


def block_row(id_: int, field: str, value: str, **changes: Any) -> Row:
    return {"id": id_, "offer_id": None, "affiliate_id": None, "field": field, "value": value} | changes
