"""The history of conversions and their book of money.

Both are append-only, and the sum of entries is the debt.
"""

from __future__ import annotations

from collections.abc import Sequence

from tracker.domain.postback import ConversionStatus, Source
from tracker.store.db import Connection

_NOTE_CHANGE = """
INSERT INTO conversion_change
    (conversion_id, status_before, status_after, source, author, postback_hash, is_announced)
SELECT id, $2, status, $3, $4, $5, is_test FROM conversion WHERE id = ANY ($1) ORDER BY id
"""
_INSERT = """
INSERT INTO conversion_entry (kind, conversion_id, booked_at, is_adjustment, offer_id, advertiser_id,
    affiliate_id, payout, payout_currency, revenue, revenue_currency)
"""
# Entries of a closed period are booked now, as an adjustment.
_WHERE_BOOKED = """
id, CASE WHEN created_at < closed.until THEN greatest(clock_timestamp(), closed.until) ELSE created_at END,
created_at < closed.until, offer_id, advertiser_id, affiliate_id
"""
_CLOSED = "(SELECT coalesce(max(until), '-infinity') AS until FROM period_close) AS closed"
_BOOKED = """
SELECT conversion_id, payout_currency, revenue_currency, sum(payout) AS payout, sum(revenue) AS revenue
FROM conversion_entry WHERE conversion_id = ANY ($1) GROUP BY 1, 2, 3
"""

_APPROVE = f"""{_INSERT}
SELECT 'approval', {_WHERE_BOOKED}, payout, payout_currency, revenue, revenue_currency
FROM conversion, {_CLOSED} WHERE id = ANY ($1) AND NOT is_test ORDER BY id
"""  # noqa: S608
# All booked amounts, independent of the conversion's present ones.
_REVERSE = f"""{_INSERT}
SELECT 'reversal', {_WHERE_BOOKED}, -booked.payout, booked.payout_currency, -booked.revenue,
    booked.revenue_currency
FROM conversion JOIN ({_BOOKED}) AS booked ON conversion_id = id, {_CLOSED}
WHERE (booked.payout, booked.revenue) <> (0, 0)
    OR (booked.payout_currency, booked.revenue_currency)
        = (conversion.payout_currency, conversion.revenue_currency)
ORDER BY id
"""  # noqa: S608
# The currencies of an approved conversion never change.
_CORRECT = f"""{_INSERT}
SELECT 'correction', {_WHERE_BOOKED}, conversion.payout - booked.payout, conversion.payout_currency,
    conversion.revenue - booked.revenue, conversion.revenue_currency
FROM conversion JOIN ({_BOOKED}) AS booked ON (conversion_id, booked.payout_currency, booked.revenue_currency)
    = (id, conversion.payout_currency, conversion.revenue_currency), {_CLOSED}
WHERE (booked.payout, booked.revenue) <> (conversion.payout, conversion.revenue) ORDER BY id
"""  # noqa: S608


async def change(
    connection: Connection,
    ids: Sequence[int],
    before: ConversionStatus | None,
    after: ConversionStatus,
    by: tuple[Source, str, str | None],
) -> None:
    """Note the new status of conversions, and book its consequences."""
    await connection.execute(_NOTE_CHANGE, ids, before, *by)
    if after is ConversionStatus.APPROVED:
        await connection.execute(_APPROVE, ids)
    elif before is ConversionStatus.APPROVED:
        await connection.execute(_REVERSE, ids)


async def approve(connection: Connection, ids: Sequence[int]) -> None:
    """Book conversions that were approved elsewhere, as approvals here are booked."""
    await connection.execute(_APPROVE, ids)


async def correct(connection: Connection, ids: Sequence[int]) -> None:
    """Book the difference between approved conversions and their bookings."""
    await connection.execute(_CORRECT, ids)
