"""Changes in closed periods: conversions that changed after the close."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

import orjson

from tracker.store.clicks.list import ClickFilter
from tracker.store.db import Connection
from tracker.store.reports.conversions import Basis, ids_part

_BOOKS_CLOSED = """
SELECT EXISTS (SELECT FROM period_close WHERE until > to_timestamp($1::bigint / 1000.0))
"""
# Each conversion is compared with the close of its own period by its own time, even if the report uses the
# time of clicks.
_CHANGED = """
WITH closed AS (
    SELECT conversion_id, (
        SELECT closed_at FROM period_close WHERE until > created_at ORDER BY until LIMIT 1) AS closed_at
    FROM ({conversions}) AS wanted WHERE created_at < (SELECT max(until) FROM period_close)
), changed AS (
    SELECT conversion_id FROM closed
    WHERE EXISTS (
        SELECT FROM conversion_change AS change
        WHERE change.conversion_id = closed.conversion_id AND change.at > closed_at
    ) OR EXISTS (
        SELECT FROM conversion_entry AS entry
        WHERE entry.conversion_id = closed.conversion_id AND is_adjustment
    ) OR EXISTS (
        SELECT FROM conversion_correction AS correction
        WHERE correction.conversion_id = closed.conversion_id AND correction.at > closed_at
    )
), sums AS (
    SELECT side.kind, side.currency, sum(side.amount)::text AS amount
    FROM changed JOIN conversion_entry AS entry USING (conversion_id) CROSS JOIN LATERAL (VALUES
        ('payout', payout_currency, payout), ('revenue', revenue_currency, revenue)
    ) AS side (kind, currency, amount)
    WHERE is_adjustment GROUP BY side.kind, side.currency HAVING sum(side.amount) <> 0
)
SELECT (SELECT count(*) FROM changed),
    (SELECT json_agg(json_build_array(kind, currency, amount))::text FROM sums)
"""


class ChangedSinceClose(NamedTuple):
    """Conversions of closed periods that changed afterwards, and the bookings for that."""

    conversions: int
    money: Mapping[tuple[str, str], Decimal]  # by payout or revenue, and currency


async def changed_since_close(
    connection: Connection, clicks: ClickFilter, basis: Basis
) -> ChangedSinceClose | None:
    """Changes of a report's conversions since their periods were closed. None if no period is closed."""
    if not await connection.fetchval(_BOOKS_CLOSED, clicks.span.low):
        return None
    values: list[object] = []
    statement = _CHANGED.format(conversions=ids_part(clicks, basis, values))
    number, sums = await connection.fetchrow(statement, *values)
    money = {(kind, currency): Decimal(amount) for kind, currency, amount in orjson.loads(sums or "[]")}
    return ChangedSinceClose(number, money)
