"""Makes the pieces of `store.reports.sub_ids`, beside the writers: they neither wait for it nor do its work.

An hour is made from clicks, a day from its hours and the clicks of hours that have no piece. So each click is
read once. A piece notes what report_count said in the same snapshot. If new clicks come, report_count grows.
If clicks are deleted or changed, a trigger notes their time. In both cases the piece is made again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import NamedTuple

from tracker.domain.click_id import first_hash_at
from tracker.store import locks, time_span
from tracker.store.clicks import kept
from tracker.store.clicks.counts import REPORT_COUNTS, condition_of
from tracker.store.clicks.recount import Difference
from tracker.store.db import Connection, Pool
from tracker.store.locks import Lock
from tracker.store.reports import sub_ids
from tracker.store.reports.sub_ids import DAY, FIELDS, HOUR, MEASURES, SLOTS_AN_HOUR, Piece
from tracker.store.time_span import SLOT_MILLIS, SLOTS_A_DAY, Span

LEAST_CLICKS = 1_000
"""The clicks that make a piece worth its place. Fewer are read one by one as quickly."""

MOST_KEYS = 10_000
"""Most values of a field that a piece keeps: those with the most clicks, and with more than one."""

AGAIN_SECONDS = 600
"""A piece is not made again sooner, however many late clicks come. Until then reports read its clicks."""

_SETTLED_SECONDS = 60
"""How long ago a piece has ended. Clicks are stored within a second or two."""

_FROZEN_SECONDS = 60

# A frozen worker must not keep the lock. A worker must leave the second core to the writers.
_SESSION = f"""
SET idle_in_transaction_session_timeout = '{_FROZEN_SECONDS}s';
SET idle_session_timeout = '{_FROZEN_SECONDS}s';
SET max_parallel_workers_per_gather = 0;
SET plan_cache_mode = force_custom_plan;
SET synchronous_commit = off
"""
_EACH = ", ".join(MEASURES)
_SUMS = ", ".join(f"sum({measure})::bigint AS {measure}" for measure in MEASURES)

_DAYS = f"""
SELECT DISTINCT slot / {SLOTS_A_DAY} AS day FROM {REPORT_COUNTS}
WHERE quarters = {SLOTS_A_DAY} AND dimension = 'all'
UNION SELECT slot / {SLOTS_A_DAY} FROM sub_id_piece
"""  # noqa: S608
_DUE = f"""
WITH big AS MATERIALIZED (
    SELECT key FROM {REPORT_COUNTS}
    WHERE quarters = {SLOTS_A_DAY} AND dimension = 'affiliate' AND slot = $1
    GROUP BY key HAVING sum(gross) >= $2
)
SELECT key::bigint, now.slot, now.hours
FROM big
CROSS JOIN LATERAL ({sub_ids.counted("big.key", "$1", f"$1 + {SLOTS_A_DAY}")}) AS now
LEFT JOIN sub_id_piece AS piece
    ON (piece.affiliate_id, piece.slot, piece.hours) = (key::bigint, now.slot, now.hours)
