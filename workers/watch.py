"""Looks at what no change of a row tells, and notes what needs attention.

Only the stream knows the counts of caps on clicks. The writer of conversions notes its own caps. Secrets
expire and advertisers fall silent without any change. All workers look, and each finding is noted once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import NamedTuple
from zoneinfo import ZoneInfoNotFoundError

from tracker.domain import caps
from tracker.domain.model import Cap, Counter, Period
from tracker.settings import Settings
from tracker.store import alerts, db
from tracker.store.conversions import cap_marks
from tracker.store.conversions.cap_marks import FOR_GOOD, CapCount, ClickCap
from tracker.stream import cap_counts
from workers.retry import Retry

logger = logging.getLogger(__name__)

EVERY_SECONDS = 30.0
MOST_COUNTERS = 10_000
"""Most counters of one look. Caps of each affiliate have one for each affiliate with clicks of late."""
_RETRY_SECONDS = 10.0
_DAY_SECONDS = 86_400
_SLOTS_A_DAY = 96


class _Watched(NamedTuple):
    """A counter in the stream, and whose it is."""

    cap: ClickCap
    affiliate_id: int | None
    counter: Counter
    starts: int  # of the period, Unix seconds


async def run(settings: Settings) -> None:
    """Look until cancelled. An outage only delays it."""

    async def work() -> None:
        while True:
            await once(settings)
            await asyncio.sleep(EVERY_SECONDS)

    # A fault does not end the writers of the same worker.
    await Retry(logger, "watch", pause=_RETRY_SECONDS, fault="caps and alerts cannot be watched").run(work)


async def once(settings: Settings) -> None:
    """Compare the alerts with the noted ones, then note the caps on clicks that are nearly full or full.

    Alerts come first, because they need no stream server.
    """
    assert settings.postgres_dsn
    connection = await db.connect(settings.postgres_dsn)
    try:
        await alerts.note(connection)
        await _note_caps(settings, connection)
    finally:
        await connection.close()


async def _note_caps(settings: Settings, connection: db.Connection) -> None:
    assert settings.redis_url
    now = int(time.time())
    found = await cap_marks.click_caps(connection)
    if not found:
        return
    yesterday = (now // _DAY_SECONDS - 1) * _SLOTS_A_DAY
    affiliates = await cap_marks.busy_affiliates(connection, yesterday)
    watched = list(islice(_watched(found, affiliates, now * 1000), MOST_COUNTERS))
    names = [each.counter.name for each in watched]
    used = await cap_counts.counted(settings.redis_url, settings.partitions, names)
    full = [cap for cap in map(_count, watched, used) if cap.percents]
    marked = await cap_marks.marked(connection) if full else set()
    for cap in full:
        if cap.mark not in marked:
            async with connection.transaction():
                await cap_marks.note(connection, cap)


def _watched(found: Sequence[ClickCap], affiliates: Collection[int], millis: int) -> Iterator[_Watched]:
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
            yield _Watched(cap, affiliate_id, counter, starts)


def _count(watched: _Watched, used: int) -> CapCount:
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
