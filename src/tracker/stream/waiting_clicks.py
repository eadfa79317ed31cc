"""The clicks that wait on the stream."""

from __future__ import annotations

from tracker.settings import MAX_PARTITIONS
from tracker.stream import keys
from tracker.stream.client import StreamClient


async def waiting_clicks(url: str) -> dict[int, int]:
    """Recorded clicks that are not stored yet, by partition, even beyond TRACKER_PARTITIONS.

    Raises:
        UNREACHABLE: the server does not answer.
    """
    async with StreamClient(url) as server:
        lengths = await server.each(
            range(MAX_PARTITIONS), lambda pipe, number: pipe.xlen(keys.clicks(number))
        )
    return {partition: length for partition, (length,) in enumerate(lengths) if length}
