"""Takes clicks out of the spool onto the stream, oldest first, while live clicks go ahead."""

from __future__ import annotations

import asyncio
import logging
from asyncio import Event
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tracker.edge.record.spool import first_millis, segments
from tracker.edge.record.spool_file import Group, Segment
from tracker.stream.appender import MAX_BATCH, MAX_BATCH_BYTES, Appender, AppendError
from tracker.stream.visitor_memory import VisitorMemory

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often a drain looks for segments whose edge has died."""

_CALL_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


class Drain:
    """The segments that wait for the stream, this edge's and adopted ones."""

    def __init__(self, url: str, directory: Path, memory: VisitorMemory) -> None:
        self._url = url
        self._memory = memory
        self._directory = directory
        self._sealed: dict[Path, Segment] = {}
        self._appenders: dict[int, Appender] = {}
        self._foreign: set[Path] = set()  # seen at the last look, another's or nobody's yet
        self._refused: set[Path] = set()  # cannot be read
        self._given = Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Note what is there, without reading it: clicks wait for this. Then drain in the background."""
        self._foreign = set(await asyncio.to_thread(segments, self._directory))
        self._task = asyncio.create_task(self._run(), name="drain")

    async def stop(self) -> None:
        """Leave what is not drained to the next edge."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for appender in self._appenders.values():
            await appender.close()
        for segment in self._sealed.values():
            segment.close()

    def take(self, segment: Segment) -> None:
        """Drain a segment that nobody writes to any more."""
        self._sealed[segment.path] = segment
        self._given.set()

    def first_millis(self) -> int | None:
        """A time that no click in the directory's segments is older than; None where there are none."""
        return min(map(first_millis, (*self._sealed, *self._foreign)), default=None)

    def minutes(self, partition: int) -> Counter[int]:
        """How many clicks of each minute wait for a partition of the stream."""
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
                    logger.warning("spool: the stream does not take it yet: %s", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            except Exception:  # clicks wait for it: it is not to end
                logger.exception("spool: cannot be drained; trying again")
                await asyncio.sleep(_LONGEST_PAUSE)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._given.wait()
            self._given.clear()

    async def _drain_all(self) -> None:
        while self._sealed:
            path = min(self._sealed)
            await self._drain(self._sealed[path])
            del self._sealed[path]
            self._foreign.discard(path)  # where it was when last looked at, and still written to

    async def _drain(self, segment: Segment) -> None:
        """Append its groups in order; one that an earlier try has appended is passed over by the script."""
        clicks, groups = segment.minutes.total(), await asyncio.to_thread(lambda: _joined(segment.groups()))
        appender = self._appender(segment.partition)
        for group in groups[segment.drained_groups :]:
            began = asyncio.get_running_loop().time()
            await appender.append_late(
                *group.call,
                group.entries,
                _CALL_SECONDS,
                is_uncertain=group.is_uncertain,
                answered=group.answered,
            )
            segment.drained(group)
            # Half of the time at least is for live clicks.
            await asyncio.sleep(asyncio.get_running_loop().time() - began)
        segment.delete()
        logger.info("spool: %d clicks of %s are on the stream", clicks, segment.path.name)

    def _appender(self, partition: int) -> Appender:
        if partition not in self._appenders:
            self._appenders[partition] = Appender(self._url, partition, memory=self._memory)
        return self._appenders[partition]

    async def _look(self) -> None:
        """Adopt what nobody holds, and note what others do."""
        found = await asyncio.to_thread(segments, self._directory)
        for path in found:
            if path not in self._sealed and path not in self._refused:
                await self._adopt(path)
        self._foreign = set(found) - self._sealed.keys()

    async def _adopt(self, path: Path) -> None:
        try:
            segment = await asyncio.to_thread(Segment.adopt, path)
        except (OSError, ValueError) as error:
            logger.error("spool: %s cannot be adopted, and stays: %s", path, error)
            self._refused.add(path)
            return
        if segment is not None:
            logger.info("spool: %d clicks of %s were left behind", segment.minutes.total(), path.name)
            self._sealed[path] = segment


def _joined(groups: Iterable[Group]) -> list[Group]:
    """Groups that follow each other under one lane as one call, which has the last one's number.

    Clicks that came one by one would else be drained one by one, for longer than the stream was away. They
    are joined alike at each reading, so a call that is done is known as done.
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
        and not (before.is_uncertain or group.is_uncertain)
        and len(before.entries) + len(group.entries) <= MAX_BATCH
    )
