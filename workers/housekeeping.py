"""What the database needs now and then: partitions ahead of the clicks, an end to old logs and long waits."""

from __future__ import annotations

import asyncio
import logging
import time

from tracker.settings import Settings
from tracker.store import db
from tracker.store.clicks import partitions
from tracker.store.conversions import affiliate_postbacks
from tracker.store.conversions import postbacks as postback_log
from workers.retry import Retry

logger = logging.getLogger(__name__)

EVERY_SECONDS = 600.0
LOG_DAYS = 90
"""How long postbacks are logged that came to nothing: none comes a second time after so long."""
_RETRY_SECONDS = 10.0


async def run(settings: Settings) -> None:
    """Keep house until cancelled; an outage only delays it."""

    async def work() -> None:
        while True:
            await once(settings)
            await asyncio.sleep(EVERY_SECONDS)

    # A fault does not end the writers of the same worker.
    await Retry(logger, "housekeeping", pause=_RETRY_SECONDS, fault="housekeeping failed").run(work)


async def once(settings: Settings) -> list[str]:
    """Create the partitions that are missing, emptying click_default into them; returns their names.

    And forget old postbacks, and see that none waits for longer than one may.
    """
    assert settings.postgres_dsn
    connection = await db.connect(settings.postgres_dsn)
    try:
        old = int((time.time() - LOG_DAYS * 86_400) * 1000)
        await postback_log.forget(connection, old)
        await affiliate_postbacks.forget(connection)
        await affiliate_postbacks.bring_forward(connection)
        return await partitions.create_ahead(connection)
    finally:
        await connection.close()
