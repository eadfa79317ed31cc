"""The API's application: its routes, its errors, and the connections that it opens and closes."""

from __future__ import annotations

from asyncio import wait_for
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ExceptionHandler

from tracker.api import (
    audit,
    cap_fill,
    catalogue,
    catalogue_changes,
    dead_letters,
    explain,
    health,
    ledger,
    manual_entries,
    marks,
    offer_copies,
    operations,
    reports,
    saved_views,
    search,
    shares,
    statements,
    test_runs,
    tokens,
    tracking_links,
    users,
    webhooks,
)
from tracker.api.clicks import create as create_clicks
from tracker.api.clicks import endpoints as clicks
from tracker.api.clicks import story as click_stories
from tracker.api.clicks.creator import Creator
from tracker.api.conversions import (
    affiliate_postbacks,
    corrections,
    many_statuses,
    period_closes,
    postbacks,
    status_upload,
    times,
)
from tracker.api.conversions import endpoints as conversions
from tracker.api.conversions import manual as manual_conversions
from tracker.api.http.endpoint import contract_of
from tracker.api.http.exports import RunningExports
from tracker.api.http.problems import (
    answer_defect,
    answer_not_migrated,
    answer_parameter_error,
    answer_problem,
    answer_unavailable,
)
from tracker.api.http.rate_limits import Limits, RateLimitHeaders
from tracker.api.http.routing import PathRouter
from tracker.api.partner_access import applications, own_offers, own_postbacks, own_sent_postbacks
from tracker.api.partner_access import endpoints as partner_access
from tracker.catalogue.errors import CatalogueError
from tracker.domain.click_id import Mint
from tracker.edge.enrich.geo import GeoReader
from tracker.metrics_socket import answering
from tracker.parameters import ParameterError
from tracker.reading.complete_until import CompleteUntil
from tracker.reading.sources import Sources
from tracker.settings import Settings
from tracker.store.catalogue.edit import BUSY
from tracker.store.db import UNREACHABLE, Pool, open_pool
from tracker.store.outages import NOT_MIGRATED
from tracker.store.paging import TOO_SLOW
from tracker.store.standby import Standby
from tracker.store.unknown_tokens import UnknownTokens
from tracker.stream.ledger import StreamLedger
from tracker.stream.postbacks import PostbackStream

_CLOSE_SECONDS = 5
_LONGEST_WAIT_SECONDS = 10.0  # for a connection to Postgres that another request has

_RESOURCES = (
    clicks,
    click_stories,
    create_clicks,
    times,
    conversions,
    manual_conversions,
    many_statuses,
    status_upload,
    corrections,
    postbacks,
    period_closes,
    explain,
    ledger,
    reports,
    marks,
    saved_views,
    shares,
    statements,
    manual_entries,
    affiliate_postbacks,
    test_runs,
    catalogue,
    catalogue_changes,
    cap_fill,
    offer_copies,
    tracking_links,
    tokens,
    users,
    webhooks,
    partner_access,
    own_offers,
    own_postbacks,
    own_sent_postbacks,
    applications,
    search,
    audit,
    operations,
    dead_letters,
    health,
)

_EXCEPTION_HANDLERS: dict[int | type[Exception], ExceptionHandler] = {
    HTTPException: answer_problem,
    CatalogueError: catalogue.answer_catalogue_error,
    ParameterError: answer_parameter_error,
    Exception: answer_defect,
    **dict.fromkeys((*UNREACHABLE, TOO_SLOW, BUSY), answer_unavailable),
    **dict.fromkeys(NOT_MIGRATED, answer_not_migrated),
}


def create_api(settings: Settings) -> Starlette:
    """The API's application. The engines' addresses must be set, and it starts even while they are away.

    Raises:
        TypeError: a route has no contract.
    """
    answers: Counter[int] = Counter()
    app = Starlette(
        middleware=[Middleware(health.CountAnswers, answers), Middleware(RateLimitHeaders)],
        exception_handlers=_EXCEPTION_HANDLERS,
    )
    routes = [route for resource in _RESOURCES for route in resource.routes]
    for route in routes:
        contract_of(route)  # raises if nothing authorises its requests
    app.router = PathRouter(routes, _opened)
    app.state.settings = settings
    app.state.answers = answers
    app.state.exports = RunningExports()
    return app


@asynccontextmanager
async def _opened(app: Starlette) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    assert settings.postgres_dsn is not None
    assert settings.redis_url is not None
    app.state.pool = await open_pool(settings.postgres_dsn, longest_wait=_LONGEST_WAIT_SECONDS)
    app.state.mint = Mint()
    app.state.geo = GeoReader(settings.geoip_db)
    app.state.creator = Creator(settings, app.state.pool, app.state.geo)
    app.state.limits = Limits(settings)
    app.state.unknown_tokens = UnknownTokens(app.state.pool)
    app.state.stream = StreamLedger(settings.redis_url)
    app.state.postbacks = PostbackStream(settings.redis_url, settings.copies)
    app.state.complete_until = CompleteUntil(app.state.stream, settings.data_dir)
    standby = await _standby(settings, app.state.pool)
    app.state.sources = Sources(app.state.pool, app.state.complete_until, standby)
    try:
        async with answering(settings.data_dir, f"api-{settings.api_port}", health.answers(app)):
            yield
    finally:
        await app.state.creator.close()
        app.state.geo.close()
        await app.state.complete_until.close()
        await app.state.limits.close()
        await app.state.stream.close()
        await app.state.postbacks.close()
        with suppress(TimeoutError):  # close() has ended the connections anyway
            await wait_for(app.state.pool.close(), _CLOSE_SECONDS)
        if standby is not None:
            with suppress(TimeoutError):
                await wait_for(standby.close(), _CLOSE_SECONDS)


async def _standby(settings: Settings, primary: Pool) -> Standby | None:
    if settings.read_dsn is None:
        return None
    return await Standby.open(settings.read_dsn, primary, longest_wait=_LONGEST_WAIT_SECONDS)
