"""The offers that an affiliate may run."""

from __future__ import annotations

from tracker.store.click_list import Page, reading
from tracker.store.pool import Pool

# As edges decide it: a public offer is everybody's, the others are those of approved affiliates.
_OFFERS = """
FROM offer LEFT JOIN offer_affiliate AS terms ON terms.offer_id = offer.id AND terms.affiliate_id = $1
WHERE NOT is_archived AND (visibility = 'public' OR terms.status = 'approved')
"""
_COUNT = f"SELECT count(*) {_OFFERS}"
_PAGE = f"""
SELECT offer.id, offer.name, offer.status, visibility, to_jsonb(starts_at) #>> '{{}}' AS starts_at,
       to_jsonb(ends_at) #>> '{{}}' AS ends_at, brand_id
{_OFFERS}
ORDER BY offer.id LIMIT $2 OFFSET $3
"""


async def page(pool: Pool, affiliate_id: int, number: int, per_page: int) -> Page:
    """Page `number`, from 1, by id."""
    offset = (number - 1) * per_page
    async with reading(pool, "repeatable_read") as connection:
        total = await connection.fetchval(_COUNT, affiliate_id)
        rows = [dict(row) for row in await connection.fetch(_PAGE, affiliate_id, per_page, offset)]
    return Page(rows, total, offset + len(rows) < total)
