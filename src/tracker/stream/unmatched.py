"""The latest hits without a known offer or affiliate. The log is bounded: old ones make room for new ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import redis.asyncio

KEPT = 10_000
"""About how many orphans the log keeps."""

_STREAM = b"orphans:{0}"


class Orphan(NamedTuple):
    """One hit with cropped texts."""

    millis: int  # Unix milliseconds
    why: str  # unknown offer, unknown affiliate or unknown link
    requested_link: str
    referrer: str
    ip: str
    user_agent: str


class OrphanStream:
    """The log on the stream server."""

    def __init__(self, url: str) -> None:
        self._client = _client(url)

    async def append(self, orphans: Iterable[Orphan]) -> None:
        """Log some, oldest first.

        Raises:
            UNREACHABLE: not all were logged.
        """
        async with self._client.pipeline(transaction=False) as pipe:
            for orphan in orphans:
                pipe.xadd(_STREAM, _fields(orphan), maxlen=KEPT, approximate=True)
            await pipe.execute()

    async def close(self) -> None:
        await self._client.aclose()


async def read(url: str, count: int) -> list[Orphan]:
    """The last `count` orphans of a server, newest first.

    Raises:
        UNREACHABLE: they cannot be read.
    """
    async with _client(url) as client:
        return [_orphan(fields) for _, fields in await client.xrevrange(_STREAM, count=count)]


def _client(url: str) -> Any:
    # Any: redis-py types every reply as the union of all its protocols' and options' shapes.
    return redis.asyncio.Redis.from_url(url, protocol=2, socket_connect_timeout=2, socket_timeout=2)


def _fields(orphan: Orphan) -> dict[str, bytes]:
    texts = orphan._asdict().items()
    return {name: str(value).encode(errors="replace") for name, value in texts}


def _orphan(fields: dict[bytes, bytes]) -> Orphan:
    millis, *texts = (fields[name.encode()].decode() for name in Orphan._fields)
    return Orphan(int(millis), *texts)