WHERE $1 >= coalesce({kept.FIRST_DAY} - date '1970-01-01', 0) * {SLOTS_A_DAY}
    AND now.counted >= $2 AND now.counted IS DISTINCT FROM piece.counted
    AND now.slot + now.hours * {SLOTS_AN_HOUR}
        <= (extract(epoch FROM clock_timestamp()) - {_SETTLED_SECONDS}) / {SLOT_MILLIS // 1000}
    AND (piece.made_at < clock_timestamp() - make_interval(secs => $3)) IS NOT FALSE
ORDER BY now.hours, now.slot DESC, key::bigint
"""  # noqa: S608
_AFFILIATES = f"""
SELECT DISTINCT key::bigint FROM {REPORT_COUNTS}
WHERE quarters = {SLOTS_A_DAY} AND dimension = 'affiliate' AND slot = $1
    AND EXISTS (SELECT FROM sub_id_piece WHERE affiliate_id = key::bigint)
ORDER BY 1
"""  # noqa: S608
_FORGET_CHANGED = f"""
WITH change AS (DELETE FROM sub_id_change RETURNING affiliate_id, slot)
DELETE FROM sub_id_piece AS piece USING change
WHERE piece.affiliate_id = change.affiliate_id
    AND change.slot >= piece.slot AND change.slot < piece.slot + hours * {SLOTS_AN_HOUR}
"""  # noqa: S608
_FORGET = "DELETE FROM sub_id_piece WHERE (affiliate_id, slot, hours) = ($1, $2, $3)"
_NOTE_ROUND = "UPDATE sub_id_round SET ended_at = clock_timestamp()"
_BEHIND = "SELECT extract(epoch FROM clock_timestamp() - ended_at)::float8 FROM sub_id_round"


class Due(NamedTuple):
    """A piece to be made."""

    affiliate_id: int
    piece: Piece


async def begin(connection: Connection) -> None:
    """Prepare a connection to make pieces."""
    await connection.execute(_SESSION)


@asynccontextmanager
async def turn(connection: Connection) -> AsyncIterator[bool]:
    """One process makes pieces at a time. False while another one does.

    After an error the connection has to be closed.
    """
    is_ours = await locks.try_to_take(connection, Lock.SUB_IDS)
    yield is_ours
    if is_ours:
        await locks.release(connection, Lock.SUB_IDS)


async def days(connection: Connection, first: date = date.min, last: date = date.max) -> list[date]:
    """The days (UTC) from `first` to `last` that have clicks or pieces, the newest first. Only kept days."""
    kept_from = await kept.first_day(connection)
    first = first if kept_from is None else max(first, kept_from)
    found = time_span.dates(row["day"] for row in await connection.fetch(_DAYS))
    return sorted((day for day in found if first <= day <= last), reverse=True)


async def due(connection: Connection, day: date, again_seconds: float = AGAIN_SECONDS) -> list[Due]:
    """The pieces of a day that are missing or not true: hours before the day itself. None without rows."""
    rows = await connection.fetch(_DUE, _first_slot(day), LEAST_CLICKS, again_seconds)
    return [Due(affiliate_id, Piece(slot, hours)) for affiliate_id, slot, hours in rows]


async def forget_changed(connection: Connection) -> None:
    """Delete the pieces of clicks that were deleted or changed. Only in a `turn`."""
    await connection.execute(_FORGET_CHANGED)


async def make(connection: Connection, wanted: Due) -> None:
    """Make a piece, in one transaction. Only in a `turn`."""
    affiliate_id, piece = wanted
    async with connection.transaction(isolation="repeatable_read"):
        await connection.execute(_FORGET, affiliate_id, *piece)
        await connection.execute(await _making(connection, wanted), MOST_KEYS)


async def note_round(connection: Connection) -> None:
    """Note that no piece of the last two days is missing."""
    await connection.execute(_NOTE_ROUND)


async def behind(source: Connection | Pool) -> float:
    """Seconds since pieces were last complete: about a minute, and more if no worker runs."""
    return float(await source.fetchval(_BEHIND))


async def differences(connection: Connection, day: date) -> AsyncIterator[Difference]:
    """The wrong sums of a day's pieces. Pieces that reports do not read any more are left out."""
    async for wrong in _wrong(connection, day):
        for difference in wrong.differences:
            yield difference


async def correct(connection: Connection, day: date) -> int:
    """Make a day's wrong pieces again, and return how many sums were wrong."""
    await locks.take(connection, Lock.SUB_IDS)
    found = [wrong async for wrong in _wrong(connection, day)]
    for wrong in sorted(found, key=lambda wrong: wrong.due.piece.hours):  # days are made from their hours
        await make(connection, wrong.due)
    await locks.release(connection, Lock.SUB_IDS)
    return sum(len(wrong.differences) for wrong in found)


class _Wrong(NamedTuple):
    due: Due
    differences: list[Difference]


async def _wrong(connection: Connection, day: date) -> AsyncIterator[_Wrong]:
    if not await kept.is_kept(connection, day):
        return
    first = _first_slot(day)
    span = Span(first * SLOT_MILLIS, (first + SLOTS_A_DAY) * SLOT_MILLIS)
    for (affiliate_id,) in await connection.fetch(_AFFILIATES, first):
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            for piece in sorted(await sub_ids.true_pieces(connection, affiliate_id, span)):
                rows = await connection.fetch(_comparing(affiliate_id, piece))
                if rows:
                    found = [Difference(name, key, piece.span.low, *sums) for name, key, *sums in rows]
                    yield _Wrong(Due(affiliate_id, piece), found)


def _comparing(affiliate_id: int, piece: Piece) -> str:
    """A query of what differs between a piece and its clicks.

    If a field has values that are not kept, a kept one may have fewer clicks: those of hours that did not
    keep it. All values together have all clicks.
    """
    kept = sub_ids.part(affiliate_id, FIELDS, [piece])
    pairs = ", ".join(f"('{measure}', said.{measure}, found.{measure})" for measure in MEASURES)
    length = "a day" if piece.hours == DAY else "an hour"
    return f"""
WITH found (field, key, {_EACH}) AS MATERIALIZED ({_clicks_part(affiliate_id, piece.span)}
), said AS MATERIALIZED (SELECT field, key, {_EACH} FROM ({kept}) AS kept
), sums AS (
    SELECT field, {_SUMS} FROM said GROUP BY field
    UNION ALL
    SELECT 'all', {_EACH} FROM sub_id_piece
    WHERE (affiliate_id, slot, hours) = ({affiliate_id}, {piece.slot}, {piece.hours})
)
SELECT measure || ' by ' || field || ' of affiliate {affiliate_id}, {length}' AS name, key, said, found
FROM (
    SELECT field, key, measure, said, found FROM found FULL JOIN said USING (field, key)
    CROSS JOIN LATERAL (VALUES {pairs}) AS of (measure, said, found)
    WHERE key IS NOT NULL AND field <> '' AND (
        coalesce(said, 0) > coalesce(found, 0)
        OR coalesce(said, 0) < coalesce(found, 0)
            AND field NOT IN (SELECT field FROM said WHERE key IS NULL)
    )
    UNION ALL
    SELECT said.field, '', measure, said, found FROM sums AS said CROSS JOIN found
    CROSS JOIN LATERAL (VALUES {pairs}) AS of (measure, said, found)
    WHERE found.field = '' AND said <> found
) AS wrong
ORDER BY name, key"""  # noqa: S608


async def _making(connection: Connection, wanted: Due) -> str:
    """The statement that makes a piece, for the snapshot of the connection."""
    affiliate_id, piece = wanted
    covered = await sub_ids.cover(connection, affiliate_id, piece.span, [HOUR] if piece.hours == DAY else [])
    parts = [_clicks_part(affiliate_id, gap) for gap in covered.gaps]
    if covered.pieces:
        kept = sub_ids.part(affiliate_id, FIELDS, covered.pieces)
        parts.append(f"SELECT field, key, {_EACH} FROM ({kept}) AS of_hours")  # noqa: S608
        hours = ", ".join(str(hour.slot) for hour in covered.pieces)
        parts.append(
            f"SELECT '', '', {_EACH} FROM sub_id_piece"  # noqa: S608
            f" WHERE affiliate_id = {affiliate_id} AND hours = {HOUR} AND slot IN ({hours})"
        )
    now = sub_ids.counted(f"'{affiliate_id}'", piece.slots.start, piece.slots.stop)
    place = f"{affiliate_id}, {piece.hours}, {piece.slot}"
    arrays = ", ".join(f"array_agg({measure} ORDER BY key)" for measure in MEASURES)
    return f"""
WITH summed AS MATERIALIZED (
    SELECT field, key, {_SUMS} FROM ({" UNION ALL ".join(parts)}) AS part GROUP BY field, key
), ranked AS (
    SELECT *, count(key) OVER (PARTITION BY field) AS known,
        row_number() OVER (PARTITION BY field, key IS NULL ORDER BY gross DESC, key) AS place
    FROM summed WHERE field <> ''
), kept AS (
    SELECT field, CASE WHEN known <= $1 OR place <= $1 AND gross > 1 THEN key END AS key, {_EACH} FROM ranked
), packed AS (
    SELECT field, key, {_SUMS} FROM kept GROUP BY field, key
), piece AS (
    INSERT INTO sub_id_piece (affiliate_id, hours, slot, counted, {_EACH})
    SELECT {place}, (SELECT counted FROM ({now}) AS now WHERE hours = {piece.hours}), {_EACH}
    FROM summed WHERE field = ''
)
INSERT INTO sub_id_count (affiliate_id, hours, slot, field, keys, {_EACH})
SELECT {place}, field, array_agg(key ORDER BY key), {arrays}
FROM packed GROUP BY field HAVING bool_or(key IS DISTINCT FROM '')
"""  # noqa: S608


def _clicks_part(affiliate_id: int, span: Span) -> str:
    """Clicks one by one, by each field. All of them together have the field ''."""
    fields = " ".join(f"WHEN GROUPING({field}) = 0 THEN '{field}'" for field in FIELDS)
    keys = " ".join(f"WHEN GROUPING({field}) = 0 THEN {field}" for field in FIELDS)
    sums = ", ".join(f"count(*) FILTER (WHERE {condition_of(measure)}) AS {measure}" for measure in MEASURES)
    return f"""
    SELECT CASE {fields} ELSE '' END AS field, CASE {keys} ELSE '' END COLLATE "C" AS key, {sums}
    FROM click WHERE affiliate_id = {affiliate_id} AND {condition_of("gross")}
        AND hash >= '{first_hash_at(span.low)}' AND hash < '{first_hash_at(span.high)}'
    GROUP BY GROUPING SETS ((), {", ".join(f"({field})" for field in FIELDS)})"""  # noqa: S608


def _first_slot(day: date) -> int:
    return time_span.number_of(day) * SLOTS_A_DAY
