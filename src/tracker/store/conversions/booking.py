"""The history of conversions and their book of money.

Both are append-only, and the sum of entries is the debt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from tracker.domain.postback import ConversionStatus, Source
from tracker.store.db import Connection

_NOTE_CHANGE = """
INSERT INTO conversion_change
    (conversion_id, status_before, status_after, source, author, postback_hash, is_announced)
SELECT id, $2, status, $3, $4, $5, is_test FROM conversion WHERE id = ANY ($1) ORDER BY id
"""
# Changes of a closed period are booked now, as adjustments.
_INSERT = """
INSERT INTO conversion_entry (kind, author, reason, conversion_id, booked_at, is_adjustment, offer_id,
    advertiser_id, affiliate_id, payout, payout_currency, revenue, revenue_currency)
SELECT $2, $3, {reason}, id,
    CASE WHEN created_at < closed.until THEN greatest(clock_timestamp(), closed.until) ELSE created_at END,
    created_at < closed.until, offer_id, advertiser_id, affiliate_id
"""
_CLOSED = "(SELECT coalesce(max(until), '-infinity') AS until FROM period_close) AS closed"
# Every entry is the difference between what is owed now and the sum of all entries before. So a reversal is
# the negative sum of them, and the sum is right after each entry, even if older ones left a rest.
# Approvals and reversals of 0 are entries too.
_DIFFERENCE = f"""{_INSERT},
    changed.payout, changed.payout_currency, changed.revenue, changed.revenue_currency
FROM (
    SELECT conversion_id, payout_currency, revenue_currency, sum(payout) AS payout, sum(revenue) AS revenue
    FROM (
        SELECT id AS conversion_id, payout_currency, revenue_currency, payout, revenue
        FROM conversion WHERE id = ANY ($1) AND status = 'approved' AND NOT is_test
        UNION ALL
        SELECT conversion_id, payout_currency, revenue_currency, -payout, -revenue
        FROM conversion_entry WHERE conversion_id = ANY ($1)
    ) AS part GROUP BY 1, 2, 3
) AS changed JOIN conversion ON id = conversion_id {{join}}, {_CLOSED}
WHERE (changed.payout, changed.revenue) <> (0, 0)
    OR $2 <> 'correction' AND (changed.payout_currency, changed.revenue_currency)
        = (conversion.payout_currency, conversion.revenue_currency)
ORDER BY id, changed.payout_currency, changed.revenue_currency
"""  # noqa: S608
_BOOK = _DIFFERENCE.format(reason="''", join="")
_CORRECT = (
    _DIFFERENCE.format(
        reason="told.reason",
        join="JOIN unnest($1, $4::text[]) AS told (conversion_id, reason) USING (conversion_id)",
    )
    + "RETURNING conversion_id, booked_at, is_adjustment, payout, payout_currency, revenue, revenue_currency"
)
# Without earlier entries the difference is the whole. PostgreSQL plans this in a tenth of the time.
_BOOK_NEW = f"""{_INSERT.format(reason="''")}, payout, payout_currency, revenue, revenue_currency
FROM conversion, {_CLOSED} WHERE id = ANY ($1) AND NOT is_test ORDER BY id
"""


class Booked(NamedTuple):
    """A new entry in the book."""

    booked_at: datetime
    is_adjustment: bool
    payout: Decimal
    payout_currency: str
    revenue: Decimal
    revenue_currency: str


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
    if before is not None:
        kind = "approval" if after is ConversionStatus.APPROVED else "reversal"
        await connection.execute(_BOOK, ids, kind, by[1])
    elif after is ConversionStatus.APPROVED:
        await connection.execute(_BOOK_NEW, ids, "approval", by[1])


async def approve(connection: Connection, ids: Sequence[int]) -> None:
    """Book new conversions that were approved elsewhere, as approvals here are booked."""
    await connection.execute(_BOOK_NEW, ids, "approval", "")


async def correct(
    connection: Connection, reasons: Mapping[int, str], author: str
) -> Mapping[int, Sequence[Booked]]:
    """Book the difference between approved conversions and their bookings, with the reason of each.

    Returns the new entries by conversion. A conversion without a difference is missing.

    `author`: the name of a token, or "" for an advertiser's postback.
    """
    rows = await connection.fetch(_CORRECT, list(reasons), "correction", author, list(reasons.values()))
    booked: defaultdict[int, list[Booked]] = defaultdict(list)
    for conversion_id, *entry in map(tuple, rows):
        booked[conversion_id].append(Booked._make(entry))
    return booked
