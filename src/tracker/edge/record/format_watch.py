"""Watches which versions of records the live workers read.

It looks once a second, beside the clicks.

- A worker that starts is seen within a second. A click that was written before may have a version that this
  worker cannot read. It becomes a dead letter, and is kept: `tracker dead-letters replay` puts it back in the
  oldest version, which the worker reads.
- While the stream is away, the edge writes the oldest version.
- The spool has only the oldest version, because it may be drained after hours, or by an edge of the former
  release.
"""

from __future__ import annotations

import asyncio
import logging

from tracker.edge.record.identity import EdgeId
from tracker.stream.formats import Formats, writable
from tracker.stream.reader import UNREACHABLE
from tracker.stream.record import OLDEST

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often an edge looks."""
_ANSWER_SECONDS = 1.0


class FormatWatch:
    """Watches the workers for one edge."""

    def __init__(self, url: str, edge: EdgeId, partitions: int) -> None:
        self._edge = str(edge)
        self._partitions = partitions
        self._formats = Formats(url, partitions)
        self.version = OLDEST
        """The newest version of clicks that this edge may write."""

    async def run(self) -> None:
        """Look every second, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self.look()
            except UNREACHABLE:
                self.version = OLDEST
            except Exception:  # clicks do not depend on this: it must not end the edge
                self.version = OLDEST
                logger.exception("the formats of workers cannot be read")
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Adapt the version to the live workers, and say it.

        Raises:
            UNREACHABLE: the stream server is away.
        """
        self.version = writable(await self._formats.workers(), self._partitions)
        await self._formats.say(self._edge, self.version)

    async def close(self) -> None:
        await self._formats.close()
