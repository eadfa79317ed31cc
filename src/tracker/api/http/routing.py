"""Chooses the path first and the method then, so that each path has its own methods.

Starlette tries route by route, and goes on to the next one if the method does not fit. So a PATCH of
`…/conversions/status-uploads` would change a conversion with that id, and Allow would list its methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import groupby
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import Receive, Scope, Send

ROOT = "/backend/open-api/v1/users"
"""Where the network's tokens read and write."""

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class _Path(NamedTuple):
    route: Route  # one of its routes: they match the same paths
    methods: Sequence[str]


class PathRouter(Router):
    """Fixed segments of a path go before parameters. Methods that a path lacks are 405 with Allow.

    Allow lists exactly the methods of the requested path (RFC 9110, section 10.2.1).
    """

    def __init__(
        self, routes: Iterable[BaseRoute], lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]]
    ) -> None:
        ordered = sorted((route for route in routes if isinstance(route, Route)), key=_order)
        # Slashes are not redirected: the Location would repeat any Host that a client sends.
        super().__init__(ordered, redirect_slashes=False, lifespan=lifespan)
        self._paths = [_path(list(group)) for _, group in groupby(ordered, key=lambda route: route.path)]

    def route_of(self, scope: Scope) -> Route:
        """The route that answers a request. Its path's parameters are put into the scope.

        Raises:
            HTTPException: 404 without such a path, 405 for a method that the path lacks.
        """
        _check(self._paths, scope)
        for route in self.routes:
            match, more = route.matches(scope)
            if match is Match.FULL and isinstance(route, Route):
                scope.update(more)
                return route
        raise HTTPException(404)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            _check(self._paths, scope)
        await super().app(scope, receive, send)


def _order(route: Route) -> tuple[list[bool], str]:
    return [segment.startswith("{") for segment in route.path.split("/")], route.path


def _path(routes: Sequence[Route]) -> _Path:
    named = {method for route in routes for method in route.methods or ()}
    return _Path(routes[0], [method for method in _METHODS if method in named])


def _check(paths: Sequence[_Path], scope: Scope) -> None:
    for route, methods in paths:
        if route.matches(scope)[0] is not Match.NONE:
            if scope["method"] not in methods:
                raise HTTPException(405, headers={"Allow": ", ".join(methods)})
            return
