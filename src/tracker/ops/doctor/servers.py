"""The servers as checks ask them: a connection to PostgreSQL, and facts about the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from tracker.ops.doctor.finding import Finding
from tracker.settings import Settings
from tracker.store import db
from tracker.store.db import Connection
from tracker.stream import server_info, visitor_memory
from tracker.stream.homes import Server
from tracker.stream.reader import UNREACHABLE
from tracker.stream.server_info import StreamFacts
from tracker.stream.visitor_memory import InUse, VisitorMemory
from tracker.stream.waiting_clicks import waiting_clicks

ANSWER_SECONDS = 5.0
"""How long the servers may take to answer one check."""

UNREACHABLE_STREAM: tuple[type[Exception], ...] = (*UNREACHABLE, ValueError)
"""ValueError: the query of the URL has a wrong option."""


class StreamState(NamedTuple):
    """The stream servers as they are now."""

    servers: list[StreamFacts]  # all primaries, then all replicas
    away: list[Server]  # replicas that do not answer
    skew: float  # seconds between our clock and that of the primary that is furthest from it
    waiting: Mapping[int, int]  # clicks by partition
    visitors: InUse


StreamResult = StreamState | Exception
"""The state, or why the stream server cannot be reached."""


def time_limit() -> asyncio.Timeout:
    """A context that raises TimeoutError after ANSWER_SECONDS."""
    return asyncio.timeout(ANSWER_SECONDS)


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Connection]:
    """A connection to PostgreSQL. What is done with it is under the time limit, too."""
    assert settings.postgres_dsn
    async with time_limit():
        connection = await db.connect(settings.postgres_dsn)
        try:
            yield connection
        finally:
            await connection.close()


async def ask_stream(settings: Settings) -> StreamResult:
    assert settings.redis_url
    try:
        async with time_limit():
            facts, away = await server_info.ask_all(settings.redis_url)
            skew = max(abs(one.ahead) for one in facts if not one.place.is_replica)
            waiting = await waiting_clicks(settings.redis_url)
            visitors = await visitor_memory.in_use(settings.redis_url, VisitorMemory.of(settings))
            return StreamState(facts, away, skew, waiting, visitors)
    except UNREACHABLE_STREAM as error:
        return error


def by_server(found: Iterable[tuple[Server, Finding]]) -> Iterator[Finding]:
    """Findings about servers, each once. It names those that it is about, unless it is about all."""
    places: dict[Finding, list[Server]] = {}
    servers = set()
    for server, finding in found:
        places.setdefault(finding, []).append(server)
        servers.add(server)
    for finding, those in places.items():
        where = ", ".join(str(server.address) for server in those)
        yield finding if len(those) == len(servers) else finding._replace(text=f"{where}: {finding.text}")
