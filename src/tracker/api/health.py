"""Public endpoints: health, the OpenAPI document and its page. Also the API's metrics, over a socket."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from functools import cache
from importlib.resources import files

import orjson
from starlette.applications import Starlette
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracker.api.http.endpoint import public
from tracker.api.http.problems import SECURITY_HEADERS, Problem
from tracker.api.http.rate_limits import Limits
from tracker.metrics.exposition import Exposition
from tracker.metrics.families import APIS, ENGINES
from tracker.metrics_socket import Answers
from tracker.ops import ledger, machine
from tracker.reading.sources import Sources
from tracker.store import alerts, db, retention
from tracker.store.clicks import deltas, kept, partitions
from tracker.store.clicks.list import is_ready
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.affiliate_postbacks import POSTBACKS
from tracker.store.reports import conversion_counts, sub_id_pieces
from tracker.store.webhooks.sent import WEBHOOKS
from tracker.stream import visitor_memory
from tracker.stream.dead_letters import DeadLetters
from tracker.stream.reader import UNREACHABLE
from tracker.stream.visitor_memory import VisitorMemory
from tracker.stream.waiting_clicks import waiting_clicks

_LEDGER_SECONDS, _LEDGER_PATIENCE = 3600, 4.0
_ENGINE_SECONDS = 2.0  # the counts of this process are shown even if an engine does not answer

# Scripts and styles come from here, requests go here, nowhere else. Swagger UI sets style attributes.
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DOCS_PAGE = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tracker API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_DOCS_START = b"""SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  validatorUrl: null,
  persistAuthorization: false,
});
"""


class CountAnswers:
    """Counts answers by status, for the metrics."""

    def __init__(self, app: ASGIApp, answers: Counter[int]) -> None:
        self._app = app
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._answers[message["status"]] += 1
            await send(message)

        try:
            await self._app(scope, receive, count)
        except Exception:
            self._answers[500] += 1  # answered outside of this, or cut off
            raise


@public
async def live(_request: Request) -> Response:
    return _text(b"alive\n")


@public
async def ready(request: Request) -> Response:
    """Answer whether clicks can be read.

    Raises:
        Problem: 503 if the database is not migrated or does not answer queries.
    """
    if not await is_ready(request.app.state.pool):
        raise Problem(503, "The database has not been migrated, or does not answer queries.")
    return _text(b"ready\n")


def answers(app: Starlette) -> Answers:
    """The answers to the metrics' listener."""

    async def metrics(_: str) -> str:
        state, shown = app.state, Exposition()
        name = f"api-{state.settings.api_port}"
        shown.add_process(name)
        shown.add_build(name)
        shown.declare(*(family.name for family in (*APIS, *ENGINES)))
        await asyncio.to_thread(machine.show, state.settings, shown)
        _own(state, shown)
        stream, postgres, *_unused = await asyncio.gather(  # together: the listener waits for 5 s
            _of_stream(state, shown),
            _of_database(state, shown),
            _of_ledger(state, shown),
            _of_standby(state, shown),
        )
        shown.add("tracker_engine_up", stream, engine="stream")
        shown.add("tracker_engine_up", postgres, engine="postgres")
        return shown.text()

    return {"metrics": metrics}


def _own(state: State, shown: Exposition) -> None:
    """The counts of this process. The port tells processes of one machine apart."""
    by_status: Counter[int] = state.answers
    limits: Limits = state.limits
    api = state.settings.api_port
    for status in sorted(by_status):
        shown.add("tracker_api_answers_total", by_status[status], api=api, status=status)
    for by in ("token", "address"):
        shown.add("tracker_api_limited_total", limits.refused[by], api=api, by=by)
    shown.add("tracker_api_wrong_tokens_total", limits.wrong_tokens, api=api)


async def _of_standby(state: State, shown: Exposition) -> None:
    """Which server answered reads, and how far the standby is behind."""
    sources: Sources = state.sources
    api = state.settings.api_port
    for server in ("standby", "primary"):
        shown.add("tracker_api_reads_total", sources.chosen[server], **{"api": api, "from": server})
    behind = await sources.behind()
    if behind is not None:
        shown.add("tracker_standby_behind_bytes", behind, api=api)


async def _of_stream(state: State, shown: Exposition) -> bool:
    """What waits on the stream, the same in every API process. False, and nothing, while it is away."""
    settings = state.settings
    try:
        async with asyncio.timeout(_ENGINE_SECONDS):
            visitors = await visitor_memory.in_use(settings.redis_url, VisitorMemory.of(settings))
            clicks = await waiting_clicks(settings.redis_url)
            async with DeadLetters(settings.redis_url) as letters:
                dead = await letters.count()
            until = await state.complete_until.millis()
    except UNREACHABLE:
        return False
    shown.add("tracker_unique_bytes", visitors.bytes)
    shown.add("tracker_unique_allowed_bytes", visitors.allowed)
    for partition in range(settings.partitions):
        shown.add("tracker_stream_clicks", clicks.get(partition, 0), partition=partition)
    shown.add("tracker_dead_letters", dead)
    if until is not None:
        shown.add("tracker_complete_until_seconds", max(time.time() - until / 1000, 0))
    return True


