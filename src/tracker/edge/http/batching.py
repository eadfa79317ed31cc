"""Gathers hits into batches: those that come in before the event loop turns are followed together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from tracker.edge.http.request import Request
from tracker.edge.http.response import Response

MAX_TOGETHER: Final = 32
"""Most hits of a batch. More would gain nothing, and keep the first one waiting."""


class Hit(Protocol):
    """A request for a link, and the place for its answer."""

    request: Request

    def give(self, answer: Response) -> None: ...


class Batching:
    """Hands batches of hits to `follow`, each in a task of its own."""

    def __init__(self, follow: Callable[[Sequence[Hit]], Awaitable[None]]) -> None:
        self._follow = follow
        self._arrived: list[Hit] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, hit: Hit) -> None:
        """Queue a GET. It is followed with all others of this turn of the loop."""
        arrived = self._arrived
        arrived.append(hit)
        if len(arrived) == 1:
            task = asyncio.create_task(self._follow_arrived(arrived))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif len(arrived) == MAX_TOGETHER:
            self._arrived = []

    async def _follow_arrived(self, arrived: list[Hit]) -> None:
        if self._arrived is arrived:
            self._arrived = []
        await self._follow(arrived)
