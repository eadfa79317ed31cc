"""Records clicks by group commit: what arrives while one call is under way is the next batch.

An idle edge sends at once; a busy one shares each call, and the server's fsync, among many clicks.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections import deque

from tracker.settings import Settings
from tracker.stream.appender import Appender, AppendError, Lane
from tracker.stream.record import Entry

logger = logging.getLogger(__name__)

MAX_BATCH = 512
"""Most clicks of one call: a call stays well under a millisecond of the stream server's time per hundred."""
_RETRY_SECONDS = 0.01

_Waiting = tuple[Entry, Future[int], float]
"""A click, who waits for it, and until when (the loop's seconds)."""


class NotRecorded(Exception):  # noqa: N818 - says what happened to the click
    """The click could be put nowhere in time. It may still turn out to have been stored."""


class Recorder:
    """One partition's clicks of this edge, in order, one call in flight."""

    def __init__(self, settings: Settings, partition: int = 0) -> None:
        assert settings.redis_url
        self._appender = Appender(settings.redis_url, partition)
        self._timeout = settings.append_timeout
        self._max_waiting = settings.max_waiting
        self._lane = Lane()
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.has_been_up = False

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run(), name="recorder")

    async def stop(self) -> None:
        """Finish what is waiting, then close. Nothing may be recorded any more."""
        self._stopping = True
        self._arrived.set()
        if self._task:
            await self._task
        await self._appender.close()

    def record(self, entry: Entry) -> Future[int]:
        """Put a click on the stream, and learn the place of its outcome in Outcomes.

        Done once the server has the click as durably as it keeps anything.

        Raises:
            NotRecorded: too many are waiting; from the future: not recorded within the append timeout.
        """
        if len(self._waiting) >= self._max_waiting:
            raise NotRecorded(f"{self._max_waiting} clicks are waiting already")
        recorded: Future[int] = self._loop.create_future()
        self._waiting.append((entry, recorded, self._loop.time() + self._timeout))
        self._arrived.set()
        return recorded

    async def probe(self) -> None:
        """Reach the stream once, so that readiness can tell.

        Raises:
            AppendError: it is away.
        """
        await self._appender.reach(self._timeout)
        self.has_been_up = True

    async def _run(self) -> None:
        while not self._stopping or self._waiting:
            await self._arrived.wait()
            batch = self._next_batch()
            if not self._waiting and not self._stopping:
                self._arrived.clear()
            if batch:
                await self._record(batch)

    def _next_batch(self) -> list[_Waiting]:
        """The clicks that wait longest, but for those whose time is up."""
        now = self._loop.time()
        while self._waiting and self._waiting[0][2] <= now:
            _refuse([self._waiting.popleft()], "waited too long")
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]

    async def _record(self, batch: list[_Waiting]) -> None:
        try:
            outcomes = await self._append([entry for entry, _, _ in batch], batch[0][2])
        except Exception as error:
            if not isinstance(error, AppendError):
                logger.exception("the recorder met what it does not know")
            self._lane = Lane()  # the old one's last call may yet be done: never reuse it
            _refuse(batch, str(error))
            return
        for (_, recorded, _), outcome in zip(batch, outcomes, strict=True):
            if not recorded.done():  # a visitor who went away changes nothing
                recorded.set_result(outcome)

    async def _append(self, entries: list[Entry], deadline: float) -> list[int]:
        """Append, repeating a failed call under its lane and sequence until the deadline."""
        loop = self._loop
        while True:
            try:
                receipt = await self._appender.append(self._lane, entries, deadline - loop.time())
            except AppendError as error:
                if loop.time() + _RETRY_SECONDS >= deadline:
                    logger.warning("%d clicks not recorded: %s", len(entries), error)
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self.has_been_up = True
                self._lane.next()
                return receipt.outcomes


def _refuse(batch: list[_Waiting], why: str) -> None:
    for _, recorded, _ in batch:
        if not recorded.done():
            recorded.set_exception(NotRecorded(why))
