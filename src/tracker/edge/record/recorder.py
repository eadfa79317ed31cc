"""Records clicks by group commit: what arrives while one call is under way is the next batch.

An idle edge sends at once; a busy one shares each call, and the server's fsync, among many clicks. While the
stream is away, batches go to the spool, and each costs a write to local disk instead of a timeout.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from time import monotonic, time
from typing import NamedTuple

import orjson

from tracker.domain.click_id import Mint
from tracker.edge.record.identity import EdgeId
from tracker.edge.record.spool import SEGMENT_BYTES, Spool, first_millis
from tracker.edge.record.spool_drain import Drain
from tracker.edge.record.spool_file import Call, SpoolError
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
from tracker.stream.visitor_memory import VisitorMemory

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0
"""How often an idle edge says how far it has come."""
MOST_SKEW_SECONDS = 1.0
"""How far the clocks of edge and stream server may be apart before that is an alarm."""

_RETRY_SECONDS = 0.01
_PROBE_SECONDS = 0.1


class _Group(NamedTuple):
    """Clicks that were handed over together, and who waits for the places of their outcomes."""

    entries: list[Entry]
    recorded: Future[list[int]]


class NotRecorded(Exception):  # noqa: N818 - says what happened to the click
    """The click could be put nowhere. It may still turn out to have been stored."""


class Recorder:
    """One partition's clicks of this edge, in order, one call in flight."""

    def __init__(self, settings: Settings, edge: EdgeId, partition: int, mint: Mint, drain: Drain) -> None:
        assert settings.redis_url
        self._appender = Appender(settings.redis_url, partition, str(edge), VisitorMemory.of(settings))
        self._spool = Spool(settings.data_dir / "spool", edge.slot, partition, settings.spool_bytes)
        self._drain = drain
        self._mint = mint
        self._partition = partition
        self._timeout = settings.append_timeout
        self._max_waiting = settings.max_waiting
        self._lane = Lane()
        self._waiting: deque[_Group] = deque()
        self._clicks_waiting = 0
        self._answered: Counter[int] = Counter()  # not told yet, by minute
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None
        self._stopping = False
        self.is_up = True
        """Whether clicks go to the stream, as far as known; else they go to the spool."""
        self.has_been_up = False
        self.spooled = 0  # clicks, since the start
        self.unknown = 0  # clicks whose visitors the stream had no room to remember
        self.skew = 0.0  # seconds that the stream server's clock is ahead of ours

    async def start(self) -> None:
        """Say a first word, so that nobody takes the clicks to come for complete; then record."""
        self._loop = asyncio.get_running_loop()
        await self._record([])
        self._task = asyncio.create_task(self._run(), name="recorder")
        self._tick()

    async def stop(self) -> None:
        """Finish what is waiting, then close. Nothing may be recorded any more."""
        self._stopping = True
        self._arrived.set()
        if self._task:
            await self._task
        if self._probing:
            self._probing.cancel()
            with suppress(asyncio.CancelledError):
                await self._probing
        await self._deregister()
        self._seal()
        await self._appender.close()

    def record(self, entries: list[Entry]) -> Future[list[int]]:
        """Put clicks on disk, and learn the places of their outcomes in Outcomes.

        Done once the stream has them as durably as it keeps anything; or while that is away, the spool.
        They go in one call: a few, see MAX_BATCH.

        Raises:
            NotRecorded: too many are waiting; from the future: neither took them.
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
        """Note that clicks of these minutes have been answered; the next call tells the ledger."""
        self._answered.update(minutes)

    def _tick(self) -> None:
        """Wake the recorder now and then: an idle edge, too, says how far it has come."""
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
        answered, self._answered = self._answered, Counter()
        uncertain_call = None
        if self.is_up:
            try:
                receipt = await self._append(entries, answered)
                self.unknown += receipt.unknown
                _resolve(batch, receipt.outcomes)
            except AppendError as error:
                lane, self._lane = self._lane, Lane()  # its last call may yet be done: never use it again
                uncertain_call = None if error.is_certain else Call(lane.id, lane.sequence + 1)
                self._go_away(error)
            else:
                self._seal()
                return
        if batch:
            await self._keep(batch, entries, answered, uncertain_call)
        elif uncertain_call is None:
            self._answered.update(answered)

    async def _append(self, entries: list[Entry], answered: Counter[int]) -> Receipt:
        """Append; a call whose fate is unknown is repeated under its number, while there is time.

        Raises:
            AppendError: not appended, or, where that is not certain, perhaps appended.
        """
        is_certain, deadline = True, monotonic() + self._timeout
        while True:
            try:
                receipt = await self._call(entries, answered, deadline - monotonic(), self._heartbeat())
            except AppendError as error:
                is_certain = is_certain and error.is_certain
                if error.is_certain or monotonic() + _RETRY_SECONDS >= deadline:
                    raise AppendError(str(error), is_certain=is_certain) from error
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self.has_been_up = True
                self._lane.next()
                return receipt

    async def _call(
        self, entries: list[Entry], answered: Counter[int], within: float, heartbeat: bytes
    ) -> Receipt:
        before = time()
        receipt = await self._appender.append(
            self._lane, entries, within, heartbeat=heartbeat, answered=pack_answered(answered)
        )
        self._compare_clocks(before, receipt.millis / 1000, time())
        return receipt

    def _heartbeat(self) -> bytes:
        """The time before which every click of this edge is on the stream, once this call is done; and those
        that wait in spools, by minute."""
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
        """Put a batch into the spool: then its clicks are answered with their first outcome."""
        try:
            await asyncio.to_thread(self._spool.append, entries, pack_answered(answered), uncertain_call)
        except Exception as error:  # who comes next waits for this loop: it is not to end
            if not isinstance(error, SpoolError):
                logger.exception("the spool met what it does not know")
            logger.error(
                "%d clicks not recorded: the stream is away, and the spool fails: %s", len(entries), error
            )
            self._seal()
            _refuse(batch, str(error))
            return
        self.spooled += len(entries)
        _resolve(batch, [0] * len(entries))
        if self._spool.open and self._spool.open.size >= SEGMENT_BYTES:
            self._seal()

    def _seal(self) -> None:
        if segment := self._spool.seal():
            self._drain.take(segment)

    def _go_away(self, error: AppendError) -> None:
        logger.warning("stream: away (%s): clicks go to the spool", error)
        self.is_up = False
        self._probing = asyncio.create_task(self._probe(), name="probe")

    async def _probe(self) -> None:
        """Try calls without clicks until one is done: then clicks go to the stream again."""
        since = monotonic()
        while not self.is_up:
            await asyncio.sleep(_PROBE_SECONDS)
            with suppress(AppendError):
                await self._appender.append(Lane(), [], self._timeout)
                self.is_up = True
        logger.warning("stream: back after %.1f s", monotonic() - since)
        self._arrived.set()

    async def _deregister(self) -> None:
        """Tell the last answers; where nothing is left behind also that nobody has to wait for this edge."""
        if self.is_up:
            leaves_nothing = self._drain.first_millis() is None and self._spool.open is None
            with suppress(AppendError):
                await self._call(
                    [], self._answered, self._timeout, b"" if leaves_nothing else self._heartbeat()
                )

    def _compare_clocks(self, before: float, servers: float, after: float) -> None:
        skew = min(servers - before, 0) or max(servers - after, 0)
        if abs(skew) > MOST_SKEW_SECONDS >= abs(self.skew):
            logger.error("clock: the stream server's is %.1f s ahead of this machine's", skew)
        self.skew = skew


def _resolve(batch: list[_Group], outcomes: list[int]) -> None:
    first = 0
    for entries, recorded in batch:
        if not recorded.done():  # whoever no longer waits changes nothing
            recorded.set_result(outcomes[first : first + len(entries)])
        first += len(entries)


def _refuse(batch: list[_Group], why: str) -> None:
    for _, recorded in batch:
        if not recorded.done():
            recorded.set_exception(NotRecorded(why))
