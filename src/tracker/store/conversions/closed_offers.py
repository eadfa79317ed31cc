"""Offers that a full cap has closed. An operator may have closed others, by the same field."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tracker.store.conversions.caps import ends_a_period
from tracker.store.db import Connection, Pool

_CAPS = """
SELECT cap.offer_id, closed_until, time_zone, counts, period FROM cap JOIN offer ON offer.id = cap.offer_id
WHERE offer.id = ANY ($1) AND isfinite(closed_until) AND affiliate_id IS NULL
    AND counts IN ('conversions', 'payout', 'revenue') AND on_reached = 'close'
ORDER BY cap.id
"""
_CAPS_OF_AFFILIATE = """
SELECT cap.offer_id, agreed.closed_until, time_zone, counts, period
FROM cap JOIN offer ON offer.id = cap.offer_id
    JOIN offer_affiliate AS agreed ON agreed.offer_id = cap.offer_id
WHERE offer.id = $1 AND agreed.affiliate_id = $2 AND cap.affiliate_id IN (0, $2)
    AND isfinite(agreed.closed_until)
    AND counts IN ('conversions', 'payout', 'revenue') AND on_reached = 'close'
ORDER BY cap.id
"""


async def by_cap(source: Pool | Connection, offer_ids: Sequence[int]) -> dict[int, str]:
    """The cap that closes, or closed, each of these offers for everyone. Other offers are missing."""
    return _closing(await source.fetch(_CAPS, list(offer_ids)))


async def for_affiliate(connection: Connection, offer_id: int, affiliate_id: int) -> str:
    """The cap that closes, or closed, an offer for an affiliate. Empty if none does."""
    return _closing(await connection.fetch(_CAPS_OF_AFFILIATE, offer_id, affiliate_id)).get(offer_id, "")


def _closing(rows: Sequence[tuple[int, datetime, str, str, str]]) -> dict[int, str]:
    """A cap closes until the end of its period, so a closing that ends at another time is no cap's."""
    return {
        offer_id: f"{counts} cap ({period})"
        for offer_id, until, zone, counts, period in reversed(rows)
        if ends_a_period(until, period, zone)
    }
