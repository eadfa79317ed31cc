"""The book added up by month (UTC), so that statements need not read entries of long ago.

Entries are never changed or deleted. So those up to some id are carried into book_month once, and readers add
the later ones: the book itself is the list of what waits. Writers do nothing for the sums. An entry may be
booked at a time long ago. It counts in its month all the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import NamedTuple

import asyncpg

from tracker.domain.statement import Party
from tracker.store import adding_up
from tracker.store.clicks.recount import Difference
from tracker.store.db import Connection
from tracker.store.time_span import Span

MOST = 50_000
"""Entries of a table that are carried in one transaction."""

_ENTRIES = """
SELECT '{party}' AS party, {party}_id AS party_id, {side}_currency AS currency,
    CASE WHEN is_adjustment THEN 'adjustments' ELSE 'booked' END AS line, booked_at, {side} AS amount
FROM conversion_entry AS entry WHERE {side} <> 0 AND {conversion_entry}
UNION ALL
SELECT '{party}', {party}_id, currency, kind, booked_at, change
FROM manual_entry AS entry WHERE {party}_id IS NOT NULL AND {manual_entry}"""
_MONTH = "date_trunc('month', booked_at, 'UTC')::date"
_SUMS = f"""
SELECT party, party_id, currency, {_MONTH} AS month, line, count(*) AS entries, sum(amount) AS amount
FROM ({{entries}}) AS each GROUP BY 1, 2, 3, 4, 5"""  # noqa: S608
_KEY = "party, party_id, currency, month, line"
_CARRY = f"""
INSERT INTO book_month AS known ({_KEY}, entries, amount) {{sums}}
ON CONFLICT ({_KEY}) DO UPDATE
SET entries = known.entries + excluded.entries, amount = known.amount + excluded.amount"""
_CARRIED = "SELECT conversion_entry, manual_entry FROM book_carried"
_NOTE = "UPDATE book_carried SET conversion_entry = $1, manual_entry = $2"
_LAST = "SELECT * FROM last_entries()"

_MONTHS = f"""
SELECT DISTINCT month FROM book_month WHERE month >= $1 AND month <= $2
UNION SELECT DISTINCT {_MONTH} FROM conversion_entry WHERE {_MONTH} >= $1 AND {_MONTH} <= $2
UNION SELECT DISTINCT {_MONTH} FROM manual_entry WHERE {_MONTH} >= $1 AND {_MONTH} <= $2
ORDER BY 1"""  # noqa: S608
_WRONG = f"""
WITH wrong AS (
    SELECT {_KEY}, known.entries AS said_entries, recounted.entries AS found_entries,
        known.amount AS said_amount, recounted.amount AS found_amount
    FROM (SELECT * FROM book_month WHERE month = $1) AS known FULL JOIN ({{sums}}) AS recounted USING ({_KEY})
    WHERE (known.entries, known.amount) IS DISTINCT FROM (recounted.entries, recounted.amount)
)"""  # noqa: S608
_COMPARE = f"""{_WRONG}
SELECT measure || ' of ' || line || ' by ' || party || ', a month' AS dimension, party_id AS key,
    extract(epoch FROM month)::bigint * 1000 AS millis, said, found, unit
