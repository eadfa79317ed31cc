"""Charts: what they show is what they were given, inside of their box, whatever it is."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from xml.etree import ElementTree
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.dashboard import charts
from tracker.dashboard.charts import Bar, Line, Mark
from tracker.dashboard.scale import Number, scale_of, short
from tracker.dashboard.time_slots import MOST_SLOTS, Grain, Slot, slot_at, slots_of

BERLIN = ZoneInfo("Europe/Berlin")
NUMBERS = st.one_of(
    st.integers(),
    st.integers(min_value=-(10**400), max_value=10**400),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(allow_nan=False, allow_infinity=False),
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn")), max_size=40)
HOSTILE = "</title><script>alert(1)</script>&\"'"
_COORDINATE = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


def days(number: int) -> list[Slot]:
    return slots_of(date(2026, 1, 1), date(2026, 1, 1) + timedelta(days=number - 1), "day", UTC)


def values_of(number: int) -> st.SearchStrategy[list[Number | None]]:
    return st.lists(st.one_of(st.none(), NUMBERS), min_size=number, max_size=number)


@st.composite
def a_series(draw: st.DrawFn) -> tuple[list[Slot], list[Line], list[Mark]]:
    number = draw(st.integers(1, 12))
    lines = [
        Line(draw(TEXTS), draw(values_of(number)), draw(st.one_of(st.just(()), values_of(number))))
        for _ in range(draw(st.integers(1, 3)))
    ]
    at = st.datetimes(datetime(2025, 12, 25), datetime(2026, 1, 20), timezones=st.just(UTC))
    marks = draw(st.lists(st.builds(Mark, at, TEXTS), max_size=5))
    return days(number), lines, marks


def placed(svg: str) -> list[tuple[float, float]]:
    """The corners of all that is drawn, without relative movements of markers."""
    points = []
    for node in ElementTree.fromstring(svg).iter():
        kind = node.get("class", "")
        if node.tag == "rect":
            x, y, width, height = (float(node.attrib[name]) for name in ("x", "y", "width", "height"))
            points += [(x, y), (x + width, y + height)]
        elif node.tag == "text":
            points.append((float(node.attrib["x"]), float(node.attrib["y"])))
        elif kind.startswith("line"):
            numbers = [float(found) for found in _COORDINATE.findall(node.attrib["d"])]
            points += list(zip(numbers[::2], numbers[1::2], strict=True))
    return points


def check(svg: str) -> None:
    """It is XML without inline style or script, and nothing in it is outside of its box."""
    root = ElementTree.fromstring(svg)
    assert (root.get("role"), root[0].tag, root[1].tag) == ("img", "title", "desc")
    assert {node.tag for node in root.iter()} <= {"svg", "title", "desc", "path", "rect", "g", "text"}
    names = {name for node in root.iter() for name in node.attrib}
    assert not {name for name in names if name == "style" or name.startswith("on")}
    numbers = " ".join(
        value for node in root.iter() for name, value in node.attrib.items() if name != "class"
    )
    assert "nan" not in numbers
    assert "inf" not in numbers
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert all(-0.1 <= x <= width + 0.1 and -0.1 <= y <= height + 0.1 for x, y in placed(svg))


def number_of(cell: str) -> Decimal:
    return Decimal(cell.replace(",", ""))


def of(value: Number) -> Decimal:
    """As a table writes it. Of a float that is its shortest text."""
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


@given(a_series())
def test_time_series_shows_any_finite_numbers(given: tuple[list[Slot], list[Line], list[Mark]]) -> None:
    slots, lines, marks = given
    chart = charts.time_series("Clicks", slots, lines, marks)
    check(chart.svg)
    columns = [values for line in lines for values in (line.values, line.before) if values]
    shown = [
        [None if cell == "no value" else number_of(cell) for cell in row[1:]] for row in chart.table.rows
    ]
    assert shown == [
        [None if value is None else of(value) for value in row] for row in zip(*columns, strict=True)
    ]
    inside = [mark for mark in marks if mark.at >= slots[0].start]
    assert sorted(text for one in chart.happened for text in one.texts) == sorted(m.text for m in inside)


@given(st.lists(st.builds(Bar, TEXTS, NUMBERS), min_size=1, max_size=20), TEXTS)
def test_histogram_shows_any_finite_numbers(bars: list[Bar], title: str) -> None:
    chart = charts.histogram(title, bars, "Seconds")
    check(chart.svg)
    assert [(row[0], number_of(row[1])) for row in chart.table.rows] == [(b.name, of(b.value)) for b in bars]


@given(values_of(9), TEXTS, NUMBERS, NUMBERS)
def test_small_charts_show_any_finite_numbers(
    values: list[Number | None], title: str, value: Number, most: Number
) -> None:
    check(charts.sparkline(title, values))
    check(charts.meter(title, value, most))
    known = [value for value in values if value is not None]
    assert len(charts.strips(known)) == len(known)


@pytest.mark.parametrize(
    "svg",
    [
        charts.time_series(
            HOSTILE,
            days(2),
            [Line(HOSTILE, [1, 2])],
            [Mark(datetime(2026, 1, 1, tzinfo=UTC), HOSTILE)],
            HOSTILE,
        ).svg,
        charts.histogram(HOSTILE, [Bar(HOSTILE, 1)], HOSTILE, HOSTILE).svg,
        charts.sparkline(HOSTILE, [1]),
        charts.meter(HOSTILE, 1, 2),
    ],
)
def test_text_is_escaped(svg: str) -> None:
    check(svg)
    assert "<script" not in svg
    assert HOSTILE in "".join(ElementTree.fromstring(svg).itertext())


@pytest.mark.parametrize(
    ("number", "lines", "problem"),
    [
        (0, [Line("a", [])], "up to 400 times"),
        (2, [], "up to 3 lines"),
        (2, [Line(name, [1, 2]) for name in "abcd"], "up to 3 lines"),
        (2, [Line("a", [1])], "one value for each time"),
        (2, [Line("a", [1, 2], [1])], "one value for each time"),
        (1, [Line("a", [float("nan")])], "finite"),
        (1, [Line("a", [Decimal("Infinity")])], "finite"),
    ],
)
def test_time_series_refuses_what_it_cannot_show(number: int, lines: list[Line], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        charts.time_series("Clicks", days(number), lines)


def test_gap_interrupts_the_line_and_a_value_alone_is_a_dot() -> None:
    chart = charts.time_series("Clicks", days(60), [Line("Clicks", [1] * 10 + [None, 5, None] + [2] * 47)])
    root = ElementTree.fromstring(chart.svg)
    kinds = [node.get("class") for node in root.iter()]
    assert kinds.count("line line-0") == 3
    assert kinds.count("marker marker-0") == 1
    assert chart.table.rows[10] == ["2026-01-11", "no value"]


def test_lines_differ_by_more_than_colour() -> None:
    lines = [Line(name, [1, 2], [2, 1]) for name in ("Gross", "Clicks", "Uniques")]
    chart = charts.time_series("Clicks", days(2), lines)
    assert len({re.sub("line-[0-9]", "", str(key.sample)) for key in chart.legend[:3]}) == 3
    assert [key.name for key in chart.legend[3:]] == [
        "Gross before",
        "Clicks before",
        "Uniques before",
    ]


def test_marks_have_the_number_of_their_time() -> None:
    marks = [
        Mark(datetime(2026, 1, day, 12, tzinfo=UTC), text)
        for day, text in ((3, "Offer 3 paused"), (1, "Note"), (3, "Cap 7 changed"))
    ]
    chart = charts.time_series("Clicks", days(4), [Line("Clicks", [1, 2, 3, 4])], marks)
    assert chart.happened == [
        (1, "2026-01-01", ["Note"]),
        (2, "2026-01-03", ["Offer 3 paused", "Cap 7 changed"]),
    ]


@given(st.lists(NUMBERS, min_size=1), st.integers(2, 10))
def test_scale_has_round_ticks_around_all_values(values: list[Number], most: int) -> None:
    ticks = scale_of(values, most).ticks
    assert 2 <= len(ticks) <= most + 2
    assert Decimal(0) in ticks
    assert (ticks[1] - ticks[0]).normalize().as_tuple().digits in ((1,), (2,), (5,))
    assert all(0 <= scale_of(values, most).place(value) <= 1 for value in values)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0], ["0", "1"]),
        ([3], ["0", "1", "2", "3"]),
        ([97, 12], ["0", "20", "40", "60", "80", "100"]),
        ([-4.0, 6], ["-4", "-2", "0", "2", "4", "6"]),
        ([Decimal("0.05")], ["0", "0.01", "0.02", "0.03", "0.04", "0.05"]),
        ([12_345_678], ["0", "5M", "10M", "15M"]),
        ([2300], ["0", "500", "1k", "1.5k", "2k", "2.5k"]),
    ],
)
def test_ticks_are_written_short(values: list[Number], ticks: list[str]) -> None:
    assert [short(tick) for tick in scale_of(values).ticks] == ticks


@pytest.mark.parametrize(
    ("day", "hours", "twice"), [("2026-03-29", 23, []), ("2026-10-25", 25, ["02"]), ("2026-11-25", 24, [])]
)
def test_hours_of_a_day_with_a_clock_change(day: str, hours: int, twice: list[str]) -> None:
    slots = slots_of(date.fromisoformat(day), date.fromisoformat(day), "hour", BERLIN)
    assert len(slots) == hours
    assert len({slot.name for slot in slots}) == hours
    clocks = [slot.key[11:13] for slot in slots]
    assert sorted({clock for clock in clocks if clocks.count(clock) > 1}) == twice


@given(
    st.sampled_from(sorted(available_timezones())),
    st.dates(date(1975, 1, 1), date(2035, 1, 1)),
    st.integers(0, 8),
)
def test_slots_cover_the_span_without_overlap(name: str, first: date, more: int) -> None:
    zone, last = ZoneInfo(name), first + timedelta(days=more)
    hours, whole = (slots_of(first, last, grain, zone) for grain in ("hour", "day"))
    assert hours[0].start == whole[0].start
    for slots in (hours, whole):
        starts = [slot.start.astimezone(UTC) for slot in slots]
        assert starts == sorted(starts)
        assert len({slot.key for slot in slots}) == len(slots)
        assert any(slot.tick for slot in slots)
        assert sum(bool(slot.tick) for slot in slots) <= 12
    assert {slot_at(whole, slot.start) for slot in hours} <= set(range(len(whole)))


@pytest.mark.parametrize(
    ("grain", "keys", "names"),
    [
        ("week", ["2025-12-29", "2026-01-05"], ["week of 2025-12-29", "week of 2026-01-05"]),
        ("month", ["2026-01-01"], ["2026-01"]),
    ],
)
def test_longer_slots_are_called_as_in_reports(grain: Grain, keys: list[str], names: list[str]) -> None:
    slots = slots_of(date(2026, 1, 1), date(2026, 1, 9), grain, BERLIN)
    assert ([slot.key for slot in slots], [slot.name for slot in slots]) == (keys, names)


def test_slots_are_bounded() -> None:
    with pytest.raises(ValueError, match="choose longer ones"):
        days(MOST_SLOTS + 1)
