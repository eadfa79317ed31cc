"""Measures of reports: each is its formula, in exact numbers."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from tracker.domain.money import show, show_millionths
from tracker.reading.reports.measures import columns_of, currencies, ratio, values, values_in
from tracker.store.reports.conversions import APART
from tracker.store.reports.measures import MEASURES
from tracker.store.reports.sums import COUNTS, Sums, added_up, difference

CODES = ("EUR", "USD", "JPY")
KINDS = ("payout", "revenue", "pending_payout", "pending_revenue", APART)
NUMBERS = st.integers(0, 10**6)
AMOUNTS = st.integers(0, 10**15)
MONEY = st.dictionaries(
    st.sampled_from(KINDS), st.dictionaries(st.sampled_from(CODES), AMOUNTS, max_size=3), max_size=5
)
SUMS = st.builds(
    Sums,
    **dict.fromkeys(COUNTS, NUMBERS),
    median=st.none() | NUMBERS,
    money=MONEY,
)


def shown(value: Fraction | None) -> str | None:
    """A ratio as a person rounds it."""
    if value is None:
        return None
    exact = Decimal(value.numerator) / Decimal(value.denominator) if value else Decimal(0)
    return f"{exact.quantize(Decimal('0.000001'), ROUND_HALF_UP):.6f}"


def over(value: int, per: int) -> Fraction | None:
    return Fraction(value, per) if per else None


@given(st.integers(-(10**15), 10**15))
def test_millionths_are_shown_as_amounts_are(amount: int) -> None:
    assert show_millionths(amount) == show(Decimal(amount).scaleb(-6))


@given(st.integers(-(10**9), 10**9), st.integers(0, 10**9))
def test_ratio_is_rounded_half_away_from_zero(value: int, per: int) -> None:
    assert (ratio(value, per) or "none").replace("-0.000000", "0.000000") == (
        shown(over(value, per)) or "none"
    ).replace("-0.000000", "0.000000")


@given(st.lists(SUMS, max_size=4))
def test_counts_and_rates_follow_their_formulas(rows: list[Sums]) -> None:
    columns = columns_of(rows)
    formulas = {
        "clicks": [row.clicks for row in rows],
        "duplicates": [row.clicks - row.uniques for row in rows],
        "invalid": [row.gross - row.clicks for row in rows],
        "conversions_hold": [row.hold for row in rows],
        "time_to_conversion": [row.median for row in rows],
        "cr": [shown(over(row.approved + row.pending + row.hold, row.clicks)) for row in rows],
        "approval_rate": [shown(over(row.approved, row.approved + row.rejected)) for row in rows],
        "under_10_seconds": [
            shown(over(row.soon, row.approved + row.pending + row.hold + row.rejected)) for row in rows
        ],
    }
    for name, expected in formulas.items():
        assert list(values(name, columns)) == expected, name


@given(st.lists(SUMS, min_size=1, max_size=4))
def test_money_follows_its_formulas_in_each_currency(rows: list[Sums]) -> None:
    columns = columns_of(rows)
    for place, row in enumerate(rows):
        for code in CODES:
            payout, revenue, apart = (
                row.money.get(kind, {}).get(code) for kind in ("payout", "revenue", APART)
            )
            profit = (revenue or 0) - (payout or 0)
            both = None if apart or (payout is None and revenue is None) else profit
            expected = {
                "payout": None if payout is None else show(Decimal(payout).scaleb(-6)),
                "epc": None if payout is None else shown(over(payout, row.clicks * 10**6)),
                "rpc": None if revenue is None else shown(over(revenue, row.clicks * 10**6)),
                "profit": None if both is None else show(Decimal(both).scaleb(-6)),
                "margin": None if both is None else shown(over(both, revenue or 0)),
            }
            for name, value in expected.items():
                of_row = values(name, columns)[place]
                assert isinstance(of_row, dict)
                assert of_row.get(code) == value, (name, code)
                if value is not None:
                    assert values_in(name, code, columns)[place] == value
                    assert code in currencies(name, columns)


@given(st.lists(SUMS, max_size=4), SUMS)
def test_difference_takes_back_what_was_added_up(parts: list[Sums], more: Sums) -> None:
    whole = added_up([*parts, more])
    rest = difference(whole, added_up(parts))
    assert rest[: len(COUNTS)] == more[: len(COUNTS)]
    assert {(kind, code): n for kind, of in rest.money.items() for code, n in of.items() if n} == {
        (kind, code): n for kind, of in more.money.items() for code, n in of.items() if n
    }


def test_every_measure_has_values_for_no_rows() -> None:
    assert [list(values(name, columns_of([]))) for name in MEASURES] == [[]] * len(MEASURES)
