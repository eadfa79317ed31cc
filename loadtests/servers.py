"""What the edge is measured against: python -m loadtests.servers bare|route|naive PORT [REDIS_URL].

Each answers every request with a 302, under the same uvicorn configuration as `tracker edge`.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from hashlib import blake2b
from typing import Any
from uuid import uuid4

import uvicorn
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TARGET = "https://ad.example/land?click_id={}&aff_id=501"
_HEADERS = {"Location": _TARGET.format(0), "Cache-Control": "no-store, private"}

Asgi = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]


def bare() -> Asgi:
    """The least that uvicorn can do."""
    raw = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
    start = {"type": "http.response.start", "status": 302, "headers": [*raw, (b"content-length", b"0")]}
    body = {"type": "http.response.body", "body": b""}

    async def answer(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        await send(start)
        await send(body)

    return answer


def route() -> Asgi:
    """An empty Starlette redirect."""

    async def answer(_: Request) -> Response:
        return Response(status_code=302, headers=_HEADERS)

    return Starlette(routes=[Route("/offer/{offer_id}", answer)])


def naive(redis_url: str) -> Asgi:
    """The usual tracker: SET NX for uniqueness and XADD for the click, awaited one after the other."""
    client = Redis.from_url(redis_url, max_connections=128)

    async def answer(request: Request) -> Response:
        offer_id, click_id = request.path_params["offer_id"], uuid4().hex
        user_agent = request.headers.get("user-agent", "")
        visitor = f"{request.headers.get('x-forwarded-for', '')}|{user_agent}"
        key = f"unique:{offer_id}:{blake2b(visitor.encode(), digest_size=8).hexdigest()}"
        unique = await client.set(key, click_id, nx=True, ex=86_400)
        click = {
            "hash": click_id,
            "offer_id": offer_id,
            "affiliate_id": request.query_params.get("affiliate_id", ""),
            "user_agent": user_agent,
            "unique": int(bool(unique)),
        }
        await client.xadd("clicks", click)  # type: ignore[arg-type]
        return Response(status_code=302, headers=_HEADERS | {"Location": _TARGET.format(click_id)})

    return Starlette(routes=[Route("/offer/{offer_id}", answer)])


def main() -> None:
    name, port, *rest = sys.argv[1:]
    apps: dict[str, Callable[..., Asgi]] = {"bare": bare, "route": route, "naive": naive}
    uvicorn.run(
        apps[name](*rest),
        host="127.0.0.1",
        port=int(port),
        loop="uvloop",
        http="httptools",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