FROM wrong CROSS JOIN LATERAL (VALUES
    ('amount', said_amount, found_amount, currency), ('entries', said_entries, found_entries, 'entries')
) AS of (measure, said, found, unit)
WHERE said IS DISTINCT FROM found ORDER BY 1, 2, 6"""  # noqa: S608
_CORRECT = f"""{_WRONG}, deleted AS (
    DELETE FROM book_month
    WHERE month = $1 AND ({_KEY}) IN (SELECT {_KEY} FROM wrong WHERE found_entries IS NULL)
)
INSERT INTO book_month AS known ({_KEY}, entries, amount)
SELECT {_KEY}, found_entries, found_amount FROM wrong WHERE found_entries IS NOT NULL
ON CONFLICT ({_KEY}) DO UPDATE SET entries = excluded.entries, amount = excluded.amount"""  # noqa: S608

Which = Callable[[str], str]
"""SQL: which entries of a table."""


class Carried(NamedTuple):
    """The last ids that are in book_month, by table."""

    conversion_entry: int
    manual_entry: int

    def up_to_here(self, table: str) -> str:
        """SQL: entries of a table that are in book_month."""
        return f"entry.id <= {getattr(self, table)}"

    def later(self, table: str) -> str:
        """SQL: entries of a table that are not in book_month yet."""
        return f"entry.id > {getattr(self, table)}"


class Edge(NamedTuple):
    """A part of a month, and how often its entries count: 1, 0, or -1 where its whole month counts."""

    span: Span
    opening: int  # among those before the span of a statement
    change: int  # among those of the span


class Cut(NamedTuple):
    """Whole months of the book, and the edges that make them the time before a span and the span itself."""

    first: date  # the months before it are before the span
    last: date  # the months from `first` on and before `last` are the span's
    edges: tuple[Edge, ...]


def cut(span: Span) -> Cut:
    """Cut a span at the nearest beginnings of months, so that few days are read entry by entry."""
    first, last = _nearest_month(span.low), _nearest_month(span.high)
    is_long = first < last and abs(_millis(last) - span.high) < span.high - span.low
    edges = [_edge(_millis(first), span.low, opening=1, change=-int(is_long))]
    if is_long:
        edges.append(_edge(_millis(last), span.high, opening=0, change=1))
    else:
        last = first
        edges.append(Edge(span, 0, 1))
    return Cut(first, last, tuple(edge for edge in edges if edge.span.low < edge.span.high))


def _edge(month: int, end: int, *, opening: int, change: int) -> Edge:
    """What lies between the beginning of a month and the end of a time that was cut there."""
    if month <= end:
        return Edge(Span(month, end), opening, change)
    return Edge(Span(end, month), -opening, -change)


def _nearest_month(millis: int) -> date:
    day = datetime.fromtimestamp(millis / 1000, UTC).date()
    this = day.replace(day=1)
    following = date(this.year + this.month // 12, this.month % 12 + 1, 1)
    return min(this, following, key=lambda month: abs(_millis(month) - millis))


def _millis(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def entries_of(party: Party, which: Which) -> str:
    """A query of entries that are not 0: party, party_id, currency, line, booked_at, amount."""
    chosen = {table: which(table) for table in Carried._fields}
    return _ENTRIES.format(party=party, side=party.side, **chosen)


async def carried(connection: Connection) -> Carried:
    """Up to which entries book_month has the book, in the snapshot of the connection."""
    return Carried(*await connection.fetchrow(_CARRIED))


async def carry(connection: Connection) -> None:
    """Carry the entries that are committed into book_month, some thousands in a transaction.

    It does nothing while a transaction that books takes long. Readers are right all the same.
    """
    with suppress(asyncpg.LockNotAvailableError):
        last = Carried(*await connection.fetchrow(_LAST))
        while await _step(connection, last):
            pass


async def _step(connection: Connection, last: Carried) -> bool:
    """One transaction. False: everything up to `last` was carried."""
    async with adding_up.correcting(connection):
        before = await carried(connection)
        upto = Carried(*(max(here, min(here + MOST, end)) for here, end in zip(before, last, strict=True)))
        if upto == before:
            return False
        sums = _sums(lambda table: f"{before.later(table)} AND {upto.up_to_here(table)}")
        await connection.execute(_CARRY.format(sums=sums))
        await connection.execute(_NOTE, *upto)
    return True


def _sums(which: Which) -> str:
    """A query of rows of book_month."""
    return _SUMS.format(entries=" UNION ALL ".join(entries_of(party, which) for party in Party))


async def days(connection: Connection, first: date, last: date) -> list[date]:
    """The first days of the months of the book that are from `first` to `last`."""
    return [month for (month,) in await connection.fetch(_MONTHS, first, last)]


async def differences(connection: Connection, day: date) -> AsyncIterator[Difference]:
    """The wrong sums of the month that begins with a day."""
    if day.day == 1:
        async with connection.transaction(isolation="repeatable_read"):
            statement = _of_month(_COMPARE, await carried(connection))
            async for row in connection.cursor(statement, day):
                yield Difference(*row)


async def correct(connection: Connection, day: date) -> int:
    """Correct the sums of the month that begins with a day, and return how many were wrong."""
    if day.day != 1:
        return 0
    async with adding_up.correcting(connection):
        upto = await carried(connection)
        wrong = len(await connection.fetch(_of_month(_COMPARE, upto), day))
        await connection.execute(_of_month(_CORRECT, upto), day)
    return wrong


def _of_month(statement: str, upto: Carried) -> str:
    """A statement about the month $1, with its sums of the entries themselves."""
    within = "booked_at >= $1::date AND booked_at < $1::date + interval '1 month'"
    return statement.format(sums=_sums(lambda table: f"{upto.up_to_here(table)} AND {within}"))
