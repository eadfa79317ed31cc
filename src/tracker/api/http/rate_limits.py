"""Rate limits: requests of a token, and wrong tokens from an address."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple, TypeVar

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracker.api.http.problems import Problem
from tracker.domain.rates import Rate
from tracker.edge.http.request import headers_of
from tracker.edge.read.client_address import Proxies, network_of, plain_address
from tracker.settings import Settings
from tracker.stream.rate_limits import UNREACHABLE, Limiter, Turn

WRONG_TOKENS = Rate(20, "minute")
"""Wrong tokens of one address (IPv6: one /64) that are answered without a delay."""

MOST_SLOWED, MOST_SLOWED_OF_ONE = 200, 4
"""Most delayed answers to wrong tokens at a time, of all addresses and of one. Further ones are 429."""

AFTER_FAILURE_SECONDS = 2.0
"""The pause after a failure of the stream server. Nobody is limited in it."""

_MOST_REMEMBERED = 10_000

Key = TypeVar("Key")
Value = TypeVar("Value")

_log = logging.getLogger(__name__)


class Limit(NamedTuple):
    """A counter and its rate."""

    whose: str
    rate: Rate


class Limits:
    """Counts on the stream server. While the server is away, nobody is refused.

    After too many wrong tokens an address waits for its next 401, or gets a 429. Every token is still looked
    up: a valid one is never refused and never waits.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = monotonic) -> None:
        assert settings.redis_url is not None
        self.refused: Counter[str] = Counter()  # by token, by address
        self.wrong_tokens = 0
        self._slowed: Counter[str] = Counter()  # at this moment, by client
        self._rate = settings.api_rate
        self._limiter = Limiter(settings.redis_url)
        self._proxies = Proxies(settings.trusted_proxies)
        self._clock = clock
        self._left_alone_until = 0.0
        self._closed_until: OrderedDict[str, float] = OrderedDict()  # by client
        self._right: OrderedDict[bytes, Limit] = OrderedDict()  # by the digest of a token

    def address_of(self, request: Request) -> str:
        """The IP address that sent a request, behind trusted proxies, too. "" if it is unknown."""
        peer = plain_address(request.client.host) if request.client else ""
        if self._proxies.trusts[peer]:
            peer = self._proxies.origin(peer, headers_of(request.scope["headers"]))[0]
        return peer

    def client_of(self, request: Request) -> str:
        """The network that the wrong tokens of a request count for."""
        peer = self.address_of(request)
        return network_of(peer) if peer else "unknown"

    def known(self, digest: bytes) -> Limit | None:
        """The limit of a token that was valid before."""
        return self._right.get(digest)

    def was_right(self, digest: bytes, token_id: int, rate: Rate | None) -> Limit:
        limit = Limit(f"token:{token_id}", rate or self._rate)
        _remember(self._right, digest, limit)
        return limit

    async def was_wrong(self, client: str, digest: bytes) -> None:
        """Count a wrong token, and delay its answer if its client has sent too many.

        Raises:
            Problem: 429 if too many answers are delayed already.
        """
        self.wrong_tokens += 1
        self._right.pop(digest, None)
        wait = await self._wait_of(client)
        if wait <= 0:
            return
        if self._slowed[client] >= MOST_SLOWED_OF_ONE or self._slowed.total() >= MOST_SLOWED:
            self.refused["address"] += 1
            raise _too_many("Too many wrong tokens have come from this address.", wait)
        self._slowed[client] += 1
        try:
            await asyncio.sleep(wait)
        finally:
            self._slowed -= Counter({client: 1})  # without those that are 0

    async def _wait_of(self, client: str) -> float:
        """Seconds until a client may send its next wrong token. Without a wait this one is counted."""
        wait = self._closed_until.get(client, 0.0) - self._clock()
        if wait > 0:  # a question costs the stream server as much as a click
            return wait
        turn = await self.take(Limit(f"address:{client}", WRONG_TOKENS))
        if turn is None or not turn.is_refused:
            return 0.0
        _remember(self._closed_until, client, self._clock() + turn.retry_after)
        return turn.retry_after

    def report(self, request: Request, limit: Limit, turn: Turn | None) -> None:
        """Put the rest of a token's rate into the answer's headers.

        Raises:
            Problem: 429 if the rate is spent.
        """
        if turn is None:
            return
        request.state.rate_limit = _headers(limit.rate, turn)
        if turn.is_refused:
            self.refused["token"] += 1
            raise _too_many(f"This token is limited to {limit.rate} requests.", turn.retry_after)

    async def spend(self, limit: Limit, of_what: str) -> None:
        """Count one of what has a limit of its own.

        Raises:
            Problem: 429 if the limit is spent.
        """
        turn = await self.take(limit)
        if turn is not None and turn.is_refused:
            raise _too_many(f"There are at most {limit.rate} {of_what}.", turn.retry_after)

    async def take(self, limit: Limit | None) -> Turn | None:
        """Count one. None without a limit, or if the stream server cannot count."""
        if limit is None or self._clock() < self._left_alone_until:
            return None
        try:
            return await self._limiter.take(limit.whose, limit.rate)
        except UNREACHABLE as error:
            self._left_alone_until = self._clock() + AFTER_FAILURE_SECONDS
            _log.warning(
                "rate limits are off: the stream server cannot count: %(cause)s",
                {"event": "rate_limits_off", "cause": type(error).__name__},
            )
            return None

    async def close(self) -> None:
        await self._limiter.close()


class RateLimitHeaders:
    """Writes the rest of a token's rate into the answer's headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_limit(message: Message) -> None:
            if message["type"] == "http.response.start" and "rate_limit" in scope.get("state", {}):
                MutableHeaders(scope=message).update(scope["state"]["rate_limit"])
            await send(message)

        await self._app(scope, receive, with_limit)


def _headers(rate: Rate, turn: Turn) -> dict[str, str]:
    return {
        "RateLimit-Limit": str(rate.requests),
        "RateLimit-Remaining": str(turn.remaining),
        "RateLimit-Reset": str(math.ceil(turn.reset_after)),
    }


def _too_many(detail: str, wait: float) -> Problem:
    seconds = max(1, math.ceil(wait))
    return Problem(429, f"{detail} Try again in {seconds} s.", headers={"Retry-After": str(seconds)})


def _remember(memory: OrderedDict[Key, Value], key: Key, value: Value) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _MOST_REMEMBERED:
        memory.popitem(last=False)
