"""The offers that an affiliate may promote."""

from __future__ import annotations

from tracker.store.db import Pool
from tracker.store.paging import Page, reading
from tracker.store.token_owner import Owner

_COLUMNS = """
id, name, status, visibility, to_jsonb(starts_at) #>> '{}' AS starts_at,
to_jsonb(ends_at) #>> '{}' AS ends_at, brand_id"""


async def page(pool: Pool, affiliate_id: int, number: int, per_page: int) -> Page:
    """Page `number`, from 1, ordered by id."""
    offset = (number - 1) * per_page
    source = f"FROM offer WHERE NOT is_archived AND {Owner('affiliate', affiliate_id).offers}"
    async with reading(pool, "repeatable_read") as connection:
        total = await connection.fetchval(f"SELECT count(*) {source}")
        statement = f"SELECT {_COLUMNS} {source} ORDER BY id LIMIT $1 OFFSET $2"
        rows = [dict(row) for row in await connection.fetch(statement, per_page, offset)]
    return Page(rows, total, offset + len(rows) < total)
