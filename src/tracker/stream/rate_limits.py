"""Rate limits, counted for all API processes together (GCRA, by the server's clock, one call a request)."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from throttled.asyncio import RedisStoreBackend
from throttled.asyncio.rate_limiter.gcra import RedisLimitAtomicAction
from throttled.exceptions import StoreUnavailableError

from tracker.domain.rates import Rate
from tracker.stream import keys
from tracker.stream.client import open_client

UNREACHABLE: tuple[type[Exception], ...] = (StoreUnavailableError, OSError, TimeoutError)
"""Errors of `Limiter.take` while the server cannot count: it is away, too slow, or full."""

_PATIENCE = 0.25  # seconds


class Turn(NamedTuple):
    """The decision on one request."""

    is_refused: bool
    remaining: int  # further requests that would be accepted now
    reset_after: float  # seconds until the whole rate is free again
    retry_after: float  # seconds until a request is accepted. 0 if this one was


class _Backend(RedisStoreBackend):
    """Its own client would not find a primary that has moved."""

    def __init__(self, client: Any) -> None:
        super().__init__()
        self._client = client


class Limiter:
    """Counts by key. A key expires as soon as its whole rate is free again."""

    def __init__(self, url: str) -> None:
        self._client = open_client(url)
        self._action = RedisLimitAtomicAction(_Backend(self._client))

    async def take(self, whose: str, rate: Rate) -> Turn:
        """Take a turn out of a rate.

        Raises:
            UNREACHABLE: the request was not counted, or its result is unknown.
        """
        interval = rate.seconds / rate.requests
        async with asyncio.timeout(_PATIENCE):
            refused, *left = await self._action.do([keys.rate(whose)], [interval, rate.requests, 1])
        return Turn(bool(refused), int(left[0]), left[1], left[2])

    async def close(self) -> None:
        await self._client.aclose()
