"""What the clicks' endpoints answer, for the API's document; the rows come from the store as they are."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

EXAMPLE: dict[str, object] = {
    "id": 184568,
    "hash": "01927632a6c87d3f9b1c5e8a4f60d2b7",
    "group_hash": "01927632a6c87d3f9b1c5e8a4f60d2b7",
    "offer_id": 3,
    "offer_name": "Test Offer",
    "offer_url_id": 132,
    "advertiser_id": 1,
    "advertiser_name": "PlayGamesl",
    "aff_group_id": None,
    "brand_id": 1,
    "affiliate_id": 513,
    "affiliate_name": "John Doe",
    "device_model": "",
    "device_brand": "",
    "sale_status": "New",
    "advertiser_external_id": None,
    **dict.fromkeys(("adv_sub", "adv_sub2", "adv_sub3", "adv_sub4", "adv_sub5")),
    "device_os": "Linux",
    **dict.fromkeys(("aff_sub", *(f"aff_sub{n}" for n in range(2, 21))), ""),
    "affiliate_source": "",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/129.0.0.0 Safari/537.36",
    "browser": "Chrome",
    "ip": "198.51.100.7",
    "device_os_version": "UNK",
    "platform": "x64",
    "mobile_carrier": "UNK",
    "country_code": "NL",
    "region_code": "NH",
    "external_id": None,
    "has_conversions": False,
    "requested_link": "https://example.com/offer/3?affiliate_id=513",
    "redirected_link": "https://second.example.net/?click=01927632a6c87d3f9b1c5e8a4f60d2b7",
    "is_unique": True,
    "created_at": "2024-10-10 11:24:09",
    "status": "accepted",
    "reason": 0,
    "is_bot": False,
    "bot_reason": None,
    "is_test": False,
    "verdict_late": False,
    "requested_offer_id": 3,
    "requested_url_id": None,
    "referrer": None,
    "host": "example.com",
    "language": "nl-NL,nl;q=0.9",
    "client_hints": None,
    "gaid": None,
    "idfa": None,
    "device_type": "desktop",
    "browser_version": "129.0",
    "city": "Amsterdam",
    "isp": None,
    "fetch_dest": "document",
    "fetch_user": "?1",
    "visitor_key": "9f86d081884c7d65",
}


class Click(BaseModel):
    """One click. Every key is always present. null, "" and "UNK" mean that the value is unknown."""

    id: int
    hash: str = Field(description="The public click id: 32 hexadecimal digits (UUIDv7).")
    group_hash: str | None = Field(description="Hash of the visitor's first click in the offer's window.")
    offer_id: int = Field(description="The offer that took the click.")
    offer_name: str | None
    offer_url_id: int | None
    advertiser_id: int
    advertiser_name: str | None
    aff_group_id: int | None
    brand_id: int | None
    affiliate_id: int
    affiliate_name: str | None
    device_model: str
    device_brand: str
    sale_status: str = Field(description="The last status text of the advertiser. New if there is none.")
    advertiser_external_id: str | None
    adv_sub: str | None
    adv_sub2: str | None
    adv_sub3: str | None
    adv_sub4: str | None
    adv_sub5: str | None
    device_os: str
    aff_sub: str
    aff_sub2: str
    aff_sub3: str
    aff_sub4: str
    aff_sub5: str
    aff_sub6: str
    aff_sub7: str
    aff_sub8: str
    aff_sub9: str
    aff_sub10: str
    aff_sub11: str
    aff_sub12: str
    aff_sub13: str
    aff_sub14: str
    aff_sub15: str
    aff_sub16: str
    aff_sub17: str
    aff_sub18: str
    aff_sub19: str
    aff_sub20: str
    affiliate_source: str
    user_agent: str | None = Field(description="As sent.")
    browser: str | None
    ip: str | None
    device_os_version: str
    platform: str
    mobile_carrier: str
    country_code: str | None
    region_code: str | None
    external_id: str | None
    has_conversions: bool
    requested_link: str = Field(description="The tracking link that the visitor followed.")
    redirected_link: str | None = Field(description="The Location header of the answer.")
    is_unique: bool
    created_at: str = Field(description="YYYY-MM-DD HH:MM:SS in the time zone of the request.")
    status: Literal["accepted", "forwarded", "rejected"]
    reason: int = Field(description="Code of the reason for the status. 0: accepted as usual.")
    is_bot: bool
    bot_reason: str | None
    is_test: bool
    verdict_late: bool = Field(description="is_unique and group_hash were decided after the redirect.")
    requested_offer_id: int
    requested_url_id: int | None
    referrer: str | None
    host: str | None
    language: str | None = Field(description="Accept-Language as sent.")
    client_hints: str | None
    gaid: str | None
    idfa: str | None
    device_type: str | None
    browser_version: str | None
    city: str | None
    isp: str | None
    fetch_dest: str | None
    fetch_user: str | None
    visitor_key: str = Field(description="Keyed hash that identifies the visitor: 16 hexadecimal digits.")


class ClickList(BaseModel):
    """A page of clicks. In the feed, total, page and pages are null."""

    data: list[Click]
    total: int | None = Field(description="The exact number of clicks that match.", examples=[100])
    per_page: int = Field(examples=[200])
    page: int | None = Field(examples=[1])
    pages: int | None = Field(examples=[1])
    next_cursor: str | None = Field(
        default=None, description="Cursor of the next page. null on the last page."
    )
    next_after_id: int = Field(default=0, description="Feed only: the after_id for the next request.")
