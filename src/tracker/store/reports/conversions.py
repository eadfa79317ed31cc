"""Conversions as reports add them up: by columns copied from their clicks, or by the clicks themselves.

They are few, so they are added up one by one. The time grows with the conversions of the range, not with its
clicks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tracker.domain.click_fields import FROZEN
from tracker.store.clicks.list import ClickFilter, where
from tracker.store.conversions.list import Basis, bounds
from tracker.store.time_span import ALL_TIME

COUNTS = {
    "approved": "outcome = 'approved'",
    "pending": "outcome = 'pending'",
    "hold": "outcome = 'hold'",
    "rejected": "outcome = 'rejected'",
    "over_cap": "is_over_cap",
}
"""The counts of conversions."""

KINDS = ("payout", "revenue", "pending_payout", "pending_revenue")
"""The sums of money of a report: of approved conversions, and of pending ones or those on hold."""

_SECOND: Mapping[Basis, str] = {
    "click": "click_second",
    "conversion": "floor(extract(epoch FROM created_at))::bigint",
}
_AMOUNTS = ("payout", "payout_currency", "revenue", "revenue_currency")


def conversions_part(clicks: ClickFilter, basis: Basis, keys: Mapping[str, str], values: list[object]) -> str:
    """SQL: the conversions of some clicks. `keys` are columns of the clicks by their names in it."""
    named = "".join(f"coalesce({column}::text, '') AS {name}, " for name, column in keys.items())
    facts = f"{named}{_SECOND[basis]} AS second, outcome, is_over_cap, {', '.join(_AMOUNTS)}"
    return f"SELECT {facts} {_rest(clicks, basis, set(keys.values()), values)}"


def ids_part(clicks: ClickFilter, basis: Basis, values: list[object]) -> str:
    """SQL: ids and times of the conversions of some clicks."""
    return f"SELECT conversion_id, created_at {_rest(clicks, basis, set(), values)}"


def _rest(clicks: ClickFilter, basis: Basis, columns: set[str], values: list[object]) -> str:
    own, span = clicks._replace(has_conversions=None), clicks.span
    if basis == "conversion":
        own = own._replace(span=ALL_TIME)
    condition, given = where(own, len(values))
    values += given
    if basis == "conversion":
        condition += bounds(span, basis, values)
    if clicks.has_conversions is False:
        condition += " AND false"
    source = _source({*columns, *(column for column, _ in clicks.equals)} - {"hash"})
    return f"FROM {source} WHERE {condition}"


def summed_part(named_keys: str, keys: Sequence[str], conversions: str) -> str:
    """SQL: conversions summed by group, status, cap flag and currency."""
    columns = ("outcome", "is_over_cap", "payout_currency", "revenue_currency")
    return f"""
    SELECT {named_keys}{", ".join(columns)},
           count(*) AS conversions, sum(payout) AS payout, sum(revenue) AS revenue
    FROM {conversions} GROUP BY {", ".join((*keys, *columns))}"""  # noqa: S608


def money_part(keys: Sequence[str]) -> str:
    """SQL: the sums of money of the relation `converted`: keys, kind, currency, amount."""
    return f"""
    SELECT {"".join(f"{key}, " for key in keys)}kind, currency, sum(amount) AS amount
    FROM converted CROSS JOIN LATERAL (VALUES
        (CASE outcome WHEN 'approved' THEN 'payout' ELSE 'pending_payout' END, payout_currency, payout),
        (CASE outcome WHEN 'approved' THEN 'revenue' ELSE 'pending_revenue' END, revenue_currency, revenue)
    ) AS told (kind, currency, amount)
    WHERE outcome <> 'rejected' GROUP BY {", ".join((*keys, "kind", "currency"))}"""  # noqa: S608


def _source(columns: set[str]) -> str:
    """Conversions with some columns of their clicks, which are read only if needed."""
    own_columns = "conversion.id AS conversion_id, created_at, click_second, conversion.status AS outcome"
    facts = f"{own_columns}, is_over_cap, {', '.join(_AMOUNTS)}"
    if columns <= FROZEN:
        own = "".join(f"{column}, " for column in sorted(columns))
        return f"(SELECT click_hash AS hash, {own}{facts} FROM conversion WHERE NOT is_test) AS converted"  # noqa: S608
    own = "".join(f"click.{column}, " for column in sorted(columns))
    return f"""
    (SELECT click_hash AS hash, {own}{facts}
     FROM conversion CROSS JOIN LATERAL (SELECT * FROM click WHERE hash = click_hash OFFSET 0) AS click
     WHERE NOT conversion.is_test) AS converted"""  # noqa: S608
