"""Feeds in the order of numbers from a sequence: how far a reader may go without missing a row.

Transactions take numbers and commit in another order. So each announces, before it takes its first number,
that it may still commit numbers above the last one that was given. It does so by a lock, which its end
releases.

A reader goes on from the number of a committed row. Numbers of a transaction that was rolled back may not be
on disk, so a crash of the database can take the sequence back behind them. Then later changes get them.
"""

from __future__ import annotations

from typing import NamedTuple

from tracker.store import locks
from tracker.store.db import Connection


class Sequence(NamedTuple):
    """A sequence, and the namespace of the locks of those that take its numbers."""

    name: str
    namespace: int


CLICKS = Sequence("click_id", locks.FEED)
CONVERSIONS = Sequence("conversion_version", locks.CONVERSION_FEED)
CATALOGUE = Sequence("catalogue_version", locks.CATALOGUE_FEED)


class AheadError(ValueError):
    """A reader has read up to a number that was never given here: it read another database."""


class Reach(NamedTuple):
    """How far a feed goes. `upto` stays below `given` while a transaction holds the feed back."""

    given: int  # the highest number at the time of the read
    upto: int  # every row with a number up to this one is committed, or never will be


# The transaction with the lock of n may still commit numbers above n. Before the first number, last_value is
# 1 although none was given, so n = 1 may also mean numbers above 0.
_LOWEST_ANNOUNCED = """
SELECT min(CASE WHEN announced = 1 THEN 0 ELSE announced END)
FROM (SELECT (classid::bigint & 65535) << 32 | objid::bigint AS announced FROM pg_locks
      WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> 16 = $1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS writers
"""


async def given(connection: Connection, sequence: Sequence) -> int:
    """The highest number that was given. 0: none was."""
    statement = f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence.name}"  # noqa: S608
    return int(await connection.fetchval(statement))


async def reach(connection: Connection, sequence: Sequence) -> Reach:
    """How far a statement that begins after this one may read.

    The order of the three statements matters, and each must see earlier commits. A writer that the second one
    does not see took its numbers after the first (they are higher), or committed before the third.
    """
    highest = await given(connection, sequence)
    announced = await connection.fetchval(_LOWEST_ANNOUNCED, sequence.namespace >> 48)
    return Reach(highest, highest if announced is None else min(highest, announced))


async def upto(connection: Connection, sequence: Sequence, after: int) -> int:
    """The last number that a reader may read that has read up to `after`. It may be of no row.

    Raises:
        AheadError: `after` was never given.
    """
    highest, last = await reach(connection, sequence)
    if after > highest:
        raise AheadError("is ahead of all changes, as after a restore: start again with 0")
    return max(last, after)
