"""Caps on conversions, payout and revenue: counted when conversions are created.

A full cap closes the offer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import MAXYEAR, UTC, datetime
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfoNotFoundError

from tracker.domain.caps import bounds
from tracker.domain.conversion import Amounts, ConvertedClick
from tracker.domain.model import Period
from tracker.domain.postback import ConversionStatus
from tracker.store.conversions import cap_marks
from tracker.store.conversions.cap_marks import FOR_GOOD, CapCount
from tracker.store.db import Connection

logger = logging.getLogger(__name__)

_CAPS = """
SELECT id, affiliate_id, counts, period, amount, on_reached = 'close', currency, counts_after,
       (SELECT time_zone FROM offer WHERE id = offer_id)
FROM cap WHERE offer_id = $1 AND counts IN ('conversions', 'payout', 'revenue')
    AND ($2::bigint IS NULL OR affiliate_id IS NULL OR affiliate_id IN (0, $2))
ORDER BY id
"""
_AMOUNT = """CASE $5
    WHEN 'conversions' THEN count(*)
    WHEN 'payout' THEN coalesce(sum(payout) FILTER (WHERE payout_currency = $6), 0)
    ELSE coalesce(sum(revenue) FILTER (WHERE revenue_currency = $6), 0) END"""
_COUNTED = """
FROM conversion WHERE offer_id = $1 AND ($2::bigint IS NULL OR affiliate_id = $2)
    AND created_at >= $3 AND created_at < $4 AND id > $7
    AND status <> 'rejected' AND NOT is_test AND NOT is_unproven
"""
_USED = f"SELECT {_AMOUNT} {_COUNTED}"
_USED_BY_EACH = f"""
SELECT affiliate_id, {_AMOUNT} AS used {_COUNTED}
GROUP BY affiliate_id ORDER BY used DESC, affiliate_id LIMIT $8
"""
_CLOSE_OFFER = """
UPDATE offer SET closed_until = $2 WHERE id = $1 AND coalesce(closed_until, '-infinity') < $2 RETURNING true
"""
# An affiliate without terms was approved implicitly, and stays 'pending'.
_CLOSE_AFFILIATE = """
INSERT INTO offer_affiliate AS agreed (offer_id, affiliate_id, status, closed_until)
VALUES ($1, $2, 'pending', $3)
ON CONFLICT (offer_id, affiliate_id) DO UPDATE SET closed_until = excluded.closed_until
WHERE coalesce(agreed.closed_until, '-infinity') < excluded.closed_until RETURNING true
"""


class _Cap(NamedTuple):
    id: int
    affiliate_id: int | None  # None: all conversions together, 0: each affiliate's
    counts: str
    period: str
    amount: int
    closes: bool
    currency: str | None
    counts_after: int  # id of the last conversion before it
    time_zone: str


class _Count(NamedTuple):
    """The scope of a cap's count in a period."""

    offer_id: int
    affiliate_id: int | None
    start: datetime
    end: datetime
    counts: str
    currency: str | None
    after: int


