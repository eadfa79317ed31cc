"""The sums of a group of clicks and their conversions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tracker.store.reports.conversions import Money, add


class Sums(NamedTuple):
    gross: int = 0
    clicks: int = 0  # accepted, by people
    uniques: int = 0
    approved: int = 0
    pending: int = 0
    hold: int = 0
    rejected: int = 0
    over_cap: int = 0
    soon: int = 0
    late: int = 0
    median: int | None = None  # seconds. Medians cannot be added up
    money: Money = {}  # noqa: RUF012 - a constant mapping


COUNTS = Sums._fields[:-2]
"""All but the median and the money."""


def added_up(parts: Iterable[Sums]) -> Sums:
    """The sums of several groups together, without a median."""
    *counts, _, moneys = zip(Sums(), *parts, strict=True)
    total: dict[str, dict[str, int]] = {}
    for money in moneys:
        for kind, amounts in money.items():
            for currency, amount in amounts.items():
                add(total, kind, currency, amount)
    return Sums._make((*map(sum, counts), None, total))


def difference(whole: Sums, part: Sums) -> Sums:
    """The sums of what is not in a part, without a median."""
    counts = (getattr(whole, name) - getattr(part, name) for name in COUNTS)
    money = {
        kind: {
            currency: amount - part.money.get(kind, {}).get(currency, 0) for currency, amount in of.items()
        }
        for kind, of in whole.money.items()
    }
    return Sums._make((*counts, None, money))
