"""The counts of caps on clicks, from all partitions."""

from __future__ import annotations

from collections.abc import Sequence

from tracker.stream import keys
from tracker.stream.client import StreamClient

_AT_ONCE = 500  # counters of one call. Its answer delays clicks by a third of a millisecond


async def counted(url: str, partitions: int, names: Sequence[str]) -> list[int]:
    """The counts of counters, by name. 0 for counters that have not begun.

    Raises:
        UNREACHABLE: the server does not answer.
    """
    totals = [0] * len(names)
    async with StreamClient(url) as server:
        for partition in range(partitions):
            prefix = keys.cap_prefix(partition)
            for start in range(0, len(names), _AT_ONCE):
                some = [prefix + name.encode() for name in names[start : start + _AT_ONCE]]
                for place, count in enumerate(await server.of(partition).mget(some), start):
                    totals[place] += int(count or 0)
    return totals
