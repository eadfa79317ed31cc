"""Which source answers for the clicks of a report: the one place that decides it.

1. REPORT_COUNTS, if the groups besides time and the filters are of one counted dimension: quarter-hours and
   days, exact in every zone.
2. A rollup (store.reports.rollups) for the days that it has, if it has all columns of the report.
3. Pieces of sub ids (store.reports.sub_ids) for the hours and days that they have, if an affiliate's clicks
   are grouped by one sub id. Of several affiliates each has its own plan.
4. The click table for everything else.

All parts have the same columns: the keys of the dimensions, `second`, gross, clicks and uniques.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tracker.domain.click_id import first_hash_at
from tracker.store.clicks import counts as click_counts
from tracker.store.clicks.counts import ALL_CLICKS, REPORT_COUNTS, REPORTED, condition_of
from tracker.store.clicks.list import ClickFilter, where
from tracker.store.conditions import Among, of_key
from tracker.store.db import Connection
from tracker.store.reports import rollups, sub_ids
from tracker.store.reports.conversion_counts import COUNTED
from tracker.store.reports.conversions import Kept
from tracker.store.reports.groups import DIMENSIONS, TIMES
from tracker.store.reports.measures import COUNTED_CLICKS
from tracker.store.reports.rollups import Rollup
from tracker.store.reports.sub_ids import DAY, HOUR, Piece
from tracker.store.time_span import ALL_TIME, SLOT_MILLIS, SLOTS_A_DAY, Span

_DIMENSION_OF = {column: dimension for dimension, column in REPORTED.items()}
_SLOT_SECONDS = SLOT_MILLIS // 1000
_DAY_MILLIS = SLOT_MILLIS * SLOTS_A_DAY


MOST_CLICKS = 50_000_000
"""Most clicks that a report reads one by one. A free core reads so many in some 30 seconds."""


_MOST_APART = 20
"""Most affiliates of a report whose pieces are read."""

NARROW = "use fewer days, or filter by an offer or affiliate"
"""What helps."""


class TooManyClicksError(Exception):
    """A report has more clicks than can be read one by one in time. Its text says how many."""


class Offset(NamedTuple):
    """A period with one offset of a zone from UTC (Unix seconds, without the end)."""

    low: int
    high: int
    seconds: int


class Wanted(NamedTuple):
    """The clicks of a report, and what they are grouped by."""

    clicks: ClickFilter
    groups: Sequence[str]  # of DIMENSIONS and TIMES
    offsets: Sequence[Offset] = ()  # all of the span, if it is grouped by time
    later: int = 0  # seconds that its times are after the hours that they are shown in, in a comparison

    @property
    def dimensions(self) -> list[str]:
        return [group for group in self.groups if group in DIMENSIONS]

    @property
    def click_dimensions(self) -> list[str]:
        """Those that clicks have."""
        return [group for group in self.dimensions if DIMENSIONS[group].columns]

    @property
    def columns(self) -> set[str]:
        """The columns of clicks that decide: of groups and filters."""
        grouped = (column for group in self.dimensions for column in DIMENSIONS[group].columns)
        return {*grouped, *self.clicks.columns}

    @property
    def may_read_days(self) -> bool:
        """Whether each day (UTC) belongs to one group of time."""
        return TIMES.keys().isdisjoint(self.groups) or (
            "hour" not in self.groups and not any(offset.seconds for offset in self.offsets)
        )


def counted_dimension(wanted: Wanted) -> str | None:
    """The dimension of REPORT_COUNTS that covers the clicks, "all" without one. None if none does."""
    clicks = wanted.clicks
    is_single = clicks.only is not None or not clicks.columns
    if clicks.has_conversions is not None or not is_single or not _are_of(_SLOT_SECONDS, wanted):
        return None
    filtered = (_DIMENSION_OF.get(column, column) for column in clicks.columns)
    found = {*wanted.click_dimensions, *filtered} or {"all"}
    return found.pop() if len(found) == 1 and found <= {"all", *REPORTED} else None


def counted_conversions(wanted: Wanted) -> Kept | None:
    """What conversion_count has of the report: whole days, or all conversions by quarter-hours."""
    dimension, has_days = counted_dimension(wanted), wanted.may_read_days
    if dimension not in ("all", *COUNTED) or not (has_days or dimension == "all"):
        return None
    if wanted.dimensions != wanted.click_dimensions:
        return None
    quarters = SLOTS_A_DAY if has_days else 1
    return Kept(dimension, quarters, _whole(wanted.clicks.span, quarters * SLOT_MILLIS))


class Plan(NamedTuple):
    """Where the clicks of a report come from."""

    dimension: str | None = None  # of REPORT_COUNTS
    rollup: Rollup | None = None
    days: Sequence[Span] = ()  # runs of whole days that the rollup answers for
    pieces: Sequence[Piece] = ()  # of sub ids, that answer for their hours
    is_cut: bool = False  # some clicks of the pieces have the key null: their values are not kept
    rest: Sequence[Span] = ()  # what is read click by click
    each: Sequence[tuple[Wanted, Plan]] = ()  # plans of some affiliates' clicks, which add up to the report


async def plan(connection: Connection, wanted: Wanted) -> Plan:
    """Decide, in the snapshot of the report.

    Raises:
        TooManyClicksError: more than MOST_CLICKS would be read one by one.
    """
    found = await _plan(connection, wanted)
    number = sum([await _read_alone(connection, *each) for each in ((wanted, found), *found.each)])
    if number > MOST_CLICKS:
        raise TooManyClicksError(f"{number:,} clicks, and at most {MOST_CLICKS:,} can be read one by one")
    return found


async def _read_alone(connection: Connection, wanted: Wanted, plan: Plan) -> int:
    """At most how many clicks a plan reads one by one. 0 for a day or less."""
    clicks = wanted.clicks
    if clicks.has_conversions:  # their conversions are read, which are few
        return 0
    if sum(span.high - span.low for span in plan.rest) <= _DAY_MILLIS:
        return 0
    alone = (
        *(ClickFilter(equals=(one,)) for one in clicks.equals),
        *(ClickFilter(further=(one,)) for one in clicks.further),
    )
    scope = next((scope for one in alone if (scope := one.tally)), ALL_CLICKS)
    return sum([await click_counts.count(connection, scope, span) for span in plan.rest])


async def _plan(connection: Connection, wanted: Wanted) -> Plan:
    dimension = counted_dimension(wanted)
    if dimension is not None:
        return Plan(dimension)
    span = wanted.clicks.span
    by_sub_id = _by_sub_id(wanted)
    if by_sub_id is not None:
        return await _plan_by_sub_id(connection, wanted, by_sub_id)
    rollup = rollups.covering(wanted.columns) if wanted.may_read_days else None
    if rollup is None or wanted.clicks.has_conversions is not None:
        return Plan(rest=[span])
    days = await rollups.days_of(connection, rollup, _whole(span, _DAY_MILLIS))
    return Plan(rollup=rollup, days=days, rest=_between(span, days))


class _BySubId(NamedTuple):
    affiliate_ids: Sequence[int]
    field: str


async def _plan_by_sub_id(connection: Connection, wanted: Wanted, by: _BySubId) -> Plan:
    """Pieces of one affiliate, or of each of the largest. The others' clicks are read together."""
    span = wanted.clicks.span
    if len(by.affiliate_ids) == 1:
        id_ = by.affiliate_ids[0]
        covered = await sub_ids.cover(connection, id_, span, _hours(wanted))
        is_cut = await sub_ids.is_cut(connection, id_, by.field, covered.pieces)
        return Plan(pieces=covered.pieces, is_cut=is_cut, rest=covered.gaps)
    largest = await sub_ids.largest(connection, by.affiliate_ids, span, _MOST_APART)
    each = []
    for id_ in largest:
        one = _of_affiliates(wanted, [id_])
        each.append((one, await _plan_by_sub_id(connection, one, by._replace(affiliate_ids=[id_]))))
    if others := [id_ for id_ in by.affiliate_ids if id_ not in largest]:
        each.append((_of_affiliates(wanted, others), Plan(rest=[span])))
    return Plan(each=each, is_cut=any(plan.is_cut for _, plan in each))


