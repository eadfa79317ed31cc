"""Balances and the amounts of statements, without a database."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.domain.local_time import read_day
from tracker.domain.money import CURRENCIES, in_unit, unit
from tracker.domain.statement import Balance, ManualKind, Party, change_of

AMOUNTS = st.decimals(-(10**13), 10**13, places=6)


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        ("1250", "JPY", "1250"),
        ("-1250.000000", "JPY", "-1250"),
        ("0.5", "JPY", "0.500000"),
        ("1.5", "KWD", "1.500"),
        ("1.0005", "KWD", "1.000500"),
        ("12.5", "EUR", "12.50"),
        ("0.000001", "EUR", "0.000001"),
        ("-0.000000", "EUR", "0.00"),
        ("0", "JPY", "0"),
        ("1.2345", "CLF", "1.2345"),
    ],
)
def test_amount_has_the_decimals_of_its_currency(amount: str, currency: str, shown: str) -> None:
    assert in_unit(Decimal(amount), currency) == shown


@given(AMOUNTS, st.sampled_from(sorted(CURRENCIES)))
def test_shown_amount_is_exact(amount: Decimal, currency: str) -> None:
    shown = in_unit(amount, currency)
    assert Decimal(shown) == amount
    decimals = len(shown.partition(".")[2])
    exponent = unit(currency).as_tuple().exponent
    assert isinstance(exponent, int)
    assert decimals in (-exponent, 6)


@given(st.lists(AMOUNTS, min_size=7, max_size=7))
def test_closing_is_the_sum_of_all_parts(amounts: list[Decimal]) -> None:
    balance = Balance._make(amounts)
    assert balance.closing == sum(amounts)
    assert Balance(opening=balance.closing).closing == balance.closing, "it is the next opening"


@given(
    st.sampled_from(list(Party)), st.sampled_from(list(ManualKind)), st.decimals("0.000001", 10**13, places=6)
)
def test_reversal_is_the_opposite_of_its_entry(party: Party, kind: ManualKind, amount: Decimal) -> None:
    change = change_of(party, kind, amount)
    assert abs(change) == amount
    assert change + change_of(party, kind, amount, is_reversal=True) == 0


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2024-02", "2024-02-01 00:00:00", "2024-02-29 23:59:59"),
        ("2023-12", "2023-12-01 00:00:00", "2023-12-31 23:59:59"),
        ("9999-12", "9999-12-01 00:00:00", "9999-12-31 23:59:59"),
        (" 2024-10-31 ", "2024-10-31 00:00:00", "2024-10-31 23:59:59"),
    ],
)
def test_day_or_month_is_read_whole(text: str, first: str, last: str) -> None:
    found = [str(read_day(text, is_end=is_end)) for is_end in (False, True)]
    assert found == [first, last]


@pytest.mark.parametrize("text", ["", "2024", "2024-13", "2024-02-30", "2024-10-31 12:00:00", "10/2024"])
def test_other_text_is_no_day(text: str) -> None:
    with pytest.raises(ValueError, match=r"is n(either|ot)"):
        read_day(text, is_end=True)
