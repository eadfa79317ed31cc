"""Exact totals, and the places of deep pages, out of the counts per quarter-hour.

A time span is a head and a tail, each less than a quarter-hour and counted in the click table itself, with
whole quarter-hours between them, whose counts are kept in click_count by the transaction that stores a click.
Read within one REPEATABLE READ snapshot, so that the parts fit together.
"""

from __future__ import annotations

from typing import NamedTuple

from tracker.clickhash import first_hash_at
from tracker.store.pool import Connection

SLOT_MILLIS = 900_000
"""A quarter-hour: the offsets of all time zones in use are whole numbers of them."""

END_OF_TIME = (1 << 48) // SLOT_MILLIS * SLOT_MILLIS
"""Unix milliseconds past every hash (the year 10889), at the start of a quarter-hour."""


class Span(NamedTuple):
    """A range of Unix milliseconds, without its end."""

    low: int
    high: int


ALL_TIME = Span(0, END_OF_TIME)


class Tally(NamedTuple):
    """Whose clicks are counted: everybody's, an offer's or an affiliate's."""

    dimension: str  # all, offer or affiliate
    key: int  # 0 for all


class Counted(NamedTuple):
    """How many clicks lie in each part of a span."""

    head: int
    slots: int
    tail: int

    @property
    def total(self) -> int:
        return self.head + self.slots + self.tail


class _Parts(NamedTuple):
    head: Span
    first_slot: int
    end_slot: int
    tail: Span


_SLOTS = "FROM click_count WHERE dimension = $1 AND key = $2 AND slot >= $3 AND slot < $4"
_SUM = f"SELECT coalesce(sum(clicks), 0)::bigint {_SLOTS}"
# Streams over the primary key and stops at the slot sought.
_LOCATE = f"""
SELECT slot, (upto - clicks)::bigint AS before
FROM (SELECT slot, clicks, sum(clicks) OVER (ORDER BY slot {{direction}}) AS upto {_SLOTS}) AS slots
WHERE upto > $5::bigint ORDER BY slot {{direction}} LIMIT 1
"""  # noqa: S608
_CONDITIONS = {"all": "$3::bigint = 0", "offer": "offer_id = $3", "affiliate": "affiliate_id = $3"}


async def count(connection: Connection, tally: Tally, span: Span) -> Counted:
    """How many clicks a span has; at most two quarter-hours of the click table are read."""
    parts = _parts(span)
    slots = await connection.fetchval(_SUM, *tally, parts.first_slot, parts.end_slot)
    head = await _count_rows(connection, tally, parts.head)
    return Counted(head, slots, await _count_rows(connection, tally, parts.tail))


async def locate(
    connection: Connection, tally: Tally, span: Span, counted: Counted, offset: int, *, newest_first: bool
) -> tuple[Span, int]:
    """Where the row number `offset` (from 0, less than the total) of a span is.

    Returns the span without what surely comes before that row, and how many rows remain to be skipped in
    it: fewer than its first quarter-hour has.
    """
    parts = _parts(span)
    if newest_first:
        near, slots_on = counted.tail, Span(span.low, parts.tail.low)
    else:
        near, slots_on = counted.head, Span(parts.head.high, span.high)
    if offset < near:
        return span, offset
    return await _locate_beyond(
        connection, tally, slots_on, parts, counted.slots, offset - near, newest_first
    )


async def _locate_beyond(
    connection: Connection,
    tally: Tally,
    span: Span,
    parts: _Parts,
    in_slots: int,
    offset: int,
    newest_first: bool,
) -> tuple[Span, int]:
    if offset >= in_slots:
        low, high = (span.low, parts.head.high) if newest_first else (parts.tail.low, span.high)
        return Span(low, high), offset - in_slots
    statement = _LOCATE.format(direction="DESC" if newest_first else "ASC")
    row = await connection.fetchrow(statement, *tally, parts.first_slot, parts.end_slot, offset)
    start = row["slot"] * SLOT_MILLIS
    narrowed = Span(span.low, start + SLOT_MILLIS) if newest_first else Span(start, span.high)
    return narrowed, offset - row["before"]


def _parts(span: Span) -> _Parts:
    first, end = -(-span.low // SLOT_MILLIS), span.high // SLOT_MILLIS
    if first > end:  # within one quarter-hour
        return _Parts(span, first, first, Span(span.high, span.high))
    head = Span(span.low, first * SLOT_MILLIS)
    return _Parts(head, first, end, Span(end * SLOT_MILLIS, span.high))


async def _count_rows(connection: Connection, tally: Tally, span: Span) -> int:
    if span.low >= span.high:
        return 0
    statement = (
        f"SELECT count(*) FROM click WHERE hash >= $1 AND hash < $2 AND {_CONDITIONS[tally.dimension]}"  # noqa: S608
    )
    bounds = (first_hash_at(span.low), first_hash_at(span.high))
    return int(await connection.fetchval(statement, *bounds, tally.key))
