"""The values of measures, column by column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tracker.domain.money import show_millionths
from tracker.store.reports.measures import KINDS, MEASURES, Measure
from tracker.store.reports.sums import APART, Columns

_MILLION = 1_000_000


def values(name: str, columns: Columns) -> Sequence[object]:
    """The values of a measure. Ratios are texts with six decimals, null where they would divide by zero.

    Amounts are texts by currency.
    """
    measure = MEASURES[name]
    if measure.is_money:
        return _by_currency(measure, columns)
    if measure.plus == ("median",):
        return columns.medians
    value = _difference(measure, columns)
    return ratios(value, _total(measure.per, columns)) if measure.per else value


def values_in(name: str, currency: str, columns: Columns) -> list[str | None]:
    """The amounts or ratios of a measure in one currency. A row without such an amount has 0."""
    amounts = _amounts(MEASURES[name], currency, columns, blank=0)
    return _texts(MEASURES[name], currency, columns, amounts)


def currencies(name: str, columns: Columns) -> list[str]:
    """The currencies that a measure has."""
    return sorted({currency for side in MEASURES[name].sides for currency in columns.money.get(side, ())})


def ratios(over: Iterable[int], under: Iterable[int]) -> list[str | None]:
    """Ratios with six decimals, rounded half away from zero. None: by zero."""
    return [_ratio(value, per) if per else None for value, per in zip(over, under, strict=True)]


def _ratio(value: int, per: int) -> str:
    if value < 0:
        text = _ratio(-value, per)
        return text if text == "0.000000" else f"-{text}"
    millionths = (2 * _MILLION * value + per) // (2 * per)
    if millionths < _MILLION:
        return f"0.{millionths:06}"
    return f"{millionths // _MILLION}.{millionths % _MILLION:06}"


def _difference(measure: Measure, columns: Columns) -> Sequence[int]:
    plus = _total(measure.plus, columns)
    if not measure.minus:
        return plus
    return [one - other for one, other in zip(plus, _total(measure.minus, columns), strict=True)]


def _total(names: Iterable[str], columns: Columns) -> Sequence[int]:
    first, *others = (columns.counts[name] for name in names)
    return list(map(sum, zip(first, *others, strict=True))) if others else first


def _by_currency(measure: Measure, columns: Columns) -> list[dict[str, str | None]]:
    rows: list[dict[str, str | None]] = [{} for _ in range(columns.size)]
    for currency in sorted({code for side in measure.sides for code in columns.money.get(side, ())}):
        amounts = _amounts(measure, currency, columns, blank=None)
        texts = _texts(measure, currency, columns, amounts)
        for row, amount, text in zip(rows, amounts, texts, strict=True):
            if amount is not None:
                row[currency] = text
    return rows


def _column(kind: str, currency: str, columns: Columns, blank: int | None) -> Sequence[int | None]:
    column = columns.money.get(kind, {}).get(currency)
    if column is None:
        return [blank] * columns.size
    return column if blank is None else [blank if amount is None else amount for amount in column]


def _amounts(measure: Measure, currency: str, columns: Columns, *, blank: int | None) -> Sequence[int | None]:
    """The amounts, or `blank`. None where a profit would be of one side only."""
    (kind,) = measure.plus
    plus = _column(kind, currency, columns, blank)
    if not measure.minus:
        return plus
    minus = _column(measure.minus[0], currency, columns, blank)
    apart = _column(APART, currency, columns, 0)
    return [
        None if is_apart or (one is None and other is None) else (one or 0) - (other or 0)
        for one, other, is_apart in zip(plus, minus, apart, strict=True)
    ]


def _texts(
    measure: Measure, currency: str, columns: Columns, amounts: Sequence[int | None]
) -> list[str | None]:
    if not measure.per:
        return [None if amount is None else show_millionths(amount) for amount in amounts]
    if measure.per[0] in KINDS:
        per = [number or 0 for number in _column(measure.per[0], currency, columns, 0)]
    else:
        per = [number * _MILLION for number in _total(measure.per, columns)]
    known = [0 if amount is None else number for amount, number in zip(amounts, per, strict=True)]
    return ratios([amount or 0 for amount in amounts], known)
