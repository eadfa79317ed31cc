"""What the other partitions have counted towards a cap.

A partition's script counts its own clicks exactly, and knows nothing of the others'. So an edge lowers each
limit by what they had counted when it last asked: a partition with count c and others' sum s takes a click
where c < limit - s.

- No click is refused before the cap is full: counts only grow, so a sum is never larger than the truth.
- Once it is full, an edge lets through at most the clicks that it sends off before the next sums are here:
  those of one refresh (a second and the server's answer), of a few milliseconds for a counter that is new to
  the edge or was not used in the last second, for it is asked about at once; and while a partition cannot be
  asked, those that the others take meanwhile. In no case does one partition count more than the limit.
- A counter beyond MAX_COUNTERS of one second waits for the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice

from tracker.domain import caps
from tracker.domain.model import Counter
from tracker.settings import Settings
from tracker.stream.appender import Appender, AppendError

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 1.0
"""How old the sums of counters in use may be, but for the time that the answer takes."""
MAX_COUNTERS = 10_000
"""Most counters whose sums are remembered, and most that are asked about in one refresh."""

_AT_ONCE = 500  # of one call; reading its answer holds clicks up for a third of a millisecond
_ANSWER_SECONDS = 1.0
_LEAST_PAUSE = 0.02  # seconds between calls, however many counters are new


class CapSums:
    """The counts of all partitions, of the counters that this edge has used lately."""

    def __init__(self, settings: Settings) -> None:
        assert settings.redis_url
        self._appenders = [Appender(settings.redis_url, number) for number in range(settings.partitions)]
        self._nothing = (0,) * settings.partitions
        self._counts: dict[str, tuple[int, ...]] = {}  # by partition; the longest unused come first
        self._used: set[str] = set()  # since the last refresh
        self._fresh: set[str] = set()  # asked about in the last refresh, or since
        self._away: set[int] = set()  # partitions that did not answer the last time
        self._new = asyncio.Event()

    def lowered(self, counters: tuple[Counter, ...], partition: int) -> tuple[Counter, ...]:
        """Counters as a partition is to see them: less what the others were last known to have counted."""
        elsewhere = []
        for counter in counters:
            name = counter.name
            self._note(name)
            counts = self._counts.get(name, self._nothing)
            elsewhere.append(sum(counts) - counts[partition])
        return caps.lowered(counters, elsewhere)

    async def run(self) -> None:
        """Keep the sums of what is used fresh, until cancelled."""
        while True:
            try:
                await self._round()
            except Exception:  # sums that stand still would let caps run over, unseen
                logger.exception("sums of caps: cannot be refreshed")
                await asyncio.sleep(REFRESH_SECONDS)

    async def refresh(self) -> None:
        """Ask about all that was used since the last refresh."""
        used, self._used = self._used, set()
        self._fresh = used
        await self._ask(used)

    async def close(self) -> None:
        for appender in self._appenders:
            await appender.close()

    def _note(self, name: str) -> None:
        if name in self._used or len(self._used) >= MAX_COUNTERS:
            return
        self._used.add(name)
        if name not in self._fresh:
            self._new.set()

    async def _round(self) -> None:
        """One refresh, and until the next one is due, what comes up new."""
        await self.refresh()
        with suppress(TimeoutError):
            async with asyncio.timeout(REFRESH_SECONDS):
                while True:
                    await self._new.wait()
                    self._new.clear()
                    new = self._used - self._fresh
                    self._fresh |= new
                    await self._ask(new)
                    await asyncio.sleep(_LEAST_PAUSE)

    async def _ask(self, names: set[str]) -> None:
        remaining = iter(names)
        while some := list(islice(remaining, _AT_ONCE)):
            asked = (self._counted(number, some) for number in range(len(self._appenders)))
            for name, *counts in zip(some, *await asyncio.gather(*asked), strict=True):
                self._remember(name, tuple(counts))

    async def _counted(self, partition: int, names: Sequence[str]) -> list[int]:
        """What a partition has counted; what it is last known to have where it does not answer."""
        try:
            counts = await self._appenders[partition].counts(names, _ANSWER_SECONDS)
        except AppendError as error:
            if partition not in self._away:
                logger.warning("sums of caps: partition %d does not answer: %s", partition, error)
            self._away.add(partition)
            return [self._counts.get(name, self._nothing)[partition] for name in names]
        self._away.discard(partition)
        return counts

    def _remember(self, name: str, counts: tuple[int, ...]) -> None:
        self._counts.pop(name, None)
        self._counts[name] = counts
        if len(self._counts) > MAX_COUNTERS:
            del self._counts[next(iter(self._counts))]
