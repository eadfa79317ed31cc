"""The partition of a visitor's clicks, and the partitions with waiting clicks."""

from __future__ import annotations

from typing import Any

import redis.asyncio

from tracker.settings import MAX_PARTITIONS


def partition_of(visitor_key: int, partitions: int) -> int:
    """The partition of all clicks of one visitor, so that it knows which are unique."""
    return visitor_key % partitions


async def waiting(url: str) -> dict[int, int]:
    """Recorded clicks that are not stored yet, by partition, even beyond TRACKER_PARTITIONS.

    Raises:
        UNREACHABLE: the server does not answer.
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
