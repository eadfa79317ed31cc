"""The values of measures, column by column: a call for each value would take most of a report's time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tracker.domain.money import show_millionths
from tracker.store.reports.conversions import APART, Money
from tracker.store.reports.measures import KINDS, MEASURES, Measure
from tracker.store.reports.sums import Sums

_NONE: Mapping[str, int] = {}
_MILLION = 1_000_000


class Columns(NamedTuple):
    """The sums of rows: a sequence each of Sums."""

    sums: Mapping[str, Sequence[int]]
    money: Sequence[Money]


def columns_of(rows: Sequence[Sums]) -> Columns:
    columns = dict(zip(Sums._fields, zip(*rows, strict=True), strict=True)) if rows else {}
    money = columns.pop("money", ())
    return Columns(columns or dict.fromkeys(Sums._fields, ()), money)


def values(name: str, columns: Columns) -> Sequence[object]:
    """The values of a measure. Ratios are texts with six decimals, null where they would divide by zero.

    Amounts are texts by currency.
    """
    measure = MEASURES[name]
    if measure.is_money:
        return _money_values(measure, columns)
    value = _difference(measure, columns)
    if not measure.per:
        return value
    return [ratio(one, per) for one, per in zip(value, _total(measure.per, columns), strict=True)]


def values_in(name: str, currency: str, columns: Columns) -> list[str | None]:
    """The amounts or ratios of a measure in one currency."""
    measure = MEASURES[name]
    per = _per(measure, columns)
    return [
        _value(measure, money, currency, number) for money, number in zip(columns.money, per, strict=True)
    ]


def currencies(name: str, columns: Columns) -> list[str]:
    """The currencies that a measure has."""
    sides = MEASURES[name].sides
    return sorted({currency for money in columns.money for side in sides for currency in money.get(side, ())})


def ratio(value: int, per: int) -> str | None:
    """A ratio with six decimals, rounded half away from zero."""
    if not per:
        return None
    millionths = (2 * abs(value) * _MILLION + per) // (2 * per)
    whole, rest = divmod(millionths, _MILLION)
    return f"{'-' if value < 0 and millionths else ''}{whole}.{rest:06}"


def _difference(measure: Measure, columns: Columns) -> Sequence[int]:
    plus = _total(measure.plus, columns)
    if not measure.minus:
        return plus
    return [one - other for one, other in zip(plus, _total(measure.minus, columns), strict=True)]


def _total(names: Iterable[str], columns: Columns) -> Sequence[int]:
    first, *others = (columns.sums[name] for name in names)
    return list(map(sum, zip(first, *others, strict=True))) if others else first


def _per(measure: Measure, columns: Columns) -> Sequence[int]:
    """What each row's amounts are divided by, in whole numbers. 0 if it is an amount, or by nothing."""
    is_number = bool(measure.per) and measure.per[0] not in KINDS
    return _total(measure.per, columns) if is_number else [0] * len(columns.money)


def _money_values(measure: Measure, columns: Columns) -> list[dict[str, str | None]]:
    if len(measure.sides) == 1 and not measure.per:
        (kind,) = measure.plus
        return [
            {currency: show_millionths(of[currency]) for currency in sorted(of)}
            if (of := money.get(kind))
            else {}
            for money in columns.money
        ]
    sides = sorted(measure.sides)
    return [
        {
            currency: _value(measure, money, currency, number)
            for currency in sorted({currency for side in sides for currency in money.get(side, _NONE)})
            if not (measure.is_of_both and _is_apart(money, currency))
        }
        if money
        else {}
        for money, number in zip(columns.money, _per(measure, columns), strict=True)
    ]


def _is_apart(money: Money, currency: str) -> bool:
    return bool(APART in money and money[APART].get(currency))


def _value(measure: Measure, money: Money, currency: str, per: int) -> str | None:
    if measure.is_of_both and _is_apart(money, currency):
        return None
    amount = sum(money.get(kind, _NONE).get(currency, 0) for kind in measure.plus)
    amount -= sum(money.get(kind, _NONE).get(currency, 0) for kind in measure.minus)
    if not measure.per:
        return show_millionths(amount)
    if measure.per[0] in KINDS:
        return ratio(amount, money.get(measure.per[0], _NONE).get(currency, 0))
    return ratio(amount, per * _MILLION)
