"""The process of the API: the API and the pages, on one port and with one pool of connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from tracker.api.app import create_api
from tracker.api.health import CountAnswers
from tracker.dashboard.app import create_pages
from tracker.dashboard.html import ROOT
from tracker.edge.read.client_address import Proxies
from tracker.processes.request_ids import RequestIds
from tracker.secret_key import SecretKey
from tracker.settings import Settings


def create_site(settings: Settings, key: SecretKey) -> Router:
    """The API's application with the pages below /dashboard."""
    api = create_api(settings)
    pages = create_pages(settings, key, api)
    pages.add_middleware(CountAnswers, answers=api.state.answers)

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["path"] == ROOT or scope["path"].startswith(f"{ROOT}/")
        await (pages if is_page else api)(scope, receive, send)

    @asynccontextmanager
    async def opened(_: Starlette) -> AsyncIterator[None]:
        async with api.router.lifespan_context(api):
            pages.state.pool = api.state.pool
            async with pages.router.lifespan_context(pages):
                yield

    answered = RequestIds(route, Proxies(settings.trusted_proxies).trusts.__getitem__)
    return Router(default=answered, redirect_slashes=False, lifespan=opened)
