"""Regular work on the database: partitions for coming days, deletion of old logs, an end to long waits."""

from __future__ import annotations

import asyncio
import logging
import time

from tracker.people.sessions import IDLE
from tracker.people.throttle import WINDOW
from tracker.settings import Settings
from tracker.store import db, retention, shares
from tracker.store.books import months
from tracker.store.clicks import partitions
from tracker.store.conversions import cap_marks
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.affiliate_postbacks import POSTBACKS
from tracker.store.people import failures, one_time_links, sessions
from tracker.store.reports import rollups
from tracker.store.webhooks import events, sent
from tracker.store.webhooks.sent import WEBHOOKS
from workers.retry import Retry

logger = logging.getLogger(__name__)

EVERY_SECONDS = 600.0
LOG_DAYS = 90
"""How long postbacks without a conversion are logged. A postback is not repeated after so long."""
_RETRY_SECONDS = 10.0


async def run(settings: Settings) -> None:
    """Keep house until cancelled. An outage only delays it."""

    async def work() -> None:
        while True:
            await once(settings)
            await asyncio.sleep(EVERY_SECONDS)

    # A fault does not end the writers of the same worker.
    await Retry(logger, "housekeeping", pause=_RETRY_SECONDS, fault="housekeeping failed").run(work)


async def _drop_old(connection: db.Connection, keep_days: int) -> None:
    """Drop some days of clicks that are old enough, unless one was found that must be looked at later."""
    held = await retention.held(connection)
    if held and held.is_waiting:
        return
    end = retention.end_of(keep_days)
    async for step in retention.steps(connection, end, retention.MOST_A_ROUND):
        if step.why:
            log = logger.error if step.is_wrong else logger.warning
            log("retention: %s stays, and later days with it: %s", step.name, step.why)
        else:
            logger.info(
                "retention: %(table)s is dropped: %(clicks)d clicks, counts stay",
                {"event": "day_dropped", "table": step.name, "clicks": step.clicks},
            )


async def once(settings: Settings) -> list[str]:
    """Create missing partitions, and move rows of click_default into them. Returns their names.

    It also rejects postbacks that waited too long for dead letters, deletes old postbacks and webhooks'
    requests, and brings forward those that wait too long. It forgets sessions and links of people that have
    ended, shares that ended long ago, and old failures to sign in. It adds up finished days for reports, and
    the book by month. With TRACKER_KEEP_DAYS it drops old days of clicks.
    """
    assert settings.postgres_dsn
    connection = await db.connect(settings.postgres_dsn)
    try:
        old = int((time.time() - LOG_DAYS * 86_400) * 1000)
        await postback_log.end_waiting(connection)
        await postback_log.forget(connection, old)
        for table in (POSTBACKS, WEBHOOKS):
            await table.forget(connection)
            await table.bring_forward(connection)
        await events.forget(connection, sent.KEPT)
        await sessions.drop_over(connection, IDLE)
        await one_time_links.drop_over(connection)
        await failures.drop_over(connection, WINDOW)
        await shares.forget(connection)
        await cap_marks.forget(connection)
        created = await partitions.create_ahead(connection)
        await rollups.build_missing(connection)
        await months.carry(connection)
        if settings.keep_days:
            await _drop_old(connection, settings.keep_days)
        return created
    finally:
        await connection.close()
