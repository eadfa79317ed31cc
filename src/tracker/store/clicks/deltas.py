"""What batches of clicks add to the counts: rows that writers only insert, and that a worker adds up.

Writers that updated the counts of a day themselves would wait for each other. Readers add deltas and counts
in one snapshot (the views of store.clicks.counts), so the time of adding up changes no number.
"""

from __future__ import annotations

from tracker.store import adding_up
from tracker.store.adding_up import Waiting
from tracker.store.clicks import counts as click_counts
from tracker.store.clicks.counts import MEASURES
from tracker.store.clicks.tally import Tally
from tracker.store.db import Connection, Pool
from tracker.store.reports.rollups import FORGET_CHANGED
from tracker.store.time_span import SLOT_MILLIS, SLOTS_A_DAY

_QUARTER_COLUMNS = f"(dimension, keys, slots, {', '.join(MEASURES)})"
_MINUTE_COLUMNS = "(minutes, stored, imported)"
_NOTE_QUARTERS = f"""
INSERT INTO quarter_delta {_QUARTER_COLUMNS}
SELECT $1, $2::text[], $3::integer[], {", ".join(f"${n}::integer[]" for n in range(4, 4 + len(MEASURES)))}
"""
# Pieces of sub ids with these clicks are not true any more. A trigger of the table also says so, for rows
# that somebody changes by hand. Citus has no triggers.
_CHANGED = f"""changed AS (
    INSERT INTO sub_id_change SELECT DISTINCT affiliate_id, (millis / {SLOT_MILLIS})::integer FROM {{}}
)"""  # noqa: S608
_NOTE_MINUTES = f"""
INSERT INTO minute_delta {_MINUTE_COLUMNS} SELECT $1::bigint[], $2::integer[], $3::integer[]
"""


async def note(connection: Connection, counted: Tally) -> None:
    """Insert the deltas of clicks that were counted in Python. None of them is imported."""
    await connection.executemany(
        _NOTE_QUARTERS, [(dimension, keys, slots, *sums) for dimension, keys, slots, sums in counted.quarters]
    )
    minutes, stored = counted.minutes
    await connection.execute(_NOTE_MINUTES, minutes, stored, [0] * len(minutes))


def noting(clicks: str, imported: str, sign: int = 1) -> str:
    """CTEs that count clicks and insert their deltas. `sign`: -1 if they are taken back.

    `imported`: how many of a minute's `stored` are imported.
    """
    noted = _noting(clicks, imported, sign)
    return noted if sign > 0 else f"{noted}, {_CHANGED.format(clicks)}"


def _noting(clicks: str, imported: str, sign: int) -> str:
    measures = "".join(f", array_agg({sign} * {measure}::integer)" for measure in MEASURES)
    return f"""noted_quarters AS (
    INSERT INTO quarter_delta {_QUARTER_COLUMNS}
    SELECT dimension, array_agg(key), array_agg(slot){measures}
    FROM ({click_counts.quarters_of(clicks)}) AS each GROUP BY dimension
), noted_minutes AS (
    INSERT INTO minute_delta {_MINUTE_COLUMNS}
    SELECT array_agg(minute), array_agg({sign} * stored::integer), array_agg({imported}::integer)
    FROM ({click_counts.minutes_of(clicks)}) AS each HAVING count(*) > 0
)"""  # noqa: S608


def adding(counts: str, minutes: str, reports: str) -> str:
    """CTEs that add the rows of three queries to click_count, click_minute and report_count.

    All change tables and rows in this order, as writers of earlier versions do. So none deadlock.
    """
    return f"""counted AS (
    INSERT INTO click_count (dimension, key, slot, clicks)
    SELECT dimension, key, slot, clicks FROM ({counts}) AS each
    ORDER BY dimension, key, slot
    ON CONFLICT (dimension, key, slot) DO UPDATE SET clicks = click_count.clicks + excluded.clicks
), minutes AS (
    INSERT INTO click_minute (minute, stored, imported)
    SELECT minute, stored, imported FROM ({minutes}) AS each
    ORDER BY minute
    ON CONFLICT (minute) DO UPDATE SET stored = click_minute.stored + excluded.stored,
        imported = click_minute.imported + excluded.imported
), reported AS (
    INSERT INTO report_count (quarters, dimension, key, slot, gross, clicks, uniques)
    SELECT quarters, dimension, key, slot, gross, clicks, uniques FROM ({reports}) AS each
    ORDER BY quarters, dimension, slot, key
    ON CONFLICT (quarters, dimension, slot, key) DO UPDATE SET gross = report_count.gross + excluded.gross,
        clicks = report_count.clicks + excluded.clicks, uniques = report_count.uniques + excluded.uniques
)"""  # noqa: S608


_SUMS = ", ".join(f"sum(each.{measure})::bigint AS {measure}" for measure in MEASURES)
_MINUTE_SUMS = """
SELECT minute, sum(each.stored)::bigint AS stored, sum(each.imported)::bigint AS imported
FROM taken_minutes CROSS JOIN LATERAL unnest(minutes, stored, imported) AS each (minute, stored, imported)
GROUP BY minute"""
_ADD_UP = f"""
WITH taken AS (
    DELETE FROM quarter_delta WHERE ctid = ANY (ARRAY(SELECT ctid FROM quarter_delta LIMIT $1))
    RETURNING dimension, keys, slots, {", ".join(MEASURES)}
), taken_minutes AS (
    DELETE FROM minute_delta WHERE ctid = ANY (ARRAY(SELECT ctid FROM minute_delta LIMIT $1))
    RETURNING minutes, stored, imported
), quarter_sum AS MATERIALIZED (
    SELECT dimension, key, slot, {_SUMS}
    FROM taken CROSS JOIN LATERAL unnest(keys, slots, {", ".join(MEASURES)})
        AS each (key, slot, {", ".join(MEASURES)})
    GROUP BY dimension, key, slot
), {adding(click_counts.counts_of("quarter_sum"), _MINUTE_SUMS, click_counts.reports_of("quarter_sum"))},
forgotten AS ({FORGET_CHANGED.format("quarter_sum")})
SELECT array_agg(DISTINCT slot) FROM quarter_sum WHERE least({", ".join(MEASURES)}) < 0
"""  # noqa: S608

_FORGET_EMPTY = f"""
WITH touched AS (
    SELECT slot FROM unnest($1::integer[]) AS each (slot)
    UNION SELECT slot / {SLOTS_A_DAY} * {SLOTS_A_DAY} FROM unnest($1::integer[]) AS each (slot)
), reports AS (
    DELETE FROM report_count WHERE (gross, clicks, uniques) = (0, 0, 0) AND slot IN (SELECT slot FROM touched)
)
DELETE FROM click_count WHERE clicks = 0 AND slot IN (SELECT slot FROM touched)
"""  # noqa: S608


async def add_up(connection: Connection) -> None:
    """Move deltas into the counts, in one transaction. It does nothing while another process does it."""
    async with adding_up.turn(connection) as is_ours:
        # Clicks that were taken back may leave rows of zeros.
        if is_ours and (lowered := await connection.fetchval(_ADD_UP, adding_up.MOST)):
            await connection.execute(_FORGET_EMPTY, lowered)


async def waiting(source: Connection | Pool) -> Waiting:
    """The deltas of clicks that wait to be added up."""
    return await adding_up.waiting(source, "quarter_delta")
