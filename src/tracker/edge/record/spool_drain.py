"""Moves clicks from the spool to the stream, oldest first. Live clicks have precedence."""

from __future__ import annotations

import asyncio
import logging
from asyncio import Event
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tracker.edge.record.ending import end
from tracker.edge.record.spool import first_millis, segments
from tracker.edge.record.spool_file import Group, Segment
from tracker.stream.appender import MAX_BATCH, MAX_BATCH_BYTES, Appender, AppendError, Lane
from tracker.stream.visitor_memory import VisitorMemory

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often a drain looks for segments whose edge has died."""

_CALL_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


class Drain:
    """The segments that wait for the stream: this edge's, and adopted ones."""

    def __init__(self, url: str, directory: Path, memory: VisitorMemory, copies: int = 1) -> None:
        self._url = url
        self._copies = copies
        self._memory = memory
        self._directory = directory
        self._sealed: dict[Path, Segment] = {}
        self._appenders: dict[int, Appender] = {}
        self._lane = Lane()  # of empty calls
        self._foreign: set[Path] = set()  # at the last look, held by another edge or not adopted yet
        self._refused: set[Path] = set()  # cannot be read
        self._taken = Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """List the segments without reading them, since clicks wait for this. Drain in the background."""
        self._foreign = set(await asyncio.to_thread(segments, self._directory))
        self._task = asyncio.create_task(self._run(), name="drain")

    async def stop(self) -> None:
        """Stop draining. The remaining segments are left to the next edge."""
        if self._task:
            await end(self._task)
        for appender in self._appenders.values():
            await appender.close()
        for segment in self._sealed.values():
            segment.close()

    def take(self, segment: Segment) -> None:
        """Drain a sealed segment."""
        self._sealed[segment.path] = segment
        self._taken.set()

    def first_millis(self) -> int | None:
        """A time before all clicks in the directory, in Unix milliseconds. None if it has no segments."""
        return min(map(first_millis, (*self._sealed, *self._foreign)), default=None)

    def minutes(self, partition: int) -> Counter[int]:
        """The number of clicks that wait for a partition of the stream, by minute."""
        waiting: Counter[int] = Counter()
        for segment in self._sealed.values():
            if segment.partition == partition:
                waiting.update(segment.minutes)
        return waiting

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._look()
                await self._drain_all()
                pause = _FIRST_PAUSE
            except AppendError as error:
                if pause == _FIRST_PAUSE:
                    logger.warning(
                        "spool: the stream does not take its clicks yet: %(cause)s",
                        {"event": "spool_waits", "cause": error},
                    )
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            except Exception:  # spooled clicks wait for this loop: it must not end
                logger.exception("spool: cannot be drained; trying again", {"event": "spool_failed"})
                await asyncio.sleep(_LONGEST_PAUSE)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._taken.wait()
            self._taken.clear()

    async def _drain_all(self) -> None:
        is_copied = True
        for path, segment in sorted(self._sealed.items()):
            await self._drain(segment)
            is_copied = is_copied and await self._is_copied(segment)
            if is_copied:
                segment.delete()
                del self._sealed[path]
                self._foreign.discard(path)  # it was still written to at the last look
        if not is_copied:
            raise AppendError("no replica has them on disk", is_certain=False)

    async def _drain(self, segment: Segment) -> None:
        """Append a segment's groups in order. The script skips groups that an earlier try has appended.

        If the connection was opened again since, its server may lack what the former one took. All groups are
        then sent again. Else a segment that waits for a replica is not even read: there may be many of them.
        """
        appender = self._appender(segment.partition)
        if self._copies > 1 and segment.opening not in (None, appender.openings):
            await asyncio.to_thread(segment.rewind)
        if segment.is_drained:
            return
        clicks = segment.minutes.total()
        groups = await asyncio.to_thread(lambda: _joined(segment.groups()))
        lane, done = b"", 0
        for group in groups[segment.drained_groups :]:
            if group.decided and group.call.lane != lane:
                lane = group.call.lane
                done = await appender.last_call(lane, _CALL_SECONDS)
            # Copies are not joined. One by one they would be drained for as long as the replica was away.
            if group.decided and group.call.sequence <= done:
                await asyncio.sleep(0)  # there may be thousands
            else:
                await _append(appender, group)
            if segment.opening is None:
                segment.opening = appender.openings
            segment.drained(group)
        segment.is_drained = True
        if clicks:
            logger.info(
                "spool: %(clicks)d clicks of %(file)s are on the stream",
                {"event": "spool_drained", "clicks": clicks, "file": segment.path.name},
            )

    async def _is_copied(self, segment: Segment) -> bool:
        """Whether there are enough copies of a segment's groups on the stream.

        A replica that has the last call of a connection has the ones before.
        """
        if self._copies == 1 or segment.opening is None:
            return True
        appender = self._appender(segment.partition)
        receipt = await appender.append(self._lane, [], _CALL_SECONDS)  # a repeat writes too
        return receipt.is_copied and appender.openings == segment.opening

    def _appender(self, partition: int) -> Appender:
        if partition not in self._appenders:
            self._appenders[partition] = Appender(
                self._url, partition, memory=self._memory, copies=self._copies
            )
        return self._appenders[partition]

    async def _look(self) -> None:
        """Adopt segments that no process holds, and note the others."""
        paths = await asyncio.to_thread(segments, self._directory)
        for path in paths:
            if path not in self._sealed and path not in self._refused:
                await self._adopt(path)
        self._foreign = set(paths) - self._sealed.keys()

    async def _adopt(self, path: Path) -> None:
        try:
            segment = await asyncio.to_thread(Segment.adopt, path)
        except (OSError, ValueError) as error:
            logger.error(
                "spool: %(path)s cannot be adopted and stays where it is: %(cause)s",
                {"event": "spool_not_adopted", "path": path, "cause": error},
            )
            self._refused.add(path)
            return
        if segment is not None:
            logger.info(
                "spool: %(clicks)d clicks of %(file)s were left behind",
                {"event": "spool_adopted", "clicks": segment.minutes.total(), "file": path.name},
            )
            self._sealed[path] = segment


async def _append(appender: Appender, group: Group) -> None:
    began = asyncio.get_running_loop().time()
    await appender.append_late(
        *group.call,
        group.entries,
        _CALL_SECONDS,
        is_uncertain=group.is_uncertain,
        answered=group.answered,
        decided=group.decided,
    )
    # At least half of the time is for live clicks.
    await asyncio.sleep(asyncio.get_running_loop().time() - began)


def _joined(groups: Iterable[Group]) -> list[Group]:
    """Join consecutive groups of one lane into calls. A call has the number of its last group.

    Without this, clicks that came one by one would be drained one by one, for longer than the stream was
    away. Each reading joins the same groups, so the script recognises a call that is done.
    """
    calls: list[Group] = []
    size = 0
    for group in groups:
        more = sum(len(record) for _, record in group.entries)
        if calls and size + more <= MAX_BATCH_BYTES and _are_one(calls[-1], group):
            before, size = calls.pop(), size + more
            answered, entries = before.answered + group.answered, before.entries + group.entries
            calls.append(Group(group.call, False, answered, entries))
        else:
            calls.append(group)
            size = more
    return calls


def _are_one(before: Group, group: Group) -> bool:
    return (
        before.call.lane == group.call.lane
        and not (before.is_uncertain or group.is_uncertain or before.decided or group.decided)
        and len(before.entries) + len(group.entries) <= MAX_BATCH
    )
