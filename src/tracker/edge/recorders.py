"""A recorder for each partition of the stream."""

from __future__ import annotations

import asyncio
from asyncio import Future
from contextlib import suppress
from dataclasses import replace

from tracker.clickhash import Mint
from tracker.edge import spool
from tracker.edge.cap_sums import CapSums
from tracker.edge.drain import Drain
from tracker.edge.recorder import Recorder
from tracker.model import Click, Outcomes
from tracker.settings import Settings
from tracker.stream.partitions import partition_of
from tracker.stream.record import encode


class Recorders:
    """Hands each click to the recorder of its visitor's partition."""

    def __init__(self, settings: Settings, slot: int, mint: Mint) -> None:
        assert settings.redis_url
        self._partitions = settings.partitions
        self._spool_dir = settings.data_dir / "spool"
        self._drain = Drain(settings.redis_url, self._spool_dir)
        each = replace(settings, max_waiting=-(-settings.max_waiting // settings.partitions))
        self._recorders = [
            Recorder(each, slot, partition, mint, self._drain) for partition in range(settings.partitions)
        ]
        self._first = self._recorders[0]
        self._cap_sums = CapSums(settings) if settings.partitions > 1 else None
        self._summing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._drain.start()  # first: what an edge says of itself counts what its last life left behind
        await asyncio.gather(*(recorder.start() for recorder in self._recorders))
        if self._cap_sums:
            self._summing = asyncio.create_task(self._cap_sums.run(), name="cap sums")

    async def stop(self) -> None:
        """Finish what is waiting, then close. Nothing may be recorded any more."""
        await asyncio.gather(*(recorder.stop() for recorder in self._recorders))
        await self._drain.stop()
        if self._summing:
            self._summing.cancel()
            with suppress(asyncio.CancelledError):
                await self._summing
        if self._cap_sums:
            await self._cap_sums.close()

    def record(self, click: Click, outcomes: Outcomes) -> Future[int]:
        """Put a click on disk, and learn the place of its outcome in Outcomes; see Recorder.record."""
        if self._cap_sums is None:
            return self._first.record(encode(click, outcomes))
        partition = partition_of(click.visitor_key, self._partitions)
        if click.counters:
            click = click._replace(counters=self._cap_sums.lowered(click.counters, partition))
        return self._recorders[partition].record(encode(click, outcomes))

    def answered(self, click: Click) -> None:
        """Note that a recorded click has been answered."""
        recorder = self._first
        if self._partitions > 1:
            recorder = self._recorders[partition_of(click.visitor_key, self._partitions)]
        recorder.answered(click.millis // 60_000)

    @property
    def has_been_up(self) -> bool:
        """Whether every partition was reached once."""
        return all(recorder.has_been_up for recorder in self._recorders)

    @property
    def spooled(self) -> int:
        """Clicks put into the spool since the start."""
        return sum(recorder.spooled for recorder in self._recorders)

    def gauges(self) -> dict[str, float]:
        """What metrics.GAUGES says of the stream and the spool, as it is now."""
        return {
            "stream_up": int(all(recorder.is_up for recorder in self._recorders)),
            "spool_bytes": spool.size_of(self._spool_dir),
            "clock_skew_seconds": max((recorder.skew for recorder in self._recorders), key=abs),
        }
