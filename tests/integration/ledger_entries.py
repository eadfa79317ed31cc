"""Entries of the stream with their counts, written as the scripts do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests.factories.clicks import a_click, outcomes_of
from tests.integration.api_client import run_sql
from tracker.domain.click_id import millis_of
from tracker.settings import Settings
from tracker.stream.client import open_client
from tracker.stream.record import encode


class Streams:
    """One partition of the stream, with its counts."""

    def __init__(self, client: Any, partition: int = 0) -> None:
        self._client = client
        self._partition = partition

    async def record(self, *hashes: str, late: bool = False) -> list[bytes]:
        """Append clicks. Returns the entries' ids."""
        async with self._client.pipeline(transaction=True) as pipe:
            for hash_ in hashes:
                click = a_click(hash=hash_)
                _, record = encode(click, outcomes_of(click))
                pipe.xadd(self._key("clicks"), {"a": b"0" + bytes.fromhex(hash_), "r": record})
                for kind in "rl" if late else "r":
                    self._count(pipe, millis_of(hash_), kind, 1)
            replies = await pipe.execute()
        return [reply for reply in replies if isinstance(reply, bytes)]

    async def take_off(self, id_: bytes, hash_: str, kind: str) -> None:
        """An entry leaves the stream, and counts as stored (x), as a duplicate (u) or as dead (d)."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.xdel(self._key("clicks"), id_)
            if kind == "d":
                _, record = encode(a_click(hash=hash_), outcomes_of(a_click(hash=hash_)))
                pipe.xadd(self._key("dead"), {"id": id_, "reason": "a test", "a": b"0", "r": record})
            self._count(pipe, millis_of(hash_), kind, 1)
            await pipe.execute()

    async def dead_letter(self, record: bytes) -> None:
        """A dead letter with an unreadable hash."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.xadd(self._key("dead"), {"id": "1-1", "reason": "a test", "a": b"0", "r": record})
            self._count(pipe, 0, "d", 1)
            await pipe.execute()

    async def lose(self, id_: bytes) -> None:
        """Remove an entry without counting it."""
        await self._client.xdel(self._key("clicks"), id_)

    async def count(self, millis: int, kind: str, by: int = 1) -> None:
        await self._count(self._client, millis, kind, by)

    def _count(self, client: Any, millis: int, kind: str, by: int) -> Any:
        hour, minute = divmod(millis // 60_000, 60)
        return client.hincrby(f"ledger:{{{self._partition}}}:{hour}", f"{minute}:{kind}", by)

    async def say(
        self, slot: str, until: int, *, spooled: Mapping[int, int] | None = None, said: int | None = None
    ) -> None:
        """Send an edge's heartbeat."""
        word = f"{until} {until if said is None else said} {json.dumps(dict(spooled or {}))}"
        await self._client.hset(self._key("edges"), slot, word)

    async def unsay(self, slot: str) -> None:
        await self._client.hdel(self._key("edges"), slot)

    def _key(self, kind: str) -> str:
        return f"{kind}:{{{self._partition}}}"


@asynccontextmanager
async def streams_of(settings: Settings, partition: int = 0) -> AsyncIterator[Streams]:
    assert settings.redis_url
    async with open_client(settings.redis_url, partition) as client:
        yield Streams(client, partition)


async def set_stored(settings: Settings, minute: int, clicks: int) -> None:
    """Set the counts of the writers' transactions."""
    statement = """
    WITH added_up AS (DELETE FROM minute_delta)
    INSERT INTO click_minute VALUES ($1, $2) ON CONFLICT (minute) DO UPDATE SET stored = excluded.stored
    """
    await run_sql(settings, statement, minute, clicks)
