"""Amounts and currencies, in and out."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.money import read_amount, read_currency, show


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0", "0.00"),
        ("12", "12.00"),
        ("12.5", "12.50"),
        ("12.50", "12.50"),
        ("007.10", "7.10"),
        ("0.123456", "0.123456"),
        ("0.100000", "0.10"),
        ("0.001", "0.001"),
        ("99999999999999.999999", "99999999999999.999999"),
    ],
)
def test_an_amount_is_read_exactly_and_shown_with_two_decimals_at_least(text: str, shown: str) -> None:
    assert show(read_amount(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "-1",
        "+1",
        "1e3",
        "1,50",
        "1.",
        ".5",
        "1.1234567",
        "100000000000000",
        "NaN",
        "inf",
        "$1",
        "\uff11",
        "1\n",
    ],
)
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="must be an amount"):
        read_amount(text)


def test_what_a_reversal_takes_back_is_shown_with_its_sign() -> None:
    assert show(Decimal("-0.5")) == "-0.50"


@given(st.decimals(min_value=0, max_value="99999999999999.999999", places=6))
def test_every_amount_survives_being_shown(amount: Decimal) -> None:
    assert read_amount(show(amount)) == amount


@given(st.text())
def test_whatever_comes_is_an_amount_in_range_or_refused(text: str) -> None:
    try:
        amount = read_amount(text)
    except ValueError:
        return
    assert 0 <= amount < 10**14


@pytest.mark.parametrize(("text", "code"), [("EUR", "EUR"), ("usd", "USD"), ("JpY", "JPY")])
def test_a_currency_is_known_in_any_case(text: str, code: str) -> None:
    assert read_currency(text) == code


@pytest.mark.parametrize("text", ["", "EU", "EURO", "XYZ", "€", "\u017fek", " EUR"])
def test_what_is_no_currency(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 4217"):
        read_currency(text)
