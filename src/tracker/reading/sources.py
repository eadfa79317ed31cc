"""Where reads go: to the standby, if there is one that is not far behind, or to the primary.

Answers of the standby are at most LONGEST_LAG_SECONDS old. A write waits until the standby shows it, but no
longer than these seconds. So who has changed something sees it in the next answer of every API process.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Final, Literal, NamedTuple, TypeVar

from tracker.reading.complete_until import REFRESH_SECONDS, CompleteUntil
from tracker.store import db, standby
from tracker.store.db import Pool
from tracker.store.standby import Position, Standby

_PATIENCE: Final = 0.1  # seconds that a read waits for the standby, before it goes to the primary

_Result = TypeVar("_Result")


class Source(NamedTuple):
    """A pool to read from, and the time before which every click is stored there."""

    pool: Pool
    complete_until: int | None  # Unix milliseconds. None: it is not known


class _Note(NamedTuple):
    """What the primary had written at a time."""

    at: float  # monotonic seconds, before the primary was asked
    position: Position
    complete_until: int | None  # known before the primary was asked


class Sources:
    """Chooses for each read. It notes positions of the primary now and then, as requests come."""

    def __init__(self, primary: Pool, complete_until: CompleteUntil, standby: Standby | None) -> None:
        self.standby = standby
        self.chosen: Counter[Literal["primary", "standby"]] = Counter()
        self._primary = primary
        self._complete_until = complete_until
        self._notes: deque[_Note] = deque()
        self._next_note = 0.0  # monotonic seconds

    async def of_primary(self, *, tells_time: bool) -> Source:
        """The primary. `tells_time`: the answer has a Complete-Until."""
        return Source(self._primary, await self._complete_until.millis() if tells_time else None)

    async def read(
        self, work: Callable[[Source], Awaitable[_Result]], *, goes_on: bool, tells_time: bool
    ) -> _Result:
        """Read from the best source. If a standby breaks it off, it is read once more from the primary.

        `goes_on`: the read continues an earlier answer, and must find all that this one showed.
        """
        if self.standby is None:
            self.chosen["primary"] += 1
            return await work(await self.of_primary(tells_time=tells_time))
        source = await self._source(self.standby, goes_on=goes_on)
        return await standby.read(source.pool, lambda pool: work(source._replace(pool=pool)))

    async def show_write(self) -> None:
        """Wait until the standby shows what the primary does, but no longer than LONGEST_LAG_SECONDS."""
        if self.standby is not None:
            with suppress(*db.UNREACHABLE, db.REFUSED):  # the write is done all the same
                await self.standby.wait(await self.standby.written(), standby.LONGEST_LAG_SECONDS)

    async def behind(self) -> int | None:
        """Bytes that the standby has not replayed. None if a server cannot be asked now."""
        if self.standby is not None:
            with suppress(*db.UNREACHABLE, db.REFUSED):
                return await self.standby.behind()
        return None

    async def _source(self, spare: Standby, *, goes_on: bool) -> Source:
        began = monotonic()
        source = await self.of_primary(tells_time=True)
        note = await self._noted(spare, began, source.complete_until, goes_on=goes_on)
        self.chosen["standby" if note else "primary"] += 1
        return source if note is None else Source(spare.at(note.position), note.complete_until)

    async def _noted(
        self, spare: Standby, now: float, complete_until: int | None, *, goes_on: bool
    ) -> _Note | None:
        """The latest note that the standby has replayed. None if that is too old."""
        if goes_on or now >= self._next_note:
            self._next_note = now + REFRESH_SECONDS
            self._notes.append(_Note(now, await spare.written(), complete_until))
        while self._notes and self._notes[0].at < now - standby.LONGEST_LAG_SECONDS:
            self._notes.popleft()
        if not self._notes:
            return None
        log = self._notes[-1].position.log
        usable = [
            note for note in self._notes if note.position.log == log and (not goes_on or note.at >= now)
        ]
        lsn = await spare.replayed(log)
        if lsn is not None and not _covered(usable, lsn):
            lsn = await spare.wait(usable[-1].position, _PATIENCE)
        return None if lsn is None else _covered(usable, lsn)


def _covered(notes: list[_Note], lsn: int) -> _Note | None:
    """The latest of some notes up to a position."""
    return max((note for note in notes if note.position.lsn <= lsn), key=lambda note: note.at, default=None)
