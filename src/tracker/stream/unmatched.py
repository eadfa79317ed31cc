"""The latest hits without a known offer or affiliate. The log is bounded: old ones make room for new ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tracker.stream import keys
from tracker.stream.client import StreamClient, open_client

KEPT = 10_000
"""About how many orphans the log keeps."""


class Orphan(NamedTuple):
    """One hit with cropped texts."""

    millis: int  # Unix milliseconds
    why: str  # unknown offer, unknown affiliate or unknown link
    requested_link: str
    referrer: str
    ip: str
    user_agent: str


class OrphanStream(StreamClient):
    """The log on the stream server."""

    def __init__(self, url: str) -> None:
        super().__init__(url)

    async def append(self, orphans: Iterable[Orphan]) -> None:
        """Log some, oldest first.

        Raises:
            UNREACHABLE: not all were logged.
        """
        async with self._client.pipeline(transaction=False) as pipe:
            for orphan in orphans:
                pipe.xadd(keys.UNMATCHED, _fields(orphan), maxlen=KEPT, approximate=True)
            await pipe.execute()


async def read(url: str, count: int) -> list[Orphan]:
    """The last `count` orphans of a server, newest first.

    Raises:
        UNREACHABLE: they cannot be read.
    """
    async with open_client(url) as client:
        return [_orphan(fields) for _, fields in await client.xrevrange(keys.UNMATCHED, count=count)]


def _fields(orphan: Orphan) -> dict[str, bytes]:
    texts = orphan._asdict().items()
    return {name: str(value).encode(errors="replace") for name, value in texts}


def _orphan(fields: dict[bytes, bytes]) -> Orphan:
    millis, *texts = (fields[name.encode()].decode() for name in Orphan._fields)
    return Orphan(int(millis), *texts)
