"""The statement of a report, put together from parts: clicks, conversions, and the order of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tracker.store.reports import sources
from tracker.store.reports.conversions import MONEY, TOOK, conversions_parts, each_part, summed_part
from tracker.store.reports.groups import DIMENSIONS, TIMES, Key, keys_of
from tracker.store.reports.measures import COUNTED_CLICKS, COUNTED_CONVERSIONS, STATUSES, TIMED
from tracker.store.reports.request import Compared, ReportRequest
from tracker.store.reports.sources import Plan, Wanted
from tracker.store.reports.sums import COUNTS, FIELDS


def statement(asked: ReportRequest, plans: Sequence[Plan]) -> tuple[str, list[object]]:
    """The statement of the totals, which come first, and of the rows in order."""
    values: list[object] = []
    keys = keys_of(asked.wanted.groups)
    ctes = _side("own", asked, asked.wanted, plans[0], keys, values)
    sides = ["own"]
    if asked.compared is not None:
        moved = [_moved(key, asked.compared) for key in keys]
        ctes += _side("other", asked, asked.compared.wanted, plans[1], moved, values)
        sides.append("other")
    columns = [key.column for key in keys]
    shown = _list([*columns, *(f"{side}_{name}" for side in sides for name in FIELDS)])
    nulls = "".join(f"NULL::{_type(key)}, " for key in keys)
    totals = _list([f"{side}_total.*" for side in sides])
    return (
        f"""
WITH {", ".join(ctes)}, every AS (
    SELECT {_list(columns)}, {_list([_filled(side, name) for side in sides for name in FIELDS])},
           own_sorted
    FROM own {f"FULL JOIN other USING ({_list(columns)})" if asked.compared else ""}
), chosen AS (
    SELECT * FROM every WHERE {_condition(asked, keys)}
    ORDER BY {_picked(asked, keys)} LIMIT {asked.limit}
)
SELECT {shown} FROM (
    SELECT 0 AS place, {nulls}{totals} FROM {" CROSS JOIN ".join(f"{side}_total" for side in sides)}
    UNION ALL
    SELECT row_number() OVER (ORDER BY {_shown(asked, keys)}), {shown} FROM chosen
) AS answer (place, {shown}) ORDER BY place
""",  # noqa: S608
        values,
    )


def _moved(key: Key, compared: Compared) -> Key:
    """A key of the other span, in the numbers of the report."""
    sql = (
        key.sql.replace("second", f"(second - {compared.wanted.later})") if compared.wanted.later else key.sql
    )
    shift = 0 if sql == "ahead" else compared.shifts.get(key.group, 0)
    return key._replace(sql=f"{sql} - {shift}" if shift else sql)


def _filled(side: str, name: str) -> str:
    """A sum of a side that may be missing."""
    column = f"{side}_{name}"
    return f"coalesce({column}, 0) AS {column}" if name in COUNTS else column


def _side(
    side: str, asked: ReportRequest, wanted: Wanted, plan: Plan, keys: Sequence[Key], values: list[object]
) -> list[str]:
    """CTEs of one span: its groups, with the name of the side, and their totals."""
    columns = _list([key.column for key in keys])
    named_keys = "".join(f"{key.sql} AS {key.column}, " for key in keys)
    clicks = " UNION ALL ".join(sources.parts(plan, wanted, values))
    kept = None if asked.basis == "booked" else sources.counted_conversions(wanted)
    conversions = conversions_parts(wanted.clicks, asked.basis, wanted.dimensions, kept, values)
    converted = summed_part(
        named_keys, [key.column for key in keys], _zoned(" UNION ALL ".join(conversions), wanted)
    )
    counted = _named({**COUNTED_CONVERSIONS, "money": MONEY})
    gross = _named({name: f"sum({name})" for name in COUNTED_CLICKS})
    extra = asked.sort.money_terms if asked.sort else {}
    sums = _list([f"coalesce({name}, 0)::bigint AS {name}" for name in COUNTS])
    known = _list([f"{name} AS {side}_{name}" for name in FIELDS])
    return [
        f"{side}_converted AS ({converted})",
        f"""{side}_conversions AS (
    SELECT {columns}, {_list([counted, *([_named(extra)] if extra else [])])}
    FROM {side}_converted GROUP BY {columns}
)""",  # noqa: S608
        f"""{side}_clicks AS (
    SELECT {named_keys}{gross} FROM {_zoned(clicks, wanted)} GROUP BY {columns}
    HAVING sum(gross) <> 0  -- deltas of a click that was taken back add up to nothing
)""",  # noqa: S608
        f"{side}_timed AS ({_timed(asked, wanted, keys, values)})",
        f"""{side} AS (
    SELECT {columns}, {known}, {asked.sort.sql if asked.sort else "NULL"} AS {side}_sorted FROM (
        SELECT {columns}, {sums}, median, money{"".join(f", {name}" for name in extra)}
        FROM {side}_clicks FULL JOIN {side}_conversions USING ({columns})
        LEFT JOIN (SELECT * FROM {side}_timed WHERE NOT is_total) AS timed USING ({columns})
    ) AS each
)""",  # noqa: S608
        f"""{side}_total AS (
    SELECT {known} FROM (
        SELECT {sums}, median, money FROM (SELECT {gross} FROM {side}_clicks) AS clicks
        CROSS JOIN (SELECT {counted} FROM {side}_converted) AS conversions
        LEFT JOIN {side}_timed ON is_total
    ) AS each
)""",  # noqa: S608
    ]


def _timed(asked: ReportRequest, wanted: Wanted, keys: Sequence[Key], values: list[object]) -> str:
    """SQL: the time from click to conversion, of groups and of all. No row if nobody asks for it."""
    if not asked.is_timed:
        nothing = {key.column: f"NULL::{_type(key)}" for key in keys}
        nothing |= {"is_total": "true", **dict.fromkeys(TIMED, "NULL::bigint")}
        return f"SELECT {_named(nothing)} WHERE false"
    each = each_part(wanted.clicks, asked.basis, wanted.dimensions, values, TOOK)
    named_keys = "".join(f"{key.sql} AS {key.column}, " for key in keys)
    columns = _list([key.column for key in keys])
    return f"""
    SELECT {columns}, GROUPING({columns}) <> 0 AS is_total,
           {_named({name: f"({sql})::bigint" for name, sql in TIMED.items()})}
    FROM (SELECT {named_keys}took FROM {_zoned(each, wanted)}) AS each
    GROUP BY GROUPING SETS (({columns}), ())"""  # noqa: S608


def _zoned(rows: str, wanted: Wanted) -> str:
    """Rows with a `second`, and with the zone's `ahead` at that time if they are grouped by time."""
    if not wanted.offsets:
        return f"({rows}) AS part"
    *earlier, last = wanted.offsets
    cases = "".join(f"WHEN second < {offset.high} THEN {offset.seconds} " for offset in earlier)
    ahead = f"CASE {cases}ELSE {last.seconds} END" if cases else f"{last.seconds}"
    return f"({rows}) AS part CROSS JOIN LATERAL (SELECT {ahead} AS ahead) AS zone"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


