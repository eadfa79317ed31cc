"""The pages as an application. The API's process serves it on the API's port."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ExceptionHandler

from tracker.dashboard import html, operations
from tracker.dashboard.asking import Turns
from tracker.dashboard.catalogue import links
from tracker.dashboard.catalogue import pages as catalogue
from tracker.dashboard.html import error_page
from tracker.dashboard.money import bookings, partners, payments, statements, uploads
from tracker.dashboard.navigation import Navigation
from tracker.dashboard.overview import home
from tracker.dashboard.page import Page
from tracker.dashboard.people import account, audit, link, open_sessions, see_as, sign_in, tokens, users
from tracker.dashboard.reports import builder, share, sharing
from tracker.dashboard.traffic import (
    click_story,
    clicks,
    conversions,
    one_conversion,
    postbacks,
    search,
    test_runs,
)
from tracker.edge.read.client_address import Proxies
from tracker.errors import in_log
from tracker.people.sign_in import SignIn
from tracker.secret_key import SecretKey
from tracker.settings import Settings
from tracker.store.catalogue.edit import BUSY
from tracker.store.db import STATEMENT_TIMEOUT_SECONDS, UNREACHABLE, drop_read_only
from tracker.store.migrate import is_behind
from tracker.store.outages import MIGRATE, NOT_MIGRATED
from tracker.store.paging import TOO_SLOW

_RETRY_AFTER: Final = {"Retry-After": "1"}

_log = logging.getLogger(__name__)

_TOO_SLOW: Final = (
    "This page would read too many rows. Go back, and narrow it: choose a shorter period, an offer or an "
    "affiliate."
)
_TEXTS = {404: "The address is wrong, or the page has moved.", 405: "This address takes no such request."}


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_page(error.status_code, _TEXTS.get(error.status_code, error.detail), error.headers)


async def _unavailable(request: Request, error: Exception) -> Response:
    await drop_read_only(request.app.state.pool, error)
    _log.warning(
        "%(path)r: the database cannot answer: %(cause)s",
        {"event": "page_unavailable", "path": request.scope["path"], "cause": type(error).__name__},
    )
    return error_page(503, "The database cannot answer now. Try again in a moment.", _RETRY_AFTER)


async def _too_slow(request: Request, _error: Exception) -> Response:
    _log.warning(
        "%(path)r: a query took longer than %(seconds)s s",
        {"event": "page_too_slow", "path": request.scope["path"], "seconds": STATEMENT_TIMEOUT_SECONDS},
    )
    return error_page(503, _TOO_SLOW, _RETRY_AFTER)


async def _not_migrated(request: Request, error: Exception) -> Response:
    """503 on a database that lacks migrations. On a migrated one the error is our fault, and it is raised."""
    if not await is_behind(request.app.state.pool):
        raise error
    _log.warning(f"%(path)r: {MIGRATE}", {"event": "page_not_migrated", "path": request.scope["path"]})
    return error_page(503, "The tracker is being upgraded. Try again in a moment.", _RETRY_AFTER)


async def _defect(request: Request, _error: Exception) -> Response:
    """500. Starlette raises the error again, and the server logs it."""
    id_ = request.scope.get("request_id", "")
    return error_page(500, f"The page could not be made. The tracker's log has the reason{in_log(id_)}.")


_EXCEPTION_HANDLERS: dict[int | type[Exception], ExceptionHandler] = {
    HTTPException: _refused,
    Exception: _defect,
    **dict.fromkeys((*UNREACHABLE, BUSY), _unavailable),
    TOO_SLOW: _too_slow,
    **dict.fromkeys(NOT_MIGRATED, _not_migrated),
}


PAGES: Final[Sequence[Page]] = [
    *sign_in.pages,
    *link.pages,
    *account.pages,
    *open_sessions.pages,
    *see_as.pages,
    *home.pages,
    *operations.pages,
    *users.pages,
    *tokens.pages,
    *audit.pages,
    *catalogue.pages,
    *builder.pages,
    *sharing.pages,
    *share.pages,
    *statements.pages,
    *bookings.pages,
    *payments.pages,
    *uploads.pages,
    *partners.pages,
    *clicks.pages,
    *click_story.pages,
    *search.pages,
    *conversions.pages,
    *one_conversion.pages,
    *postbacks.pages,
    *links.pages,
    *test_runs.pages,
]
"""All pages, in no order."""


def create_pages(settings: Settings, key: SecretKey, api: Starlette) -> Starlette:
    """The application. `state.pool` must be set before it opens. Its pages ask the API."""

    @asynccontextmanager
    async def opened(app: Starlette) -> AsyncIterator[None]:
        app.state.sign_in = SignIn(app.state.pool, key)
        try:
            yield
        finally:
            app.state.sign_in.close()

    app = Starlette(exception_handlers=_EXCEPTION_HANDLERS)
    routes = [*(page.route() for page in PAGES), *html.routes]
    # Slashes are not redirected: the Location would repeat any Host that a client sends.
    app.router = Router(routes, redirect_slashes=False, lifespan=opened)
    app.state.settings = settings
    app.state.api = api
    app.state.turns = Turns()
    app.state.navigation = Navigation((page.path, page.access) for page in PAGES if page.show)
    app.state.proxies = Proxies(settings.trusted_proxies)
    return app
