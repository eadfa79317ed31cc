"""What the overview computes: spans with the days before, and how figures differ."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from tracker.dashboard.overview.figures import Figure, Kind, cards_of, charts_of, series_of
from tracker.dashboard.overview.spans import chosen, named
from tracker.dashboard.time_slots import slots_of
from tracker.domain.periods import PERIODS

NOW = datetime(2026, 11, 30, 9, 41, 5, tzinfo=UTC)
_DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("word", "now", "span", "before"),
    [
        ("today", NOW, "2026-11-30 2026-11-30", "2026-11-29 2026-11-29 09:41:05"),
        ("yesterday", NOW, "2026-11-29 2026-11-29", "2026-11-28 2026-11-28 23:59:59"),
        ("last_7_days", NOW, "2026-11-24 2026-11-30", "2026-11-17 2026-11-23 09:41:05"),
        ("last_30_days", NOW, "2026-11-01 2026-11-30", "2026-10-02 2026-10-31 09:41:05"),
        ("this_month", NOW - _DAY, "2026-11-01 2026-11-29", "2026-10-01 2026-10-29 09:41:05"),
        ("this_month", NOW, "2026-11-01 2026-11-30", "2026-10-01 2026-10-31 09:41:05"),
        ("this_month", NOW.replace(month=3), "2026-03-01 2026-03-30", "2026-02-01 2026-02-28 09:41:05"),
        ("last_month", NOW, "2026-10-01 2026-10-31", "2026-09-01 2026-09-30 23:59:59"),
        ("last_month", NOW.replace(month=3), "2026-02-01 2026-02-28", "2026-01-01 2026-01-31 23:59:59"),
    ],
)
def test_period_is_compared_with_what_can_be_compared(
    word: str, now: datetime, span: str, before: str
) -> None:
    found = named(word, now)
    assert f"{found.first} {found.last}" == span
    assert f"{found.before_first} {found.before_end}" == before


@given(st.sampled_from(sorted(PERIODS)), st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)))
def test_span_before_ends_before_the_span(word: str, now: datetime) -> None:
    span = named(word, now)
    assert span.before_first <= span.before_end.date() < span.first <= span.last <= now.date()
    assert (span.grain == "hour") == (span.last - span.first < 2 * _DAY)


@pytest.mark.parametrize(
    ("days", "grain"), [(1, "hour"), (2, "hour"), (3, "day"), (50, "day"), (51, "week"), (732, "month")]
)
def test_chosen_days_have_a_grain_that_a_chart_can_show(days: int, grain: str) -> None:
    last = date(2026, 11, 1)
    span = chosen(last - (days - 1) * _DAY, last, NOW)
    assert (span.grain, (span.before_end.date() - span.before_first).days + 1) == (grain, days)


def test_chosen_days_need_days_before_them() -> None:
    with pytest.raises(ValueError, match="in the calendar"):
        chosen(date(1, 1, 2), date(2026, 1, 1), NOW)


@pytest.mark.parametrize(
    ("value", "before", "difference", "relative"),
    [
        ("120", "100", "20", "20 % more"),
        ("1001", "1000", "1", "0.1 % more"),
        ("80", "100", "-20", "20 % less"),
        ("100", "100", "0", ""),
        ("5", "0", "5", "new"),
        ("0", "0", "0", ""),
        ("29735", "2", "29733", ""),
        ("0", "9", "-9", ""),
        ("0", "10", "-10", "100 % less"),
        ("109", "10", "99", "990 % more"),
        ("110", "10", "100", "11 times as much"),
        ("148670", "10", "148660", "14,867 times as much"),
        ("1", "-2", "3", ""),
        ("-2", "10", "-12", ""),
        (None, "2", None, ""),
        ("2", None, None, ""),
    ],
)
def test_figure_differs_in_words(
    value: str | None, before: str | None, difference: str | None, relative: str
) -> None:
    kind: Kind = "count"
    now, then = (None if text is None else Decimal(text) for text in (value, before))
    figure = Figure(kind, now, then, "", Markup(""))
    assert figure.difference == (None if difference is None else Decimal(difference))
    assert figure.relative == relative


ROWS = [
    {
        "day": "2026-11-28",
        "gross": 5,
        "clicks": 4,
        "uniques": 3,
        "payout": {"EUR": "1.50"},
        "compared": {"clicks": 9},
    },
    {"day": "2026-11-30", "gross": 1, "clicks": 1, "uniques": 1, "payout": {}, "compared": {"clicks": 8}},
]
TOTALS = {
    "gross": 6,
    "clicks": 5,
    "cr": None,
    "payout": {"EUR": "1.50"},
    "epc": {"EUR": "0.300000"},
    "compared": {
        "gross": 0,
        "clicks": 17,
        "cr": "0.100000",
        "payout": {"USD": "2.00"},
        "epc": {"USD": "0.117647"},
    },
}


def test_times_without_clicks_are_zero_and_later_times_are_gaps() -> None:
    slots = slots_of(date(2026, 11, 28), date(2026, 12, 1), "day", UTC)
    series = series_of(slots, ROWS, "day", NOW)
    assert series.values("clicks") == [4, 0, 1, None]
    assert series.values("clicks", of_before=True) == [9, 0, 8, None]
    assert series.values("payout", "EUR") == [Decimal("1.50"), 0, 0, None]
    assert series.values("cr") == [None, None, None, None]
    clicks, *_, money = charts_of(TOTALS, series, "by day", [])
    assert [row[1] for row in clicks.table.rows] == ["5", "0", "1", "no value"]
    assert money.title == "Money in EUR by day"


def test_cards_have_the_currencies_of_both_spans_and_only_seen_measures() -> None:
    slots = slots_of(date(2026, 11, 28), date(2026, 12, 1), "day", UTC)
    cards = {card.measure: card.figures for card in cards_of(TOTALS, series_of(slots, ROWS, "day", NOW))}
    assert list(cards) == ["gross", "clicks", "cr", "epc", "payout"]
    payout = [(figure.currency, figure.value, figure.before) for figure in cards["payout"]]
    assert payout == [("EUR", Decimal("1.50"), 0), ("USD", 0, Decimal("2.00"))]
    assert [(figure.value, figure.before) for figure in cards["cr"]] == [(None, Decimal("0.1"))]
