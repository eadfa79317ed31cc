"""Caps that are nearly full or full: each is noted once in its period, and webhooks are told."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from tracker.domain.money import show
from tracker.domain.webhooks import CAP_NEARLY_FULL, CAP_REACHED, CLOSED_BY_CAP
from tracker.store.db import Connection
from tracker.store.webhooks import events

FOR_GOOD = datetime(9999, 12, 31, tzinfo=UTC)
"""The end of the period of a cap on everything."""

_PERCENTS = (100, 90)
_MARK = """
INSERT INTO cap_mark
    (cap_id, affiliate_id, starts_at, amount, percent, offer_id, counts, period, closes, ends_at)
SELECT $1::bigint, coalesce($3::bigint, 0), $7::timestamptz, $6::bigint, unnest($10::smallint[]), $2::bigint,
       $4::text, $5::text, $9::boolean, $8::timestamptz
ON CONFLICT DO NOTHING RETURNING percent
"""
_MARKED = """
SELECT cap_id, affiliate_id, counts, period, starts_at, amount, percent FROM cap_mark WHERE ends_at > now()
"""
_KEPT = "31 days"
_FORGET = f"DELETE FROM cap_mark WHERE ends_at < now() - interval '{_KEPT}'"  # noqa: S608
_CLICK_CAPS = """
SELECT cap.id, cap.offer_id, cap.affiliate_id, cap.counts, cap.period, cap.amount, cap.series, offer.time_zone
FROM cap JOIN offer ON offer.id = cap.offer_id
WHERE cap.counts IN ('clicks', 'uniques') AND cap.amount > 0 AND NOT offer.is_archived
    AND ($1::bigint IS NULL OR offer.id = $1)
ORDER BY cap.id
"""
_BUSY_AFFILIATES = """
SELECT DISTINCT key::bigint FROM report_count
WHERE quarters = 96 AND dimension = 'affiliate' AND slot >= $1 ORDER BY 1
"""


Mark = tuple[int, int, str, str, datetime, int, int]
"""A cap, an affiliate or 0, what is counted, the period and its start, the amount, and the percents."""


class CapCount(NamedTuple):
    """A cap and its count in a period."""

    cap_id: int
    offer_id: int
    affiliate_id: int | None  # None: all affiliates together
    counts: str
    period: str
    amount: int
    starts_at: datetime
    ends_at: datetime
    closes: bool  # the offer, when it is full
    currency: str | None
    used: Decimal

    @property
    def percents(self) -> list[int]:
        """The marks that it has reached, the highest first."""
        return [percent for percent in _PERCENTS if self.amount and self.used * 100 >= self.amount * percent]

    @property
    def mark(self) -> Mark:
        """What identifies the highest mark that it has reached."""
        place = self.cap_id, self.affiliate_id or 0, self.counts, self.period, self.starts_at, self.amount
        return *place, self.percents[0]


class ClickCap(NamedTuple):
    """A cap that the stream counts."""

    id: int
    offer_id: int
    affiliate_id: int | None  # None: all clicks together, 0: each affiliate's
    counts: str
    period: str
    amount: int
    series: int
    time_zone: str


async def note(connection: Connection, cap: CapCount) -> None:
    """Note how full a cap is, if that is new in its period. Call it within a transaction.

    A cap that was full at once is not told of at 90 %.
    """
    percents = cap.percents
    if not percents:
        return
    new = {percent for (percent,) in await connection.fetch(_MARK, *cap[:9], percents)}
    if percents[0] in new:
        full = percents[0] == 100
        subject, data = f"offers/{cap.offer_id}", _data(cap)
        await events.note(connection, CAP_REACHED if full else CAP_NEARLY_FULL, subject, data)
        if full and cap.closes:
            await events.note(connection, CLOSED_BY_CAP, subject, data)


async def marked(connection: Connection) -> set[Mark]:
    """The marks of periods that have not ended."""
    return {tuple(row) for row in await connection.fetch(_MARKED)}


async def click_caps(connection: Connection, offer_id: int | None = None) -> list[ClickCap]:
    """The caps that the stream counts, of one offer or of all that are not archived."""
    return [ClickCap(*row) for row in await connection.fetch(_CLICK_CAPS, offer_id)]


async def busy_affiliates(connection: Connection, first_slot: int) -> Collection[int]:
    """The affiliates with clicks since a day. `first_slot`: its first quarter-hour since 1970."""
    return [id_ for (id_,) in await connection.fetch(_BUSY_AFFILIATES, first_slot)]


async def forget(connection: Connection) -> None:
    """Delete the marks of old periods."""
    await connection.execute(_FORGET)


def _data(cap: CapCount) -> dict[str, object]:
    return {
        "offer_id": cap.offer_id,
        "affiliate_id": cap.affiliate_id,
        "cap_id": cap.cap_id,
        "counts": cap.counts,
        "period": cap.period,
        "amount": cap.amount,
        "currency": cap.currency,
        "used": show(cap.used) if cap.currency else str(cap.used),
        "starts_at": _shown(cap.starts_at),
        "ends_at": None if cap.ends_at == FOR_GOOD else _shown(cap.ends_at),
    }


def _shown(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