async def _of_database(state: State, shown: Exposition) -> bool:
    """What the database knows, the same in every API process. False, and nothing, while it is away."""
    try:
        async with asyncio.timeout(_ENGINE_SECONDS):
            samples = await _read_database(state)
    except (*UNREACHABLE, *db.UNREACHABLE, db.REFUSED):
        return False
    for name, label, values in samples:
        for value, number in values.items():
            shown.add(name, number, **({label: value} if label else {}))
    return True


async def _read_database(state: State) -> list[tuple[str, str, dict[str, float]]]:
    """The name of each metric, its label, and a number for each value of that."""
    pool = state.pool
    waiting, unreadable = await state.postbacks.waiting()
    places = {
        "stream": waiting,
        "parked": await postback_log.count_parked(pool, int(time.time() * 1000)),
        "waiting": await postback_log.count_waiting(pool),
        "unreadable": unreadable,
    }
    unadded = [await of.waiting(pool) for of in (deltas, conversion_counts)]
    async with pool.acquire() as connection:
        ahead = await partitions.days_ahead(connection)
    return [
        ("tracker_waiting_postbacks", "place", places),
        ("tracker_affiliate_postbacks", "state", (await POSTBACKS.counts(pool))._asdict()),
        ("tracker_webhooks", "state", (await WEBHOOKS.counts(pool))._asdict()),
        ("tracker_alerts", "kind", dict(await alerts.counts(pool))),
        ("tracker_count_delta_seconds", "", {"": max(each.seconds for each in unadded)}),
        ("tracker_sub_id_seconds", "", {"": await sub_id_pieces.behind(pool)}),
        ("tracker_partitions_ahead", "", {"": ahead}),
        ("tracker_kept_since_seconds", "", {"": await kept.since(pool) // 1000}),
        ("tracker_retention_dropped", "", {"": (await retention.dropped(pool)).days}),
        ("tracker_retention_held", "", {"": await retention.held(pool) is not None}),
    ]


async def _of_ledger(state: State, shown: Exposition) -> None:
    """The minutes of the last hour that do not balance. A minute that does not is read several times."""
    now = int(time.time())
    minutes = ledger.minutes_between(now - _LEDGER_SECONDS, now)
    with suppress(*UNREACHABLE, *db.UNREACHABLE, db.REFUSED):
        async with asyncio.timeout(_LEDGER_PATIENCE), state.pool.acquire() as connection:
            found = await ledger.read(state.stream, connection, minutes)
        shown.add("tracker_ledger_unbalanced", len(found.unbalanced))


_written: list[bytes] = []


@public
async def openapi(request: Request) -> Response:
    if not _written:  # once, for it takes a second of a core. All applications have the same routes
        _written.append(await asyncio.to_thread(_document, request.app))
    return Response(_written[0], headers=SECURITY_HEADERS, media_type="application/json")


@public
async def docs(_request: Request) -> Response:
    headers = {**SECURITY_HEADERS, "Content-Security-Policy": _DOCS_POLICY, "Referrer-Policy": "no-referrer"}
    return Response(_DOCS_PAGE, headers=headers, media_type="text/html")


@public
async def docs_asset(request: Request) -> Response:
    asset = _docs_assets().get(request.path_params["name"])
    if asset is None:
        raise Problem(404, "Not Found")
    return Response(asset[0], headers=SECURITY_HEADERS, media_type=asset[1])


routes: list[Route] = [
    Route("/health/live", live),
    Route("/health/ready", ready),
    Route("/openapi.json", openapi),
    Route("/docs", docs),
    Route("/docs/{name}", docs_asset),
]


def _document(app: Starlette) -> bytes:
    from tracker.api.openapi.document import document  # spectree loads 18 MB of pages: few APIs ever need it

    return orjson.dumps(document(app))


@cache
def _docs_assets() -> dict[str, tuple[bytes, str]]:
    packaged = files("offapi")
    return {
        "swagger-ui.js": ((packaged / "swagger_bundle.js").read_bytes(), "text/javascript"),
        "swagger-ui.css": ((packaged / "swagger_style.css").read_bytes(), "text/css"),
        "start.js": (_DOCS_START, "text/javascript"),
    }


def _text(body: bytes, media_type: str = "text/plain") -> Response:
    return Response(body, headers=SECURITY_HEADERS, media_type=media_type)
