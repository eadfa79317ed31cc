"""The one way to open a client of the stream server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Self

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, MovedError, ReadOnlyError

from tracker.stream.homes import homes_of

ASTRAY = (MovedError, ReadOnlyError, ClusterDownError)
"""A server's words for "I do not have this now". Nothing was done."""

OPTIONS = {
    "protocol": 2,
    "socket_connect_timeout": 2,
    "socket_timeout": 2,
    # A command that went astray is sent once more, over a connection that opens at the right server.
    "retry": Retry(NoBackoff(), 1, ASTRAY),
}
"""Of a connection. Times in seconds."""


def open_client(url: str, partition: int = 0, *, connections: int | None = None, **options: Any) -> Any:
    """A client of the server that has a partition. It connects with its first command.

    With a limit of `connections` a command waits for a free one, at most as long as for a reply.
    `options` replace those of OPTIONS, or add to them. The type is Any because redis-py types every reply as
    the union of all its protocols' and options' shapes.
    """
    options = {**OPTIONS, **options}
    homes = homes_of(url)
    if connections is None:
        return redis.asyncio.Redis.from_pool(homes.pool(partition, **options))
    limits = {"max_connections": connections, "timeout": options["socket_timeout"]}
    pool = homes.pool(partition, redis.asyncio.BlockingConnectionPool, **limits, **options)
    return redis.asyncio.Redis.from_pool(pool)


class StreamClient:
    """An object with clients of its own, one for each server, which are closed with it."""

    def __init__(self, url: str, **options: Any) -> None:
        self._homes = homes_of(url)
        self._url = url
        self._options = options
        self._clients: dict[int, Any] = {}
        self._client = self.of(0)  # for what has no partition

    def of(self, partition: int) -> Any:
        """The client for a partition. Partitions of one server share it, as soon as it is known."""
        lead = self._homes.lead(partition)
        if lead not in self._clients:
            self._clients[lead] = open_client(self._url, lead, **self._options)
        return self._clients[lead]

    async def each(self, partitions: Iterable[int], ask: Callable[[Any, int], Any]) -> list[list[Any]]:
        """The replies of each partition to what `ask` puts into a pipeline for it. One write a server."""
        partitions = list(partitions)
        await self._homes.learn()
        try:
            return await self._each(partitions, ask)
        except MovedError:  # the connections have asked where these partitions are now
            return await self._each(partitions, ask)

    async def servers_of(self, partitions: Iterable[int]) -> list[Any]:
        """A client for each server of these partitions."""
        await self._homes.learn()
        return list(dict.fromkeys(map(self.of, partitions)))

    async def _each(self, partitions: list[int], ask: Callable[[Any, int], Any]) -> list[list[Any]]:
        together: dict[Any, list[int]] = {}
        for partition in partitions:
            together.setdefault(self.of(partition), []).append(partition)
        replies: dict[int, list[Any]] = {}
        for client, those in together.items():
            async with client.pipeline(transaction=False) as pipe:
                ends = []
                for partition in those:
                    ask(pipe, partition)
                    ends.append(len(pipe))
                all_ = await pipe.execute()
            starts = (0, *ends)
            replies |= {n: all_[start:end] for n, start, end in zip(those, starts, ends, strict=False)}
        return [replies[partition] for partition in partitions]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()
