"""The stream's counters of caps on clicks, by cap and affiliate."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfoNotFoundError

from tracker.domain import caps
from tracker.domain.model import Cap, Counter, Period
from tracker.store.conversions import cap_marks
from tracker.store.conversions.cap_marks import FOR_GOOD, CapCount, ClickCap
from tracker.store.db import Connection

_DAY_SECONDS = 86_400
_SLOTS_A_DAY = 96


class Watched(NamedTuple):
    """A counter in the stream, and whose it is."""

    cap: ClickCap
    affiliate_id: int | None
    counter: Counter
    starts: int  # of the period, Unix seconds


async def busy_affiliates(connection: Connection, now: int) -> Collection[int]:
    """The affiliates with clicks since yesterday. `now` is in Unix seconds."""
    yesterday = (now // _DAY_SECONDS - 1) * _SLOTS_A_DAY
    return await cap_marks.busy_affiliates(connection, yesterday)


def watched(found: Sequence[ClickCap], affiliates: Collection[int], millis: int) -> Iterator[Watched]:
    """The counters of caps at a moment (Unix milliseconds). An affiliate's own cap replaces that of each."""
    own = {(cap.offer_id, cap.affiliate_id, cap.counts, cap.period) for cap in found if cap.affiliate_id}
    for cap in found:
        each = cap.affiliate_id == 0
        for affiliate_id in affiliates if each else [cap.affiliate_id]:
            if each and (cap.offer_id, affiliate_id, cap.counts, cap.period) in own:
                continue
            period = Period(cap.period)
            as_edges = Cap(cap.affiliate_id, cap.counts == "uniques", period, cap.amount, cap.series)
            try:
                counter = caps.counter(as_edges, cap.offer_id, cap.time_zone, affiliate_id or 0, millis)
                starts, _ = caps.bounds(period, cap.time_zone, millis)
            except (ValueError, ZoneInfoNotFoundError):  # edges leave such an offer out
                continue
            yield Watched(cap, affiliate_id, counter, starts)


def count(watched: Watched, used: int) -> CapCount:
    """A counter's cap with its count in the period."""
    cap, ends = watched.cap, watched.counter.expires
    return CapCount(
        cap_id=cap.id,
        offer_id=cap.offer_id,
        affiliate_id=watched.affiliate_id,
        counts=cap.counts,
        period=cap.period,
        amount=cap.amount,
        starts_at=datetime.fromtimestamp(watched.starts, UTC),
        ends_at=datetime.fromtimestamp(ends, UTC) if ends else FOR_GOOD,
        closes=True,
        currency=None,
        used=Decimal(used),
    )
