"""The months of the book: whole months and edges cover each moment of a statement once."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracker.store.books.months import Cut, Edge, cut
from tracker.store.time_span import Span

HOUR = 3_600_000
_TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2031, 1, 1)).map(
    lambda time: int(time.replace(tzinfo=UTC).timestamp() * 1000)
)


def at(text: str) -> int:
    """Unix milliseconds of a UTC time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def counted(chosen: Cut, moment: int) -> tuple[int, int]:
    """How often a moment counts before the span, and within it."""
    month = datetime.fromtimestamp(moment / 1000, UTC).date().replace(day=1)
    edges = [edge for edge in chosen.edges if edge.span.low <= moment < edge.span.high]
    opening = (month < chosen.first) + sum(edge.opening for edge in edges)
    return opening, (chosen.first <= month < chosen.last) + sum(edge.change for edge in edges)


@given(st.tuples(_TIMES, _TIMES, _TIMES), st.sampled_from([1, HOUR, 24 * HOUR]))
@example((at("2024-10-01"), at("2024-11-01"), at("2024-10-31T23:59")), 1)
@example((at("2024-10-01"), at("2024-10-31T23:00"), at("2024-10-31T23:30")), 1)
@example((at("2024-09-30T22:00"), at("2024-10-31T23:00"), at("2024-09-30T23:00")), 1)
@example((at("2024-12-20"), at("2024-12-21"), at("2024-12-25")), 1)
def test_each_moment_counts_once(times: tuple[int, int, int], unit: int) -> None:
    low, high = sorted(time // unit * unit for time in times[:2])
    chosen = cut(Span(low, high + 1))
    moments = (times[2], low, low - 1, high, high + 1, *(edge.span.low for edge in chosen.edges))
    for moment in moments:
        assert counted(chosen, moment) == (moment < low, low <= moment <= high)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ("2024-10-01", "2024-11-01", Cut(date(2024, 10, 1), date(2024, 11, 1), ())),
        ("1970-01-01", "9999-01-01", Cut(date(1970, 1, 1), date(9999, 1, 1), ())),
        (
            "2024-09-30T22:00",
            "2024-10-31T23:00",
            Cut(
                date(2024, 10, 1),
                date(2024, 11, 1),
                (
                    Edge(Span(at("2024-09-30T22:00"), at("2024-10-01")), -1, 1),
                    Edge(Span(at("2024-10-31T23:00"), at("2024-11-01")), 0, -1),
                ),
            ),
        ),
        (
            "2024-10-03",
            "2024-10-04",
            Cut(
                date(2024, 10, 1),
                date(2024, 10, 1),
                (
                    Edge(Span(at("2024-10-01"), at("2024-10-03")), 1, 0),
                    Edge(Span(at("2024-10-03"), at("2024-10-04")), 0, 1),
                ),
            ),
        ),
    ],
)
def test_few_days_are_read_entry_by_entry(low: str, high: str, expected: Cut) -> None:
    assert cut(Span(at(low), at(high))) == expected
