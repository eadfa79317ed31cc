"""The sums of a report, column by column: objects for each row would take twice the time of all else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

COUNTS = (
    *("gross", "clicks", "uniques", "approved", "pending", "hold", "rejected", "over_cap"),
    *("soon", "late"),
)
"""The sums that are counts."""

FIELDS = (*COUNTS, "median", "money")
"""What a row of the statement has of each side: counts, the median of seconds, and the money as JSON."""

APART = "apart"
"""A kind of money: amounts of approved conversions whose other side is in another currency."""

Money = Mapping[str, Mapping[str, list[int | None]]]
"""Millionths by kind and currency, a number a row. None: the row has no such amount. Whole numbers are shown
in a third of a Decimal's time."""


class Columns(NamedTuple):
    """The sums of some rows."""

    size: int
    counts: Mapping[str, Sequence[int]]
    medians: Sequence[int | None]
    money: Money


def columns_of(rows: Iterable[Sequence[Any]]) -> Columns:
    """The columns of rows of FIELDS."""
    *counts, medians, texts = zip(*rows, strict=True)
    return Columns(len(texts), dict(zip(COUNTS, counts, strict=True)), medians, _money_of(texts))


def _money_of(texts: Sequence[str | None]) -> Money:
    """See store.reports.conversions.MONEY."""
    columns: dict[tuple[str, str], list[int | None]] = {}
    parsed = orjson.loads(f"[{','.join(text or '[]' for text in texts)}]")
    for place, sums in enumerate(parsed):
        for outcome, of_payout, payout, of_revenue, revenue in sums:
            kinds = ("payout", "revenue") if outcome == "approved" else ("pending_payout", "pending_revenue")
            amounts = [(kinds[0], of_payout, int(payout)), (kinds[1], of_revenue, int(revenue))]
            if of_payout != of_revenue and outcome == "approved":
                amounts += [(APART, currency, amount) for _, currency, amount in amounts if amount]
            for kind, currency, amount in amounts:
                column = columns.get((kind, currency))
                if column is None:
                    column = columns[kind, currency] = [None] * len(texts)
                column[place] = (column[place] or 0) + amount
    return _by_kind(columns)


def _by_kind(columns: Mapping[tuple[str, str], list[int | None]]) -> Money:
    money: dict[str, dict[str, list[int | None]]] = {}
    for kind, currency in sorted(columns):
        money.setdefault(kind, {})[currency] = columns[kind, currency]
    return money


def with_rest(columns: Columns) -> Columns:
    """The same with one more row: the first one, of the totals, without all the others. It has no median."""
    return Columns(
        columns.size + 1,
        {name: [*column, _rest(column)] for name, column in columns.counts.items()},
        [*columns.medians, None],
        {
            kind: {currency: [*column, _rest([n or 0 for n in column])] for currency, column in of.items()}
            for kind, of in columns.money.items()
        },
    )


def _rest(column: Sequence[int]) -> int:
    return 2 * column[0] - sum(column)
