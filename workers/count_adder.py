"""Ends frozen transactions of writers, and adds up the deltas of clicks and conversions, once a second.

All workers may do it. One adds up at a time, and nothing is lost or doubled if it is killed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic

from tracker.settings import Settings
from tracker.store import db
from tracker.store.clicks import deltas
from tracker.store.clicks import insert as clicks
from tracker.store.reports import conversion_counts
from workers.retry import Retry

logger = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
_RETRY_SECONDS = 10.0


class _Job:
    """One of the jobs. Its failure is logged, and does not keep the others from theirs."""

    def __init__(self, failed: str, work: Callable[[db.Connection], Awaitable[None]]) -> None:
        self._failed = failed
        self._work = work
        self._next_try = 0.0  # monotonic seconds

    async def run(self, connection: db.Connection) -> None:
        """Do it, unless it has just failed.

        Raises: what asyncpg raises of a connection that is lost.
        """
        if monotonic() < self._next_try:
            return
        try:
            await self._work(connection)
        except Exception:
            if connection.is_closed():
                raise
            logger.exception(
                "counts: %(cause)s: trying again in %(seconds).0f s",
                {"event": "counts_failed", "cause": self._failed, "seconds": _RETRY_SECONDS},
            )
            self._next_try = monotonic() + _RETRY_SECONDS


async def run(settings: Settings) -> None:
    """Add up until cancelled. An outage only delays it: readers add what is left themselves."""
    assert settings.postgres_dsn
    dsn = settings.postgres_dsn
    jobs = (
        _Job("frozen writers cannot be ended", _end_frozen),
        _Job("deltas of clicks cannot be added up", deltas.add_up),
        _Job("deltas of conversions cannot be added up", conversion_counts.add_up),
    )

    async def work() -> None:
        connection = await db.connect(dsn)
        try:
            while True:
                for job in jobs:
                    await job.run(connection)
                await asyncio.sleep(EVERY_SECONDS)
        finally:
            connection.terminate()  # not a close, which would wait for a server that may be frozen

    # A fault does not end the writers of the same worker.
    await Retry(logger, "counts", pause=_RETRY_SECONDS, fault="counts cannot be added up").run(work)


async def _end_frozen(connection: db.Connection) -> None:
    if frozen := await clicks.end_frozen(connection):
        logger.warning(
            "counts: %(writers)d writers were frozen in a batch: others take it over",
            {"event": "writer_frozen", "writers": frozen},
        )
