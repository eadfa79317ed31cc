"""Watches which versions of records the live workers read, and whether another process is the same edge.

It looks once a second, beside the clicks.

- A worker that starts is seen within a second. A click that was written before may have a version that this
  worker cannot read. It becomes a dead letter, and is kept: `tracker dead-letters replay` puts it back in the
  oldest version, which the worker reads.
- While the stream is away, the edge writes the oldest version.
- The spool has only the oldest version, because it may be drained after hours, or by an edge of the former
  release.
- Each process says its own random id with the edge's word. If another id stands there a second later, another
  process says the word too. That happens if a whole disk was copied: both edges then have one run id, and
  renew one heartbeat (see identity.py).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from time import monotonic

from tracker.edge.record.identity import EdgeId
from tracker.stream.formats import Formats, writable
from tracker.stream.reader import UNREACHABLE
from tracker.stream.record import OLDEST

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often an edge looks."""
_ANSWER_SECONDS = 1.0
_RIVAL_SECONDS = 10.0  # how long another process that was heard counts as running
_RIVAL = (
    "edge %(edge)s: another process has this slot and this run id, on a copy of this disk: "
    "Complete-Until may pass clicks in the spool of one of them. "
    "Stop one, delete edges/%(slot)d.run in its TRACKER_DATA_DIR, and give it another --slot"
)


class FormatWatch:
    """Watches the workers for one edge."""

    def __init__(self, url: str, edge: EdgeId, partitions: int) -> None:
        self._edge = edge
        self._process = secrets.token_hex(4)
        self._has_said = False
        self._rival = ""
        self._rival_heard = 0.0
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
                logger.exception("the formats of workers cannot be read", {"event": "formats_unreadable"})
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Adapt the version to the live workers, and say it.

        Raises:
            UNREACHABLE: the stream server is away.
        """
        self.version = writable(await self._formats.workers(), self._partitions)
        last = await self._formats.say(str(self._edge), self.version, self._process, self._rival)
        self._compare(last)

    def _compare(self, last: str) -> None:
        """Note another process that has said this edge's word since this one did."""
        is_other = self._has_said and last not in ("", self._process)
        self._has_said = True
        if is_other:
            if not self._rival:
                logger.error(_RIVAL, {"event": "run_copied", "edge": self._edge, "slot": self._edge.slot})
            self._rival, self._rival_heard = last, monotonic()
        elif monotonic() - self._rival_heard > _RIVAL_SECONDS:
            self._rival = ""

    async def close(self) -> None:
        await self._formats.close()
