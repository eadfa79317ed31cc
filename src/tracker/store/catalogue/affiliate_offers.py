"""The offers that affiliates may promote."""

from __future__ import annotations

from collections.abc import Sequence

from tracker.store.db import Pool
from tracker.store.paging import Page, reading
from tracker.store.token_owner import offers_of

_COLUMNS = """
id, name, status, visibility, to_jsonb(starts_at) #>> '{}' AS starts_at,
to_jsonb(ends_at) #>> '{}' AS ends_at, brand_id, affiliate_id"""
_OFFERS = f"""
FROM offer CROSS JOIN unnest($1::bigint[]) AS own (affiliate_id)
WHERE NOT is_archived AND {offers_of("affiliate", "own.affiliate_id")}"""

_SEES = f"""
SELECT ($2::bigint IS NULL OR EXISTS (
        SELECT FROM offer WHERE id = $2 AND NOT is_archived AND {offers_of("affiliate", "$1::bigint")})),
    ($3::bigint IS NULL OR EXISTS (
        SELECT FROM goal JOIN offer ON offer.id = goal.offer_id
        WHERE goal.id = $3 AND NOT offer.is_archived AND {offers_of("affiliate", "$1::bigint")}))"""  # noqa: S608


async def unseen(pool: Pool, affiliate_id: int, offer_id: int | None, goal_id: int | None) -> list[str]:
    """Which of an offer and a goal an affiliate may not see, or does not exist: offer, goal."""
    seen = await pool.fetchrow(_SEES, affiliate_id, offer_id, goal_id)
    return [noun for noun, is_seen in zip(("offer", "goal"), seen, strict=True) if not is_seen]


async def page(pool: Pool, affiliate_ids: Sequence[int], number: int, per_page: int) -> Page:
    """Page `number`, from 1: a row for each offer and affiliate, ordered by their ids."""
    offset = (number - 1) * per_page
    async with reading(pool, "repeatable_read") as connection:
        total = await connection.fetchval(f"SELECT count(*) {_OFFERS}", affiliate_ids)
        statement = f"SELECT {_COLUMNS} {_OFFERS} ORDER BY id, affiliate_id LIMIT $2 OFFSET $3"
        records = await connection.fetch(statement, affiliate_ids, per_page, offset)
    return Page([dict(record) for record in records], total, offset + len(records) < total)
