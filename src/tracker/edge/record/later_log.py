"""A bounded log that is written after the answer is given, so that no visitor waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Generic, TypeVar

from tracker.stream.reader import UNREACHABLE

logger = logging.getLogger(__name__)

MAX_WAITING = 1000
"""Most entries that wait to be logged. Further ones are counted as dropped."""

_PAUSE_SECONDS = 1.0
_AT_ONCE = 100  # entries of one call. Packing them delays clicks by two milliseconds
_CALL_SECONDS = 2.0
_AWAY: tuple[type[Exception], ...] = (
    *UNREACHABLE,
    RuntimeError,  # uvloop's, of a socket that was closed meanwhile
)

Entry = TypeVar("Entry")


class LaterLog(Generic[Entry]):
    """Collects entries, and logs them every second."""

    def __init__(
        self,
        name: str,
        append: Callable[[list[Entry]], Awaitable[None]],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self._name = name
        self._append = append
        self._close = close
        self._waiting: deque[Entry] = deque()
        self._is_away = False
        self.dropped = 0

    def add(self, entry: Entry) -> None:
        """Log an entry within a second or so. If too many wait, count it as dropped."""
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
        else:
            self._waiting.append(entry)

    async def run(self) -> None:
        """Log waiting entries every second until cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(_PAUSE_SECONDS)
                await self._log_whole()
        finally:
            await self._log()
            await self._close()

    async def _log_whole(self) -> None:
        """Log waiting entries to the end, even if cancelled: else some would be logged twice."""
        logging_ = asyncio.create_task(self._log())
        try:
            await asyncio.shield(logging_)
        finally:
            await logging_

    async def _log(self) -> None:
        """Log waiting entries. Entries that the stream does not take are dropped."""
        for _ in range(0, len(self._waiting), _AT_ONCE):
            batch = list(islice(self._waiting, _AT_ONCE))
            try:
                async with asyncio.timeout(_CALL_SECONDS):
                    await self._append(batch)
            except _AWAY as error:
                self._drop(error)
                return
            self._is_away = False
            for _ in batch:
                self._waiting.popleft()

    def _drop(self, error: Exception) -> None:
        self.dropped += len(self._waiting)
        self._waiting.clear()
        if not self._is_away:
            logger.warning(
                "%(what)s are not logged: %(cause)s",
                {"event": "not_logged", "what": self._name, "cause": f"{type(error).__name__}: {error}"},
            )
        self._is_away = True
