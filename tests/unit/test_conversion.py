"""Reading postbacks, and the rules of conversions."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories.clicks import HASH
from tests.factories.postbacks import AN_HOUR, a_postback
from tracker.domain.conversion import (
    BROWSERS_SALE,
    Amounts,
    ConvertedClick,
    Goal,
    Named,
    Price,
    Refusal,
    Trust,
    amounts,
    next_status,
    refusal,
    refusal_of_new,
)
from tracker.domain.postback import PARAMETERS, ConversionStatus, Source, Unreadable, read_postback

PENDING, HOLD, APPROVED, REJECTED = ConversionStatus
CLICK = ConvertedClick(
    *(HASH, 1, "accepted", 3, 132, 1, 513, "NL", "desktop", "Windows", "Chrome", "", True, False, False),
    *(None, None, 3, None),
)
GOAL = Goal(30, 3, True, False, None, False, 2_592_000, APPROVED, False, True, False)
PRICE = Price("fixed", Decimal(2), "fixed", Decimal(3), "EUR")
TRUST = Trust(True, ())


@pytest.mark.parametrize(
    ("parameters", "click_id", "order_id"),
    [
        ({"hash": "a", "click_id": "b", "clickid": "c", "transaction_id": "d"}, "a", "d"),
        ({"click_id": "b", "clickid": "c"}, "b", None),
        ({"clickid": "c", "order_id": "o", "tid": "t", "transaction_id": "d"}, "c", "o"),
        ({"hash": "", "click_id": "b", "order_id": "", "tid": "t"}, "b", "t"),
        ({"hash": "a", "action_id": "x", "conversion_unique_id": "y"}, "a", "x"),
        ({"hash": "a", "conversion_unique_id": "y"}, "a", "y"),
        ({"transaction_id": "d"}, "d", None),
        ({"transaction_id": "d", "order_id": "o"}, "d", "o"),
    ],
)
def test_click_and_order_go_by_the_names_of_other_platforms(
    parameters: dict[str, str], click_id: str, order_id: str | None
) -> None:
    postback = read_postback(HASH, Source.POSTBACK, "", None, parameters)
    assert (postback.click_id, postback.order_id) == (click_id, order_id)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("goal_id", "30", 30),
        ("goal_id", "0030", 30),
        ("goal_id", "٣", None),
        ("goal_id", "1" * 19, None),
        ("goal", " Deposit", "Deposit"),
        ("status", "fine", None),
        ("status", " PAID ", APPROVED),
        ("payout", "{payout}", None),
        ("currency", "null", None),
        ("status", "Paid", APPROVED),
        ("status", "cancelled", REJECTED),
        ("status", "new", PENDING),
        ("status", "hold", HOLD),
        ("payout", "1.25", Decimal("1.25")),
        ("revenue", "0", Decimal(0)),
        ("sale_amount", "99.999999", Decimal("99.999999")),
        ("currency", "eur", "EUR"),
        *((name, "", None) for name in ("goal_id", "status", "payout", "revenue", "sale_amount", "currency")),
    ],
)
def test_parameter_of_a_postback_is_read(name: str, text: str, value: object) -> None:
    assert getattr(a_postback(**{name: text}), name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [("payout", "5 EUR"), ("revenue", "-1"), ("sale_amount", "1,50"), ("currency", "EURO")],
)
def test_amount_that_cannot_be_read_is_a_fault(name: str, text: str) -> None:
    postback = a_postback(**{name: text})
    assert getattr(postback, name) is None
    assert [field for field, _ in postback.faults] == [name]


def test_missing_click_is_an_error_of_click_id() -> None:
    with pytest.raises(Unreadable, match="is missing") as caught:
        read_postback(HASH, Source.POSTBACK, "", None, {"order_id": "o"})
    assert caught.value.field == "click_id"


@given(st.dictionaries(st.sampled_from(sorted(PARAMETERS)), st.text(max_size=30)))
def test_any_postback_is_read_or_refused(parameters: dict[str, str]) -> None:
    try:
        postback = read_postback(HASH, Source.POSTBACK, "", None, parameters)
    except Unreadable:
        return
    again = read_postback(
        postback.hash, postback.source, postback.ip, postback.advertiser_id, postback.parameters
    )
    assert again == postback


@pytest.mark.parametrize(
    ("click_id", "hash_"),
    [
        (HASH, HASH),
        (HASH.upper(), HASH),
        (f"{HASH[:8]}-{HASH[8:12]}-{HASH[12:16]}-{HASH[16:20]}-{HASH[20:]}", HASH),
        ("0190000000004000800000000000000a", None),  # another version
        ("10278c6ea8b2b8", None),
    ],
)
def test_hash_is_known_in_every_spelling(click_id: str, hash_: str | None) -> None:
    assert a_postback(click_id=click_id).click_hash == hash_


def test_statuses_follow_their_order() -> None:
    def after(before: ConversionStatus, by_operator: bool) -> list[ConversionStatus]:
        return [next_status(before, told, by_operator=by_operator) for told in ConversionStatus]

    anything = list(ConversionStatus)
    assert after(PENDING, False) == after(PENDING, True) == anything
    assert after(HOLD, False) == after(HOLD, True) == anything
    assert after(APPROVED, False) == after(APPROVED, True) == [APPROVED, APPROVED, APPROVED, REJECTED]
    assert after(REJECTED, False) == [REJECTED, REJECTED, REJECTED, REJECTED]
    assert after(REJECTED, True) == [REJECTED, REJECTED, APPROVED, REJECTED]


def money(sale: str | None, payout: str, revenue: str, by_browser: bool = False) -> Amounts:
    """As "7 EUR"."""
    sale_amount, sale_currency = (None, None) if sale is None else sale.split()
    paid, earned = payout.split(), revenue.split()
    return Amounts(
        None if sale_amount is None else Decimal(sale_amount),
        sale_currency,
        by_browser,
        Decimal(paid[0]),
        paid[1],
        Decimal(earned[0]),
        earned[1],
    )


PERCENT = Price("percent", Decimal(10), "percent", Decimal("12.5"), "EUR")
TAKES_PAYOUT = GOAL._replace(takes_payout=True)


@pytest.mark.parametrize(
    ("said", "goal", "price", "expected"),
    [
        ({}, GOAL, PRICE, money(None, "2 EUR", "3 EUR")),
        ({"payout": "9", "revenue": "9"}, GOAL, PRICE, money(None, "2 EUR", "9 EUR")),
        ({"payout": "9", "currency": "USD"}, TAKES_PAYOUT, PRICE, money(None, "9 USD", "3 EUR")),
        (
            {"revenue": "9"},
            GOAL._replace(takes_revenue=False),
            PRICE,
            money(None, "2 EUR", "3 EUR"),
        ),
        ({"payout": "9", "source": Source.API}, GOAL, PRICE, money(None, "9 EUR", "3 EUR")),
        (
            {"payout": "9", "revenue": "9", "source": Source.PIXEL},
            TAKES_PAYOUT,
            PRICE,
            money(None, "2 EUR", "3 EUR"),
        ),
        (
            {"sale_amount": "50", "currency": "USD"},
            GOAL,
            PERCENT,
            money("50 USD", "5.000000 USD", "6.250000 USD"),
        ),
        ({"sale_amount": "0.01"}, GOAL, PERCENT, money("0.01 EUR", "0 EUR", "0 EUR")),
        ({"sale_amount": "0.10"}, GOAL, PERCENT, money("0.10 EUR", "0.01 EUR", "0.01 EUR")),
        ({}, GOAL, PERCENT, money(None, "0.000000 EUR", "0.000000 EUR")),
    ],
)
def test_money_of_a_conversion(said: Any, goal: Goal, price: Price, expected: Amounts) -> None:
    assert amounts(a_postback(**said), goal, price) == expected


@pytest.mark.parametrize(
    ("said", "price", "expected"),
    [
        ({}, PRICE, money("7 USD", "4 EUR", "5 EUR")),  # earlier values stay
        ({"revenue": "8"}, PRICE, money("7 USD", "4 EUR", "8 USD")),
        ({"sale_amount": "20"}, PERCENT, money("20 USD", "2.000000 USD", "2.500000 USD")),
        ({"sale_amount": "20", "currency": "GBP"}, PRICE, money("20 GBP", "4 EUR", "5 EUR")),
        ({"status": "approved"}, PERCENT, money("7 USD", "4 EUR", "5 EUR")),
        ({"sale_amount": "7.00", "currency": "USD"}, PERCENT, money("7 USD", "4 EUR", "5 EUR")),
        ({"currency": "GBP"}, PERCENT, money("7 GBP", "0.70 GBP", "0.88 GBP")),
        ({"currency": "JPY"}, PERCENT, money("7 JPY", "1 JPY", "1 JPY")),
    ],
)
def test_amounts_follow_a_repeated_postback(said: Any, price: Price, expected: Amounts) -> None:
    assert amounts(a_postback(**said), GOAL, price, money("7 USD", "4 EUR", "5 EUR")) == expected


A_PIXEL = {"source": Source.PIXEL}
KUWAITI = money("100 KWD", "10.000000 KWD", "12.500000 KWD", by_browser=True)


@pytest.mark.parametrize(
    ("said", "goal", "price", "before", "expected"),
    [
        ({**A_PIXEL, "sale_amount": "100", "currency": "KWD"}, GOAL, PERCENT, None, KUWAITI),
        (A_PIXEL, GOAL, PERCENT, None, money(None, "0.000000 EUR", "0.000000 EUR")),
        ({}, GOAL, PERCENT, KUWAITI, KUWAITI),
        ({"currency": "KWD"}, GOAL, PERCENT, KUWAITI, KUWAITI),
        (  # in its own currency, or in the goal's
            {"sale_amount": "100"},
            GOAL,
            PERCENT,
            KUWAITI,
            money("100 EUR", "10.000000 EUR", "12.500000 EUR"),
        ),
        (
            {"sale_amount": "100", "currency": "KWD"},
            GOAL,
            PERCENT,
            KUWAITI,
            KUWAITI._replace(sale_by_browser=False),
        ),
        (
            {"payout": "5", "revenue": "6"},
            TAKES_PAYOUT,
            PRICE,
            money("100 KWD", "2 EUR", "3 EUR", by_browser=True),
            money("100 KWD", "5 EUR", "6 EUR", by_browser=True),
        ),
    ],
)
def test_browsers_currency_belongs_to_its_own_amount_only(
    said: Any, goal: Goal, price: Price, before: Amounts | None, expected: Amounts
) -> None:
    assert amounts(a_postback(**said), goal, price, before) == expected


HALF_PERCENT = Price("fixed", Decimal(2), "percent", Decimal(10), "EUR")
FREE = Price("percent", Decimal(0), "fixed", Decimal(3), "EUR")
UNSOLD = "a percentage of no sale_amount"
OF_BROWSER = money("50 EUR", "5 EUR", "6.25 EUR", by_browser=True)
SEVEN = Decimal(7)


@pytest.mark.parametrize(
    ("price", "amounts_", "named", "why"),
    [
        (PERCENT, OF_BROWSER, (None, None), BROWSERS_SALE),
        (PERCENT, OF_BROWSER, (SEVEN, None), BROWSERS_SALE),
        (PERCENT, OF_BROWSER, (None, SEVEN), BROWSERS_SALE),
        (PERCENT, OF_BROWSER, (SEVEN, Decimal(0)), ""),
        (PERCENT, OF_BROWSER._replace(payout=SEVEN, revenue=SEVEN), (None, None), BROWSERS_SALE),
        (PERCENT, OF_BROWSER._replace(sale_by_browser=False), (None, None), ""),
        (PERCENT, OF_BROWSER._replace(sale_amount=Decimal(0)), (None, None), BROWSERS_SALE),
        (PERCENT, money(None, "0 EUR", "0 EUR"), (None, None), UNSOLD),
        (PERCENT, money(None, "1 EUR", "0 EUR"), (None, None), UNSOLD),
        (PERCENT, money(None, "1 EUR", "1 EUR"), (None, None), ""),
        (HALF_PERCENT, OF_BROWSER, (SEVEN, None), BROWSERS_SALE),
        (HALF_PERCENT, OF_BROWSER, (None, SEVEN), ""),
        (PRICE, OF_BROWSER, (None, None), ""),
        (FREE, OF_BROWSER, (None, None), ""),
    ],
)
def test_percentage_of_an_amount_only_a_browser_sent_is_on_hold(
    price: Price, amounts_: Amounts, named: Named, why: str
) -> None:
    assert price.doubt(amounts_, named) == why


@pytest.mark.parametrize(
    ("said", "click", "goal", "trust", "why"),
    [
        ({}, CLICK, GOAL, TRUST, None),
        ({}, CLICK._replace(status="forwarded"), GOAL, TRUST, None),
        ({}, CLICK._replace(status="rejected"), GOAL, TRUST, Refusal.REJECTED_CLICK),
        ({}, CLICK, None, TRUST, None),
        ({}, CLICK, GOAL._replace(offer_id=4), TRUST, Refusal.OTHER_OFFER),
        ({"advertiser_id": 2}, CLICK, GOAL, TRUST, Refusal.OTHER_ADVERTISER),
        ({"advertiser_id": 2}, CLICK, GOAL, Trust(False, ()), Refusal.OTHER_ADVERTISER),
        ({"advertiser_id": None}, CLICK, GOAL, TRUST, Refusal.UNPROVEN),
        ({"advertiser_id": None}, CLICK, GOAL, Trust(False, ()), None),
        ({"advertiser_id": None}, CLICK, GOAL, Trust(True, ("198.51.100.9",)), None),
        ({"advertiser_id": None}, CLICK, GOAL, Trust(True, ("x", "198.51.100.0/24")), None),
        ({"advertiser_id": None}, CLICK, GOAL, Trust(True, ("198.51.101.0/24",)), Refusal.UNPROVEN),
        ({"advertiser_id": None}, CLICK, GOAL, Trust(True, ("::ffff:198.51.100.0/120",)), None),
        ({"advertiser_id": None}, CLICK, GOAL, Trust(True, ("::ffff:198.51.101.0/120",)), Refusal.UNPROVEN),
        ({"advertiser_id": None}, CLICK, GOAL, Trust(True, ("::/0",)), Refusal.UNPROVEN),
        ({"advertiser_id": None, "ip": ""}, CLICK, GOAL, Trust(True, ("0.0.0.0/0",)), Refusal.UNPROVEN),
        (
            {"advertiser_id": None, "ip": "2001:db8::1"},
            CLICK,
            GOAL,
            Trust(True, ("0.0.0.0/0", "2001:db8::/32")),
            None,
        ),
        ({"source": Source.API, "advertiser_id": None}, CLICK, GOAL, TRUST, None),
        ({"source": Source.PIXEL, "advertiser_id": None}, CLICK, GOAL, TRUST, Refusal.NO_PIXEL),
        ({"source": Source.PIXEL, "advertiser_id": None}, CLICK, GOAL._replace(pixel=True), TRUST, None),
    ],
)
def test_postback_is_refused_without_its_trust(
    said: Any, click: ConvertedClick, goal: Goal | None, trust: Trust, why: Refusal | None
) -> None:
    assert refusal(a_postback(**said), click, goal, trust) == why


CHILD = GOAL._replace(parent_goal_id=31)


@pytest.mark.parametrize(
    ("after", "goal", "has_parent", "why"),
    [
        (0, GOAL, False, None),
        (30 * 24 * AN_HOUR, GOAL, False, None),
        (30 * 24 * AN_HOUR + 1, GOAL, False, Refusal.LATE),
        (900 * 24 * AN_HOUR, GOAL._replace(click_window=None), False, None),
        (0, CHILD, False, Refusal.NO_PARENT),
        (31 * 24 * AN_HOUR, CHILD, True, Refusal.LATE),
        (900 * 24 * AN_HOUR, CHILD._replace(click_window=None), True, None),
        (0, GOAL._replace(is_active=False), False, Refusal.PAUSED_GOAL),
        (0, GOAL._replace(is_archived=True), False, Refusal.ARCHIVED_GOAL),
    ],
)
def test_postback_makes_a_new_conversion(
    after: int, goal: Goal, has_parent: bool, why: Refusal | None
) -> None:
    assert refusal_of_new(a_postback(after=after), CLICK, goal, has_parent=has_parent) == why
