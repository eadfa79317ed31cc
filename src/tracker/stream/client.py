"""The one way to open a client of the stream server."""

from __future__ import annotations

from typing import Any, Self

import redis.asyncio

OPTIONS = {"protocol": 2, "socket_connect_timeout": 2, "socket_timeout": 2}
"""Of a connection. Times in seconds."""


def open_client(url: str, *, connections: int | None = None, **options: Any) -> Any:
    """A client. It connects with its first command.

    With a limit of `connections` a command waits for a free one, at most as long as for a reply.
    `options` replace those of OPTIONS, or add to them. The type is Any because redis-py types every reply as
    the union of all its protocols' and options' shapes.
    """
    options = {**OPTIONS, **options}
    if connections is None:
        return redis.asyncio.Redis.from_url(url, **options)
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url, max_connections=connections, timeout=options["socket_timeout"], **options
    )
    return redis.asyncio.Redis.from_pool(pool)


class StreamClient:
    """An object with a client of its own, which is closed with it."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._client.aclose()
