"""Goals whose price nobody has set."""

from __future__ import annotations

from tracker.store.db import Connection

_OF_OFFER = """
SELECT id, name FROM goal
WHERE offer_id = $1 AND status = 'active' AND NOT is_archived
    AND NOT is_priced
ORDER BY id
"""


async def of_offer(connection: Connection, offer_id: int) -> list[tuple[int, str]]:
    """The ids and names of an offer's active goals that have no price."""
    return [tuple(row) for row in await connection.fetch(_OF_OFFER, offer_id)]
