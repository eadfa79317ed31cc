"""The stream server's memory for remembered visitors: how much they may take, and how much they take.

The rest of its memory is for clicks that wait to be stored. Invented visitors cannot take that room.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from redis.exceptions import ResponseError

from tracker.settings import Settings
from tracker.stream import keys
from tracker.stream.client import StreamClient

_ASSUMED = 256 << 20  # maxmemory of a server that hides its memory
_HOUR = 3600  # seconds


class VisitorMemory(NamedTuple):
    """The memory that this deployment allows, for all its partitions together."""

    most: int | None = None  # bytes. None: half of the server's maxmemory
    partitions: int = 1

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.unique_bytes, settings.partitions)

    def allowed(self, info: Mapping[str, Any]) -> int:
        """The allowed bytes, by the server's INFO memory. At most three quarters of its maxmemory.

        Without maxmemory a quarter of the machine's memory counts, as in the embedded server.
        """
        maxmemory = int(info.get("maxmemory", 0)) or int(info.get("total_system_memory", 0)) // 4 or _ASSUMED
        return maxmemory // 2 if self.most is None else min(self.most, maxmemory * 3 // 4)

    def room(self, info: Mapping[str, Any]) -> int:
        """One partition's share, in bytes."""
        return self.allowed(info) // self.partitions


class InUse(NamedTuple):
    """The memory of remembered visitors, as record_clicks.lua estimates it."""

    bytes: int
    allowed: int  # bytes
    is_full: bool  # at least one partition is full
    closed: int  # networks that have used up their share


async def in_use(url: str, memory: VisitorMemory) -> InUse:
    """The memory that visitors take now.

    Raises:
        UNREACHABLE: the server does not answer.
    """
    partitions = range(memory.partitions)

    def ask(pipe: Any, partition: int) -> None:
        pipe.hgetall(keys.remembered_parts(partition))
        pipe.get(keys.remembered(partition))

    async with StreamClient(url) as server:
        infos = [await _info(client) for client in await server.servers_of(partitions)]
        seconds, _ = await server.of(0).time()
        replies = await server.each(partitions, ask)
    takes = [_not_free(parts, seconds // _HOUR) for parts, _ in replies]
    closed = sum([len((last or b"").split(b" ", 2)[-1]) for _, last in replies])
    least = min(infos, key=memory.allowed)
    return InUse(sum(takes), memory.allowed(least), max(takes) >= memory.room(least), closed)


async def _info(client: Any) -> Mapping[str, Any]:
    try:
        return await client.info("memory")  # type: ignore[no-any-return]
    except ResponseError:  # a hosted server may hide it
        return {}


def _not_free(parts: Mapping[bytes, bytes], this_hour: int) -> int:
    """The bytes of future hours. The script subtracts past hours only with the next new visitor."""
    hours = [(int(name.partition(b":")[0]), value) for name, value in parts.items() if b":" in name]
    return sum([int(value) for hour, value in hours if hour > this_hour])
