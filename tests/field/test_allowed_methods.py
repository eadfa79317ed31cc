"""405 names exactly the methods of the path (RFC 9110, section 10.2.1): API, edge, metrics."""

from __future__ import annotations

import pytest
from httpx import ASGITransport, AsyncClient

from tests.api_document import api_document
from tests.integration.api_client import api_of
from tests.integration.edge_client import edge_of
from tracker.processes.metrics_listener import create_metrics
from tracker.settings import Settings

pytestmark = pytest.mark.anyio

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY")
_ROOT = "/backend/open-api/v1"

API: dict[str, set[str]] = {  # fixed segments of similar paths
    f"{_ROOT}/users/conversions/status-uploads": {"POST"},
    f"{_ROOT}/users/conversions/export": {"GET", "HEAD"},
    f"{_ROOT}/users/conversions/7": {"GET", "HEAD", "PATCH"},
    f"{_ROOT}/users/conversions": {"GET", "HEAD", "POST"},
    f"{_ROOT}/users/clicks/export": {"GET", "HEAD"},
    f"{_ROOT}/users/clicks/7": {"GET", "HEAD"},
    f"{_ROOT}/users/clicks": {"GET", "HEAD", "POST"},
    f"{_ROOT}/users/tokens": {"GET", "HEAD", "POST"},
    f"{_ROOT}/users/tokens/7/rotate": {"POST"},
    f"{_ROOT}/users/period-closes": {"GET", "HEAD", "POST"},
    "/health/live": {"GET", "HEAD"},
    "/openapi.json": {"GET", "HEAD"},
    "/docs": {"GET", "HEAD"},
    "/docs/start.js": {"GET", "HEAD"},
}
EDGE: dict[str, set[str]] = {
    "/offer/3": {"GET", "HEAD"},
    "/backend/api/v3/offer/3/": {"GET", "HEAD"},
    "/postback": {"GET", "HEAD", "POST"},
    "/api/v3/goal/1": {"GET", "HEAD", "POST"},
    "/pixel": {"GET", "HEAD"},
    "/health/live": {"GET", "HEAD"},
    "/health/ready": {"GET", "HEAD"},
}
METRICS = {"/metrics": {"GET", "HEAD"}, "/hosts/serves": {"GET", "HEAD"}}


async def _check(client: AsyncClient, path: str, methods: set[str]) -> None:
    for method in METHODS:
        answer = await client.request(method, path)
        is_wrong = method not in methods
        assert (answer.status_code == 405) == is_wrong, (method, path, answer.status_code)
        allowed = answer.headers.get("allow")
        assert (set(allowed.split(", ")) if allowed else None) == (methods if is_wrong else None), (
            method,
            path,
        )


def _of_document() -> dict[str, set[str]]:
    """Every path of the document, with a value for each parameter that no fixed segment has."""
    found = {}
    for path, operations in api_document()["paths"].items():
        methods = {name.upper() for name in operations if name.upper() in METHODS}
        if "GET" in methods:
            methods.add("HEAD")
        found["/".join("7" if segment.startswith("{") else segment for segment in path.split("/"))] = methods
    return found


async def test_paths_of_the_api_name_their_methods(database: Settings) -> None:
    paths = _of_document()
    assert len(paths) > 40
    assert {path: paths[path] for path in API if path in paths} == {
        p: m for p, m in API.items() if p in paths
    }
    async with api_of(database, scopes=()) as client:
        for path, methods in (API | paths).items():
            await _check(client, path, methods)


async def test_paths_of_the_edge_name_their_methods(database: Settings) -> None:
    async with edge_of(database) as client:
        for path, methods in EDGE.items():
            await _check(client, path, methods)


async def test_paths_of_the_metrics_name_their_methods(database: Settings) -> None:
    app = create_metrics(database)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://metrics.test") as client:
        for path, methods in METRICS.items():
            await _check(client, path, methods)
