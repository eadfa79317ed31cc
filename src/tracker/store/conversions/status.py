"""Statuses that the operator sets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from tracker.domain.conversion import NO_PRICE, keeping, next_status, settled
from tracker.domain.postback import ConversionStatus, Source
from tracker.store.conversions import booking, goal_prices, reasons
from tracker.store.conversions.apply_postback import SELL_AGAIN, refund
from tracker.store.conversions.caps import CapBook
from tracker.store.conversions.lock import lock
from tracker.store.db import Connection

_TO_CHANGE = """
SELECT id, status, offer_id, affiliate_id, created_at, is_test FROM conversion WHERE id = ANY ($1) ORDER BY id
"""
_SETTLE = """
UPDATE conversion
SET payout = $2, payout_currency = $3, revenue = $4, revenue_currency = $5, is_unpriced = false
WHERE id = $1
"""
_SET_STATUS = """
UPDATE conversion AS known
SET status = $3, sale_status = coalesce(told.sale_status, known.sale_status),
    is_unproven = known.is_unproven AND $3 = 'hold', updated_at = clock_timestamp()
FROM unnest($1::bigint[], $2::text[]) AS told (id, sale_status)
WHERE known.id = told.id
    AND (known.status, known.sale_status) IS DISTINCT FROM ($3, coalesce(told.sale_status, known.sale_status))
"""
_NOTHING_SAID: Mapping[int, str] = {}


class Changed(NamedTuple):
    """A conversion whose status was set. Both are equal if nothing changed."""

    id: int
    before: ConversionStatus
    after: ConversionStatus
    doubt: str = ""  # why it is not approved

    def refusal(self, wanted: ConversionStatus) -> str:
        """Why it did not get the wanted status, or ""."""
        if self.doubt:
            return reasons.held(self.before, self.after, self.doubt)
        return "" if self.after is wanted else f"it stays {self.after}"


async def set_status(
    connection: Connection,
    conversion_ids: Collection[int],
    status: ConversionStatus,
    *,
    source: Source,
    author: str,
    sale_statuses: Mapping[int, str] = _NOTHING_SAID,
) -> list[Changed]:
    """Set statuses by the operator, if possible. Call it within a transaction.

    A status alone does not approve a percentage of a browser's sale_amount, or a conversion without a price.
    These go on hold. Returns the conversions that exist.
    """
    await lock(connection)
    if status is ConversionStatus.APPROVED:
        await connection.execute(SELL_AGAIN, list(conversion_ids))
    rows = await connection.fetch(_TO_CHANGE, list(conversion_ids))
    doubts = await _settle(connection, conversion_ids) if status is ConversionStatus.APPROVED else {}
    changed = [
        _changed(row["id"], ConversionStatus(row["status"]), status, doubts.get(row["id"], ""))
        for row in rows
    ]
    for before, after in {(each.before, each.after) for each in changed}:
        ids = [each.id for each in changed if each[1:3] == (before, after)]
        await connection.execute(_SET_STATUS, ids, [sale_statuses.get(id_) for id_ in ids], after)
        if after is not before:
            await booking.change(connection, ids, before, after, (source, author, None))
    caps = CapBook(connection)
    if status is ConversionStatus.APPROVED:
        moved = {each.id for each in changed if each.before is not each.after}
        await caps.close_full([row[2:5] for row in rows if row["id"] in moved and not row["is_test"]])
        await refund(connection, moved, caps)
    return changed


async def _settle(connection: Connection, conversion_ids: Collection[int]) -> dict[int, str]:
    """Set the amounts that are booked. Returns why some cannot be approved by a status alone, by id."""
    doubts = {}
    sold = await goal_prices.open_amounts(connection, conversion_ids)
    for id_, is_unpriced, corrected, money, price in sold:
        if is_unpriced and not price.is_set:
            doubts[id_] = NO_PRICE
            continue
        after = keeping(settled(money, price, is_unpriced=is_unpriced), money, corrected)
        if is_unpriced or after != money:
            await connection.execute(_SETTLE, id_, *after[3:])
        if money.sale_by_browser:
            is_named = [name in corrected for name in ("payout", "revenue")]
            payout, revenue = after.payout if is_named[0] else None, after.revenue if is_named[1] else None
            doubts[id_] = price.doubt(after, (payout, revenue))
    return doubts


def _changed(id_: int, before: ConversionStatus, status: ConversionStatus, doubt: str) -> Changed:
    is_held = doubt and before is not ConversionStatus.APPROVED
    after = next_status(before, ConversionStatus.HOLD if is_held else status, by_operator=True)
    return Changed(id_, before, after, doubt if is_held else "")
