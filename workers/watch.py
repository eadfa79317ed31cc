"""Looks at what no change of a row tells, and notes what needs attention.

Only the stream knows the counts of caps on clicks. The writer of conversions notes its own caps. Secrets
expire and advertisers fall silent without any change. All workers look, and each finding is noted once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from itertools import islice

from tracker.ops import cap_counters, ledger
from tracker.settings import Settings
from tracker.store import alerts, db
from tracker.store.alerts import Alert
from tracker.store.conversions import cap_marks
from tracker.stream import cap_counts
from tracker.stream.ledger import StreamLedger
from tracker.stream.reader import UNREACHABLE
from workers.retry import Retry

logger = logging.getLogger(__name__)

EVERY_SECONDS = 30.0
MOST_COUNTERS = 10_000
"""Most counters of one look. Caps of each affiliate have one for each affiliate with clicks of late."""
_RETRY_SECONDS = 10.0


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

    Alerts come first, because those of the database need no stream server.
    """
    assert settings.postgres_dsn
    connection = await db.connect(settings.postgres_dsn)
    try:
        await alerts.note(connection, await _of_stream(settings))
        await _note_caps(settings, connection)
    finally:
        await connection.close()


async def _of_stream(settings: Settings) -> list[Alert] | None:
    """The alerts of the stream server. None while it is away."""
    assert settings.redis_url
    try:
        async with StreamLedger(settings.redis_url) as stream:
            return await ledger.lost_clicks(stream, int(time.time()))
    except UNREACHABLE:
        return None


async def _note_caps(settings: Settings, connection: db.Connection) -> None:
    assert settings.redis_url
    now = int(time.time())
    found = await cap_marks.click_caps(connection)
    if not found:
        return
    affiliates = await cap_counters.busy_affiliates(connection, now)
    watched = list(islice(cap_counters.watched(found, affiliates, now * 1000), MOST_COUNTERS))
    names = [each.counter.name for each in watched]
    used = await cap_counts.counted(settings.redis_url, settings.partitions, names)
    full = [cap for cap in map(cap_counters.count, watched, used) if cap.percents]
    marked = await cap_marks.marked(connection) if full else set()
    for cap in full:
        if cap.mark not in marked:
            async with connection.transaction():
                await cap_marks.note(connection, cap)
