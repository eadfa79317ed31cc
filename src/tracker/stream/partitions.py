"""The partition of a visitor's clicks, and the partitions with waiting clicks."""

from __future__ import annotations

from tracker.settings import MAX_PARTITIONS
from tracker.stream import keys
from tracker.stream.client import StreamClient


def partition_of(visitor_key: int, partitions: int) -> int:
    """The partition of all clicks of one visitor, so that it knows which are unique."""
    return visitor_key % partitions


async def waiting(url: str) -> dict[int, int]:
    """Recorded clicks that are not stored yet, by partition, even beyond TRACKER_PARTITIONS.

    Raises:
        UNREACHABLE: the server does not answer.
    """
    async with StreamClient(url) as server:
        lengths = await server.each(
            range(MAX_PARTITIONS), lambda pipe, number: pipe.xlen(keys.clicks(number))
        )
    return {partition: length for partition, (length,) in enumerate(lengths) if length}
