"""How much of the stream server's memory visitors may take who are remembered, and how much they take.

The rest is for clicks that wait to be stored: however many visitors somebody invents, clicks have room.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from redis.exceptions import ResponseError

from tracker.settings import Settings
from tracker.stream import keys
from tracker.stream.client import open_client

_ASSUMED = 256 << 20  # maxmemory of a server that says nothing of its memory
_HOUR = 3600  # seconds


class VisitorMemory(NamedTuple):
    """What this deployment allows, for all its partitions together."""

    most: int | None = None  # bytes; None: half of the server's maxmemory
    partitions: int = 1

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.unique_bytes, settings.partitions)

    def allowed(self, info: Mapping[str, Any]) -> int:
        """Bytes in force, by what the server's INFO memory says; never above three quarters of its maxmemory.

        Where it has no maxmemory, a quarter of the machine's memory is taken for it, as the embedded one has.
        """
        maxmemory = int(info.get("maxmemory", 0)) or int(info.get("total_system_memory", 0)) // 4 or _ASSUMED
        return maxmemory // 2 if self.most is None else min(self.most, maxmemory * 3 // 4)

    def room(self, info: Mapping[str, Any]) -> int:
        """One partition's share, in bytes."""
        return self.allowed(info) // self.partitions


class InUse(NamedTuple):
    """What the visitors take who are remembered, as record_clicks.lua reckons it."""

    bytes: int
    allowed: int  # bytes
    is_full: bool  # one partition is, at least
    closed: int  # numbers of networks that have had their share


async def in_use(url: str, memory: VisitorMemory) -> InUse:
    """Ask how much visitors take.

    Raises:
        UNREACHABLE: the server cannot be asked.
    """
    async with open_client(url) as client:
        try:
            info = await client.info("memory")
        except ResponseError:  # a hosted server that keeps it to itself
            info = {}
        seconds, _ = await client.time()
        async with client.pipeline(transaction=False) as pipe:
            for partition in range(memory.partitions):
                pipe.hgetall(keys.remembered_parts(partition))
                pipe.get(keys.remembered(partition))
            told = await pipe.execute()
    takes = [_not_free(parts, seconds // _HOUR) for parts in told[::2]]
    closed = sum([len((last or b"").split(b" ", 2)[-1]) for last in told[1::2]])
    return InUse(sum(takes), memory.allowed(info), max(takes) >= memory.room(info), closed)


def _not_free(parts: Mapping[bytes, bytes], this_hour: int) -> int:
    """Bytes of the hours to come: the script takes off those of the past with the next new visitor only."""
    hours = [(int(name.partition(b":")[0]), value) for name, value in parts.items() if b":" in name]
    return sum([int(value) for hour, value in hours if hour > this_hour])
