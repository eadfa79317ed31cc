"""A client of the metrics' listener for the processes of some settings, in this process or others."""

from __future__ import annotations

from httpx import ASGITransport, AsyncClient, Response

from tracker.processes.metrics_listener import create_metrics
from tracker.settings import Settings


async def ask_listener(settings: Settings, path: str, method: str = "GET") -> Response:
    transport = ASGITransport(create_metrics(settings))
    async with AsyncClient(transport=transport, base_url="http://metrics.test") as client:
        return await client.request(method, path)


async def metrics_of(settings: Settings) -> str:
    answer = await ask_listener(settings, "/metrics")
    assert answer.status_code == 200
    return answer.text
