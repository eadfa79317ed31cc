"""The ledger's numbers from Postgres: stored clicks by the minute of their hash.

Imported clicks are left out, because edges never recorded them.
"""

from __future__ import annotations

from tracker.domain.click_id import first_hash_at
from tracker.store.clicks.counts import MINUTE_COUNTS
from tracker.store.db import Connection

_STORED = f"""
SELECT minute, sum(stored - imported)::bigint FROM {MINUTE_COUNTS}
WHERE minute >= $1 AND minute < $2 GROUP BY minute HAVING sum(stored) <> sum(imported)
"""  # noqa: S608
_ROWS = f"""
SELECT minute, coalesce(rows, 0) - coalesce(imported, 0)
FROM (SELECT click_millis(hash) / 60000 AS minute, count(*) AS rows
      FROM click WHERE hash >= $1 AND hash < $2 GROUP BY 1) AS found
FULL JOIN (SELECT minute, sum(imported)::bigint AS imported FROM {MINUTE_COUNTS}
           WHERE minute >= $3 AND minute < $4 AND imported <> 0 GROUP BY minute) AS moved USING (minute)
WHERE rows IS DISTINCT FROM imported
"""  # noqa: S608


async def stored(connection: Connection, minutes: range) -> dict[int, int]:
    """Stored clicks of each minute, as counted by the transactions that stored them."""
    return dict(await connection.fetch(_STORED, minutes.start, minutes.stop))


async def stored_and_rows(connection: Connection, minutes: range) -> tuple[dict[int, int], dict[int, int]]:
    """The same, and the rows of the click table, in one snapshot."""
    bounds = (first_hash_at(minutes.start * 60_000), first_hash_at(minutes.stop * 60_000))
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        counted = await stored(connection, minutes)
        return counted, dict(await connection.fetch(_ROWS, *bounds, minutes.start, minutes.stop))
