"""What is undecided before a close of the books: conversions, and postbacks that cannot be applied yet."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from tracker.domain.click_id import first_hash_at
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


async def conversions_before(connection: Connection, until: datetime) -> list[Undecided]:
    """The conversions before a time that are pending or on hold, without tests."""
    return [Undecided(*row) for row in await connection.fetch(_CONVERSIONS, until)]


async def postbacks_before(connection: Connection, until: datetime) -> dict[str, int]:
    """The number of postbacks that arrived before a time and are not applied yet, by their result."""
    first = first_hash_at(int(until.timestamp() * 1000))
    return dict(await connection.fetch(_POSTBACKS, first))
