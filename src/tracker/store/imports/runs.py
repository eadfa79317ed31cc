"""The imports that were begun, and how far each is."""

from __future__ import annotations

from tracker.store.catalogue.edit import Row
from tracker.store.db import Pool

_COUNT = "SELECT count(*) FROM import_run"
_PAGE = """
SELECT kind, source, file, rows, stored, present, replaced, refused, started_at
FROM import_run ORDER BY started_at DESC, digest LIMIT $1 OFFSET $2
"""


async def page(pool: Pool, number: int, per_page: int) -> tuple[int, list[Row]]:
    """How many imports there are, and a page of them, the newest first."""
    async with pool.acquire() as connection:
        total = await connection.fetchval(_COUNT)
        rows = await connection.fetch(_PAGE, per_page, (number - 1) * per_page)
    return int(total), [{**row, "started_at": row["started_at"].isoformat()} for row in rows]
