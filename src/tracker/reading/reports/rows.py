"""Reports as they are shown: rows with their measures, totals, and tables for files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple

from tracker.domain.money import show
from tracker.reading.reports.measures import Columns, columns_of, currencies, values, values_in
from tracker.reading.visibility import Visibility
from tracker.store.reports.closes import ChangedSinceClose
from tracker.store.reports.groups import DIMENSIONS, TIMES, Dimension
from tracker.store.reports.measures import MEASURES
from tracker.store.reports.report import Group, Report
from tracker.store.reports.sums import Sums, added_up, difference

_EPOCH = date(1970, 1, 1).toordinal()
_OTHER, _TOTAL = "(other)", "(total)"
_COMPARED = "compared"


class Shown(NamedTuple):
    """What is shown of a report."""

    groups: Sequence[str]
    measures: Sequence[str]
    visibility: Visibility


def rows(report: Report, shown: Shown) -> list[dict[str, object]]:
    """The rows, in order."""
    columns = _group_columns(report, shown)
    columns |= _measured(columns_of([group.sums for group in report.groups]), shown)
    compared = [group.compared for group in report.groups if group.compared is not None]
    if compared:
        columns[_COMPARED] = _dicts(_measured(columns_of(compared), shown))
    return _dicts(columns)


def totals(report: Report, shown: Shown) -> dict[str, object]:
    """The measures of all groups together."""
    return _sums(report.totals.sums, report.totals.compared, shown)


def other(report: Report, shown: Shown) -> dict[str, object] | None:
    """The measures of the groups that are not rows. None if there are none."""
    rest = _rest(report)
    return None if rest is None else _sums(rest.sums, rest.compared, shown)


def _sums(sums: Sums, compared: Sums | None, shown: Shown) -> dict[str, object]:
    (one,) = _dicts(_measured(columns_of([sums]), shown))
    if compared is not None:
        one[_COMPARED] = _dicts(_measured(columns_of([compared]), shown))[0]
    return one


def _rest(report: Report) -> Group | None:
    if report.is_whole:
        return None
    rest = difference(report.totals.sums, added_up(group.sums for group in report.groups))
    if report.totals.compared is None:
        return Group((), rest, None) if any(rest[:-2]) else None
    known = added_up(group.compared for group in report.groups if group.compared is not None)
    compared = difference(report.totals.compared, known)
    return Group((), rest, compared) if any(rest[:-2]) or any(compared[:-2]) else None


def _measured(columns: Columns, shown: Shown) -> dict[str, Sequence[object]]:
    return {name: values(name, columns) for name in shown.measures}


def _dicts(columns: Mapping[str, Sequence[object]]) -> list[dict[str, object]]:
    names = tuple(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _group_columns(report: Report, shown: Shown) -> dict[str, Sequence[object]]:
    """The columns of the groups, and of their names."""
    parts: Iterator[Any] = zip(*(group.keys for group in report.groups), strict=True)
    columns: dict[str, Sequence[object]] = {}
    for group in shown.groups:
        if group in TIMES:
            told = [next(parts, ()) for _ in TIMES[group]]
            columns[group] = [_LABELS[group](*key) for key in zip(*told, strict=True)]
            continue
        dimension = DIMENSIONS[group]
        texts = next(parts, ())
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
    named = _group_columns(report, shown)
    groups = list(report.groups)
    for label, extra in ((_OTHER, _rest(report)), (_TOTAL, report.totals if has_totals else None)):
        if extra is not None:
            groups.append(extra)
            named = {name: [*values, label] for name, values in named.items()}
    own = columns_of([group.sums for group in groups])
    every = columns_of([report.totals.sums])
    columns = named | _flat(own, every, shown)
    if report.totals.compared is not None:
        compared = columns_of([group.compared for group in groups if group.compared is not None])
        flat = _flat(compared, columns_of([report.totals.compared]), shown)
        columns |= {f"{name}_{_COMPARED}": values for name, values in flat.items()}
    return Table(list(columns), _dicts(columns))


def _flat(columns: Columns, every: Columns, shown: Shown) -> dict[str, Sequence[object]]:
    """A column for each measure, and for each currency that `every` has of its money. Money comes last."""
    plain = [name for name in shown.measures if not MEASURES[name].is_money]
    money = [name for name in shown.measures if MEASURES[name].is_money]
    return {
        **{name: values(name, columns) for name in plain},
        **{
            f"{name}_{currency}": values_in(name, currency, columns)
            for name in money
            for currency in currencies(name, every)
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
