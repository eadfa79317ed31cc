"""The loop around each worker: work, wait out an outage, work again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from logging import Logger

from tracker.store import db
from tracker.store.outages import Outages
from tracker.stream.reader import UNREACHABLE

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds to wait after the first outage, and at most. The pause doubles from one to the other."""

AWAY: tuple[type[Exception], ...] = (
    *UNREACHABLE,
    *db.UNREACHABLE,
    db.REFUSED,
    RuntimeError,  # uvloop's, of a socket that was closed meanwhile
)
"""Errors of an engine that is away: worth waiting for."""


class Retry:
    """Calls work again after each outage, until it returns or `stopping` is set.

    `pause`: constant seconds between two calls, instead of pauses that double.
    `fault`: the log line of an error that is not an outage. Work is then called again. Without a line the
    error is raised. With `burst` every error is raised.
    """

    def __init__(
        self,
        logger: Logger,
        who: str,
        stopping: asyncio.Event | None = None,
        *,
        burst: bool = False,
        pause: float | None = None,
        fault: str = "",
    ) -> None:
        self._logger = logger
        self._outages = Outages(logger, who)
        self._stopping = stopping or asyncio.Event()
        self._burst = burst
        self._first, self._longest = (pause, pause) if pause else (FIRST_PAUSE, LONGEST_PAUSE)
        self._fault = fault
        self._pause = self._first

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        while not self._stopping.is_set():
            try:
                await work()
                return
            except AWAY as error:
                if self._burst:
                    raise
                self._outages.warn(error, f"trying again in {self._pause:.1f} s")
            except Exception:
                if self._burst or not self._fault:
                    raise
                self._logger.exception(self._fault, {"event": "work_failed"})
            await self.wait(self._pause)
            self._pause = min(self._pause * 2, self._longest)

    def succeeded(self) -> None:
        """Begin with the first pause at the next outage."""
        self._pause = self._first

    async def wait(self, seconds: float) -> bool:
        """Wait for some seconds, or until `stopping` is set. Returns whether it is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()
