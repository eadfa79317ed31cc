"""The macros of affiliate postbacks."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tracker.domain import postback_macros
from tracker.domain.macros import MAX_LOCATION, TemplateError
from tracker.domain.postback_macros import CLICK_COLUMNS, MACROS

FACTS: dict[str, Any] = {
    **dict.fromkeys(CLICK_COLUMNS, ""),
    "id": 9,
    "hash": UUID(int=1),
    "click_hash": UUID(int=2),
    "offer_id": 3,
    "offer_name": "Test & Offer",
    "offer_url_id": None,
    "goal_id": 30,
    "goal_name": "Sale",
    "affiliate_id": 513,
    "affiliate_name": "John Doe",
    "status_after": "approved",
    "payout": Decimal("12.500000"),
    "payout_currency": "EUR",
    "changed_at": datetime(2026, 11, 25, 18, 0, 0, 7_999, tzinfo=timezone(timedelta(hours=1))),
    "change_number": 2,
    "created_at": datetime(2026, 11, 25, 17, 0, 1, 999_999, tzinfo=timezone(timedelta(hours=1))),
    "aff_sub": "a b/{payout}",
    "aff_sub20": "x",
    "device_os": "UNK",
    "affiliate_source": "ads",
}


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("", ""),
        ("{aff_sub}", "a%20b%2F%7Bpayout%7D"),
        ("{sub1}-{sub20}-{aff_sub2}", "a%20b%2F%7Bpayout%7D-x-"),
        ("{payout}{currency}", "12.50EUR"),
        ("{status}/{goal_id}/{goal_name}/{offer_name}", "approved/30/Sale/Test%20%26%20Offer"),
        ("{hash}", "0" * 31 + "2"),
        ("{click_id}{transaction_id}", ("0" * 31 + "2") * 2),
        ("{conversion_id}-{conversion_hash}", "9-" + "0" * 31 + "1"),
        ("{timestamp}", "1795622401"),
        ("{change_number}:{changed_at}", "2:2026-11-25T17%3A00%3A00.007Z"),
        ("{date} {datetime}".replace(" ", "T"), "2026-11-25T2026-11-25%2016%3A00%3A01"),
        ("{offer_url_id}{device_os}{external_id}", ""),
        ("{source}{affiliate_source}", "adsads"),
    ],
)
def test_macros_are_filled(template: str, filled: str) -> None:
    compiled = postback_macros.compile(f"https://partner.example/in?v={template}")
    assert postback_macros.fill(compiled, FACTS) == f"https://partner.example/in?v={filled}"


@pytest.mark.parametrize(
    "name", ["revenue", "advertiser_id", "ip", "user_agent", "adv_sub", "order_id", "free_1"]
)
def test_macro_of_another_party_is_unknown(name: str) -> None:
    with pytest.raises(TemplateError, match="unknown macro"):
        postback_macros.compile(f"https://partner.example/?v={{{name}}}")


@pytest.mark.parametrize(
    ("template", "value"),
    [("https://partner.example/a/{aff_sub}/b", ".."), ("https://p.example/?{aff_sub}", "x" * MAX_LOCATION)],
)
def test_macro_that_would_change_the_host_is_not_filled(template: str, value: str) -> None:
    with pytest.raises(ValueError, match="longer than"):
        postback_macros.fill(postback_macros.compile(template), {**FACTS, "aff_sub": value})


def test_macros_have_their_facts() -> None:
    template = "https://partner.example/?" + "&".join(f"{name}={{{name}}}" for name in MACROS)
    assert postback_macros.fill(postback_macros.compile(template), FACTS)
