"""What is undecided before a close of the books: conversions, and postbacks that cannot be applied yet."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from tracker.domain.click_id import first_hash_at
from tracker.domain.money import show
from tracker.store.db import Connection

_CONVERSIONS = """
SELECT status, payout_currency, revenue_currency, count(*), sum(payout), sum(revenue) FROM conversion
WHERE status IN ('pending', 'hold') AND created_at < $1 AND NOT is_test
GROUP BY 1, 2, 3 ORDER BY 1 DESC, 2, 3
"""
_POSTBACKS = """
SELECT result, count(*) FROM postback
WHERE result IN ('held', 'waiting', 'parked') AND conversion_id IS NULL AND hash < $1
GROUP BY result ORDER BY result
"""


class Undecided(NamedTuple):
    """Conversions of one status and two currencies."""

    status: str
    payout_currency: str
    revenue_currency: str
    conversions: int
    payout: Decimal
    revenue: Decimal


class Left(NamedTuple):
    """What a close leaves undecided."""

    conversions: list[Undecided]
    postbacks: dict[str, int]  # how many, by their result

    @property
    def row(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        conversions = [
            {**group._asdict(), "payout": show(group.payout), "revenue": show(group.revenue)}
            for group in self.conversions
        ]
        return {"conversions": conversions, "postbacks": self.postbacks}


async def before(connection: Connection, until: datetime) -> Left:
    """The conversions before a time that are pending or on hold, without tests.

    And the postbacks that arrived before it and are not applied yet.
    """
    conversions = [Undecided(*row) for row in await connection.fetch(_CONVERSIONS, until)]
    first = first_hash_at(int(until.timestamp() * 1000))
    return Left(conversions, dict(await connection.fetch(_POSTBACKS, first)))
