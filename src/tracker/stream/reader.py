"""A writer's end of the stream: its own backlog, what dead peers left, what is new."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import redis.asyncio
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

GROUP = b"writers"


class Delivery(NamedTuple):
    """One entry as read by a writer."""

    id: bytes
    fields: dict[bytes, bytes]


class Reader:
    """A writer's end of one partition: reads, takes over, acknowledges, buries."""

    def __init__(self, url: str, slot: int, partition: int = 0) -> None:
        # Any: redis-py types every reply as the union of all its protocols' and options' shapes.
        self._client: Any = redis.asyncio.Redis.from_url(url, protocol=2, health_check_interval=30)
        self._stream = b"clicks:{%d}" % partition
        self._dead = b"dead:{%d}" % partition
        self._lock = b"writer:{%d}:%d" % (partition, slot)
        self._consumer = b"writer-%d" % slot
        self._token = secrets.token_hex(8)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def hold_slot(self, seconds: float) -> bool:
        """Take or keep this writer's slot for some seconds; False while somebody else has it.

        A server that is full counts as a slot held: who else is to make room?
        """
        millis = int(seconds * 1000)
        try:
            if await self._client.set(self._lock, self._token, px=millis, nx=True):
                return True
        except OutOfMemoryError:
            return True
        return bool(await self._client.eval(_EXTEND, 1, self._lock, self._token, millis))

    async def release_slot(self) -> None:
        await self._client.eval(_RELEASE, 1, self._lock, self._token)

    async def create_group(self) -> None:
        """Create the group at the stream's beginning, so that what came before it is read too."""
        try:
            await self._client.xgroup_create(self._stream, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def backlog(self, count: int, after: bytes = b"0") -> list[Delivery]:
        """Entries delivered to this consumer's earlier life and not acknowledged, after an id."""
        return await self._read(count, after)

    async def abandoned(self, count: int, idle_seconds: float) -> list[Delivery]:
        """Take over entries that another consumer has left unacknowledged for so long."""
        reply = await self._client.xautoclaim(
            self._stream, GROUP, self._consumer, int(idle_seconds * 1000), "0-0", count=count
        )
        # Redis 6 lists entries that were deleted, too, without an id.
        return [Delivery(id_, fields) for id_, fields in reply[1] if id_ is not None]

    async def new(self, count: int, block_seconds: float | None) -> list[Delivery]:
        """Entries nobody has read; waits up to `block_seconds` for the first one (None: does not wait)."""
        return await self._read(count, b">", None if block_seconds is None else int(block_seconds * 1000))

    async def _read(self, count: int, after: bytes, block: int | None = None) -> list[Delivery]:
        reply = await self._client.xreadgroup(
            GROUP, self._consumer, {self._stream: after}, count=count, block=block
        )
        if not reply:
            return []
        return [Delivery(id_, fields or {}) for id_, fields in reply[0][1]]

    async def acknowledge(self, ids: Iterable[bytes]) -> None:
        """Take stored entries off the stream."""
        ids = list(ids)
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.xack(self._stream, GROUP, *ids)
            pipe.xdel(self._stream, *ids)
            await pipe.execute()

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Move an entry that cannot be stored to the dead-letter stream, with the reason.

        Raises:
            RedisError: it could not be moved, and stays where it was.
        """
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.xadd(self._dead, {b"id": delivery.id, b"reason": reason, **delivery.fields})
            pipe.xack(self._stream, GROUP, delivery.id)
            pipe.xdel(self._stream, delivery.id)
            await pipe.execute()

    async def waiting(self) -> int:
        """Entries on the stream: recorded and not yet stored."""
        return int(await self._client.xlen(self._stream))

    async def dead(self) -> list[Delivery]:
        return [Delivery(id_, fields) for id_, fields in await self._client.xrange(self._dead)]


_IF_MINE = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
_EXTEND = _IF_MINE + "return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
_RELEASE = _IF_MINE + "return redis.call('DEL', KEYS[1])"


def is_missing_group(error: Exception) -> bool:
    """Whether the stream or its group has gone (a flush, a fresh server): create_group mends it."""
    return isinstance(error, ResponseError) and "NOGROUP" in str(error)


UNREACHABLE: tuple[type[Exception], ...] = (RedisError, OSError, TimeoutError)
"""What reading raises while the stream is down, starting or refusing: worth waiting for."""
