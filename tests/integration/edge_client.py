"""An edge in this process, served by uvicorn as `tracker edge` serves it, on a port of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import uvicorn
from httpx import AsyncClient

from tracker.domain.model import ClickRow
from tracker.edge.http.fast_path import LinkProtocol
from tracker.processes.edge import create_edge
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.stream.reader import Reader
from tracker.stream.record import decode

PATIENCE = 30.0
"""Seconds to wait for an event before the test fails."""


@asynccontextmanager
async def edge_of(settings: Settings, *, demo: bool = True, wait: bool = True) -> AsyncIterator[AsyncClient]:
    """A client of a ready edge with the demo catalogue and no geo databases. It follows no redirect."""
    if demo:
        assert settings.postgres_dsn
        await load_demo(settings.postgres_dsn)
    config = uvicorn.Config(
        create_edge(replace(settings, geoip_db=())),
        http=LinkProtocol,
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server._serve([listening]))  # serve() would take over the signals
        port = listening.getsockname()[1]
        try:
            async with AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
                async with asyncio.timeout(PATIENCE):
                    while not server.started:
                        await asyncio.sleep(0.01)
                    while wait and (await client.get("/health/ready")).status_code != 200:
                        await asyncio.sleep(0.01)
                yield client
        finally:
            server.should_exit = True
            await serving


async def recorded(settings: Settings) -> list[ClickRow]:
    """The new clicks on the stream."""
    assert settings.redis_url
    async with Reader(settings.redis_url, slot=0) as reader:
        await reader.create_group()
        deliveries = await reader.new(10_000, None)
        if deliveries:
            await reader.acknowledge(deliveries)
        return [decode(delivery.fields) for delivery in deliveries]


async def raw(client: AsyncClient, request: bytes) -> bytes:
    """The answer to raw bytes."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(request)
    await writer.drain()
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer
