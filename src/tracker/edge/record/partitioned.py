"""A recorder for each partition of the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from tracker.domain.click_id import Mint
from tracker.domain.model import Click, Outcomes
from tracker.edge.http.batching import Hit
from tracker.edge.record import deployment, spool
from tracker.edge.record.cap_totals import CapSums
from tracker.edge.record.ending import end
from tracker.edge.record.format_watch import FormatWatch
from tracker.edge.record.identity import EdgeId
from tracker.edge.record.recorder import LeadsElsewhere, Recorder
from tracker.edge.record.slot_watch import SlotWatch
from tracker.edge.record.spool_drain import Drain
from tracker.metrics.families import FAMILIES
from tracker.metrics.histogram import Histogram
from tracker.settings import Settings
from tracker.stream.connection import is_elsewhere
from tracker.stream.partitions import partition_of
from tracker.stream.record import FIRST_WITHOUT_DEVICE, Entry, encode
from tracker.stream.shared_connection import SharedConnections
from tracker.stream.visitor_memory import VisitorMemory

Pending: TypeAlias = tuple[Hit, Click, Outcomes]
"""A hit that waits for its answer, its click, and the click's outcomes.

A plain tuple: each unpacking of a NamedTuple takes some hundred instructions more, three times a click.
"""


class Batch(NamedTuple):
    """The clicks of one recorder, and their entries for the stream."""

    recorder: Recorder
    pending: Sequence[Pending]
    entries: list[Entry]


class PartitionedRecorder:
    """Hands each click to the recorder of its visitor's partition."""

    def __init__(
        self, settings: Settings, edge: EdgeId, mint: Mint, leads_elsewhere: LeadsElsewhere = is_elsewhere
    ) -> None:
        assert settings.redis_url
        self._url = settings.redis_url
        self._partitions = settings.partitions
        self._spool_dir = settings.data_dir / "spool"
        memory = VisitorMemory.of(settings)
        self._drain = Drain(settings.redis_url, self._spool_dir, memory, settings.copies)
        each = replace(settings, max_waiting=-(-settings.max_waiting // settings.partitions))
        self._connections = SharedConnections(settings.redis_url) if settings.partitions > 1 else None
        self.appends = Histogram(FAMILIES["tracker_append_seconds"].buckets)
        """Seconds of the calls that put clicks on the stream."""
        self._recorders = [
            Recorder(
                each, edge, partition, mint, self._drain, leads_elsewhere, self.appends, self._connections
            )
            for partition in range(settings.partitions)
        ]
        self._first = self._recorders[0]
        self._cap_sums = CapSums(settings) if settings.partitions > 1 else None
        self._slot_watch = SlotWatch(settings.redis_url, edge)
        self._format_watch = FormatWatch(settings.redis_url, edge, settings.partitions)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await asyncio.to_thread(spool.make_directory, self._spool_dir)
        await self._drain.start()  # first: the first heartbeat counts what this edge's last life left behind
        await asyncio.gather(*(recorder.start() for recorder in self._recorders))
        self._tasks = [
            asyncio.create_task(self._slot_watch.run(), name="slot watch"),
            asyncio.create_task(self._format_watch.run(), name="format watch"),
            asyncio.create_task(deployment.keep(self._url, self._spool_dir), name="deployment"),
        ]
        if self._cap_sums:
            self._tasks.append(asyncio.create_task(self._cap_sums.run(), name="cap sums"))

    async def stop(self) -> None:
        """Record what is waiting, then close. Nothing may be recorded after that."""
        await asyncio.gather(*(recorder.stop() for recorder in self._recorders))
        if self._connections:
            await self._connections.close()
        await self._drain.stop()
        await end(*self._tasks)
        await self._slot_watch.close()
        await self._format_watch.close()
        if self._cap_sums:
            await self._cap_sums.close()

    def batches(self, pending: Sequence[Pending]) -> list[Batch]:
        """Divide clicks among the recorders of their partitions."""
        if self._cap_sums is None:
            entries = [encode(click, outcomes) for _, click, outcomes in pending]
            return [Batch(self._first, pending, entries)] if pending else []
        batches: dict[int, tuple[list[Pending], list[Entry]]] = {}
        for waiting in pending:
            _, click, outcomes = waiting
            partition = partition_of(click.visitor_key, self._partitions)
            if click.counters:
                click = click._replace(counters=self._cap_sums.lowered(click.counters, partition))
            clicks, entries = batches.setdefault(partition, ([], []))
            clicks.append(waiting)
            entries.append(encode(click, outcomes))
        return [Batch(self._recorders[partition], *batch) for partition, batch in batches.items()]

    @property
    def takes_unread(self) -> bool:
        """Whether clicks may come without their device now: all live workers read such records."""
        return self._format_watch.version >= FIRST_WITHOUT_DEVICE

    @property
    def has_been_up(self) -> bool:
        """Whether every partition was reached once."""
        return all(recorder.has_been_up for recorder in self._recorders)

    @property
    def has_refused(self) -> bool:
        """Whether a partition has lost its last clicks, because stream and spool both refuse."""
        return any(recorder.has_refused for recorder in self._recorders)

    @property
    def is_second(self) -> bool:
        """Whether another edge has this one's slot, and had it before."""
        return self._slot_watch.is_second

    @property
    def spooled(self) -> int:
        """Clicks put into the spool since the start."""
        return sum(recorder.spooled for recorder in self._recorders)

    @property
    def unknown(self) -> int:
        """Clicks since the start whose visitors the stream had no room to remember."""
        return sum(recorder.unknown for recorder in self._recorders)

    @property
    def one_copy(self) -> int:
        """Clicks since the start that only one machine had when they were answered, though two shall."""
        return sum(recorder.one_copy for recorder in self._recorders)

    def gauges(self) -> dict[str, float]:
        """The current values of the gauges of stream and spool (edge.metrics.GAUGES)."""
        return {
            "stream_up": int(all(recorder.is_up for recorder in self._recorders)),
            "spool_bytes": spool.size_of(self._spool_dir),
            "clock_skew_seconds": max((recorder.skew for recorder in self._recorders), key=abs),
        }
