"""The ASGI entry of tracking links: HEAD, other methods, and GETs that the fast path leaves to uvicorn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tracker.domain.click_id import ZERO_HASH
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.http import response
from tracker.edge.http.batching import Hit
from tracker.edge.http.request import Request
from tracker.edge.http.response import Response, Send
from tracker.edge.metrics import Metrics
from tracker.edge.outcome import prepare_outcomes, response_of, taker
from tracker.edge.redirect import Redirect

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]


class LinkApp:
    """Tracking links as an ASGI application."""

    def __init__(self, redirect: Redirect, catalogue: Catalogue, metrics: Metrics) -> None:
        self._redirect = redirect
        self._catalogue = catalogue
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hit = _AsgiHit(Request.from_scope(scope))
        method = hit.request.method
        if method == "GET":
            await self._redirect.follow([hit])
        elif method == "HEAD":
            self._head(hit)
        else:
            self._metrics.count("bad_requests", 'status="405"')
            hit.give(response.NOT_ALLOWED)
        await response.send_as_messages(send, hit.answer, without_body=method == "HEAD")

    def _head(self, hit: Hit) -> None:
        """Answer as a GET would be answered. Nothing is recorded, and nothing is used up."""
        if self._redirect.reject_early(hit):
            return
        pending, unmatched = self._redirect.build_clicks([hit], is_head=True)
        for read in unmatched:
            self._redirect.unmatched.respond(read, is_head=True)
        for _, click, _ in pending:
            self._metrics.count("head_requests")
            click = click._replace(hash=ZERO_HASH)
            outcome = prepare_outcomes(click, self._catalogue).unique
            hit.give(response_of(outcome, taker(click, outcome, self._catalogue)))


class _AsgiHit:
    """A hit that came as an ASGI request."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.answer = response.FAILED

    def give(self, answer: Response) -> None:
        self.answer = answer
