"""Writes refused postbacks into the log of postbacks.

All workers may do it: each postback is logged once, by its hash.
"""

from __future__ import annotations

import asyncio
import logging

from tracker.settings import Settings
from tracker.store import db
from tracker.store.conversions import refused
from tracker.stream.refused_postbacks import RefusedStream
from workers.retry import Retry

logger = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
BATCH = 200
"""Most postbacks that are logged at a time: strangers may send any number."""
_RETRY_SECONDS = 10.0


async def run(settings: Settings) -> None:
    """Log until cancelled. An outage only delays it."""
    assert settings.redis_url
    fault = "refused postbacks cannot be logged"  # it does not end the writers of the same worker
    async with RefusedStream(settings.redis_url) as stream:

        async def work() -> None:
            while True:
                await once(settings, stream)
                await asyncio.sleep(EVERY_SECONDS)

        await Retry(logger, "refused postbacks", pause=_RETRY_SECONDS, fault=fault).run(work)


async def once(settings: Settings, stream: RefusedStream) -> None:
    """Log some, and remove them from the stream."""
    assert settings.postgres_dsn
    entries = await stream.oldest(BATCH)
    if not entries:
        return
    connection = await db.connect(settings.postgres_dsn)
    try:
        await refused.log(connection, [one for _, one in entries if one])
    finally:
        await connection.close()
    await stream.remove([id_ for id_, _ in entries])
