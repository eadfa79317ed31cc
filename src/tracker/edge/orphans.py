"""Hits that name no known offer or affiliate, on their way to a bounded log. No visitor waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from itertools import islice
from time import time_ns

from tracker.model import Link, Visitor
from tracker.settings import Settings
from tracker.stream.orphans import Orphan, OrphanStream
from tracker.stream.reader import UNREACHABLE

logger = logging.getLogger(__name__)

MAX_WAITING = 1000
"""Most orphans that wait to be logged; further ones are only counted."""
MAX_TEXT = 500
"""Longest text of an orphan, in characters; the rest is cut off."""

_PAUSE_SECONDS = 1.0
_AT_ONCE = 100  # one call; packing it holds clicks up for two milliseconds
_CALL_SECONDS = 2.0
_AWAY: tuple[type[Exception], ...] = (
    *UNREACHABLE,
    RuntimeError,
)  # RuntimeError: uvloop's, of a closed connection


class OrphanLog:
    """Collects orphans, and logs them every second."""

    def __init__(self, settings: Settings) -> None:
        assert settings.redis_url
        self._stream = OrphanStream(settings.redis_url)
        self._waiting: deque[Orphan] = deque()
        self._is_away = False
        self.dropped = 0

    def note(self, link: Link, visitor: Visitor, *, is_offer_known: bool) -> None:
        """Log a hit within the next second or so; count it as dropped where too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        texts = (visitor.requested_link, visitor.referrer, visitor.ip, visitor.user_agent)
        why = _why(link, is_offer_known=is_offer_known)
        self._waiting.append(Orphan(time_ns() // 1_000_000, why, *(text[:MAX_TEXT] for text in texts)))

    async def run(self) -> None:
        """Log what waits every second until cancelled; what waits then is logged still."""
        try:
            while True:
                await asyncio.sleep(_PAUSE_SECONDS)
                await self._log_whole()
        finally:
            await self._log()
            await self._stream.close()

    async def _log_whole(self) -> None:
        """Log what waits now, also when cancelled meanwhile: else some would be logged twice."""
        logging_ = asyncio.create_task(self._log())
        try:
            await asyncio.shield(logging_)
        finally:
            await logging_

    async def _log(self) -> None:
        """Log what waits now; what the stream does not take is dropped."""
        for _ in range(0, len(self._waiting), _AT_ONCE):
            batch = list(islice(self._waiting, _AT_ONCE))
            try:
                async with asyncio.timeout(_CALL_SECONDS):
                    await self._stream.append(batch)
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
            logger.warning("orphans are not logged: %s: %s", type(error).__name__, error)
        self._is_away = True


def _why(link: Link, *, is_offer_known: bool) -> str:
    if is_offer_known:
        return "unknown affiliate"
    return "unknown offer" if link.offer_id else "unknown link"
