"""Conversions as reports add them up: by columns copied from their clicks, or by the clicks themselves.

A report of the book adds up entries of conversions instead. An approval counts as a conversion, and a
reversal as one less. So a report of all times has the conversions that are approved now.

Whole days, or quarter-hours, come from conversion_count and its deltas if these cover the report. All other
conversions are added up one by one. Their time grows with the conversions of the range, not with its clicks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from tracker.domain.click_fields import FROZEN
from tracker.store.clicks.list import ClickFilter, where
from tracker.store.conditions import of_key
from tracker.store.conversions.list import bounds
from tracker.store.reports.conversion_counts import COUNTED, IS_ANYTHING, MEASURES, SUMMED_BY
from tracker.store.reports.groups import DIMENSIONS
from tracker.store.time_span import ALL_TIME, SLOT_MILLIS, Span

Basis = Literal["click", "conversion", "booked"]
"""Which time counts: of the clicks of conversions, of conversions, or of their entries in the book."""

_PLACES: Mapping[Basis, str] = {"click": "click_hash", "conversion": "created_at", "booked": "booked_at"}
_SECOND: Mapping[Basis, str] = {
    "click": "click_second",
    "conversion": "floor(extract(epoch FROM created_at))::bigint",
    "booked": "floor(extract(epoch FROM booked_at))::bigint",
}
_SLOT_SECONDS = SLOT_MILLIS // 1000
_SUMS = ", ".join((*SUMMED_BY, *MEASURES))
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
    clicks: ClickFilter, basis: Basis, dimensions: Sequence[str], values: list[object], facts: str = _SUMS
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
    if (only := clicks.only) is not None:
        among = of_key(only, values)
        counts += f" AND key {among}"
        deltas = f"coalesce({COUNTED[kept.dimension]}::text, '') {among}"
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
    if basis != "click":
        own = own._replace(span=ALL_TIME)
    condition, given = where(own, len(values))
    values += given
    if basis != "click":
        condition += bounds(_PLACES[basis], span, values)
    if clicks.has_conversions is False:
        condition += " AND false"
    source = _source(basis, columns | clicks.columns - {"hash"})
    return f"FROM {source} WHERE {condition}"


def summed_part(named_keys: str, keys: Sequence[str], conversions: str) -> str:
    """SQL: conversions summed by group, status and currency."""
    return f"""
    SELECT {named_keys}{", ".join(SUMMED_BY)},
           {", ".join(f"sum({measure}) AS {measure}" for measure in MEASURES)}
    FROM {conversions} GROUP BY {", ".join((*keys, *SUMMED_BY))} HAVING {IS_ANYTHING}"""  # noqa: S608


MONEY = """
json_agg(json_build_array(
    outcome, payout_currency, trunc(payout * 1000000)::text, revenue_currency, trunc(revenue * 1000000)::text
)) FILTER (WHERE outcome <> 'rejected')::text"""
"""SQL: the money of groups of sums, for store.reports.sums."""

_OF_CONVERSION = """
created_at, click_second, conversion.status AS outcome, 1 AS conversions, is_over_cap::integer AS over_cap,
payout, payout_currency, revenue, revenue_currency"""
_OF_ENTRY = """
booked_at, 'approved' AS outcome,
CASE kind WHEN 'approval' THEN 1 WHEN 'reversal' THEN -1 ELSE 0 END AS conversions, 0 AS over_cap,
entry.payout, entry.payout_currency, entry.revenue, entry.revenue_currency"""
_ENTRIES = "conversion_entry AS entry JOIN conversion ON conversion.id = conversion_id"
_COLUMNS_OF_ENTRY = ("offer_id", "advertiser_id", "affiliate_id")


def _source(basis: Basis, columns: set[str]) -> str:
    """Conversions or entries with some columns of their clicks, which are read only if needed."""
    rows, facts = (_ENTRIES, _OF_ENTRY) if basis == "booked" else ("conversion", _OF_CONVERSION)
    tables = dict.fromkeys(columns, "conversion")
    if not columns <= FROZEN:
        # Its row may not be kept any more. The conversion counts all the same.
        rows += (
            " LEFT JOIN LATERAL (SELECT * FROM click WHERE hash = click_hash GROUP BY hash) AS click ON true"
        )
        tables = dict.fromkeys(columns, "click")
    elif basis == "booked":  # these are in the indexes of entries
        tables |= dict.fromkeys(columns.intersection(_COLUMNS_OF_ENTRY), "entry")
    own = "".join(f"{tables[column]}.{column}, " for column in sorted(columns))
    return f"""
    (SELECT click_hash AS hash, {own}conversion.id AS conversion_id, goal_id, sale_status, {facts}
     FROM {rows} WHERE NOT conversion.is_test) AS converted"""  # noqa: S608
