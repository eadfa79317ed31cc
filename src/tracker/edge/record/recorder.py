"""Records clicks by group commit: clicks that arrive during one call are the next batch.

An idle edge sends at once. A busy edge shares each call, and the server's fsync, among many clicks. While the
stream is away, batches go to the spool. Each then costs a write to local disk instead of a timeout.

With TRACKER_COPIES=2 a click is answered when two machines have it on disk: the stream server and a replica.
While no replica confirms, each batch goes to the stream and then to the spool, if that is on another machine.
Where it is not, and while the stream is away, only one machine has a click. TRACKER_ON_LOSS then decides its
answer.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from time import monotonic, time
from typing import NamedTuple, TypeAlias

import orjson

from tracker.domain.click_id import Mint
from tracker.edge.record.ending import end
from tracker.edge.record.identity import EdgeId
from tracker.edge.record.spool import SEGMENT_BYTES, Spool, first_millis
from tracker.edge.record.spool_drain import Drain
from tracker.edge.record.spool_file import Call, SpoolError
from tracker.metrics.histogram import Histogram
from tracker.settings import Settings
from tracker.stream.appender import (
    MAX_BATCH,
    MAX_BATCH_BYTES,
    Appender,
    AppendError,
    Lane,
    Receipt,
    pack_answered,
)
from tracker.stream.record import Entry, millis_of_entry
from tracker.stream.shared_connection import SharedConnections
from tracker.stream.visitor_memory import VisitorMemory

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0
"""How often an idle edge sends its heartbeat."""
_BUSY_HEARTBEAT_SECONDS = 0.05
"""How often a busy edge sends it, with counts of answered clicks. It costs Valkey more than half a click."""
MOST_SKEW_SECONDS = 1.0
"""How far the clocks of edge and stream server may be apart without an alarm."""

LeadsElsewhere: TypeAlias = Callable[[object, object], bool]
"""Tells by the addresses of its two ends whether a connection leads to another machine."""

_RETRY_SECONDS = 0.01
_PROBE_SECONDS = 0.1
_ONE_COPY = "only one machine would have them"


class _Group(NamedTuple):
    """Clicks that were handed over together, and the future for the numbers of their outcomes."""

    entries: list[Entry]
    recorded: Future[list[int]]


class NotRecorded(Exception):  # noqa: N818 - says what happened to the click
    """Neither the stream nor the spool took the click. It may still have been stored."""


class Recorder:
    """One partition's clicks of this edge, in order, one call in flight."""

    def __init__(
        self,
        settings: Settings,
        edge: EdgeId,
        partition: int,
        mint: Mint,
        drain: Drain,
        leads_elsewhere: LeadsElsewhere,
        appends: Histogram,
        connections: SharedConnections | None = None,
    ) -> None:
        assert settings.redis_url
        self._new_appender = partial(
            Appender, settings.redis_url, partition, str(edge), VisitorMemory.of(settings), settings.copies
        )
        self._appender: Appender = self._new_appender(connections)
        self._watcher: Appender = self._new_appender()  # connects only while no replica confirms
        self._spool = Spool(settings.data_dir / "spool", edge.slot, partition, settings.spool_bytes)
        self._drain = drain
        self._mint = mint
        self._partition = partition
        self._leads_elsewhere = leads_elsewhere
        self._appends = appends
        self._has_copies = settings.copies > 1
        self._refuses_one_copy = self._has_copies and settings.on_loss == "refuse"
        self._timeout = settings.append_timeout
        self._max_waiting = settings.max_waiting
        self._lane = Lane()
        self._waiting: deque[_Group] = deque()
        self._clicks_waiting = 0
        self._answered: Counter[int] = Counter()  # by minute, not sent to the ledger yet
        self._heartbeat_at = 0.0  # by the monotonic clock: when the next one is due
        self._is_heartbeat_late = False  # whether calls were sent without it
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._has_replica = True  # if copies are wanted: whether a replica confirms calls
        self._is_alone = False  # whether the last call did not wait for replicas
        self._stopping = False
        self.is_up = True
        """Whether clicks go to the stream. Else they go to the spool."""
        self.has_been_up = False
        self.has_refused = False
        """Whether the last clicks were lost or refused: too few of stream, replica and spool take any."""
        self.spooled = 0  # clicks, since the start
        self.one_copy = 0  # clicks that only one machine had, though two shall
        self.unknown = 0  # clicks whose visitors the stream had no room to remember
        self.skew = 0.0  # seconds that the stream server's clock is ahead of ours

    async def start(self) -> None:
        """Send the first heartbeat, so that Complete-Until waits for this edge. Then record."""
        self._loop = asyncio.get_running_loop()
        await self._record([])
        self._task = asyncio.create_task(self._run(), name="recorder")
        self._tick()

    async def stop(self) -> None:
        """Record what is waiting, then close. Nothing may be recorded after that."""
        self._stopping = True
        self._arrived.set()
        if self._task:
            await self._task
        await end(*(task for task in (self._probing, self._watching) if task))
        await self._deregister()
        self._seal()
        await self._appender.close()
        await self._watcher.close()

    def record(self, entries: list[Entry]) -> Future[list[int]]:
        """Put clicks on disk. The future gives the numbers of their outcomes in Outcomes.

        It is done once the stream, or the spool while the stream is away, has the clicks on disk. All go in
        one call, so they must not be many more than MAX_BATCH.

        Raises:
            NotRecorded: too many clicks are waiting. The future raises it if stream and spool both failed.
        """
        if self._clicks_waiting >= self._max_waiting:
            raise NotRecorded(f"{self._max_waiting} clicks are waiting already")
        recorded: Future[list[int]] = self._loop.create_future()
        if not self._waiting:  # else it is set
            self._arrived.set()
        self._waiting.append(_Group(entries, recorded))
        self._clicks_waiting += len(entries)
        return recorded

    def answered(self, minutes: Iterable[int]) -> None:
        """Count answered clicks by their minutes. The next call takes the counts to the ledger."""
        self._answered.update(minutes)

    def _tick(self) -> None:
        """Wake the recorder every second: an idle edge sends heartbeats too."""
        if not self._stopping:
            self._arrived.set()
            self._loop.call_later(HEARTBEAT_SECONDS, self._tick)

    async def _run(self) -> None:
        while not self._stopping or self._waiting:
            await self._arrived.wait()
            batch = self._next_batch()
            if not self._waiting and not self._stopping:
                self._arrived.clear()
            if batch or self.is_up:
                await self._record(batch)
            elif self.has_refused and not self._refuses_one_copy:
                await self._try_spool()

    def _next_batch(self) -> list[_Group]:
        batch: list[_Group] = []
        clicks = size = 0
        while self._waiting and clicks < MAX_BATCH and size < MAX_BATCH_BYTES:
            batch.append(self._waiting.popleft())
            clicks += len(batch[-1].entries)
            size += sum([len(record) for _, record in batch[-1].entries])
        self._clicks_waiting -= clicks
        return batch

    async def _record(self, batch: list[_Group]) -> None:
        entries = [entry for group in batch for entry in group.entries]
        answered = Counter[int]()
        if is_due := self._is_heartbeat_due():
            answered, self._answered = self._answered, answered
        uncertain_call = None
        if self.is_up and (self._has_replica or not batch or await self._may_be_alone()):
            try:
                receipt = await self._append(entries, answered, is_due)
            except AppendError as error:
                lane, self._lane = self._lane, Lane()  # its last call may still be done: never reuse it
                uncertain_call = None if error.is_certain else Call(lane.id, lane.sequence + 1)
                self._go_away(error)
            else:
                self.unknown += receipt.unknown
                if receipt.is_copied and not self._is_alone:
                    self.has_refused = False
                    _resolve(batch, receipt.outcomes)
                    self._seal()
                else:
                    await self._keep_copy(batch, entries, answered, receipt)
                return
        if batch:
            await self._keep(batch, entries, answered, uncertain_call)
        elif uncertain_call is None:
            self._answered.update(answered)

    def _is_heartbeat_due(self) -> bool:
        """Whether the next call takes a heartbeat. If not, one follows soon, even if no click comes."""
        now = monotonic()
        if now >= self._heartbeat_at:
            self._heartbeat_at, self._is_heartbeat_late = now + _BUSY_HEARTBEAT_SECONDS, False
            return True
        if not self._is_heartbeat_late:
            self._is_heartbeat_late = True
            self._loop.call_later(self._heartbeat_at - now, self._catch_up)
        return False

    def _catch_up(self) -> None:
        if self._is_heartbeat_late and not self._stopping:
            self._arrived.set()

    async def _append(self, entries: list[Entry], answered: Counter[int], has_heartbeat: bool) -> Receipt:
        """Append entries. A call with an unknown result is repeated under its number until the timeout.

        Raises:
            AppendError: the entries are not appended. If the error is not certain, they may be.
        """
        if self._has_replica and self._is_alone:
            self._lane = Lane()  # copies in the spool are of the former one, and may be needed yet
        self._is_alone = not self._has_replica
        is_certain, deadline = True, monotonic() + self._timeout
        while True:
            try:
                heartbeat = self._heartbeat() if has_heartbeat else None
                receipt = await self._call(entries, answered, deadline - monotonic(), heartbeat)
            except AppendError as error:
                is_certain = is_certain and error.is_certain
                if error.is_certain or self._is_alone or monotonic() + _RETRY_SECONDS >= deadline:
                    raise AppendError(str(error), is_certain=is_certain) from error
            else:
                self.has_been_up = True
                self._lane.next()
                return receipt
            await asyncio.sleep(_RETRY_SECONDS)

    async def _call(
        self, entries: list[Entry], answered: Counter[int], within: float, heartbeat: bytes | None
    ) -> Receipt:
        before, began = time(), monotonic()
        try:
            receipt = await self._appender.append(
                self._lane,
                entries,
                within,
                heartbeat=heartbeat,
                answered=pack_answered(answered),
                is_alone=self._is_alone,
            )
        finally:
            self._appends.observe(monotonic() - began)
        self._compare_clocks(before, receipt.millis / 1000, time())
        return receipt

    def _heartbeat(self) -> bytes:
        """This edge's heartbeat: its low watermark, and its spooled clicks by minute.

        All clicks of this edge before the watermark are on the stream once this call is done.
        """
        until = millis_of_entry(self._waiting[0].entries[0]) if self._waiting else self._mint.now()
        spooled, firsts = self._drain.minutes(self._partition), [until]
        if (oldest := self._drain.first_millis()) is not None:
            firsts.append(oldest)
        if self._spool.open:
            firsts.append(first_millis(self._spool.open.path))
            spooled += self._spool.open.minutes
        return b"%d %b" % (min(firsts), orjson.dumps(spooled, option=orjson.OPT_NON_STR_KEYS))

    async def _keep(
        self,
        batch: list[_Group],
        entries: list[Entry],
        answered: Counter[int],
        uncertain_call: Call | None,
    ) -> None:
        """Put a batch into the spool alone. Its clicks are then answered with their first outcome."""
        if self._has_copies:
            self.one_copy += len(entries)
        if self._refuses_one_copy:
            if uncertain_call is None:
                self._answered.update(answered)
            self.has_refused = True
            _refuse(batch, _ONE_COPY)
        elif error := await self._spool_them(entries, answered, uncertain_call):
            logger.error(
                "%(clicks)d clicks not recorded: the stream is away, and the spool fails: %(cause)s",
                {"event": "clicks_refused", "clicks": len(entries), "cause": error},
            )
            self.has_refused = True
            _refuse(batch, error)
        else:
            self.has_refused = False
            _resolve(batch, [0] * len(entries))

    async def _keep_copy(
        self, batch: list[_Group], entries: list[Entry], answered: Counter[int], receipt: Receipt
    ) -> None:
        """Put a copy of an appended batch into the spool, since no replica has it."""
        if self._has_replica and not self._is_alone:
            self._miss_replica()
        if not batch:
            await self._may_be_alone()
            return
        call = Call(self._lane.id, self._lane.sequence - 1)
        is_copied = self._spools_elsewhere() and not await self._spool_them(
            entries, answered, call, receipt.decided
        )
        if not is_copied:
            self.one_copy += len(entries)
        self.has_refused = self._refuses_one_copy and not is_copied
        if self.has_refused:
            _refuse(batch, _ONE_COPY)
        else:
            _resolve(batch, receipt.outcomes)

    async def _spool_them(
        self, entries: list[Entry], answered: Counter[int], call: Call | None, decided: bytes = b""
    ) -> str | None:
        """Put a batch into the spool (see Segment.append). Returns why it is not there, or None."""
        try:
            await asyncio.to_thread(self._spool.append, entries, pack_answered(answered), call, decided)
        except Exception as error:  # all later clicks wait for this loop: it must not end
            if not isinstance(error, SpoolError):
                logger.exception("unexpected error in the spool", {"event": "spool_failed"})
            self._seal()
            return str(error) or type(error).__name__
        self.spooled += len(entries)
        if self._spool.open and self._spool.open.size >= SEGMENT_BYTES:
            self._seal()
        return None

    def _spools_elsewhere(self) -> bool:
        """Whether the spool is on another machine than the stream."""
        return self._leads_elsewhere(*self._appender.ends)

    async def _may_be_alone(self) -> bool:
        """Whether clicks can be answered that no replica has.

        Clicks that a full spool refuses must not be on the stream: visitors would try again, each time with
        a click that counts.
        """
        if not self._refuses_one_copy:
            return True
        if self._spools_elsewhere() and self.has_refused:
            await self._try_spool()
        return self._spools_elsewhere() and not self.has_refused

    def _seal(self) -> None:
        if segment := self._spool.seal():
            self._drain.take(segment)

    def _go_away(self, error: AppendError) -> None:
        logger.warning(
            "stream: away (%(cause)s): clicks go to the spool", {"event": "stream_away", "cause": error}
        )
        self.is_up = False
        self._probing = asyncio.create_task(self._probe(), name="probe")

    async def _probe(self) -> None:
        """Repeat an empty call until it succeeds. Clicks then go to the stream again."""
        since = monotonic()
        while not self.is_up:
            await asyncio.sleep(_PROBE_SECONDS)
            with suppress(AppendError):
                receipt = await self._appender.append(Lane(), [], self._timeout)
                self.is_up = True
                if self._has_replica and not receipt.is_copied:
                    self._miss_replica()
        logger.warning(
            "stream: back after %(seconds).1f s", {"event": "stream_back", "seconds": monotonic() - since}
        )
        self._arrived.set()

    async def _try_spool(self) -> None:
        """See whether the spool takes clicks again. A balancer may send none until this edge is ready."""
        with suppress(SpoolError):
            if self._spool.open is None:
                await asyncio.to_thread(self._spool.begin, self._mint.now())
            self.has_refused = False

    def _miss_replica(self) -> None:
        what = "the spool" if self._spools_elsewhere() else "nowhere else, for the spool is on its machine"
        logger.warning(
            "stream: no replica confirms: clicks go to it and to %(where)s",
            {"event": "replica_away", "where": what},
        )
        self._has_replica = False
        self._watching = asyncio.create_task(self._watch(), name="replica watch")

    async def _watch(self) -> None:
        """Repeat an empty call, over a connection of its own, until a replica confirms it."""
        since, lane = monotonic(), Lane()
        while not self._has_replica:
            await asyncio.sleep(_PROBE_SECONDS)
            with suppress(AppendError):
                self._has_replica = (await self._watcher.append(lane, [], self._timeout)).is_copied
        await self._watcher.close()
        logger.warning(
            "stream: a replica confirms again after %(seconds).1f s",
            {"event": "replica_back", "seconds": monotonic() - since},
        )
        self._arrived.set()

    async def _deregister(self) -> None:
        """Send the last counts of answers. If no clicks are left behind, remove the heartbeat too."""
        if self.is_up:
            leaves_nothing = self._drain.first_millis() is None and self._spool.open is None
            with suppress(AppendError):
                await self._call(
                    [], self._answered, self._timeout, b"" if leaves_nothing else self._heartbeat()
                )

    def _compare_clocks(self, before: float, servers: float, after: float) -> None:
        skew = min(servers - before, 0) or max(servers - after, 0)
        if abs(skew) > MOST_SKEW_SECONDS >= abs(self.skew):
            logger.error(
                "clock: the stream server's is %(seconds).1f s ahead of this machine's",
                {"event": "clock_skew", "seconds": skew},
            )
        self.skew = skew


def _resolve(batch: list[_Group], outcomes: list[int]) -> None:
    first = 0
    for entries, recorded in batch:
        if not recorded.done():  # its hits may have been cancelled
            recorded.set_result(outcomes[first : first + len(entries)])
        first += len(entries)


def _refuse(batch: list[_Group], reason: str) -> None:
    for _, recorded in batch:
        if not recorded.done():
            recorded.set_exception(NotRecorded(reason))
