"""Goals without a price."""

from __future__ import annotations

from tracker.store.db import Connection

_OF_OFFER = """
SELECT id, name FROM goal
WHERE offer_id = $1 AND status = 'active' AND NOT is_archived
    AND NOT is_priced
ORDER BY id
"""


async def of_offer(connection: Connection, offer_id: int) -> list[tuple[int, str]]:
    """Ids and names of an offer's active goals without a price."""
    return [tuple(row) for row in await connection.fetch(_OF_OFFER, offer_id)]
