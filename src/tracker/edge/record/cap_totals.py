"""The counts of the other partitions towards a cap.

A partition's script counts its own clicks exactly, and does not know the counts of the others. So an edge
lowers each limit by the sum of the others' counts, as they were at the last refresh. A partition with count c
and others' sum s takes a click if c < limit - s.

- No click is refused before the cap is full: counts only grow, so a sum is never too large.
- Once the cap is full, an edge lets through the clicks that it sends off before the next sums arrive. These
  are the clicks of one refresh, which takes a second and the server's answer. A counter that is new to the
  edge, or was not used in the last second, is read at once: it lets through the clicks of milliseconds.
- While a partition does not answer, its last known counts are used. A partition never counts more than the
  limit.
- Counters beyond MAX_COUNTERS in one second wait for the next second.
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
"""How old the sums of counters in use may be, plus the time that the answer takes."""
MAX_COUNTERS = 10_000
"""Most counters whose sums are remembered, and most that one refresh reads."""

_AT_ONCE = 500  # counters of one call. Its answer delays clicks by a third of a millisecond
_ANSWER_SECONDS = 1.0
_LEAST_PAUSE = 0.02  # seconds between calls, however many counters are new


class CapSums:
    """Counts by partition of the counters that this edge has used lately."""

    def __init__(self, settings: Settings) -> None:
        assert settings.redis_url
        self._appenders = [Appender(settings.redis_url, number) for number in range(settings.partitions)]
        self._nothing = (0,) * settings.partitions
        self._counts: dict[str, tuple[int, ...]] = {}  # by partition. The longest unused is the first
        self._used: set[str] = set()  # since the last refresh
        self._fresh: set[str] = set()  # read in the last refresh, or since
        self._away: set[int] = set()  # partitions that did not answer the last time
        self._new = asyncio.Event()

    def lowered(self, counters: tuple[Counter, ...], partition: int) -> tuple[Counter, ...]:
        """Counters with limits lowered by the last known counts of the other partitions."""
        elsewhere = []
        for counter in counters:
            name = counter.name
            self._note(name)
            counts = self._counts.get(name, self._nothing)
            elsewhere.append(sum(counts) - counts[partition])
        return caps.lowered(counters, elsewhere)

    async def run(self) -> None:
        """Keep the sums of used counters fresh, until cancelled."""
        while True:
            try:
                await self._round()
            except Exception:  # without fresh sums caps would overshoot, and nobody would see it
                logger.exception("cap totals cannot be refreshed", {"event": "cap_totals_failed"})
                await asyncio.sleep(REFRESH_SECONDS)

    async def refresh(self) -> None:
        """Read all counters used since the last refresh."""
        used, self._used = self._used, set()
        self._fresh = used
        await self._read(used)

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
        """Refresh all used counters. Until the next refresh is due, read new ones as they appear."""
        await self.refresh()
        with suppress(TimeoutError):
            async with asyncio.timeout(REFRESH_SECONDS):
                while True:
                    await self._new.wait()
                    self._new.clear()
                    new = self._used - self._fresh
                    self._fresh |= new
                    await self._read(new)
                    await asyncio.sleep(_LEAST_PAUSE)

    async def _read(self, names: set[str]) -> None:
        remaining = iter(names)
        while some := list(islice(remaining, _AT_ONCE)):
            reads = (self._counted(number, some) for number in range(len(self._appenders)))
            for name, *counts in zip(some, *await asyncio.gather(*reads), strict=True):
                self._remember(name, tuple(counts))

    async def _counted(self, partition: int, names: Sequence[str]) -> list[int]:
        """The counts of a partition. The last known ones if it does not answer."""
        try:
            counts = await self._appenders[partition].counts(names, _ANSWER_SECONDS)
        except AppendError as error:
            if partition not in self._away:
                logger.warning(
                    "cap totals: partition %(partition)d does not answer: %(cause)s",
                    {"event": "cap_totals_stale", "partition": partition, "cause": error},
                )
            self._away.add(partition)
            return [self._counts.get(name, self._nothing)[partition] for name in names]
        self._away.discard(partition)
        return counts

    def _remember(self, name: str, counts: tuple[int, ...]) -> None:
        self._counts.pop(name, None)
        self._counts[name] = counts
        if len(self._counts) > MAX_COUNTERS:
            del self._counts[next(iter(self._counts))]
