"""Detects another edge with the same slot, for instance on another machine.

Each edge has its own heartbeat, so Complete-Until waits for both. But metrics and other things that go by the
slot then mix two edges. And an operator who thinks that one of them is lost may forget the other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress

from tracker.edge.record.identity import EdgeId
from tracker.errors import CannotStartError
from tracker.stream.ledger import Heartbeat, StreamLedger
from tracker.stream.reader import UNREACHABLE

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often a running edge looks."""
_HEARTBEAT_SECONDS = 2.0
"""Within this time a running edge sends a heartbeat: it sends one a second."""
_PARTITION = 0  # every edge has it
_RIVAL = (
    "edge %(slot)d: another edge has this slot (run %(other)s; this one is %(run)s): give one of them "
    "another --slot. Complete-Until waits for both"
)
_RUNS = (
    "edge {slot} runs already, on another machine or with another TRACKER_DATA_DIR (run {run}): "
    "give this one another --slot"
)
_NO_RUN = ""  # the run id of an edge of a version before run ids
_AWAY_SECONDS = 2.0  # how long a start waits for a stream server that does not answer


class SlotWatch:
    """Watches the heartbeats of one edge's slot."""

    def __init__(self, url: str, edge: EdgeId) -> None:
        self._edge = edge
        self._stream = StreamLedger(url)
        self._last: Mapping[str, int] | None = None  # heartbeats of other runs. None: stream away
        self._rivals: frozenset[str] = frozenset()  # other runs of this slot that are alive
        self._met: set[str] = set()  # runs that were alive once
        self._owner = edge.run

    @property
    def is_second(self) -> bool:
        """Whether another edge had this slot before this one. Of two running edges only one is second."""
        return self._owner in self._rivals or _NO_RUN in self._rivals

    async def check(self) -> None:
        """Check, before this edge starts, that no other edge has its slot. An absent stream passes.

        Raises:
            CannotStartError: another edge has the slot.
        """
        with suppress(*UNREACHABLE):
            async with asyncio.timeout(_AWAY_SECONDS):
                now, heartbeats = await self._stream.heartbeats_here(_PARTITION)
            before = _others(heartbeats, self._edge)
            if not any(now - sent_at < _HEARTBEAT_SECONDS * 1000 for sent_at in before.values()):
                return
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            async with asyncio.timeout(_AWAY_SECONDS):
                _, heartbeats = await self._stream.heartbeats_here(_PARTITION)
            if alive := _alive(before, _others(heartbeats, self._edge)):
                raise CannotStartError(_RUNS.format(slot=self._edge.slot, run=_named(min(alive))))

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            try:
                await self.look()
            except UNREACHABLE:
                self._last = None
            except Exception:  # clicks do not depend on this: it must not end the edge
                logger.exception(
                    "edge %(slot)d: heartbeats of its slot cannot be read",
                    {"event": "heartbeats_unreadable", "slot": self._edge.slot},
                )
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Log other edges of this slot that have sent a heartbeat since the last look, each once.

        Raises:
            UNREACHABLE: the stream server is away.
        """
        _, heartbeats = await self._stream.heartbeats_here(_PARTITION)
        before, self._last = self._last, _others(heartbeats, self._edge)
        owner = await self._stream.owner(self._edge.slot, self._edge.run)
        if before is None:  # two looks show which edges run
            return
        alive = _alive(before, self._last)
        if owner not in (alive | {self._edge.run}):
            owner = self._edge.run
            await self._stream.take_slot(self._edge.slot, owner)
        for run in alive - self._rivals:
            logger.error(
                _RIVAL,
                {
                    "event": "slot_taken",
                    "slot": self._edge.slot,
                    "other": _named(run),
                    "run": self._edge.run,
                },
            )
        self._owner, self._rivals = owner, alive
        self._met |= alive
        if self._edge.has_elder and _NO_RUN in before and _NO_RUN not in self._met:
            await self._take_back_elder()

    async def _take_back_elder(self) -> None:
        """Delete the heartbeat that this edge sent before it was upgraded."""
        _, heartbeats = await self._stream.heartbeats()
        await self._stream.forget(
            heartbeat for heartbeat in heartbeats if heartbeat.field == str(self._edge.slot)
        )

    async def close(self) -> None:
        await self._stream.close()


def _others(heartbeats: list[Heartbeat], edge: EdgeId) -> dict[str, int]:
    """The last heartbeat of each other run of an edge's slot, by the stream server's clock."""
    last: dict[str, int] = {}
    for heartbeat in heartbeats:
        if heartbeat.slot == str(edge.slot) and heartbeat.run != edge.run:
            last[heartbeat.run] = max(heartbeat.sent_at, last.get(heartbeat.run, 0))
    return last


def _named(run: str) -> str:
    """A run id as log lines show it."""
    return run or "of a version before run ids"


def _alive(before: Mapping[str, int], now: Mapping[str, int]) -> frozenset[str]:
    """The runs that have sent a heartbeat between two looks."""
    return frozenset(run for run, sent_at in now.items() if sent_at > before.get(run, 0))
