"""A route without a contract is refused at the start of the API."""

from __future__ import annotations

import pytest
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from tracker.api import audit
from tracker.api.app import create_api
from tracker.api.http.endpoint import Call, contract_of, endpoint, public
from tracker.parameters import Query
from tracker.settings import Settings

SETTINGS = Settings(redis_url="redis://nowhere.test", postgres_dsn="postgresql://nowhere.test/x")


async def bare(_request: Request) -> Response:
    return Response("open to everybody")


class Bare(HTTPEndpoint):
    async def get(self, _request: Request) -> Response:
        return Response("open to everybody")


@endpoint(scope="clicks:read", query=Query, returns=None, tag="Clicks")
async def declared(_call: Call[Query]) -> Response:
    return Response("open to some tokens")


@public
async def open_to_everybody(_request: Request) -> Response:
    return Response("open to everybody")


@pytest.mark.parametrize(
    "route",
    [
        Route("/bare", bare),
        Route("/bare", bare, methods=["POST"]),
        Route("/bare", Bare),
        Mount("/bare", routes=[Route("/declared", declared)]),
        WebSocketRoute("/bare", bare),
    ],
    ids=["function", "method", "class", "mount", "websocket"],
)
def test_route_without_a_contract_stops_the_start(monkeypatch: pytest.MonkeyPatch, route: BaseRoute) -> None:
    monkeypatch.setattr(audit, "routes", [*audit.routes, route])
    with pytest.raises(TypeError, match="authorises nobody"):
        create_api(SETTINGS)


def test_route_with_a_contract_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    added = [Route("/declared", declared), Route("/public", open_to_everybody)]
    monkeypatch.setattr(audit, "routes", [*audit.routes, *added])
    served = [route for route in create_api(SETTINGS).routes if route in added]
    contracts = [contract_of(route) for route in served]
    assert [contract and contract.scopes for contract in contracts] == [("clicks:read",), None]


@pytest.mark.parametrize("scope", ["", "clicks", ()])
def test_endpoint_of_an_unknown_scope_is_refused(scope: str | tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="scope"):
        endpoint(scope=scope, query=Query, returns=None, tag="Clicks")
