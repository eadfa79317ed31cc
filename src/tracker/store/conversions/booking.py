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
# Every entry is the difference between what is owed now and the sum of all entries before. So a reversal is
# the negative sum of them, and the sum is right after each entry, even if older ones left a rest.
# Approvals and reversals of 0 are entries too. Changes of a closed period are booked now, as adjustments.
_BOOK = """
WITH owed AS (
    SELECT id AS conversion_id, payout_currency, revenue_currency, payout, revenue
    FROM conversion WHERE id = ANY ($1) AND status = 'approved' AND NOT is_test
), booked AS (
    SELECT conversion_id, payout_currency, revenue_currency, sum(payout) AS payout, sum(revenue) AS revenue
    FROM conversion_entry WHERE conversion_id = ANY ($1) GROUP BY 1, 2, 3
), changed AS (
    SELECT conversion_id, payout_currency, revenue_currency,
        coalesce(owed.payout, 0) - coalesce(booked.payout, 0) AS payout,
        coalesce(owed.revenue, 0) - coalesce(booked.revenue, 0) AS revenue
    FROM owed FULL JOIN booked USING (conversion_id, payout_currency, revenue_currency)
)
INSERT INTO conversion_entry (kind, conversion_id, booked_at, is_adjustment, offer_id, advertiser_id,
    affiliate_id, payout, payout_currency, revenue, revenue_currency, author, reason)
SELECT $2, id,
    CASE WHEN created_at < closed.until THEN greatest(clock_timestamp(), closed.until) ELSE created_at END,
    created_at < closed.until, offer_id, advertiser_id, affiliate_id,
    changed.payout, changed.payout_currency, changed.revenue, changed.revenue_currency, $3, $4
FROM changed JOIN conversion ON id = conversion_id,
    (SELECT coalesce(max(until), '-infinity') AS until FROM period_close) AS closed
WHERE (changed.payout, changed.revenue) <> (0, 0)
    OR $2 <> 'correction' AND (changed.payout_currency, changed.revenue_currency)
        = (conversion.payout_currency, conversion.revenue_currency)
ORDER BY id, changed.payout_currency, changed.revenue_currency
"""


async def change(
    connection: Connection,
    ids: Sequence[int],
    before: ConversionStatus | None,
    after: ConversionStatus,
    by: tuple[Source, str, str | None],
) -> None:
    """Note the new status of conversions, and book its consequences.

    `by`: the source of the change, the name of its author, and the hash of its postback.
    """
    await connection.execute(_NOTE_CHANGE, ids, before, *by)
    if after is ConversionStatus.APPROVED:
        await connection.execute(_BOOK, ids, "approval", by[1], "")
    elif before is not None:
        await connection.execute(_BOOK, ids, "reversal", by[1], "")


async def approve(connection: Connection, ids: Sequence[int]) -> None:
    """Book conversions that were approved elsewhere, as approvals here are booked."""
    await connection.execute(_BOOK, ids, "approval", "", "")


async def correct(connection: Connection, ids: Sequence[int], author: str, reason: str) -> None:
    """Book the difference between approved conversions and their bookings.

    `author`: the name of a token, or "" for an advertiser's postback.
    """
    await connection.execute(_BOOK, ids, "correction", author, reason)
