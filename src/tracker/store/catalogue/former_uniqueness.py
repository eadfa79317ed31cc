"""An offer's former uniqueness settings, while they still remember visitors."""

from __future__ import annotations

from typing import NamedTuple

from tracker.store.db import Connection

# Mirrors keep_former_uniqueness() of migration 0037, which keeps four.
_FORGOTTEN_BY = """
SELECT unique_window, unique_scope FROM (
    SELECT unique_window, unique_scope, until FROM former_uniqueness
    WHERE offer_id = $1 AND until > now()
        AND (unique_window, unique_scope) NOT IN (($2::int, $3::text), ($4::int, $5::text))
    UNION ALL SELECT $2, $3, now() + make_interval(hours => 1, secs => 2 * $2)
) AS former
ORDER BY until DESC OFFSET 4
"""


class Uniqueness(NamedTuple):
    """How long and where a visitor counts as known."""

    window: int  # seconds
    scope: str


async def forgotten_by(
    connection: Connection, offer_id: int, before: Uniqueness, after: Uniqueness
) -> list[Uniqueness]:
    """The former settings of an offer. Without them a change would forget their visitors."""
    rows = await connection.fetch(_FORGOTTEN_BY, offer_id, *before, *after)
    return [Uniqueness(*row) for row in rows]
