"""Which partition a visitor's clicks go to, and which partitions hold any."""

from __future__ import annotations

from tracker.settings import MAX_PARTITIONS
from tracker.stream import keys
from tracker.stream.client import open_client


def partition_of(visitor_key: int, partitions: int) -> int:
    """One visitor's clicks all go to one partition, which therefore knows whether they are unique."""
    return visitor_key % partitions


async def waiting(url: str) -> dict[int, int]:
    """How many recorded clicks are not yet stored, by partition; also beyond the number in force.

    Raises:
        UNREACHABLE: the server cannot be asked.
    """
    async with (
        open_client(url) as client,
        client.pipeline(transaction=False) as pipe,
    ):
        for partition in range(MAX_PARTITIONS):
            pipe.xlen(keys.clicks(partition))
        lengths = await pipe.execute()
    return {partition: length for partition, length in enumerate(lengths) if length}
