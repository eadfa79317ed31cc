"""Rate limits of tokens, and of wrong tokens by address."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from httpx import AsyncClient

from tests.integration.api_client import CLICKS, api_of, run_sql
from tests.integration.metrics_client import metrics_of
from tracker.api.http import rate_limits as api_limits
from tracker.api.http.problems import Problem
from tracker.api.http.rate_limits import AFTER_FAILURE_SECONDS, MOST_SLOWED_OF_ONE, WRONG_TOKENS, Limits
from tracker.domain.rates import read_rate
from tracker.settings import Settings
from tracker.store.tokens import create_token
from tracker.stream.client import open_client
from tracker.stream.rate_limits import Limiter

pytestmark = pytest.mark.anyio

SLOW = read_rate("2/hour")


async def get(client: AsyncClient, secret: str = "trk_wrong", **headers: str) -> Any:
    return await client.get(CLICKS, headers={"Authorization": f"Bearer {secret}", **headers})


async def test_token_is_limited_and_answers_name_the_rest(database: Settings) -> None:
    async with api_of(replace(database, api_rate=SLOW)) as client:
        own_rate = await create_token(database.postgres_dsn or "", ["clicks:read"], rate_limit="7/hour")
        for left in (1, 0):
            answer = await client.get(CLICKS)
            assert answer.status_code == 200
            assert answer.headers["ratelimit-limit"] == "2"
            assert answer.headers["ratelimit-remaining"] == str(left)
            assert 0 < int(answer.headers["ratelimit-reset"]) <= 3600
        for _ in range(2):
            answer = await client.get(CLICKS)
            assert answer.status_code == 429
            assert answer.json()["detail"].startswith(
                "This token is limited to 2/hour requests. Try again in "
            )
            assert 0 < int(answer.headers["retry-after"]) <= 1800
            assert answer.headers["ratelimit-remaining"] == "0"
        assert (await get(client, own_rate)).headers["ratelimit-remaining"] == "6"
        assert (await client.get("/health/ready")).status_code == 200
        assert (await client.get("/openapi.json")).status_code == 200
        assert 'tracker_api_limited_total{api="8001",by="token"} 2\n' in await metrics_of(database)


async def test_changed_rate_holds_from_the_next_request(database: Settings) -> None:
    async with api_of(database) as client:
        assert (await client.get(CLICKS)).headers["ratelimit-limit"] == "600"
        await run_sql(database, "UPDATE token SET rate_limit = '2/hour'")
        assert (await client.get(CLICKS)).headers["ratelimit-limit"] == "2"


async def test_refused_requests_count_for_the_rate_limit(database: Settings) -> None:
    async with api_of(replace(database, api_rate=SLOW), scopes=("reports:read",)) as client:
        assert [(await client.get(CLICKS)).status_code for _ in range(3)] == [403, 403, 429]


async def test_rate_limits_count_over_all_api_processes(database: Settings) -> None:
    token = await create_token(database.postgres_dsn or "", ["clicks:read"], rate_limit="2/hour")
    async with api_of(database, scopes=()) as one, api_of(database, scopes=()) as other:
        assert [(await get(each, token)).status_code for each in (one, other, one, other)] == [
            200,
            200,
            429,
            429,
        ]


async def test_expired_limit_leaves_no_key(database: Settings) -> None:
    async with open_client(database.redis_url or "", decode_responses=True) as client:
        limiter = Limiter(database.redis_url or "")
        for whose in ("token:1", "address:192.0.2.7"):
            await limiter.take(whose, SLOW)
        keys = await client.keys("*")
        assert set(keys) == {"rate:{0}:token:1", "rate:{0}:address:192.0.2.7"}
        assert all([0 < await client.ttl(key) <= 3600 for key in keys])
        await limiter.close()


async def wrong_ones(client: AsyncClient, number: int, **headers: str) -> list[asyncio.Task[Any]]:
    """Send many wrong tokens at the same time. Delayed answers are still pending."""
    tasks = [asyncio.create_task(get(client, f"trk_wrong{n}", **headers)) for n in range(number)]
    while sum(task.done() for task in tasks) < number - MOST_SLOWED_OF_ONE:
        await asyncio.sleep(0.01)
    return tasks


def statuses(tasks: Iterable[asyncio.Task[Any]]) -> Counter[int]:
    return Counter(task.result().status_code for task in tasks if task.done())


async def test_wrong_tokens_never_refuse_a_right_one(database: Settings) -> None:
    settings = replace(database, trusted_proxies=(ip_network("127.0.0.1/32"),))
    known, first_seen = [await create_token(database.postgres_dsn or "", ["clicks:read"]) for _ in range(2)]
    here, near, far = ({"X-Forwarded-For": ip} for ip in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"))
    async with api_of(settings, scopes=()) as client:
        assert (await get(client, known, **here)).status_code == 200
        tasks = await wrong_ones(client, 60, **here)
        assert statuses(tasks) == {
            401: WRONG_TOKENS.requests,
            429: 60 - WRONG_TOKENS.requests - MOST_SLOWED_OF_ONE,
        }
        for token, address in itertools.product((known, first_seen), (here, near, far)):
            assert (await get(client, token, **address)).status_code == 200
        refused = await get(client, **near)
        assert refused.status_code == 429, "it is of the same network"
        assert 0 < int(refused.headers["retry-after"]) <= 3
        assert "ratelimit-limit" not in refused.headers
        assert (await get(client, **far)).status_code == 401
        assert (await client.get(CLICKS, headers=here)).status_code == 401, "no token is not a wrong one"
        assert sum(not task.done() for task in tasks) == MOST_SLOWED_OF_ONE
        await asyncio.gather(*tasks)
        assert statuses(tasks)[401] == WRONG_TOKENS.requests + MOST_SLOWED_OF_ONE
        metrics = (await metrics_of(settings)).splitlines()
        assert 'tracker_api_limited_total{api="8001",by="address"} 37' in metrics
        assert 'tracker_api_wrong_tokens_total{api="8001"} 62' in metrics


async def test_peer_that_is_not_a_proxy_cannot_choose_its_address(database: Settings) -> None:
    async with api_of(database, scopes=()) as client:
        tasks = [
            asyncio.create_task(get(client, **{"X-Forwarded-For": f"192.0.2.{n}"}))
            for n in range(WRONG_TOKENS.requests + MOST_SLOWED_OF_ONE + 1)
        ]
        await asyncio.gather(*tasks)
        assert statuses(tasks)[429] == 1


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def refused(seconds: str) -> Iterator[None]:
    with pytest.raises(Problem) as problem:
        yield
    assert problem.value.status_code == 429
    assert problem.value.headers == {"Retry-After": seconds}


async def kept_back(limits: Limits, client: str = "x") -> list[asyncio.Task[None]]:
    """Wrong tokens of a client, as many as may be kept back."""
    tasks = [
        asyncio.create_task(limits.was_wrong(client, b"wrong"))
        for _ in range(WRONG_TOKENS.requests + MOST_SLOWED_OF_ONE)
    ]
    while sum(task.done() for task in tasks) < WRONG_TOKENS.requests:
        await asyncio.sleep(0.01)
    return tasks


async def test_address_is_answered_without_delay_after_its_wait(database: Settings) -> None:
    clock = Clock()
    limits = Limits(database, clock)
    tasks = await kept_back(limits)
    with refused("3"):
        await limits.was_wrong("x", b"wrong")
    clock.now += 1.5
    with refused("2"):
        await limits.was_wrong("x", b"other")
    await limits.was_wrong("y", b"wrong")
    await asyncio.gather(*tasks)
    clock.now += 1.6
    await limits.was_wrong("x", b"other")
    again = await kept_back(limits)
    with refused("3"):
        await limits.was_wrong("x", b"wrong")
    for task in again:
        task.cancel()
    await asyncio.gather(*again, return_exceptions=True)
    await limits.close()


async def test_slowed_wrong_tokens_are_limited_over_all_addresses(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_limits, "MOST_SLOWED", 2 * MOST_SLOWED_OF_ONE)
    limits = Limits(database, Clock())
    tasks = [*await kept_back(limits, "x"), *await kept_back(limits, "y")]
    for _ in range(WRONG_TOKENS.requests):
        await limits.was_wrong("z", b"wrong")
    with refused("3"):
        await limits.was_wrong("z", b"wrong")
    await asyncio.gather(*tasks)
    await limits.close()


async def test_invalid_token_is_dropped_from_the_cache(database: Settings) -> None:
    limits = Limits(database, Clock())
    limit = limits.was_right(b"good", 1, None)
    assert limits.known(b"good") == limit
    await limits.was_wrong("x", b"good")
    assert limits.known(b"good") is None
    await limits.close()


async def test_requests_are_not_limited_while_the_stream_server_is_away(
    database: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    away = replace(database, redis_url="redis://127.0.0.1:1/0", api_rate=read_rate("1/hour"))
    async with api_of(away) as client:
        for _ in range(3):
            answer = await client.get(CLICKS)
            assert answer.status_code == 200
            assert "ratelimit-limit" not in answer.headers
        assert {(await get(client)).status_code for _ in range(WRONG_TOKENS.requests + 9)} == {401}
    assert "rate limits are off" in caplog.text


async def test_server_that_does_not_count_is_left_alone_for_a_while(
    database: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    limits = Limits(replace(database, redis_url="redis://127.0.0.1:1/0"), clock)
    for _ in range(3):
        await limits.was_wrong("x", b"wrong")
    assert caplog.text.count("rate limits are off") == 1
    clock.now += AFTER_FAILURE_SECONDS
    await limits.was_wrong("x", b"wrong")
    assert caplog.text.count("rate limits are off") == 2
    await limits.close()


async def test_silent_server_limits_no_request(database: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        away = replace(database, redis_url=f"redis://127.0.0.1:{frozen.getsockname()[1]}/0")
        async with api_of(away) as client:
            assert (await client.get(CLICKS)).status_code == 200
    assert "rate limits are off: the stream server cannot count: TimeoutError" in caplog.text


async def test_full_stream_server_limits_no_request(database: Settings) -> None:
    async with open_client(database.redis_url or "") as client:
        before = (await client.config_get("maxmemory"))["maxmemory"]
        await client.config_set("maxmemory", 1)
        try:
            async with api_of(replace(database, api_rate=SLOW)) as api:
                assert [(await api.get(CLICKS)).status_code for _ in range(3)] == [200] * 3
        finally:
            await client.config_set("maxmemory", before)
