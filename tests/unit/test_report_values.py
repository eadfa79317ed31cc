"""The cells of a report: values in words, and their changes."""

from __future__ import annotations

from typing import Any

import pytest

from tracker.dashboard.reports.values import Value, values_of


@pytest.mark.parametrize(
    ("name", "now", "before", "values"),
    [
        ("clicks", 1234567, None, [("1,234,567", "", "")]),
        ("clicks", 110, 100, [("110", "100", "+10 (+10.0 %)")]),
        ("clicks", 1, 0, [("1", "0", "+1")]),
        ("clicks", 0, 3, [("0", "3", "-3 (-100.0 %)")]),
        ("clicks", 5, 5, [("5", "5", "±0")]),
        ("cr", "0.123456", "0.100000", [("12.35 %", "10.00 %", "+2.35 points")]),
        ("cr", None, "0.100000", [("-", "10.00 %", "")]),
        ("payout", {}, None, [("-", "", "")]),
        (
            "payout",
            {"EUR": "1234.5", "USD": "-0.001"},
            None,
            [("1,234.50 EUR", "", ""), ("-0.001 USD", "", "")],
        ),
        ("payout", {"EUR": "10"}, {"EUR": "20.5"}, [("10.00 EUR", "20.50 EUR", "-10.50 (-51.2 %)")]),
        (
            "payout",
            {"EUR": "10"},
            {"USD": "1"},
            [("10.00 EUR", "-", "+10.00"), ("-", "1.00 USD", "-1.00 (-100.0 %)")],
        ),
        ("epc", {"EUR": "0.123456"}, None, [("0.1235 EUR", "", "")]),
        ("margin", {"EUR": "0.25"}, {"EUR": "0.2"}, [("25.00 % EUR", "20.00 % EUR", "+5.00 points")]),
        ("time_to_conversion", 59, None, [("59 s", "", "")]),
        ("time_to_conversion", 3599, 61, [("59 min 59 s", "1 min 1 s", "+58 min 58 s (+5,800.0 %)")]),
        ("time_to_conversion", 90_000, None, [("1 d 1 h", "", "")]),
        ("time_to_conversion", None, None, [("-", "", "")]),
    ],
)
def test_values_are_shown_with_their_change(
    name: str, now: Any, before: Any, values: list[tuple[str, ...]]
) -> None:
    row = {name: now} if before is None else {name: now, "compared": {name: before}}
    assert values_of(name, row) == [Value(*value) for value in values]
