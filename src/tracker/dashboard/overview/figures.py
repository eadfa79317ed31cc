"""The figures of the overview: cards with the span before, and the values of charts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple

from markupsafe import Markup

from tracker.dashboard import charts
from tracker.dashboard.charts import Chart, Line, Mark
from tracker.dashboard.time_slots import Grain, Slot
from tracker.store.reports.measures import MEASURES

Row = Mapping[str, Any]
"""The measures of a row of a report, or of its totals. With a comparison it has `compared`."""

Kind = Literal["count", "rate", "amount"]

NAMES: Final[Mapping[str, str]] = {
    "gross": "Gross",
    "clicks": "Clicks",
    "uniques": "Uniques",
    "invalid": "Invalid",
    "conversions_approved": "Approved",
    "conversions_pending": "Pending",
    "conversions_hold": "On hold",
    "conversions_rejected": "Rejected",
    "cr": "CR",
    "epc": "EPC",
    "payout": "Payout",
    "revenue": "Revenue",
    "profit": "Profit",
    "margin": "Margin",
}
"""The measures that have a card, in their order."""

_RATES = {"cr", "margin"}
_COMPARED = "compared"
_MOST_CURRENCIES = 2  # with a chart of their own. The report has all
_WHOLE, _TENTH = Decimal(1), Decimal("0.1")
_FEWEST = 10  # things before that a percentage says something about
_MOST_PERCENT = 999


class Figure(NamedTuple):
    """A value, and how it differs from the one before."""

    kind: Kind
    value: Decimal | None  # None: there is nothing to divide by
    before: Decimal | None
    currency: str  # "" for what is no amount
    line: Markup  # its sparkline

    @property
    def difference(self) -> Decimal | None:
        return None if self.value is None or self.before is None else self.value - self.before

    @property
    def relative(self) -> str:
        """The difference by the value before: "12.5 % more", "14 times as much", or "new" if that was 0.

        "" where it has no sense: for few things before, and for amounts below 0.
        """
        difference, before = self.difference, self.before
        if not difference or before is None or before < 0 or before + difference < 0:
            return ""
        if not before:
            return "new"
        if self.kind == "count" and before < _FEWEST:
            return ""
        part = abs(difference / before) * 100
        if part > _MOST_PERCENT:
            return f"{((before + difference) / before).quantize(_WHOLE):,} times as much"
        return f"{part.quantize(_WHOLE if part >= 10 else _TENTH):,} % {'more' if difference > 0 else 'less'}"


class Card(NamedTuple):
    """A measure with its figures: one, or one for each currency."""

    measure: str
    name: str
    about: str
    figures: list[Figure]


class Series(NamedTuple):
    """The rows of a report by time, with the times that have no row."""

    slots: Sequence[Slot]
    rows: Sequence[Row]  # {} for a time without anything
    reached: int  # so many times have begun

    def values(
        self, measure: str, currency: str = "", *, of_before: bool = False
    ) -> list[Decimal | int | None]:
        """One value a time. None: it has not begun, or there is nothing to divide by."""
        sides = (row.get(_COMPARED) or {} if of_before else row for row in self.rows[: self.reached])
        values: list[Decimal | int | None] = [_number(side, measure, currency) for side in sides]
        return values + [None] * (len(self.slots) - self.reached)


def series_of(slots: Sequence[Slot], rows: Iterable[Row], grain: Grain, now: datetime) -> Series:
    """The rows at their times."""
    by_key = {row[grain]: row for row in rows}
    return Series(
        slots, [by_key.get(slot.key, {}) for slot in slots], sum(slot.start <= now for slot in slots)
    )


def cards_of(totals: Row, series: Series | None) -> list[Card]:
    """A card for each measure that is seen. Without a series it has no line."""
    return [
        Card(measure, name, MEASURES[measure].about, list(_figures(measure, name, totals, series)))
        for measure, name in NAMES.items()
        if measure in totals
    ]


def _figures(measure: str, name: str, totals: Row, series: Series | None) -> Iterator[Figure]:
    before = totals.get(_COMPARED) or {}
    is_money = MEASURES[measure].is_money
    currencies = sorted({*totals[measure], *before.get(measure, {})}) if is_money else [""]
    kind: Kind = "rate" if measure in _RATES else "amount" if is_money else "count"
    for currency in currencies:
        now, then = (_decimal(_number(side, measure, currency)) for side in (totals, before))
        line = _line(series, measure, f"{name} {currency}", currency) if series else Markup("")
        yield Figure(kind, now, then, currency, line)


def _line(series: Series, measure: str, title: str, currency: str) -> Markup:
    return charts.sparkline(title, series.values(measure, currency)[: series.reached])


def _number(row: Row, measure: str, currency: str) -> Decimal | int | None:
    """A measure of a row. A row without it has nothing of it."""
    is_ratio = bool(MEASURES[measure].per)
    value = row.get(measure)
    if currency:
        value = (value or {}).get(currency)
    if value is None:
        return None if is_ratio else 0
    return value if isinstance(value, int) else Decimal(value)


def _decimal(value: Decimal | int | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def charts_of(totals: Row, series: Series, by: str, marks: Iterable[Mark]) -> list[Chart]:
    """Clicks, conversions, and the money of each currency. Without those that have only zeros.

    `by`: such as "by day".
    """
    clicks = [
        Line("Gross", series.values("gross")),
        Line("Clicks", series.values("clicks"), series.values("clicks", of_before=True)),
        Line("Uniques", series.values("uniques")),
    ]
    conversions = [
        Line(
            "Approved",
            series.values("conversions_approved"),
            series.values("conversions_approved", of_before=True),
        ),
        Line("Pending", series.values("conversions_pending")),
        Line("Rejected", series.values("conversions_rejected")),
    ]
    drawn: list[tuple[str, list[Line], Iterable[Mark]]] = [
        ("Clicks", clicks, marks),
        ("Conversions", conversions, ()),
    ]
    return [
        *(
            charts.time_series(f"{name} {by}", series.slots, lines, its_marks)
            for name, lines, its_marks in drawn
            if _has_values(lines)
        ),
        *(
            _money_chart(totals, series, by, currency)
            for currency in currencies_of(totals)[:_MOST_CURRENCIES]
        ),
    ]


def _has_values(lines: Iterable[Line]) -> bool:
    return any(any(line.values) or any(line.before) for line in lines)


def currencies_of(totals: Row) -> list[str]:
    """The currencies of the span, in the order of the alphabet."""
    return sorted({currency for measure in ("payout", "revenue") for currency in totals.get(measure, {})})


def _money_chart(totals: Row, series: Series, by: str, currency: str) -> Chart:
    lines = [
        Line(
            NAMES[measure], series.values(measure, currency), series.values(measure, currency, of_before=True)
        )
        for measure in ("revenue", "payout")
        if measure in totals
    ]
    return charts.time_series(f"Money in {currency} {by}", series.slots, lines, unit=currency)
