"""Conversions as reports add them up: by columns copied from their clicks, or by the clicks themselves.

Whole days, or quarter-hours, come from conversion_count and its deltas if these cover the report. All other
conversions are added up one by one. Their time grows with the conversions of the range, not with its clicks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tracker.domain.click_fields import FROZEN
from tracker.store.clicks.list import ClickFilter, where
from tracker.store.conversions.list import Basis, bounds
from tracker.store.reports.conversion_counts import COUNTED, MEASURES, SUMMED_BY
from tracker.store.reports.groups import DIMENSIONS
from tracker.store.time_span import ALL_TIME, SLOT_MILLIS, Span

_SECOND: Mapping[Basis, str] = {
    "click": "click_second",
    "conversion": "floor(extract(epoch FROM created_at))::bigint",
}
_SLOT_SECONDS = SLOT_MILLIS // 1000
_SUMS = ", ".join((*SUMMED_BY, *MEASURES))
_FACTS = f"{', '.join(SUMMED_BY)}, 1 AS conversions, is_over_cap::integer AS over_cap, payout, revenue"
TOOK = "floor(extract(epoch FROM created_at))::bigint - click_second AS took"
"""SQL of a conversion: the seconds since its click."""


class Kept(NamedTuple):
    """What conversion_count has of a report."""

    dimension: str
    quarters: int  # 1 or SLOTS_A_DAY
    span: Span  # whole units of so many quarter-hours


def conversions_parts(
    clicks: ClickFilter, basis: Basis, dimensions: Sequence[str], kept: Kept | None, values: list[object]
) -> list[str]:
    """SQL: the conversions of some clicks, one by one or added up, with the keys of some dimensions."""
    if kept is None:
        return [each_part(clicks, basis, dimensions, values)]
    ends = (Span(clicks.span.low, kept.span.low), Span(kept.span.high, clicks.span.high))
    return [
        *(
            each_part(clicks._replace(span=end), basis, dimensions, values)
            for end in ends
            if end.low < end.high
        ),
        *_kept_parts(clicks, basis, dimensions, kept, values),
    ]


def each_part(
    clicks: ClickFilter, basis: Basis, dimensions: Sequence[str], values: list[object], facts: str = _FACTS
) -> str:
    """SQL: the conversions of some clicks, one by one."""
    named = "".join(f"{DIMENSIONS[name].of_conversion} AS {name}, " for name in dimensions)
    columns = {column for name in dimensions for column in DIMENSIONS[name].columns}
    told = f"{named}{_SECOND[basis]} AS second, {facts}"
    return f"SELECT {told} {_rest(clicks, basis, columns, values)}"


def _kept_parts(
    clicks: ClickFilter, basis: Basis, dimensions: Sequence[str], kept: Kept, values: list[object]
) -> tuple[str, str]:
    """The rows of conversion_count, and the deltas that are not added up yet."""
    counts, deltas = f"dimension = '{kept.dimension}'", "true"
    if clicks.equals:
        values.append(str(clicks.equals[0][1]))
        counts += f" AND key = ${len(values)}"
        deltas = f"coalesce({COUNTED[kept.dimension]}::text, '') = ${len(values)}"
    named = "".join(f"key AS {name}, " for name in dimensions)
    named_delta = "".join(f"{DIMENSIONS[name].of_conversion} AS {name}, " for name in dimensions)
    low, high = kept.span.low // SLOT_MILLIS, kept.span.high // SLOT_MILLIS
    return (
        f"SELECT {named}slot * {_SLOT_SECONDS}::bigint AS second, {_SUMS} FROM conversion_count"  # noqa: S608
        f" WHERE basis = '{basis}' AND quarters = {kept.quarters} AND {counts}"
        f" AND slot >= {low} AND slot < {high}",
        f"SELECT {named_delta}{basis}_second AS second, {_SUMS} FROM conversion_delta"  # noqa: S608
        f" WHERE {deltas} AND {basis}_second >= {low * _SLOT_SECONDS}"
        f" AND {basis}_second < {high * _SLOT_SECONDS}",
    )


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
    source = _source(columns | clicks.columns - {"hash"})
    return f"FROM {source} WHERE {condition}"


def summed_part(named_keys: str, keys: Sequence[str], conversions: str) -> str:
    """SQL: conversions summed by group, status and currency."""
    return f"""
    SELECT {named_keys}{", ".join(SUMMED_BY)},
           {", ".join(f"sum({measure}) AS {measure}" for measure in MEASURES)}
    FROM {conversions} GROUP BY {", ".join((*keys, *SUMMED_BY))} HAVING sum(conversions) <> 0"""  # noqa: S608


MONEY = """
json_agg(json_build_array(
    outcome, payout_currency, trunc(payout * 1000000)::text, revenue_currency, trunc(revenue * 1000000)::text
)) FILTER (WHERE outcome <> 'rejected')::text"""
"""SQL: the money of groups of sums, for store.reports.sums."""


def _source(columns: set[str]) -> str:
    """Conversions with some columns of their clicks, which are read only if needed."""
    own_columns = (
        "conversion.id AS conversion_id, created_at, click_second, conversion.status AS outcome, goal_id,"
        " sale_status"
    )
    facts = f"{own_columns}, is_over_cap, payout, payout_currency, revenue, revenue_currency"
    if columns <= FROZEN:
        own = "".join(f"{column}, " for column in sorted(columns))
        return f"(SELECT click_hash AS hash, {own}{facts} FROM conversion WHERE NOT is_test) AS converted"  # noqa: S608
    own = "".join(f"click.{column}, " for column in sorted(columns))
    return f"""
    (SELECT click_hash AS hash, {own}{facts}
     FROM conversion CROSS JOIN LATERAL (SELECT * FROM click WHERE hash = click_hash OFFSET 0) AS click
     WHERE NOT conversion.is_test) AS converted"""  # noqa: S608