class CapBook:
    """The caps' counts in a transaction that excludes other changes of conversions."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._caps: dict[tuple[int, int], list[_Cap]] = {}
        self._used: dict[_Count, Decimal] = {}
        self._noted: dict[tuple[int, _Count], list[int]] = {}  # percents

    async def count(
        self, click: ConvertedClick, status: ConversionStatus, money: Amounts, millis: int
    ) -> bool:
        """Count a conversion that is about to be created. Returns whether it exceeds a cap."""
        if status is ConversionStatus.REJECTED:
            return False
        caps = await self._caps_of(click.offer_id, click.affiliate_id)
        place = click.offer_id, click.affiliate_id, millis
        return any([await self._add(cap, _count(cap, *place), _worth(cap, money)) for cap in caps])

    async def grow(self, click: ConvertedClick, before: Amounts, after: Amounts, millis: int) -> bool:
        """Count the new amounts of a counted conversion. Returns whether they exceed a cap."""
        caps = await self._caps_of(click.offer_id, click.affiliate_id)
        more = [(cap, _worth(cap, after) - _worth(cap, before)) for cap in caps]
        place = click.offer_id, click.affiliate_id, millis
        return any([await self._add(cap, _count(cap, *place), by) for cap, by in more if by])

    async def _add(self, cap: _Cap, count: _Count, worth: Decimal) -> bool:
        used = await self._used_of(count) + worth
        self._used[count] = used
        await self._note(cap, count, used)
        if used >= cap.amount and cap.closes:
            await self._close(count)
        return used > cap.amount and worth > 0

    async def close_full(self, conversions: Iterable[tuple[int, int, datetime]]) -> None:
        """Note full caps in the periods of conversions, (offer, affiliate, time), and close their offers."""
        self.forget()
        counts = {
            (cap, _count(cap, offer_id, affiliate_id, int(at.timestamp() * 1000)))
            for offer_id, affiliate_id, at in conversions
            for cap in await self._caps_of(offer_id, affiliate_id)
        }
        for cap, count in counts:
            used = await self._used_of(count)
            await self._note(cap, count, used)
            if used >= cap.amount and cap.closes:
                await self._close(count)

    def forget(self) -> None:
        """Count again, because a counted conversion may not count any more."""
        self._used.clear()

    async def _caps_of(self, offer_id: int, affiliate_id: int) -> list[_Cap]:
        key = offer_id, affiliate_id
        if key not in self._caps:
            rows = await self._connection.fetch(_CAPS, offer_id, affiliate_id)
            self._caps[key] = _in_force(map(_Cap._make, rows))
        return self._caps[key]

    async def _used_of(self, count: _Count) -> Decimal:
        if count not in self._used:
            self._used[count] = Decimal(await self._connection.fetchval(_USED, *count))
        return self._used[count]

    async def _note(self, cap: _Cap, count: _Count, used: Decimal) -> None:
        """Note a cap that is nearly full or full. This transaction notes it once."""
        full = _full(cap, count, used)
        percents = full.percents
        if percents and self._noted.get((cap.id, count)) != percents:
            self._noted[cap.id, count] = percents
            await cap_marks.note(self._connection, full)

    async def _close(self, count: _Count) -> None:
        if count.affiliate_id is None:
            closed = await self._connection.fetchval(_CLOSE_OFFER, count.offer_id, count.end)
        else:
            place = count.offer_id, count.affiliate_id
            closed = await self._connection.fetchval(_CLOSE_AFFILIATE, *place, count.end)
        if closed:
            whom = "" if count.affiliate_id is None else f" for affiliate {count.affiliate_id}"
            logger.info(
                "offer %(offer_id)s is closed%(whom)s until %(until)s: %(cap)s cap",
                {
                    "event": "offer_capped",
                    "offer_id": count.offer_id,
                    "whom": whom,
                    "until": count.end,
                    "cap": count.counts,
                },
            )


async def fill(
    connection: Connection, offer_id: int, affiliate_id: int | None, millis: int, most: int
) -> list[CapCount]:
    """How full the caps of an offer are in the periods of a moment (Unix milliseconds).

    A cap of each affiliate is counted for one affiliate, or (None) for the `most` that fill it most.
    """
    rows = await connection.fetch(_CAPS, offer_id, affiliate_id)
    caps = list(map(_Cap._make, rows))
    own = {(cap.counts, cap.period, cap.affiliate_id) for cap in caps if cap.affiliate_id}
    found = []
    for cap in caps:
        used = await _fill_of(connection, cap, offer_id, affiliate_id, millis, most)
        found += [
            _full(cap, _count(cap, offer_id, whose or 0, millis), amount)
            for whose, amount in used
            if cap.affiliate_id != 0 or (cap.counts, cap.period, whose) not in own
        ]
    return found


async def _fill_of(
    connection: Connection, cap: _Cap, offer_id: int, affiliate_id: int | None, millis: int, most: int
) -> list[tuple[int | None, Decimal]]:
    """The affiliates (None: all together) that a cap counts, with what they used."""
    whose = affiliate_id if cap.affiliate_id == 0 else cap.affiliate_id
    count = _count(cap, offer_id, whose or 0, millis)
    if cap.affiliate_id == 0 and affiliate_id is None:
        every = count._replace(affiliate_id=None)
        return [(id_, Decimal(used)) for id_, used in await connection.fetch(_USED_BY_EACH, *every, most)]
    return [(whose, Decimal(await connection.fetchval(_USED, *count)))]


def _full(cap: _Cap, count: _Count, used: Decimal) -> CapCount:
    return CapCount(
        *(cap.id, count.offer_id, count.affiliate_id, cap.counts, cap.period, cap.amount),
        *(count.start, count.end, cap.closes, cap.currency, used),
    )


def _in_force(caps: Iterable[_Cap]) -> list[_Cap]:
    """An affiliate's own cap replaces the each-affiliate cap of the same kind and period."""
    caps = list(caps)
    own = {(cap.counts, cap.period) for cap in caps if cap.affiliate_id}
    return [cap for cap in caps if cap.affiliate_id != 0 or (cap.counts, cap.period) not in own]


def _count(cap: _Cap, offer_id: int, affiliate_id: int, millis: int) -> _Count:
    whose = None if cap.affiliate_id is None else affiliate_id
    return _Count(
        offer_id,
        whose,
        *_bounds(cap.period, cap.time_zone, millis),
        cap.counts,
        cap.currency,
        cap.counts_after,
    )


def ends_a_period(at: datetime, period: str, time_zone: str) -> bool:
    """Whether a cap's period ends at a time."""
    if at.year == MAXYEAR:
        return at == FOR_GOOD and period == Period.TOTAL.value
    millis = int(at.timestamp() * 1000) - 1
    return at == _bounds(period, time_zone, millis)[1]


def _bounds(name: str, time_zone: str, millis: int) -> tuple[datetime, datetime]:
    period = Period(name)
    try:
        start, end = bounds(period, time_zone, millis)
    except (ValueError, ZoneInfoNotFoundError):  # the cap was saved by hand, and the offer is closed anyway
        start, end = bounds(period, "UTC", millis)
    return datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC) if end else FOR_GOOD


def _worth(cap: _Cap, money: Amounts) -> Decimal:
    if cap.counts == "conversions":
        return Decimal(1)
    amount, currency = (
        (money.payout, money.payout_currency)
        if cap.counts == "payout"
        else (money.revenue, money.revenue_currency)
    )
    return amount if currency == cap.currency else Decimal(0)
