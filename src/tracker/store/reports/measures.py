"""The measures of reports: sums, and ratios of sums. One table for what rows show and what SQL sorts by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

COUNTED_CLICKS = ("gross", "clicks", "uniques")
"""The sums of clicks."""

STATUSES = ("approved", "pending", "hold", "rejected")
COUNTED_CONVERSIONS = {
    **{status: f"sum(conversions) FILTER (WHERE outcome = '{status}')" for status in STATUSES},
    "over_cap": "sum(over_cap)",
}
"""The sums of conversions, and their SQL over groups of sums."""

SOON, LATE = 10, 86_400
"""Seconds from the click. A conversion that comes sooner or later is suspicious."""

TIMED = {
    "median": "percentile_disc(0.5) WITHIN GROUP (ORDER BY took)",
    "soon": f"count(*) FILTER (WHERE took < {SOON})",
    "late": f"count(*) FILTER (WHERE took > {LATE})",
}
"""What is known of the seconds from click to conversion, and its SQL."""

_APPROVED, _OPEN = "outcome = 'approved'", "outcome IN ('pending', 'hold')"
KINDS: Mapping[str, tuple[str, str]] = {
    "payout": ("payout", _APPROVED),
    "revenue": ("revenue", _APPROVED),
    "pending_payout": ("payout", _OPEN),
    "pending_revenue": ("revenue", _OPEN),
}
"""The sums of money: the column, and which conversions."""


_BOOKED = {*COUNTED_CLICKS, "approved", "payout", "revenue"}


class Measure(NamedTuple):
    """A sum of terms, or its ratio to another sum. Terms are names of sums, or of KINDS: then by currency."""

    about: str
    plus: tuple[str, ...]
    minus: tuple[str, ...] = ()
    per: tuple[str, ...] = ()  # () = a sum
    is_of_both: bool = False  # no value in a currency that is only on one side of a conversion
    is_shown: bool = True  # without being asked for

    @property
    def is_money(self) -> bool:
        return self.plus[0] in KINDS

    @property
    def is_timed(self) -> bool:
        return self.plus[0] in TIMED

    @property
    def is_booked(self) -> bool:
        """Whether clicks and entries of the book say it."""
        return {*self.plus, *self.minus, *self.per} <= _BOOKED

    @property
    def sides(self) -> set[str]:
        """The kinds of money that it reveals."""
        return {term for term in (*self.plus, *self.minus, *self.per) if term in KINDS}


# fmt: off
MEASURES: Mapping[str, Measure] = {
    "clicks": Measure("Accepted clicks of people.", ("clicks",)),
    "uniques": Measure("Accepted clicks that are their visitor's first in the offer's window.", ("uniques",)),
    "duplicates": Measure("Accepted clicks that are not unique.", ("clicks",), ("uniques",)),
    "invalid": Measure("Rejected and forwarded clicks, and clicks of bots.", ("gross",), ("clicks",)),
    "gross": Measure("All clicks.", ("gross",)),
    "conversions_approved": Measure(
        "Approved conversions. Each conversion counts by its current status.", ("approved",)),
    "conversions_pending": Measure("Pending conversions.", ("pending",)),
    "conversions_hold": Measure("Conversions on hold.", ("hold",)),
    "conversions_rejected": Measure("Rejected conversions.", ("rejected",)),
    "conversions_over_cap": Measure("Conversions over a cap, of any status.", ("over_cap",)),
    "payout": Measure("Payout of approved conversions.", ("payout",)),
    "revenue": Measure("Revenue of approved conversions.", ("revenue",)),
    "pending_payout": Measure("Payout of conversions that are pending or on hold.", ("pending_payout",)),
    "pending_revenue": Measure("Revenue of conversions that are pending or on hold.", ("pending_revenue",)),
    "cr": Measure(
        "Conversion rate: conversions that are not rejected, per click.", ("approved", "pending", "hold"),
        per=("clicks",)),
    "approval_rate": Measure(
        "Approved conversions as a part of those that are approved or rejected.", ("approved",),
        per=("approved", "rejected")),
    "invalid_rate": Measure("Invalid clicks as a part of all.", ("gross",), ("clicks",), per=("gross",)),
    "epc": Measure("Payout per click.", ("payout",), per=("clicks",)),
    "rpc": Measure("Revenue per click.", ("revenue",), per=("clicks",)),
    "profit": Measure("Revenue without payout.", ("revenue",), ("payout",), is_of_both=True),
    "margin": Measure(
        "Profit as a part of revenue.", ("revenue",), ("payout",), per=("revenue",), is_of_both=True),
    "time_to_conversion": Measure(
        "Median of the seconds from click to conversion.", ("median",), is_shown=False),
    "under_10_seconds": Measure(
        f"Conversions less than {SOON} seconds after their click, as a part of all.", ("soon",), per=STATUSES,
        is_shown=False),
    "over_24_hours": Measure(
        "Conversions more than 24 hours after their click, as a part of all.", ("late",), per=STATUSES,
        is_shown=False),
}
"""All measures, in the order of rows."""
# fmt: on


def money_terms(measure: Measure, currency: str) -> dict[str, str]:
    """SQL over groups of sums: the columns that `ordering` needs of the money in a currency."""
    terms = {}
    for kind in sorted(measure.sides):
        column, which = KINDS[kind]
        own = f"{which} AND {column}_currency = '{currency}'"
        terms[f"sorted_{kind}"] = f"coalesce(sum({column}) FILTER (WHERE {own}), 0)"
    return terms | ({"sorted_is_apart": _is_apart(currency)} if measure.is_of_both else {})


def _is_apart(currency: str) -> str:
    """SQL: whether a currency is only on one side of some conversions."""
    sides = " OR ".join(f"{side}_currency = '{currency}' AND {side} <> 0" for side in ("payout", "revenue"))
    return f"coalesce(bool_or({_APPROVED} AND payout_currency <> revenue_currency AND ({sides})), false)"


def ordering(measure: Measure) -> str:
    """SQL: a measure of a row, to sort by. null if it has none."""
    plus, minus, per = (_terms(terms) for terms in (measure.plus, measure.minus, measure.per))
    value = f"({plus or 0} - ({minus or 0}))"
    if per:
        value = f"{value}::numeric / NULLIF({per}, 0)"
    return f"CASE WHEN NOT sorted_is_apart THEN {value} END" if measure.is_of_both else value


def _terms(terms: tuple[str, ...]) -> str:
    return " + ".join(f"coalesce(sorted_{term}, 0)" if term in KINDS else term for term in terms)
