"""Refused postbacks on their way to the log. The stream is bounded: old ones make room for new ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import orjson
import redis.asyncio

from tracker.domain.postback import RefusedPostback

KEPT = 2_000
"""About how many may wait for a worker."""
MAX_BYTES = 8_192
"""Most bytes of a record. A longer one is left out, so that all take less than 20 MB."""

_STREAM = b"refused-postbacks:{0}"
_RECORD = b"r"


class RefusedStream:
    """Both ends of the stream. Its methods raise UNREACHABLE of tracker.stream.reader."""

    def __init__(self, url: str) -> None:
        # Any: redis-py types every reply as the union of all its protocols' and options' shapes.
        self._client: Any = redis.asyncio.Redis.from_url(
            url, protocol=2, socket_connect_timeout=2, socket_timeout=2
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._client.aclose()

    async def append(self, refused: Iterable[RefusedPostback]) -> None:
        """Append some, oldest first."""
        async with self._client.pipeline(transaction=False) as pipe:
            for one in refused:
                record = orjson.dumps(tuple(one))
                if len(record) <= MAX_BYTES:
                    pipe.xadd(_STREAM, {_RECORD: record}, maxlen=KEPT, approximate=True)
            await pipe.execute()

    async def oldest(self, count: int) -> list[tuple[bytes, RefusedPostback | None]]:
        """The oldest entries with their ids; None for entries that cannot be read."""
        entries = await self._client.xrange(_STREAM, count=count)
        return [(id_, _decoded(fields.get(_RECORD, b""))) for id_, fields in entries]

    async def remove(self, ids: list[bytes]) -> None:
        """Remove logged entries. Done twice, it changes nothing."""
        await self._client.xdel(_STREAM, *ids)


def _decoded(record: bytes) -> RefusedPostback | None:
    try:
        return RefusedPostback(*orjson.loads(record))
    except (TypeError, ValueError):
        return None
