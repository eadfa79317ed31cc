"""Which partition a visitor's clicks go to, and which partitions hold any."""

from __future__ import annotations

from typing import Any

import redis.asyncio

from tracker.settings import MAX_PARTITIONS


def partition_of(visitor_key: int, partitions: int) -> int:
    """One visitor's clicks all go to one partition, which therefore knows whether they are unique."""
    return visitor_key % partitions


async def waiting(url: str) -> dict[int, int]:
    """How many recorded clicks are not yet stored, by partition; also beyond the number in force.

    Raises:
        UNREACHABLE: the server cannot be asked.
    """
    client: Any
    async with (
        redis.asyncio.Redis.from_url(url, protocol=2, socket_connect_timeout=2, socket_timeout=2) as client,
        client.pipeline(transaction=False) as pipe,
    ):
        for partition in range(MAX_PARTITIONS):
            pipe.xlen(b"clicks:{%d}" % partition)
        lengths = await pipe.execute()
    return {partition: length for partition, length in enumerate(lengths) if length}
