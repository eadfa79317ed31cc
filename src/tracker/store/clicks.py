"""Storing clicks, each exactly once: COPY to staging, ordered insert, counts of the rows really inserted."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from tracker.model import ClickRow
from tracker.store.pool import Connection

FEED_LOCK = 0x7C1C << 48
"""Advisory-lock namespace of the after_id feed: FEED_LOCK | n is held, shared, by a transaction that may
still commit ids above n, and by no other."""

BAD_ROW: tuple[type[Exception], ...] = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    OverflowError,
    TypeError,
    ValueError,
)
"""What Postgres, or asyncpg encoding for it, says of a row that can never be stored."""

_STAGING = """
CREATE TEMP TABLE IF NOT EXISTS incoming (LIKE click) ON COMMIT DELETE ROWS;
ALTER TABLE incoming ALTER id DROP NOT NULL
"""
_ANNOUNCE = "SELECT pg_advisory_xact_lock_shared($1 | last_value) FROM click_id"

_COLUMNS = ", ".join(ClickRow._fields)

# The counts are of the rows that this statement inserts, so a batch stored twice counts once; ordered by key,
# so that two writers with overlapping batches wait for each other instead of deadlocking.
_INSERT = f"""
WITH inserted AS (
    INSERT INTO click ({_COLUMNS})
    SELECT {_COLUMNS} FROM incoming ORDER BY hash
    ON CONFLICT (hash) DO NOTHING
    RETURNING offer_id, affiliate_id, click_slot(hash) AS slot
), counted AS (
    INSERT INTO click_count (dimension, key, slot, clicks)
    SELECT CASE WHEN GROUPING(offer_id) = 0 THEN 'offer'
                WHEN GROUPING(affiliate_id) = 0 THEN 'affiliate'
                ELSE 'all' END AS dimension,
           coalesce(offer_id, affiliate_id, 0) AS key, slot, count(*)
    FROM inserted
    GROUP BY GROUPING SETS ((slot), (slot, offer_id), (slot, affiliate_id))
    ORDER BY dimension, key, slot
    ON CONFLICT (dimension, key, slot) DO UPDATE SET clicks = click_count.clicks + excluded.clicks
)
SELECT count(*) FROM inserted
"""  # noqa: S608


async def prepare(connection: Connection) -> None:
    """Give a connection its staging table; once, before the first `store`."""
    await connection.execute(_STAGING)


async def store(connection: Connection, rows: Sequence[ClickRow]) -> int:
    """Store rows in one transaction and return how many were new.

    A row whose hash is stored already is left as it was. On any error nothing of the batch is stored.

    Raises:
        BAD_ROW: a value that the table cannot take; storing halves of the batch finds it.
    """
    async with connection.transaction():
        await connection.copy_records_to_table("incoming", records=rows, columns=ClickRow._fields)
        await connection.execute(_ANNOUNCE, FEED_LOCK)
        return int(await connection.fetchval(_INSERT))