def _of_affiliates(wanted: Wanted, ids: Sequence[int]) -> Wanted:
    if len(ids) == 1:
        clicks = wanted.clicks._replace(equals=(("affiliate_id", ids[0]),), further=())
    else:
        clicks = wanted.clicks._replace(equals=(), further=(Among("affiliate_id", tuple(ids)),))
    return wanted._replace(clicks=clicks)


def _by_sub_id(wanted: Wanted) -> _BySubId | None:
    """The affiliates and the sub id of a report that pieces may answer."""
    only = wanted.clicks.only
    if wanted.clicks.has_conversions is not None or only is None or only.is_excluded:
        return None
    if only.column != "affiliate_id":
        return None
    fields = wanted.columns - {"affiliate_id"}
    if len(fields) != 1 or not fields <= set(sub_ids.FIELDS):
        return None
    return _BySubId(sorted({int(id_) for id_ in only.values}), fields.pop())


def _hours(wanted: Wanted) -> Sequence[int]:
    """The lengths of pieces that belong to one group of time."""
    if wanted.may_read_days:
        return (HOUR, DAY)
    return (HOUR,) if _are_of(3600, wanted) else ()


def _between(span: Span, taken: Sequence[Span]) -> list[Span]:
    """The parts of a span that others, in order, leave."""
    lows = [span.low, *(one.high for one in taken)]
    highs = [*(one.low for one in taken), span.high]
    return [Span(low, high) for low, high in zip(lows, highs, strict=True) if low < high]


