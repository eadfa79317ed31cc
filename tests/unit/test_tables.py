"""Tables on a terminal: the widest columns give way."""

from __future__ import annotations

import pytest

from tracker.commands.tables import cut, fitting


@pytest.mark.parametrize(
    ("widths", "room", "fitted"),
    [
        ([3, 10], 80, [3, 10]),
        ([3, 100], 80, [3, 75]),
        ([3, 60, 60], 80, [3, 36, 37]),
        ([3, 30, 30, 30], 20, [3, 12, 12, 12]),
        ([5], 1, [5]),
    ],
)
def test_widest_columns_are_narrowed(widths: list[int], room: int, fitted: list[int]) -> None:
    assert fitting(widths, room) == fitted


@pytest.mark.parametrize(
    ("text", "width", "shown"), [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("a\nb", 3, "a b"), ("", 3, "")]
)
def test_text_is_cut_to_its_column(text: str, width: int, shown: str) -> None:
    assert cut(text, width) == shown
