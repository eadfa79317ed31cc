"""Refused postbacks on their way to the log. The stream is bounded: old ones make room for new ones."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from tracker.domain.postback import RefusedPostback
from tracker.stream import keys
from tracker.stream.client import StreamClient

KEPT = 2_000
"""About how many may wait for a worker."""
MAX_BYTES = 8_192
"""Most bytes of a record. A longer one is left out, so that all take less than 20 MB."""

_RECORD = b"r"


class RefusedStream(StreamClient):
    """Both ends of the stream. Its methods raise UNREACHABLE of tracker.stream.reader."""

    def __init__(self, url: str) -> None:
        super().__init__(url)

    async def append(self, refused: Iterable[RefusedPostback]) -> None:
        """Append some, oldest first."""
        async with self._client.pipeline(transaction=False) as pipe:
            for one in refused:
                # A worker of the former release reads records without a form.
                record = orjson.dumps(tuple(one) if one.form else tuple(one)[:-1])
                if len(record) <= MAX_BYTES:
                    pipe.xadd(keys.REFUSED_POSTBACKS, {_RECORD: record}, maxlen=KEPT, approximate=True)
            await pipe.execute()

    async def oldest(self, count: int) -> list[tuple[bytes, RefusedPostback | None]]:
        """The oldest entries with their ids. None for entries that cannot be read."""
        entries = await self._client.xrange(keys.REFUSED_POSTBACKS, count=count)
        return [(id_, _decoded(fields.get(_RECORD, b""))) for id_, fields in entries]

    async def remove(self, ids: list[bytes]) -> None:
        """Remove logged entries. Done twice, it changes nothing."""
        await self._client.xdel(keys.REFUSED_POSTBACKS, *ids)


def _decoded(record: bytes) -> RefusedPostback | None:
    try:
        return RefusedPostback(*orjson.loads(record))
    except (TypeError, ValueError):
        return None