def parts(plan: Plan, wanted: Wanted, values: list[object]) -> list[str]:
    """SQL of the parts, which are to be added up. Appends their parameters."""
    if plan.dimension is not None:
        return _counted_parts(plan.dimension, wanted, values)
    found = [part for one, its_plan in plan.each for part in parts(its_plan, one, values)]
    found += [_clicks_part(wanted, span, values) for span in plan.rest]
    if plan.rollup is not None:
        found += [_rollup_part(plan.rollup, wanted, span, values) for span in plan.days]
    by_sub_id = _by_sub_id(wanted) if plan.pieces else None
    if by_sub_id is not None:
        found.append(_pieces_part(by_sub_id, wanted, plan.pieces))
    return found or [_clicks_part(wanted, Span(0, 0), values)]


def _keys(wanted: Wanted, texts: Mapping[str, str]) -> str:
    return "".join(f"{texts[name]} AS {name}, " for name in wanted.dimensions)


_TEXTS = {name: dimension.of_click for name, dimension in DIMENSIONS.items()}


def _counted_parts(dimension: str, wanted: Wanted, values: list[object]) -> list[str]:
    """Whole days if possible, quarter-hours around them, clicks around these."""
    span = wanted.clicks.span
    quarters = _whole(span, SLOT_MILLIS)
    days = _whole(quarters, _DAY_MILLIS) if wanted.may_read_days else Span(quarters.high, quarters.high)
    counted = [(1, Span(quarters.low, days.low)), (SLOTS_A_DAY, days), (1, Span(days.high, quarters.high))]
    found = []
    if quarters != span:
        outside = f"(hash < '{first_hash_at(quarters.low)}' OR hash >= '{first_hash_at(quarters.high)}')"
        found.append(_clicks_part(wanted, span, values, outside))
    condition = f"dimension = '{dimension}'"
    if (only := wanted.clicks.only) is not None:
        condition += f" AND key {of_key(only, values)}"
    return [*found, *(_counted_part(wanted, condition, *each) for each in counted)]


