"""Reports as they are shown: rows with their measures, totals, and tables for files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import NamedTuple

from tracker.domain.money import show
from tracker.reading.reports.measures import currencies, values, values_in
from tracker.reading.visibility import Visibility
from tracker.store.reports.closes import ChangedSinceClose
from tracker.store.reports.groups import DIMENSIONS, TIMES, Dimension
from tracker.store.reports.measures import MEASURES
from tracker.store.reports.report import Report
from tracker.store.reports.sums import Columns, with_rest

_EPOCH = date(1970, 1, 1).toordinal()
_OTHER, _TOTAL = "(other)", "(total)"
_COMPARED = "compared"


class Shown(NamedTuple):
    """What is shown of a report."""

    groups: Sequence[str]
    measures: Sequence[str]
    visibility: Visibility


class Rows(NamedTuple):
    """What JSON has of a report."""

    data: list[dict[str, object]]
    other: dict[str, object] | None  # the groups that are not rows. None: there are none
    totals: dict[str, object]


def rows(report: Report, shown: Shown) -> Rows:
    """The rows in order, and what is not in them."""
    sides = _sides(report)
    columns = {name: values(name, sides[0]) for name in shown.measures}
    if report.compared is not None:
        columns[_COMPARED] = _dicts({name: values(name, sides[1]) for name in shown.measures})
    end = report.own.size
    data = {name: column[1:end] for name, column in columns.items()}
    return Rows(
        _dicts(_group_columns(report, shown) | data),
        {name: column[end] for name, column in columns.items()} if sides[0].size > end else None,
        {name: column[0] for name, column in columns.items()},
    )


def _sides(report: Report) -> list[Columns]:
    """The columns of each side. If groups are left out, they have one more row."""
    sides = [report.own] if report.compared is None else [report.own, report.compared]
    if report.is_whole:
        return sides
    longer = list(map(with_rest, sides))
    columns = [
        column for side in longer for of in (side.counts, *side.money.values()) for column in of.values()
    ]
    is_empty = not any(column[-1] for column in columns)
    return sides if is_empty else longer


def _dicts(columns: Mapping[str, Sequence[object]]) -> list[dict[str, object]]:
    names = tuple(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _group_columns(report: Report, shown: Shown) -> dict[str, Sequence[object]]:
    """The columns of the groups, and of their names."""
    parts = iter(report.keys)
    columns: dict[str, Sequence[object]] = {}
    for group in shown.groups:
        if group in TIMES:
            times = list(zip(*(next(parts) for _ in TIMES[group]), strict=True))
            labels = {time: _LABELS[group](*time) for time in set(times)}
            columns[group] = [labels[time] for time in times]
            continue
        dimension = DIMENSIONS[group]
        texts = next(parts)
        columns[dimension.key] = _keys(dimension, texts)
        if dimension.name in shown.visibility.keys:
            columns[dimension.name] = [report.names[group].get(text) for text in texts]
    return columns


def _keys(dimension: Dimension, texts: Sequence[str]) -> Sequence[object]:
    if dimension.kind is int:
        return [int(text) if text else None for text in texts]
    blank = None if dimension.is_nullable else ""
    return [text or blank for text in texts]


def _day(number: int) -> str:
    return date.fromordinal(_EPOCH + number).isoformat()


def _hour(number: int, ahead: int) -> str:
    zone = timezone(timedelta(seconds=ahead))
    return (datetime(1970, 1, 1, tzinfo=zone) + timedelta(hours=number)).isoformat()


_LABELS: Mapping[str, Callable[..., str]] = {
    "month": lambda number: date(number // 12, number % 12 + 1, 1).isoformat(),
    "week": lambda number: _day(number * 7 - 3),
    "day": _day,
    "hour": _hour,
}
"""What rows call a time: the first day of a month or week, a day, an hour with its offset."""


class Table(NamedTuple):
    """A report as one table: a column for each measure, and for each currency of its money."""

    columns: list[str]
    rows: list[dict[str, object]]


def as_table(report: Report, shown: Shown, *, has_totals: bool) -> Table:
    """The rows, what is not in them, and the totals if they are asked for."""
    sides = _sides(report)
    labels = [_OTHER] * (sides[0].size > report.own.size) + [_TOTAL] * has_totals
    order = [*range(1, sides[0].size), *([0] if has_totals else [])]
    columns = {name: [*keys, *labels] for name, keys in _group_columns(report, shown).items()}
    for side, ending in zip(sides, ("", f"_{_COMPARED}"), strict=False):
        columns |= {
            name + ending: [cells[place] for place in order] for name, cells in _flat(side, shown).items()
        }
    return Table(list(columns), _dicts(columns))


def _flat(columns: Columns, shown: Shown) -> dict[str, Sequence[object]]:
    """A column for each measure, and for each currency of its money. Money comes last."""
    plain = [name for name in shown.measures if not MEASURES[name].is_money]
    money = [name for name in shown.measures if MEASURES[name].is_money]
    return {
        **{name: values(name, columns) for name in plain},
        **{
            f"{name}_{currency}": values_in(name, currency, columns)
            for name in money
            for currency in currencies(name, columns)
        },
    }


def changes_of(changed: ChangedSinceClose, visibility: Visibility) -> dict[str, object]:
    """The visible changes since the close of the books, and a line about them."""
    kinds = [kind for kind in ("payout", "revenue") if kind in visibility.keys]
    money = {
        kind: {
            currency: _signed(amount)
            for (changed_kind, currency), amount in sorted(changed.money.items())
            if changed_kind == kind
        }
        for kind in kinds
    }
    amounts = [f"{kind} {amount} {code}" for kind in kinds for code, amount in money[kind].items()]
    number = f"{changed.conversions} conversion{'' if changed.conversions == 1 else 's'}"
    text = f"changed since it was closed: {', '.join([number, *amounts])}"
    counted: dict[str, object] = {"text": text, "conversions": changed.conversions}
    return counted | {kind: money[kind] for kind in kinds}


def _signed(amount: Decimal) -> str:
    return f"{'-' if amount < 0 else '+'}{show(abs(amount))}"
