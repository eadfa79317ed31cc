"""Charts as SVG that the server draws. Each has a text for screen readers, and a table with its values.

Looks come from classes in charts.css only, as the pages forbid inline styles. Lines differ by colour, dash
and marker, so that nobody needs to see colours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from markupsafe import Markup

from tracker.dashboard.scale import Number, Scale, as_float, exact, scale_of, short
from tracker.dashboard.time_slots import MOST_SLOTS, Slot, slot_at

MOST_BARS = 60
"""The most bars of a histogram."""

_WIDTH, _HEIGHT = 720, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 708, 26, 218  # the field of the lines
_BADGE = 18  # units of the drawing that the number of a mark needs
_BADGE_ROWS = 2
_MOST_MARKERS = 40  # a line of more values has no markers, except where it has gaps on both sides
_MOST_LINES = 3
_MARKERS = ("h0", "h0", "m0-5l5 8h-10z")  # the round end of a line, a square one, and a triangle
_SPARK_WIDTH, _SPARK_HEIGHT, _SPARK_EDGE = 120, 28, 3
_STRIP_WIDTH, _STRIP_HEIGHT = 100, 10
_NEARLY_FULL = 0.8


class Line(NamedTuple):
    """One line of a chart. None is a gap."""

    name: str
    values: Sequence[Number | None]
    before: Sequence[Number | None] = ()  # the same of the span before, drawn as a dashed line


class Mark(NamedTuple):
    """Something that happened."""

    at: datetime
    text: str


class Happened(NamedTuple):
    """The marks of one time. The chart shows their number."""

    number: int
    name: str  # of the time
    texts: list[str]


class Key(NamedTuple):
    """What a kind of line means."""

    name: str
    sample: Markup


class Table(NamedTuple):
    """The values of a chart. The first cell of a row is its name."""

    heads: list[str]
    rows: list[list[str]]


class Chart(NamedTuple):
    """A drawing with all that belongs to it. The macro `figure` of charts.html shows it."""

    title: str
    svg: Markup
    legend: list[Key]
    happened: list[Happened]
    table: Table


class Bar(NamedTuple):
    """One bar."""

    name: str
    value: Number


def time_series(
    title: str, slots: Sequence[Slot], lines: Sequence[Line], marks: Iterable[Mark] = (), unit: str = ""
) -> Chart:
    """One to three lines over the same times. All values are in `unit`.

    Raises:
        ValueError: too many times or lines, a line of another length, or a value that is not finite.
    """
    if not 0 < len(slots) <= MOST_SLOTS or not 0 < len(lines) <= _MOST_LINES:
        raise ValueError(f"a chart has up to {MOST_SLOTS} times and up to {_MOST_LINES} lines")
    drawn = [values for line in lines for values in (line.values, line.before) if values]
    if any(len(values) != len(slots) for values in drawn):
        raise ValueError("a line has one value for each time")
    scale = scale_of([value for values in drawn for value in values])
    happened = _happened(slots, marks)
    table = _table_of(slots, lines, unit)
    parts = [
        *_grid(scale, unit),
        *_time_ticks(slots),
        *(part for number, line in enumerate(lines) for part in _drawn(number, line, scale)),
        *_badges(slots, happened),
        *_tips(slots, table),
    ]
    about = f"{len(slots)} times from {slots[0].name} to {slots[-1].name}. "
    about += " ".join(_extent(line.name, line.values, unit) for line in lines)
    notes = [Happened(number + 1, slots[place].name, texts) for number, (place, texts) in enumerate(happened)]
    return Chart(title, _svg(title, about, parts), _keys(lines), notes, table)


def histogram(title: str, bars: Sequence[Bar], names: str, unit: str = "") -> Chart:
    """Bars beside each other, in the order that they have. `names` says what they are, such as "Minutes".

    Raises:
        ValueError: too many bars, or a value that is not finite.
    """
    if not 0 < len(bars) <= MOST_BARS:
        raise ValueError(f"a histogram has up to {MOST_BARS} bars")
    scale = scale_of([bar.value for bar in bars])
    table = Table([names, unit or "Number"], [[bar.name, _told(bar.value, unit)] for bar in bars])
    parts = [*_grid(scale, unit), *_upright_bars(bars, scale, table)]
    about = f"{len(bars)} bars. {_extent('Bars', [bar.value for bar in bars], unit)}"
    return Chart(title, _svg(title, about, parts), [], [], table)


def sparkline(title: str, values: Sequence[Number | None]) -> Markup:
    """A small line without axes. It stands beside its number.

    Raises:
        ValueError: too many values, or one that is not finite.
    """
    if len(values) > MOST_SLOTS:
        raise ValueError(f"a chart has up to {MOST_SLOTS} times")
    scale = scale_of(values)
    across, up = _SPARK_WIDTH - 2 * _SPARK_EDGE, _SPARK_HEIGHT - 2 * _SPARK_EDGE
    points = [
        None
        if value is None
        else (
            _SPARK_EDGE + across * _share(place, len(values)),
            _SPARK_HEIGHT - _SPARK_EDGE - up * scale.place(value),
        )
        for place, value in enumerate(values)
    ]
    parts = [_path(run, "line line-0") for run in _runs(points)]
    return _picture("sparkline", (_SPARK_WIDTH, _SPARK_HEIGHT), title, _extent("", values), parts)


def strips(values: Sequence[Number]) -> list[Markup]:
    """A bar for each row of a table, which has the numbers. Screen readers pass over it.

    Raises:
        ValueError: a value is not finite.
    """
    scale = scale_of(values)
    zero = scale.place(0) * _STRIP_WIDTH
    return [
        Markup(
            '<svg class="strip" viewBox="0 0 {} {}" preserveAspectRatio="none" aria-hidden="true">'
            '<rect class="bar" x="{}" y="0" width="{}" height="{}"/></svg>'
        ).format(
            _STRIP_WIDTH,
            _STRIP_HEIGHT,
            _short(min(zero, end)),
            _short(abs(end - zero)),
            _STRIP_HEIGHT,
        )
        for end in (scale.place(value) * _STRIP_WIDTH for value in values)
    ]


def meter(title: str, value: Number, most: Number) -> Markup:
    """How much of a limit is used. Its text says the numbers.

    Raises:
        ValueError: a number is not finite.
    """
    scale_of([value, most])
    used = 1.0 if most <= 0 or value >= most else max(0.0, as_float(value) / (as_float(most) or 1.0))
    level = "full" if used >= 1 else "nearly-full" if used >= _NEARLY_FULL else "free"
    about = f"{exact(value)} of {exact(most)} ({int(used * 100)} %)"
    parts = [
        Markup('<rect class="trough" x="0" y="0" width="{}" height="{}" rx="3"/>').format(
            _STRIP_WIDTH, _STRIP_HEIGHT
        ),
        Markup('<rect class="{}" x="0" y="0" width="{}" height="{}" rx="3"/>').format(
            level, _short(used * _STRIP_WIDTH), _STRIP_HEIGHT
        ),
    ]
    return _picture("meter", (_STRIP_WIDTH, _STRIP_HEIGHT), title, about, parts)


def _svg(title: str, about: str, parts: Iterable[Markup]) -> Markup:
    return _picture("plot", (_WIDTH, _HEIGHT), title, about, parts)


def _picture(kind: str, size: tuple[int, int], title: str, about: str, parts: Iterable[Markup]) -> Markup:
    return Markup(
        '<svg class="{}" viewBox="0 0 {} {}" role="img"><title>{}</title><desc>{}</desc>{}</svg>'
    ).format(kind, *size, title, about, Markup("").join(parts))


def _short(number: float) -> str:
    """A coordinate."""
    return f"{number:.1f}".removesuffix(".0")


def _share(place: int, size: int) -> float:
    """The middle of a place among `size` equal ones."""
    return (place + 0.5) / size


def _x(place: int, size: int) -> float:
    return _LEFT + (_RIGHT - _LEFT) * _share(place, size)


def _y(value: Number, scale: Scale) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * scale.place(value)


def _grid(scale: Scale, unit: str) -> Iterator[Markup]:
    for tick in scale.ticks:
        y = _short(_y(tick, scale))
        yield Markup('<path class="{}" d="M{} {}H{}"/>').format(
            "zero" if not tick else "grid", _LEFT, y, _RIGHT
        )
        yield Markup('<text class="tick" x="{}" y="{}" dy="4" text-anchor="end">{}</text>').format(
            _LEFT - 6, y, short(tick)
        )
    if unit:
        yield Markup('<text class="tick" x="{}" y="12" text-anchor="end">{}</text>').format(_LEFT - 6, unit)


def _time_ticks(slots: Sequence[Slot]) -> Iterator[Markup]:
    for place, slot in enumerate(slots):
        if slot.tick:
            x = _short(_x(place, len(slots)))
            yield Markup(
                '<path class="grid" d="M{} {}v5"/>'
                '<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>'
            ).format(x, _BOTTOM, x, _BOTTOM + 20, slot.tick)


_Point = tuple[float, float]


def _drawn(number: int, line: Line, scale: Scale) -> Iterator[Markup]:
    """The span before, the line and its markers."""
    for run in _runs(_points(line.before, scale)):
        yield _path(run, f"line before line-{number}")
    runs = list(_runs(_points(line.values, scale)))
    for run in runs:
        yield _path(run, f"line line-{number}")
    has_all = len(line.values) <= _MOST_MARKERS
    if marked := [point for run in runs if has_all or len(run) == 1 for point in run]:
        yield _markers(number, marked)


def _markers(number: int, points: Iterable[_Point]) -> Markup:
    drawn = "".join(f"M{_short(x)} {_short(y)}{_MARKERS[number]}" for x, y in points)
    return Markup('<path class="marker marker-{}" d="{}"/>').format(number, drawn)


def _points(values: Sequence[Number | None], scale: Scale) -> list[_Point | None]:
    return [
        None if value is None else (_x(place, len(values)), _y(value, scale))
        for place, value in enumerate(values)
    ]


def _runs(points: Iterable[_Point | None]) -> Iterator[list[_Point]]:
    """The points between gaps."""
    run: list[_Point] = []
    for point in points:
        if point is not None:
            run.append(point)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _path(run: Sequence[_Point], kind: str) -> Markup:
    """A line through points. A point alone is a dot, as the ends of lines are round."""
    ends = run if len(run) > 1 else [*run, *run]
    return Markup('<path class="{}" d="M{}"/>').format(
        kind, "L".join(f"{_short(x)} {_short(y)}" for x, y in ends)
    )


def _happened(slots: Sequence[Slot], marks: Iterable[Mark]) -> list[tuple[int, list[str]]]:
    """The marks of each time that has any. Those before the first time are left out."""
    found: dict[int, list[str]] = {}
    for mark in sorted(marks, key=lambda mark: mark.at):
        if (place := slot_at(slots, mark.at)) is not None:
            found.setdefault(place, []).append(mark.text)
    return list(found.items())


def _badges(slots: Sequence[Slot], happened: Sequence[tuple[int, list[str]]]) -> Iterator[Markup]:
    """Numbers above the lines. One without room has its line only."""
    free = [float(_LEFT - _BADGE)] * _BADGE_ROWS  # where the last number of each row stands
    for number, (place, texts) in enumerate(happened, start=1):
        x = _x(place, len(slots))
        row = next((row for row in range(_BADGE_ROWS) if x - free[row] >= _BADGE), None)
        yield Markup('<path class="mark-line" d="M{} {}V{}"><title>{}</title></path>').format(
            _short(x), _TOP, _BOTTOM, ". ".join(texts)
        )
        if row is not None:
            free[row] = x
            yield Markup('<text class="mark-number" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                _short(x), _TOP - 3 - row * 11, number
            )


def _tips(slots: Sequence[Slot], table: Table) -> Iterator[Markup]:
    """What a pointer over a time is told."""
    width = (_RIGHT - _LEFT) / len(slots)
    yield Markup('<g class="tips">')
    for place, row in enumerate(table.rows):
        told = ", ".join(f"{head} {cell}" for head, cell in zip(table.heads[1:], row[1:], strict=True))
        yield Markup('<path d="M{} {}h{}V{}h-{}z"><title>{}</title></path>').format(
            _short(_LEFT + width * place), _TOP, _short(width), _BOTTOM, _short(width), f"{row[0]}: {told}"
        )
    yield Markup("</g>")


def _upright_bars(bars: Sequence[Bar], scale: Scale, table: Table) -> Iterator[Markup]:
    width, zero = (_RIGHT - _LEFT) / len(bars), _y(0, scale)
    step = -(-len(bars) // 12)
    for place, (bar, row) in enumerate(zip(bars, table.rows, strict=True)):
        x, y = _LEFT + width * place, _y(bar.value, scale)
        yield Markup(
            '<rect class="bar" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
        ).format(
            _short(x + width * 0.1),
            _short(min(y, zero)),
            _short(width * 0.8),
            _short(abs(zero - y)),
            ": ".join(row),
        )
        if place % step == 0:
            yield Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                _short(x + width / 2), _BOTTOM + 20, _cut(bar.name)
            )


def _cut(name: str) -> str:
    return name if len(name) <= 10 else f"{name[:9]}…"


def _keys(lines: Sequence[Line]) -> list[Key]:
    """One for each kind of line."""
    now = [Key(line.name, _sample(number, is_before=False)) for number, line in enumerate(lines)]
    before = [
        Key(f"{line.name} before", _sample(number, is_before=True))
        for number, line in enumerate(lines)
        if line.before
    ]
    return [*now, *before]


def _sample(number: int, *, is_before: bool) -> Markup:
    kind = f"line before line-{number}" if is_before else f"line line-{number}"
    marker = Markup("") if is_before else _markers(number, [(14, 6)])
    return Markup(
        '<svg class="sample" viewBox="0 0 28 12" aria-hidden="true"><path class="{}" d="M1 6H27"/>{}</svg>'
    ).format(kind, marker)


def _table_of(slots: Sequence[Slot], lines: Sequence[Line], unit: str) -> Table:
    columns = [
        (f"{line.name}{ending}", values)
        for line in lines
        for ending, values in (("", line.values), (" before", line.before))
        if values
    ]
    return Table(
        ["Time", *(name for name, _ in columns)],
        [
            [slot.name, *(_told(values[place], unit) for _, values in columns)]
            for place, slot in enumerate(slots)
        ],
    )


def _told(value: Number | None, unit: str = "") -> str:
    """A value in words."""
    if value is None:
        return "no value"
    return f"{exact(value)} {unit}" if unit else exact(value)


def _extent(name: str, values: Sequence[Number | None], unit: str = "") -> str:
    """The range of values in words."""
    known = [value for value in values if value is not None]
    first = f"{name}: " if name else ""
    if not known:
        return f"{first}no values."
    told = (_told(value, unit) for value in (min(known), max(known), known[-1]))
    return "{}lowest {}, highest {}, last {}.".format(first, *told)