def _counted_part(wanted: Wanted, condition: str, quarters: int, span: Span) -> str:
    keys = _keys(wanted, _TEXTS | dict.fromkeys(wanted.click_dimensions, "key"))
    return (
        f"SELECT {keys}slot * {_SLOT_SECONDS}::bigint AS second, gross, clicks, uniques FROM {REPORT_COUNTS}"  # noqa: S608
        f" WHERE quarters = {quarters} AND {condition}"
        f" AND slot >= {span.low // SLOT_MILLIS} AND slot < {span.high // SLOT_MILLIS}"
    )


def _rollup_part(rollup: Rollup, wanted: Wanted, span: Span, values: list[object]) -> str:
    condition = _where(wanted.clicks._replace(span=ALL_TIME), values)
    days = f"day >= {span.low // _DAY_MILLIS} AND day < {span.high // _DAY_MILLIS}"
    sums = {name: f"sum({name})::bigint" for name in COUNTED_CLICKS}
    return _summed(wanted, "day * 86400::bigint", sums, f"{rollup.table} WHERE {condition} AND {days}")


def _pieces_part(by: _BySubId, wanted: Wanted, pieces: Sequence[Piece]) -> str:
    (affiliate_id,) = by.affiliate_ids
    texts = _TEXTS | {"affiliate": f"'{affiliate_id}'", by.field: "key"}
    return (
        f"SELECT {_keys(wanted, texts)}second, gross, clicks, uniques"  # noqa: S608
        f" FROM ({sub_ids.part(affiliate_id, [by.field], pieces)}) AS piece"
    )


def _clicks_part(wanted: Wanted, span: Span, values: list[object], which: str = "true") -> str:
    clicks = wanted.clicks._replace(span=span)
    condition = f"{_where(clicks, values)} AND {which} AND {condition_of('gross')}"
    sums = {name: f"count(*) FILTER (WHERE {condition_of(name)})" for name in COUNTED_CLICKS}
    unit = _DAY_MILLIS if wanted.may_read_days else SLOT_MILLIS if _are_of(_SLOT_SECONDS, wanted) else 1000
    second = f"click_millis(hash) / {unit} * {unit // 1000}"
    return _summed(wanted, second, sums, f"{clicks.source} WHERE {condition}")


def _summed(wanted: Wanted, second: str, sums: Mapping[str, str], rows: str) -> str:
    """Rows summed by their columns first: groups of texts take several times as long."""
    columns = sorted({column for name in wanted.dimensions for column in DIMENSIONS[name].columns})
    told = [*columns, *([f"{second} AS second"] if wanted.offsets else [])]
    grouped = ", ".join([*columns, *(["second"] if wanted.offsets else [])]) or "()"
    summed = ", ".join([*told, *(f"{sql} AS {name}" for name, sql in sums.items())])
    time = "second" if wanted.offsets else "0::bigint AS second"
    return (
        f"SELECT {_keys(wanted, _TEXTS)}{time}, {', '.join(sums)}"  # noqa: S608
        f" FROM (SELECT {summed} FROM {rows} GROUP BY {grouped}) AS summed"
    )


def _where(clicks: ClickFilter, values: list[object]) -> str:
    condition, given = where(clicks, len(values))
    values += given
    return condition


def _are_of(seconds: int, wanted: Wanted) -> bool:
    """Whether local times begin at whole units. Long ago clocks had other offsets than quarter-hours."""
    changes = [offset.low for offset in wanted.offsets[1:]]
    ahead = [offset.seconds for offset in wanted.offsets]
    return not any(number % seconds for number in (*changes, *ahead, wanted.later))


def _whole(span: Span, unit: int) -> Span:
    """The whole units of a span in milliseconds. Empty at its end if it has none."""
    low, high = -(-span.low // unit) * unit, span.high // unit * unit
    return Span(low, high) if low < high else Span(span.high, span.high)
