"""Public endpoints: health, the OpenAPI document and its page. Also the API's metrics, over a socket."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
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
from tracker.metrics_socket import Answers
from tracker.reading.sources import Sources
from tracker.store import alerts, db, retention
from tracker.store.clicks import deltas, kept
from tracker.store.clicks.list import is_ready
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.affiliate_postbacks import POSTBACKS
from tracker.store.deliveries import Counts
from tracker.store.reports import conversion_counts, sub_id_pieces
from tracker.store.webhooks.sent import WEBHOOKS
from tracker.stream import visitor_memory
from tracker.stream.reader import UNREACHABLE
from tracker.stream.visitor_memory import VisitorMemory

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
        state = app.state
        engines = [*await _visitors(state), *await _of_database(state)]
        return "\n".join([*_own(state), *await _of_standby(state), *engines, ""])

    return {"metrics": metrics}


def _own(state: State) -> list[str]:
    """The counts of this process. The port tells processes of one machine apart."""
    by_status: Counter[int] = state.answers
    limits: Limits = state.limits
    api = f'api="{state.settings.api_port}"'
    return [
        "# HELP tracker_api_answers_total Answers of the API, by HTTP status.",
        "# TYPE tracker_api_answers_total counter",
        *(
            f'tracker_api_answers_total{{{api},status="{status}"}} {by_status[status]}'
            for status in sorted(by_status)
        ),
        "# HELP tracker_api_limited_total Answers 429: by a token's rate, or to an address' wrong tokens.",
        "# TYPE tracker_api_limited_total counter",
        *(
            f'tracker_api_limited_total{{{api},by="{by}"}} {limits.refused[by]}'
            for by in ("token", "address")
        ),
        "# HELP tracker_api_wrong_tokens_total Tokens presented that are unknown, revoked or expired.",
        "# TYPE tracker_api_wrong_tokens_total counter",
        f"tracker_api_wrong_tokens_total{{{api}}} {limits.wrong_tokens}",
    ]


async def _of_standby(state: State) -> list[str]:
    """Which server answered reads, and how far the standby is behind."""
    sources: Sources = state.sources
    api = f'api="{state.settings.api_port}"'
    behind = await sources.behind()
    return [
        "# HELP tracker_api_reads_total Lists, reports and exports, by the server that was chosen for them.",
        "# TYPE tracker_api_reads_total counter",
        *(
            f'tracker_api_reads_total{{{api},from="{server}"}} {sources.chosen[server]}'
            for server in ("standby", "primary")
        ),
        "# HELP tracker_standby_behind_bytes Write-ahead log that the standby has not replayed.",
        "# TYPE tracker_standby_behind_bytes gauge",
        *([] if behind is None else [f"tracker_standby_behind_bytes{{{api}}} {behind}"]),
    ]


async def _visitors(state: State) -> list[str]:
    """Memory that visitors take on the stream server. Empty while it is away."""
    settings = state.settings
    try:
        async with asyncio.timeout(_ENGINE_SECONDS):
            visitors = await visitor_memory.in_use(settings.redis_url, VisitorMemory.of(settings))
    except UNREACHABLE:
        return []
    return [
        "# HELP tracker_unique_bytes Memory of the stream server that says who is unique.",
        "# TYPE tracker_unique_bytes gauge",
        f"tracker_unique_bytes {visitors.bytes}",
        "# HELP tracker_unique_allowed_bytes The most it may be; then new visitors count as not unique.",
        "# TYPE tracker_unique_allowed_bytes gauge",
        f"tracker_unique_allowed_bytes {visitors.allowed}",
    ]


async def _of_database(state: State) -> list[str]:
    """Waiting postbacks and deltas, the same in every API process. Empty while an engine is away."""
    try:
        async with asyncio.timeout(_ENGINE_SECONDS):
            waiting, unreadable = await state.postbacks.waiting()
            parked = await postback_log.count_parked(state.pool, int(time.time() * 1000))
            waiting_for_dead = await postback_log.count_waiting(state.pool)
            outgoing = {
                "tracker_affiliate_postbacks Postbacks to affiliates": await POSTBACKS.counts(state.pool),
                "tracker_webhooks Requests to webhooks": await WEBHOOKS.counts(state.pool),
            }
            alert_counts = await alerts.counts(state.pool)
            unadded = [await of.waiting(state.pool) for of in (deltas, conversion_counts)]
            sub_ids_behind = await sub_id_pieces.behind(state.pool)
            first_kept = await kept.since(state.pool)
            dropped = await retention.dropped(state.pool)
            held = await retention.held(state.pool)
    except (*UNREACHABLE, *db.UNREACHABLE, db.REFUSED):
        return []
    return [
        "# HELP tracker_postbacks Postbacks that are not dealt with, by where they are.",
        "# TYPE tracker_postbacks gauge",
        f'tracker_postbacks{{place="stream"}} {waiting}',
        f'tracker_postbacks{{place="parked"}} {parked}',
        f'tracker_postbacks{{place="waiting"}} {waiting_for_dead}',
        f'tracker_postbacks{{place="unreadable"}} {unreadable}',
        *(line for title, counts in outgoing.items() for line in _of_deliveries(title, counts)),
        "# HELP tracker_alerts What needs the operator's attention, by kind, as a worker noted it.",
        "# TYPE tracker_alerts gauge",
        *(f'tracker_alerts{{kind="{kind}"}} {number}' for kind, number in alert_counts.items()),
        "# HELP tracker_count_delta_seconds Age of the oldest counts that no worker has added up.",
        "# TYPE tracker_count_delta_seconds gauge",
        f"tracker_count_delta_seconds {max(each.seconds for each in unadded):.1f}",
        "# HELP tracker_sub_id_seconds Time since a worker last found all pieces of sub ids made.",
        "# TYPE tracker_sub_id_seconds gauge",
        f"tracker_sub_id_seconds {sub_ids_behind:.1f}",
        "# HELP tracker_kept_since_seconds Unix time from which on clicks are kept one by one; 0: all are.",
        "# TYPE tracker_kept_since_seconds gauge",
        f"tracker_kept_since_seconds {first_kept // 1000}",
        "# HELP tracker_dropped_days Days of clicks that were dropped.",
        "# TYPE tracker_dropped_days gauge",
        f"tracker_dropped_days {dropped.days}",
        "# HELP tracker_retention_held Whether an old day of clicks cannot be dropped. Doctor says why.",
        "# TYPE tracker_retention_held gauge",
        f"tracker_retention_held {int(held is not None)}",
    ]


def _of_deliveries(title: str, counts: Counts) -> list[str]:
    name = title.partition(" ")[0]
    return [
        f"# HELP {title}; failed ones of a day.",
        f"# TYPE {name} gauge",
        *(f'{name}{{state="{state}"}} {number}' for state, number in counts._asdict().items()),
    ]


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
