"""Looks whether another edge has this one's slot, on another machine perhaps.

Each edge has a heartbeat of its own, so Complete-Until waits for both. But what goes by the slot, such as
metrics, is then about two, and an operator who takes one of them for lost may forget the other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress

from tracker.children import CannotStart
from tracker.edge.identity import EdgeId
from tracker.stream.ledger import StreamLedger, Word
from tracker.stream.reader import UNREACHABLE

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often a running edge looks."""
_WORD_SECONDS = 2.0
"""Within which an edge that runs says a word: it does so once a second."""
_PARTITION = 0  # which every edge has
_RIVAL = (
    "edge %d: another edge has this slot (run %s; this one is %s): give one of them another --slot. "
    "Complete-Until waits for both"
)
_RUNS = (
    "edge {slot} runs already, on another machine or with another TRACKER_DATA_DIR (run {run}): "
    "give this one another --slot"
)
_NO_RUN = ""  # of an edge of a version before run ids
_AWAY_SECONDS = 2.0  # that a start waits for a stream server that gives no answer


class SlotWatch:
    """One edge's look at the heartbeats of its slot."""

    def __init__(self, url: str, edge: EdgeId) -> None:
        self._edge = edge
        self._stream = StreamLedger(url)
        self._heard: Mapping[str, int] | None = None  # when other runs were heard of; None: it was away
        self._rivals: frozenset[str] = frozenset()  # other runs of this slot that are alive
        self._met: set[str] = set()  # runs that ever were
        self._owner = edge.run

    @property
    def is_second(self) -> bool:
        """Whether another edge has this slot, and had it before this one: of two that run, only one is."""
        return self._owner in self._rivals or _NO_RUN in self._rivals

    async def check(self) -> None:
        """See, before this edge starts, that no other has its slot. A stream that is away says nothing.

        Raises:
            CannotStart: another edge has it.
        """
        with suppress(*UNREACHABLE):
            async with asyncio.timeout(_AWAY_SECONDS):
                now, words = await self._stream.words_here(_PARTITION)
            heard = _others(words, self._edge)
            if not any(now - said < _WORD_SECONDS * 1000 for said in heard.values()):
                return
            await asyncio.sleep(_WORD_SECONDS)
            async with asyncio.timeout(_AWAY_SECONDS):
                _, words = await self._stream.words_here(_PARTITION)
            if alive := _went_on(heard, _others(words, self._edge)):
                raise CannotStart(_RUNS.format(slot=self._edge.slot, run=_named(min(alive))))

    async def run(self) -> None:
        """Look now and then, for ever."""
        while True:
            try:
                await self.look()
            except UNREACHABLE:
                self._heard = None
            except Exception:  # it ends nothing: clicks do not depend on it
                logger.exception("edge %d: the heartbeats of its slot cannot be read", self._edge.slot)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """See which other edges of this slot have said a word since the last look, and log who is new.

        Raises:
            UNREACHABLE: the stream server is away.
        """
        _, words = await self._stream.words_here(_PARTITION)
        before, self._heard = self._heard, _others(words, self._edge)
        owner = await self._stream.owner(self._edge.slot, self._edge.run)
        if before is None:  # who runs is seen at the next look
            return
        alive = _went_on(before, self._heard)
        if owner not in (alive | {self._edge.run}):
            owner = self._edge.run
            await self._stream.take_slot(self._edge.slot, owner)
        for run in alive - self._rivals:
            logger.error(_RIVAL, self._edge.slot, _named(run), self._edge.run)
        self._owner, self._rivals = owner, alive
        self._met |= alive
        if self._edge.has_elder and _NO_RUN in before and _NO_RUN not in self._met:
            await self._take_back_elder()

    async def _take_back_elder(self) -> None:
        """Take back what this edge said before it was upgraded."""
        _, words = await self._stream.words()
        await self._stream.forget(word for word in words if word.field == str(self._edge.slot))

    async def close(self) -> None:
        await self._stream.close()


def _others(words: list[Word], edge: EdgeId) -> dict[str, int]:
    """When other runs of an edge's slot were last heard of, by the stream server's clock."""
    heard: dict[str, int] = {}
    for word in words:
        if word.slot == str(edge.slot) and word.run != edge.run:
            heard[word.run] = max(word.said, heard.get(word.run, 0))
    return heard


def _named(run: str) -> str:
    """For people."""
    return run or "of a version before run ids"


def _went_on(before: Mapping[str, int], heard: Mapping[str, int]) -> frozenset[str]:
    return frozenset(run for run, said in heard.items() if said > before.get(run, 0))
