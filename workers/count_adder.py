"""Ends frozen transactions of writers, and adds up the deltas of clicks and conversions, once a second.

All workers may do it. One adds up at a time, and nothing is lost or doubled if it is killed.
"""

from __future__ import annotations

import asyncio
import logging

from tracker.settings import Settings
from tracker.store import db
from tracker.store.clicks import deltas
from tracker.store.clicks import insert as clicks
from tracker.store.reports import conversion_counts
from workers.retry import Retry

logger = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
_RETRY_SECONDS = 10.0


async def run(settings: Settings) -> None:
    """Add up until cancelled. An outage only delays it: readers add what is left themselves."""
    assert settings.postgres_dsn
    dsn = settings.postgres_dsn

    async def work() -> None:
        connection = await db.connect(dsn)
        try:
            while True:
                if frozen := await clicks.end_frozen(connection):  # first: a fault below must not keep it
                    logger.warning("counts: %d writers were frozen in a batch: others take it over", frozen)
                for add_up in (deltas.add_up, conversion_counts.add_up):
                    await add_up(connection)
                await asyncio.sleep(EVERY_SECONDS)
        finally:
            connection.terminate()  # not a close, which would wait for a server that may be frozen

    # A fault does not end the writers of the same worker.
    await Retry(logger, "counts", pause=_RETRY_SECONDS, fault="counts cannot be added up").run(work)
