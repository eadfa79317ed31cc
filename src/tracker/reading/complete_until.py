"""Complete-Until: the time before which every click is stored."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from pathlib import Path
from time import monotonic

from tracker.ops import ledger
from tracker.stream.ledger import StreamLedger
from tracker.stream.reader import UNREACHABLE

REFRESH_SECONDS = 0.5
"""How long an answer of the stream server is repeated."""
AFTER_FAILURE_SECONDS = 2.0
"""How long a stream server that did not answer is left alone."""
_PATIENCE = 0.25  # seconds that a request waits for it

_MOST_AWAITED = 1_000

_log = logging.getLogger(__name__)


class CompleteUntil:
    """The last known time. Requests that need it share one question to the stream server.

    A time stays true for ever, so the last one is also given while the stream server is away.
    """

    def __init__(self, stream: StreamLedger, data_dir: Path) -> None:
        self._stream = stream
        self._data_dir = data_dir
        self._millis: int | None = None
        self._next = 0.0  # monotonic seconds
        self._asking: asyncio.Task[None] | None = None
        self._awaited: deque[tuple[int, int]] = deque(maxlen=_MOST_AWAITED)  # (millis, id given by then)

    async def millis(self) -> int | None:
        """Unix milliseconds. None if it has never been known. Read it before the clicks that it describes."""
        if self._asking is None and monotonic() >= self._next:
            self._asking = asyncio.create_task(self._ask())
        if self._asking is not None:
            await asyncio.wait({self._asking}, timeout=_PATIENCE)
        return self._millis

    def of_feed(self, millis: int | None, given: int, upto: int) -> int | None:
        """What holds of a feed that shows the ids up to one, and was read after `millis` was known.

        All before it was stored then, with ids that had been given. Writers may hold the feed back all the
        time, but not for ever at one id: it is told of the first feed that comes that far.
        """
        if millis is not None and (not self._awaited or millis > self._awaited[-1][0]):
            self._awaited.append((millis, given))
        reached = max((pair for pair in self._awaited if pair[1] <= upto), default=None)
        while reached and self._awaited[0] != reached:
            self._awaited.popleft()
        return reached and reached[0]

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    async def _ask(self) -> None:
        try:
            found = await ledger.complete_until(self._stream, self._data_dir, self._millis)
            self._millis = max((known for known in (found, self._millis) if known is not None), default=None)
            self._next = monotonic() + REFRESH_SECONDS
        except UNREACHABLE as error:
            _log.warning(
                "Complete-Until: the stream server cannot be asked: %(cause)s",
                {"event": "complete_until_unknown", "cause": type(error).__name__},
            )
            self._next = monotonic() + AFTER_FAILURE_SECONDS
        finally:
            self._asking = None
