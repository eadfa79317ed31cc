"""Measures of reports: each is its formula, in exact numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from itertools import product
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from tracker.domain.money import show, show_millionths
from tracker.reading.reports.measures import currencies, ratios, values, values_in
from tracker.store.reports.measures import MEASURES
from tracker.store.reports.sums import COUNTS, FIELDS, Columns, columns_of, with_rest

Rows = list[tuple[Any, ...]]
CODES = ("EUR", "USD", "JPY")
NUMBERS = st.integers(0, 10**6)
AMOUNTS = st.integers(0, 10**20).map(str)
MONEY = st.lists(
    st.tuples(
        st.sampled_from(("approved", "pending", "hold")),
        *(st.sampled_from(CODES), AMOUNTS, st.sampled_from(CODES), AMOUNTS),
    ),
    max_size=4,
)
ROWS = st.lists(
    st.tuples(*(NUMBERS for _ in COUNTS), st.none() | NUMBERS, st.none() | MONEY), min_size=1, max_size=4
)


def columns(rows: Rows) -> Columns:
    return columns_of([(*row[:-1], row[-1] and orjson.dumps(row[-1]).decode()) for row in rows])


def shown(value: Fraction | None) -> str | None:
    """A ratio as a person rounds it."""
    if value is None:
        return None
    with localcontext(prec=60):
        exact = Decimal(value.numerator) / Decimal(value.denominator)
        return f"{exact.quantize(Decimal('0.000001'), ROUND_HALF_UP):f}".replace("-0.000000", "0.000000")


def over(value: int, per: int) -> Fraction | None:
    return Fraction(value, per) if per else None


@given(st.integers(-(10**15), 10**15))
def test_millionths_are_shown_as_amounts_are(amount: int) -> None:
    assert show_millionths(amount) == show(Decimal(amount).scaleb(-6))


@given(st.integers(-(10**9), 10**9), st.integers(0, 10**9))
def test_ratio_is_rounded_half_away_from_zero(value: int, per: int) -> None:
    assert ratios([value], [per]) == [shown(over(value, per))]


@given(ROWS)
def test_counts_and_rates_follow_their_formulas(rows: Rows) -> None:
    named = [dict(zip(FIELDS, row, strict=True)) for row in rows]
    all_ = ("approved", "pending", "hold", "rejected")
    formulas: dict[str, Callable[[Any], Any]] = {
        "clicks": lambda row: row["clicks"],
        "duplicates": lambda row: row["clicks"] - row["uniques"],
        "invalid": lambda row: row["gross"] - row["clicks"],
        "conversions_hold": lambda row: row["hold"],
        "time_to_conversion": lambda row: row["median"],
        "cr": lambda row: shown(over(row["approved"] + row["pending"] + row["hold"], row["clicks"])),
        "approval_rate": lambda row: shown(over(row["approved"], row["approved"] + row["rejected"])),
        "under_10_seconds": lambda row: shown(over(row["soon"], sum(row[name] for name in all_))),
        "over_24_hours": lambda row: shown(over(row["late"], sum(row[name] for name in all_))),
    }
    for name, formula in formulas.items():
        assert list(values(name, columns(rows))) == list(map(formula, named)), name


def amount_of(row: Sequence[Any], side: str, code: str, outcomes: Sequence[str]) -> int | None:
    place = 1 if side == "payout" else 3
    found = [int(one[place + 1]) for one in row[-1] or () if one[0] in outcomes and one[place] == code]
    return sum(found) if found else None


@given(ROWS)
def test_money_follows_its_formulas_in_each_currency(rows: Rows) -> None:
    for (place, row), code in product(enumerate(rows), CODES):
        clicks = row[FIELDS.index("clicks")]
        payout, revenue = (amount_of(row, side, code, ("approved",)) for side in ("payout", "revenue"))
        is_apart = any(
            one[0] == "approved" and one[1] != one[3] and code in (one[n] for n in (1, 3) if int(one[n + 1]))
            for one in row[-1] or ()
        )
        profit = None if is_apart or payout is revenue is None else (revenue or 0) - (payout or 0)
        open_ = amount_of(row, "payout", code, ("pending", "hold"))
        expected = {
            "payout": None if payout is None else show_exact(payout),
            "pending_payout": None if open_ is None else show_exact(open_),
            "epc": None if payout is None else shown(over(payout, clicks * 10**6)),
            "rpc": None if revenue is None else shown(over(revenue, clicks * 10**6)),
            "profit": None if profit is None else show_exact(profit),
            "margin": None if profit is None else shown(over(profit, revenue or 0)),
        }
        for name, value in expected.items():
            of_row = values(name, columns(rows))[place]
            assert isinstance(of_row, dict)
            assert of_row.get(code) == value, (name, code)
            if value is not None:
                assert values_in(name, code, columns(rows))[place] == value
                assert code in currencies(name, columns(rows))


def show_exact(millionths: int) -> str:
    return show(Decimal(millionths).scaleb(-6))


@given(ROWS)
def test_rest_is_the_first_row_without_the_others(rows: Rows) -> None:
    rest = with_rest(columns(rows))
    assert rest.size == len(rows) + 1
    for name, column in rest.counts.items():
        assert sum(column[1:]) == column[0], name
    for of in rest.money.values():
        for column in of.values():
            assert sum(n or 0 for n in column[1:]) == (column[0] or 0)
    assert rest.medians[-1] is None


def test_measures_have_a_value_for_each_row() -> None:
    one = columns([(*[0] * len(COUNTS), None, None)])
    assert {name: len(values(name, one)) for name in MEASURES} == dict.fromkeys(MEASURES, 1)
