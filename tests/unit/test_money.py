"""Amounts and currencies, in and out."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.domain.money import read_currency, show
from tracker.domain.normalise import amount


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
        (" 12.5\u200b", "12.50"),
        (".50", "0.50"),
        ("1.", "1.00"),
        ("+1", "1.00"),
        ("1E1", "10.00"),
        ("2.5e-1", "0.25"),
        ("59.970000000000006", "59.97"),
        ("0.0000005", "0.000001"),
        ("99999999999999.999999", "99999999999999.999999"),
    ],
)
def test_amount_is_read_exactly_and_shown_with_two_decimals_at_least(text: str, shown: str) -> None:
    assert show(amount(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "1e15",
        "1e-",
        "1,50",
        "1 000",
        ".",
        "1.5.0",
        "0x10",
        "99999999999999.9999999",
        "100000000000000",
        "NaN",
        "inf",
        "$1",
        "\uff11",
    ],
)
def test_invalid_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be an amount"):
        amount(text)


def test_reversed_amount_is_shown_with_its_sign() -> None:
    assert show(Decimal("-0.5")) == "-0.50"


@given(st.decimals(min_value=0, max_value="99999999999999.999999", places=6))
def test_amounts_read_back_as_shown(sum_: Decimal) -> None:
    assert amount(show(sum_)) == sum_


@given(st.text())
def test_any_text_is_an_amount_in_range_or_refused(text: str) -> None:
    try:
        sum_ = amount(text)
    except ValueError:
        return
    assert 0 <= sum_ < 10**14


@pytest.mark.parametrize(
    ("text", "code"), [("EUR", "EUR"), ("usd", "USD"), ("JpY", "JPY"), (" EUR\n", "EUR")]
)
def test_currency_is_known_in_any_case(text: str, code: str) -> None:
    assert read_currency(text) == code


@pytest.mark.parametrize("text", ["", "EU", "EURO", "XYZ", "€", "\u017fek", "E UR"])
def test_invalid_currency_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 4217"):
        read_currency(text)
