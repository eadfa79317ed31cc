"""The conversion writer: postbacks from the stream to Postgres, each applied once.

One worker writes and the others stand by: an advisory lock decides which. A postback leaves the stream after
its commit, so a kill at any point repeats postbacks and never skips one. The database recognises repeats.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from time import monotonic

from tracker.domain.conversion import Refusal
from tracker.domain.postback import Postback
from tracker.ops import ledger
from tracker.settings import Settings
from tracker.store import db
from tracker.store.clicks.insert import BAD_ROW
from tracker.store.conversions import apply_postback
from tracker.store.conversions import lock as conversion_lock
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.missing_clicks import MOST_WAITING
from tracker.store.conversions.results import Applied
from tracker.stream.ledger import StreamLedger
from tracker.stream.postbacks import Delivery, PostbackStream, decode
from tracker.stream.record import Undecodable
from workers import measures
from workers.retry import AWAY, Retry

logger = logging.getLogger(__name__)

BATCH = 200
"""Most postbacks of one transaction."""
PARKED_SECONDS = 1.0
"""The pause between two rounds over all parked postbacks."""
_BLOCK_SECONDS = 0.5
_STAND_BY_SECONDS = 1.0
_STORE_SECONDS = 60.0  # that Postgres may take for one batch before it counts as away


async def run(settings: Settings, stopping: asyncio.Event | None = None, *, burst: bool = False) -> None:
    """Write until `stopping` is set. With `burst`: until nothing is left on the stream."""
    assert settings.redis_url
    async with PostbackStream(settings.redis_url) as stream, StreamLedger(settings.redis_url) as counts:
        await ConversionWriter(settings, stream, counts, stopping or asyncio.Event(), burst=burst).run()


class ConversionWriter:
    """The loop of one worker."""

    def __init__(
        self,
        settings: Settings,
        stream: PostbackStream,
        counts: StreamLedger,
        stopping: asyncio.Event,
        *,
        burst: bool,
    ) -> None:
        assert settings.postgres_dsn
        self._dsn = settings.postgres_dsn
        self._data_dir = settings.data_dir
        self._stream = stream
        self._counts = counts
        self._stopping = stopping
        self._burst = burst
        self._complete_until: int | None = None
        self._next_look = 0.0  # at parked postbacks, monotonic seconds
        self._last_seen: int | None = None  # place of a parked one
        self._retry = Retry(logger, "conversion writer", stopping, burst=burst)

    async def run(self) -> None:
        """Work, and start over after every outage."""
        await self._retry.run(self._work)

    async def _work(self) -> None:
        connection = await db.connect(self._dsn)
        try:
            if not await self._take_turn(connection):
                return
            while not self._stopping.is_set():
                if monotonic() >= self._next_look:
                    await self._look_at_held(connection)
                    await self._look_at_parked(connection)
                is_hurried = self._burst or self._last_seen is not None
                batch = await self._stream.oldest(BATCH, None if is_hurried else _BLOCK_SECONDS)
                if batch:
                    await self._store(connection, batch)
                elif self._burst:
                    break
                self._retry.succeeded()
        finally:
            connection.terminate()

    async def _take_turn(self, connection: db.Connection) -> bool:
        """Wait until no other worker writes. Returns False if `stopping` is set meanwhile."""
        while not await conversion_lock.begin_writing(connection):
            if await self._retry.wait(_STAND_BY_SECONDS):
                return False
        return True

    async def _look_at_parked(self, connection: db.Connection) -> None:
        """Try some parked postbacks, which wait for their clicks. The next call goes on behind them.

        It pauses only at the end of a round: strangers may have thousands parked before a good one.
        """
        parked = await postback_log.parked(connection, self._last_seen or 0, BATCH)
        self._last_seen = parked[-1][0] if len(parked) == BATCH else None
        self._next_look = monotonic() + (0.0 if self._last_seen else PARKED_SECONDS)
        if not parked:
            self._complete_until = None  # clocks may go back before it is needed again
            return
        # This comes before the clicks are looked up: a missing click of an earlier time will never come.
        self._complete_until = await ledger.complete_until(self._counts, self._data_dir, self._complete_until)
        await self._take(connection, [postback for _, postback in parked])

    async def _look_at_held(self, connection: db.Connection) -> None:
        """Try some of the held ones again, if goals or status words were added."""
        held = await postback_log.held(connection, BATCH)
        if held:
            await self._take(connection, held)

    async def _store(self, connection: db.Connection, batch: list[Delivery]) -> None:
        """Store the readable postbacks, dead-letter the others, and remove all from the stream."""
        read: list[tuple[Delivery, Postback]] = []
        for delivery in batch:
            try:
                read.append((delivery, decode(delivery.record)))
            except Undecodable as error:
                await self._dead_letter(delivery, str(error))
        async with conversion_lock.no_backup(connection):
            lost = await self._take(connection, [postback for _, postback in read])
            for delivery, postback in read:
                if any(postback is one for one in lost):
                    await self._dead_letter(delivery, "not even the log can take it")
            await self._stream.remove([delivery.id for delivery in batch])
        for delivery, _ in read:
            measures.POSTBACKS_IN.observe(measures.since(int(delivery.id.partition(b"-")[0])))

    async def _take(self, connection: db.Connection, postbacks: list[Postback]) -> list[Postback]:
        """Apply postbacks in one transaction. If one fails, apply each in its own transaction.

        Returns those that cannot even be logged.
        """
        watchdog = asyncio.get_running_loop().call_later(_STORE_SECONDS, connection.terminate)
        try:
            async with connection.transaction():
                done = await apply_postback.take(
                    connection, postbacks, self._complete_until, self._counts.unstored
                )
            _warn_if_too_many_wait(done)
            return []
        except Exception as error:
            if _is_outage(error):
                raise
            if len(postbacks) == 1:
                return await self._give_up(connection, postbacks[0], error)
            return [lost for postback in postbacks for lost in await self._take(connection, [postback])]
        finally:
            watchdog.cancel()

    async def _give_up(
        self, connection: db.Connection, postback: Postback, error: Exception
    ) -> list[Postback]:
        logger.error(
            "postback %(hash)s cannot be stored",
            {"event": "postback_not_stored", "hash": postback.hash},
            exc_info=error,
        )
        try:
            await apply_postback.give_up(connection, postback, f"{type(error).__name__}: {error}")
        except Exception as another:
            if _is_outage(another):
                raise
            return [postback]
        return []

    async def _dead_letter(self, delivery: Delivery, reason: str) -> None:
        logger.error(
            "postback %(entry)s cannot be read: %(cause)s",
            {"event": "postback_unreadable", "entry": delivery.id.decode(), "cause": reason},
        )
        await self._stream.dead_letter(delivery, reason)


def _warn_if_too_many_wait(done: Iterable[Applied]) -> None:
    if rejected := sum(applied.reason == Refusal.TOO_MANY_WAIT for applied in done):
        logger.warning(
            "%(rejected)d postbacks are rejected: %(waiting)d wait for dead letters already. "
            "Replay or drop these",
            {"event": "postbacks_rejected", "rejected": rejected, "waiting": MOST_WAITING},
        )


def _is_outage(error: Exception) -> bool:
    """Whether an engine is away. All other errors are a postback's or ours, and must not delay the others."""
    return isinstance(error, AWAY) and not isinstance(error, BAD_ROW)
