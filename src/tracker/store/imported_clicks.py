"""Storing imported clicks: past the stream, with their counts, and the ids that they had before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from tracker.model import ClickRow
from tracker.store import clicks, partitions
from tracker.store.imports import Batch, Sums, day_of, summed
from tracker.store.pool import Connection

_ANNOUNCE = "SELECT pg_advisory_xact_lock_shared($1 | last_value) FROM click_id"
_INSERT_CLICKS = clicks.inserting("stored") + clicks.PASSED_OVER
# In order, so that others who note ids wait instead of deadlocking.
_NOTE_LEGACY = """
INSERT INTO legacy_click (legacy_id, hash)
SELECT legacy_id, hash FROM unnest($1::text[], $2::uuid[]) AS new (legacy_id, hash) ORDER BY legacy_id
ON CONFLICT DO NOTHING
"""
_LEGACY = "SELECT legacy_id, hash FROM legacy_click WHERE legacy_id = ANY ($1)"
# The bounds say what the list does; they rule partitions out.
_FOUND = """
SELECT hash, offer_id, affiliate_id FROM click WHERE hash = ANY ($1::uuid[]) AND hash BETWEEN $2 AND $3
"""


class ImportedClick(NamedTuple):
    row: ClickRow
    legacy_id: str | None


class ClickStore:
    """Stores imported clicks over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._days: set[date] = set()

    async def prepare(self, items: Sequence[ImportedClick]) -> None:
        """Create the partitions of the clicks; before the transaction that stores them."""
        days = {day_of(item.row.hash) for item in items} - self._days
        if days:
            await partitions.create_history(self._connection, days)
            self._days |= days

    async def store(self, items: Sequence[ImportedClick]) -> Batch:
        """Store clicks, in a transaction of the caller's; they stand as they were stored first."""
        refused = await self._note_legacy(items)
        taken = [item.row for place, item in enumerate(items) if place not in refused]
        await clicks.stage(self._connection, taken)
        await self._connection.execute(_ANNOUNCE, clicks.FEED_LOCK)
        passed_over = await self._connection.fetch(_INSERT_CLICKS)
        stored = len({row.hash for row in taken}) - len(passed_over)
        return Batch(stored, len(taken) - stored, refused)

    async def compare(self, items: Sequence[ImportedClick]) -> tuple[Sums, Sums]:
        """What the table should have of some clicks, and what it has."""
        refused = await self._of_others(items)
        rows: dict[str, ClickRow] = {}
        for place, item in enumerate(items):
            if place not in refused:
                rows.setdefault(item.row.hash, item.row)
        hashes = sorted(rows)
        found = await self._connection.fetch(_FOUND, hashes, hashes[0], hashes[-1]) if hashes else []
        expected = summed((row.hash, row.offer_id, row.affiliate_id) for row in rows.values())
        return expected, summed((row["hash"].hex, row["offer_id"], row["affiliate_id"]) for row in found)

    async def _note_legacy(self, items: Sequence[ImportedClick]) -> dict[int, str]:
        """Note earlier ids; refuses those that are of other clicks."""
        wanted: dict[str, str] = {}
        for row, legacy_id in items:
            if legacy_id is not None:
                wanted.setdefault(legacy_id, row.hash)
        if wanted:
            await self._connection.execute(_NOTE_LEGACY, list(wanted), list(wanted.values()))
        return await self._of_others(items)

    async def _of_others(self, items: Sequence[ImportedClick]) -> dict[int, str]:
        wanted = [item.legacy_id for item in items if item.legacy_id is not None]
        rows = await self._connection.fetch(_LEGACY, wanted) if wanted else []
        noted = {row["legacy_id"]: row["hash"].hex for row in rows}
        return {
            place: f"legacy_id {legacy_id} is the earlier id of another click"
            for place, (row, legacy_id) in enumerate(items)
            if legacy_id is not None and noted.get(legacy_id, row.hash) != row.hash
        }
