"""The cells of a report: a measure's value in words, and how it changed since the other span."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final, NamedTuple

from tracker.store.reports.measures import KINDS, MEASURES, Measure

_PERCENT: Final = Decimal(100)
_HUNDREDTH, _TEN_THOUSANDTH = Decimal("0.01"), Decimal("0.0001")
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400

Json = Mapping[str, Any]


class Value(NamedTuple):
    """One line of a cell. An amount has a line for each currency."""

    text: str
    before: str = ""  # the same of the other span
    change: str = ""  # with its sign


def values_of(name: str, row: Json) -> list[Value]:
    """The lines of a measure in a row of the report's JSON."""
    measure, other = MEASURES[name], row.get("compared")
    if not measure.is_money:
        return [_value(measure, "", row[name], other[name] if other else None, is_compared=bool(other))]
    befores: Json = other[name] if other else {}
    found = [
        _value(measure, code, row[name].get(code), befores.get(code), is_compared=bool(other))
        for code in sorted({*row[name], *befores})
    ]
    return found or [Value("-")]


def _value(measure: Measure, currency: str, now: Any, before: Any, *, is_compared: bool) -> Value:
    text = shown(measure, now, currency)
    if not is_compared:
        return Value(text)
    return Value(text, shown(measure, before, currency), _change(measure, now, before))


def shown(measure: Measure, value: Any, currency: str = "") -> str:
    """A value in words, with its unit."""
    if value is None:
        return "-"
    if _is_share(measure):
        return f"{_rounded(Decimal(value) * _PERCENT, _HUNDREDTH)} %{f' {currency}' if currency else ''}"
    if currency:
        amount = f"{_rounded(Decimal(value), _TEN_THOUSANDTH)}" if measure.per else _amount(value)
        return f"{amount} {currency}"
    return _duration(value) if measure.plus == ("median",) else f"{value:,}"


def _is_share(measure: Measure) -> bool:
    """Whether a ratio has no unit: money by clicks has one."""
    return bool(measure.per) and (measure.per[0] in KINDS) == measure.is_money


def _rounded(value: Decimal, step: Decimal) -> str:
    return f"{value.quantize(step, ROUND_HALF_UP):,}"


def _amount(text: str) -> str:
    """An exact amount with at least two decimals."""
    whole, _, decimals = text.partition(".")
    sign = "-" if whole.startswith("-") else ""
    return f"{sign}{int(whole.removeprefix('-')):,}.{decimals:0<2}"


def _duration(seconds: int) -> str:
    if seconds < _MINUTE:
        return f"{seconds} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min {seconds % _MINUTE} s"
    if seconds < _DAY:
        return f"{seconds // _HOUR} h {seconds % _HOUR // _MINUTE} min"
    return f"{seconds // _DAY} d {seconds % _DAY // _HOUR} h"


def _change(measure: Measure, now: Any, before: Any) -> str:
    """The difference, and what part of the other span's value it is."""
    zero = None if measure.per or measure.is_timed else 0
    one, other = (zero if value is None else value for value in (now, before))
    if one is None or other is None:
        return ""
    difference = Decimal(one) - Decimal(other)
    if not difference:
        return "±0"
    sign = "+" if difference > 0 else "-"
    if _is_share(measure):
        return f"{sign}{_rounded(abs(difference) * _PERCENT, _HUNDREDTH)} points"
    part = f" ({sign}{_part(abs(difference), abs(Decimal(other)))} %)" if Decimal(other) else ""
    return f"{sign}{_plain(measure, abs(difference))}{part}"


def _plain(measure: Measure, difference: Decimal) -> str:
    if measure.is_money:
        return _rounded(difference, _TEN_THOUSANDTH) if measure.per else _amount(f"{difference:f}")
    return _duration(int(difference)) if measure.plus == ("median",) else f"{int(difference):,}"


def _part(difference: Decimal, other: Decimal) -> str:
    return f"{(difference / other * _PERCENT).quantize(Decimal('0.1'), ROUND_HALF_UP):,}"


def currencies_of(name: str, rows: Sequence[Json]) -> list[str]:
    """The currencies that a measure has in some rows."""
    return sorted({code for row in rows for code in row.get(name) or ()})
