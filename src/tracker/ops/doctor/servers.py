"""The facts about the stream server that several checks need."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple

from tracker.settings import Settings
from tracker.stream import partitions, server_info, visitor_memory
from tracker.stream.reader import UNREACHABLE
from tracker.stream.server_info import StreamFacts
from tracker.stream.visitor_memory import InUse, VisitorMemory

ANSWER_SECONDS = 5.0
"""How long the servers may take to answer one check."""

UNREACHABLE_STREAM: tuple[type[Exception], ...] = (*UNREACHABLE, ValueError)
"""ValueError: the query of the URL has a wrong option."""


class StreamState(NamedTuple):
    """The stream server as it is now."""

    facts: StreamFacts
    skew: float  # seconds between its clock and ours
    waiting: Mapping[int, int]  # clicks by partition
    visitors: InUse


StreamResult = StreamState | Exception
"""The state, or why the stream server cannot be reached."""


def time_limit() -> asyncio.Timeout:
    """A context that raises TimeoutError after ANSWER_SECONDS."""
    return asyncio.timeout(ANSWER_SECONDS)


async def ask_stream(settings: Settings) -> StreamResult:
    assert settings.redis_url
    try:
        async with time_limit():
            facts = await server_info.ask(settings.redis_url)
            skew = abs(time.time() - facts.millis / 1000)
            waiting = await partitions.waiting(settings.redis_url)
            visitors = await visitor_memory.in_use(settings.redis_url, VisitorMemory.of(settings))
            return StreamState(facts, skew, waiting, visitors)
    except UNREACHABLE_STREAM as error:
        return error