def _named(expressions: Mapping[str, str]) -> str:
    return ", ".join(f"{sql} AS {name}" for name, sql in expressions.items())


def _type(key: Key) -> str:
    return "text" if key.group in DIMENSIONS else "bigint"


def _condition(asked: ReportRequest, keys: Sequence[Key]) -> str:
    """SQL: which groups are rows. Values that a source does not keep have no key."""
    conditions = [f"{key.column} IS NOT NULL" for key in keys]
    if asked.min_clicks:
        conditions.append(f"own_clicks >= {asked.min_clicks}")
    if asked.with_conversions and asked.basis == "booked":
        conditions.append("own_money IS NOT NULL")  # a correction counts no conversion
    elif asked.with_conversions:
        conditions.append(" + ".join(f"own_{status}" for status in STATUSES) + " > 0")
    if asked.compared is not None:
        within = asked.compared.within
        conditions += [
            f"{key.column} BETWEEN {within[key.group][0]} AND {within[key.group][1]}"
            for key in keys
            if key.group in within and key.sql != "ahead"
        ]
    return " AND ".join(conditions)


def _picked(asked: ReportRequest, keys: Sequence[Key]) -> str:
    """SQL: the order that decides which groups are rows."""
    largest = ["own_gross DESC", "own_approved DESC", *(key.column for key in keys)]
    if asked.sort is None:
        return _list(largest)
    how = "DESC NULLS LAST" if asked.sort.is_descending else "ASC NULLS LAST"
    of_group = [_place(key) for key in keys if key.group == asked.sort.by and key.sql != "ahead"]
    wanted = of_group or ["own_sorted"]
    return _list([*(f"{one} {how}" for one in wanted), *largest])


def _shown(asked: ReportRequest, keys: Sequence[Key]) -> str:
    """SQL: the order of rows."""
    if asked.sort is not None:
        return _picked(asked, keys)
    times = [key for time in TIMES for key in keys if key.group == time and key.sql != "ahead"]
    return _list([*map(_place, times), _picked(asked, keys)])


def _place(key: Key) -> str:
    """SQL: the place of a key among others. Hours are ordered by their beginning in UTC."""
    if key.group != "hour":
        return key.order
    ahead = f"key{int(key.column.removeprefix('key')) + 1}"
    return f"{key.column} * 3600 - {ahead}"
