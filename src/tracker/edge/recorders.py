"""A recorder for each partition of the stream."""

from __future__ import annotations

import asyncio
from asyncio import Future
from contextlib import suppress
from dataclasses import replace

from tracker.edge.cap_sums import CapSums
from tracker.edge.recorder import Recorder
from tracker.model import Click, Outcomes
from tracker.settings import Settings
from tracker.stream.partitions import partition_of
from tracker.stream.record import encode


class Recorders:
    """Hands each click to the recorder of its visitor's partition."""

    def __init__(self, settings: Settings) -> None:
        self._partitions = settings.partitions
        each = replace(settings, max_waiting=-(-settings.max_waiting // settings.partitions))
        self._recorders = [Recorder(each, partition) for partition in range(settings.partitions)]
        self._first = self._recorders[0]
        self._cap_sums = CapSums(settings) if settings.partitions > 1 else None
        self._summing: asyncio.Task[None] | None = None

    def start(self) -> None:
        for recorder in self._recorders:
            recorder.start()
        if self._cap_sums:
            self._summing = asyncio.create_task(self._cap_sums.run(), name="cap sums")

    async def stop(self) -> None:
        """Finish what is waiting, then close. Nothing may be recorded any more."""
        await asyncio.gather(*(recorder.stop() for recorder in self._recorders))
        if self._summing:
            self._summing.cancel()
            with suppress(asyncio.CancelledError):
                await self._summing
        if self._cap_sums:
            await self._cap_sums.close()

    def record(self, click: Click, outcomes: Outcomes) -> Future[int]:
        """Put a click on the stream, and learn the place of its outcome in Outcomes; see Recorder.record."""
        if self._cap_sums is None:
            return self._first.record(encode(click, outcomes))
        partition = partition_of(click.visitor_key, self._partitions)
        if click.counters:
            click = click._replace(counters=self._cap_sums.lowered(click.counters, partition))
        return self._recorders[partition].record(encode(click, outcomes))

    @property
    def has_been_up(self) -> bool:
        """Whether every partition was reached once."""
        return all(recorder.has_been_up for recorder in self._recorders)

    async def probe(self) -> None:
        """Reach the partitions that were never reached, so that readiness can tell.

        Raises:
            AppendError: one is away.
        """
        for recorder in self._recorders:
            if not recorder.has_been_up:
                await recorder.probe()
