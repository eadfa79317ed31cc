"""The ledger's numbers from Postgres: stored clicks by the minute of their hash.

Imported clicks are left out, because edges never recorded them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tracker.domain.click_id import first_hash_at
from tracker.store.clicks import kept
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


class Rows(NamedTuple):
    """The rows of minutes."""

    of: Mapping[int, int]
    first: int  # the first minute whose rows are kept

    def at(self, minute: int) -> int | None:
        """The rows of a minute. None: they are not kept."""
        return self.of.get(minute, 0) if minute >= self.first else None


async def stored(connection: Connection, minutes: range) -> dict[int, int]:
    """Stored clicks of each minute, as counted by the transactions that stored them."""
    return dict(await connection.fetch(_STORED, minutes.start, minutes.stop))


async def stored_and_rows(connection: Connection, minutes: range) -> tuple[dict[int, int], Rows]:
    """The same, and the rows of the click table, in one snapshot."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        counted = await stored(connection, minutes)
        first = max(minutes.start, await kept.since(connection) // 60_000)
        bounds = (first_hash_at(first * 60_000), first_hash_at(minutes.stop * 60_000))
        found = dict(await connection.fetch(_ROWS, *bounds, first, minutes.stop))
        return counted, Rows(found, first)
