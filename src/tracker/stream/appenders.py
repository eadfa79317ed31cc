"""An appender for each partition: the stream's end of whoever is no edge."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from tracker import caps
from tracker.model import Click
from tracker.stream.appender import Appender
from tracker.stream.partitions import partition_of
from tracker.stream.visitor_memory import VisitorMemory


class Counted(NamedTuple):
    """A click whose caps are lowered by what other partitions have counted, and what all have together."""

    click: Click
    counts: list[int]


class Appenders:
    """Finds the appender of a visitor's partition, and asks the others for what they know."""

    def __init__(self, url: str, memory: VisitorMemory) -> None:
        self._appenders = [Appender(url, number, memory=memory) for number in range(memory.partitions)]

    def of(self, click: Click) -> Appender:
        return self._appenders[partition_of(click.visitor_key, len(self._appenders))]

    async def counted(self, click: Click, within: float) -> Counted:
        """Ask what all partitions have counted for a click's caps, each within so many seconds.

        Raises:
            AppendError: one of them did not say.
        """
        names = [counter.name for counter in click.counters]
        counted = [await appender.counts(names, within) for appender in self._appenders]
        sums = [sum(counts) for counts in zip(*counted, strict=True)]
        own = counted[partition_of(click.visitor_key, len(counted))]
        elsewhere = [total - here for total, here in zip(sums, own, strict=True)]
        return Counted(click._replace(counters=caps.lowered(click.counters, elsewhere)), sums)

    async def close(self) -> None:
        await asyncio.gather(*(appender.close() for appender in self._appenders))
