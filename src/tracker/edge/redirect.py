"""The hot path: one hit on a tracking link, top to bottom. It awaits one thing, the append."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tracker.clickhash import ZERO_HASH, Mint
from tracker.edge import answer, cookie
from tracker.edge.address import Proxies
from tracker.edge.answer import Answer, Send
from tracker.edge.catalog import Catalog
from tracker.edge.click import assemble
from tracker.edge.geo import GeoReader
from tracker.edge.link import MAX_TARGET, is_tracking_path, read_link
from tracker.edge.metrics import Metrics
from tracker.edge.orphans import OrphanLog
from tracker.edge.recorder import NotRecorded
from tracker.edge.recorders import Recorders
from tracker.edge.request import Request
from tracker.edge.verdict import prepare
from tracker.edge.visitor import is_speculative, read_visitor
from tracker.model import Click, Link, Outcome, Reason, Status, Visitor
from tracker.settings import Settings

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Give = Callable[[Answer], None]


class Redirect:
    """Answers tracking links: an ASGI application for the paths of edge.link and of link forms."""

    def __init__(
        self,
        settings: Settings,
        mint: Mint,
        catalog: Catalog,
        geo: GeoReader,
        recorders: Recorders,
        orphans: OrphanLog,
        metrics: Metrics,
    ) -> None:
        self._proxies = Proxies(settings.trusted_proxies)
        self._on_loss = settings.on_loss
        self._prefetched = answer.page(
            settings.prefetch_status, "Not followed yet", "This link is counted when it is followed."
        )
        self._cookie_name, self._cookie_seconds = settings.cookie_name.encode(), settings.cookie_days * 86_400
        self._mint = mint
        self._catalog = catalog
        self._geo = geo
        self._recorders = recorders
        self._orphans = orphans
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an ASGI application; edge.http calls `follow` itself."""
        given: list[Answer] = []
        await self.follow(Request.from_scope(scope), given.append)
        await answer.send_as_messages(send, given[0], without_body=scope["method"] == "HEAD")

    async def follow(self, request: Request, give: Give) -> None:
        method, headers, query = request.method, request.headers, request.query
        if method != "GET" and method != "HEAD":
            return give(self._refusal(answer.NOT_ALLOWED))
        if len(request.raw_path) + len(query) > MAX_TARGET:
            return give(self._refusal(answer.TOO_LONG))
        if is_speculative(headers):
            self._metrics.count("speculative_requests")
            return give(self._prefetched)

        catalog = self._catalog
        visitor = read_visitor(request, self._proxies)
        link = self._link(request, visitor)
        cookie_key = cookie.read(headers, self._cookie_name, catalog.visitor_secret)
        click = assemble(self._mint.hash(), link, visitor, cookie_key, catalog, self._geo)
        if click is None:
            return give(self._orphan(link, visitor, method))
        if method == "HEAD":
            self._metrics.count("head_requests")
            click = click._replace(hash=ZERO_HASH)
            return give(self._answer(click, prepare(click, catalog).unique))

        outcomes = prepare(click, catalog)
        try:
            outcome = outcomes[await self._recorders.record(click, outcomes)]
        except NotRecorded:
            return give(self._lost(click, outcomes.unique))
        given = self._answer(click, outcome)
        if click.offer.visitor_cookie and cookie_key is None:
            given = answer.with_header(given, b"set-cookie", self._new_cookie(click))
        give(given)
        self._recorders.answered(click)
        return self._count(click, outcome)

    def _link(self, request: Request, visitor: Visitor) -> Link:
        path = request.path
        form = None if is_tracking_path(path) else self._catalog.link_forms.find(visitor.host, path)
        return read_link(path, request.query, form)

    def _answer(self, click: Click, outcome: Outcome) -> Answer:
        if outcome.status is _REJECTED:
            return answer.refusal(outcome.reason)
        taker = click.offer
        if outcome.offer_id != taker.id:
            taker = self._catalog.offers.get(outcome.offer_id, taker)
        return answer.redirect(taker.redirect_status, outcome.location, taker.referrer_policy)

    def _new_cookie(self, click: Click) -> bytes:
        is_https = click.visitor.requested_link.startswith("https:")
        secret = self._catalog.visitor_secret
        return cookie.header(self._cookie_name, click.visitor_key, secret, self._cookie_seconds, is_https)

    def _orphan(self, link: Link, visitor: Visitor, method: str) -> Answer:
        """What a hit gets that names no known offer or affiliate: the network's fallback, else a page."""
        if not self._catalog.loaded.is_set():
            return answer.UNAVAILABLE
        self._metrics.count("orphans")
        if method == "GET":
            self._orphans.note(link, visitor, is_offer_known=link.offer_id in self._catalog.offers)
        location = self._catalog.orphan_location()
        return answer.redirect(302, location, "") if location else answer.NOT_FOUND

    def _lost(self, click: Click, outcome: Outcome) -> Answer:
        self._metrics.count("clicks_not_recorded", f'answer="{self._on_loss}"')
        return self._answer(click, outcome) if self._on_loss == "redirect" else answer.UNAVAILABLE

    def _refusal(self, refusal: Answer) -> Answer:
        self._metrics.count("bad_requests", f'status="{refusal.status}"')
        return refusal

    def _count(self, click: Click, outcome: Outcome) -> None:
        if outcome.reason is _NOTHING and click.bot_reason is None and click.link.url_id is None:
            self._metrics.plain_clicks += 1  # nearly all
            return
        self._metrics.count("clicks_recorded", f'status="{outcome.status}",reason="{outcome.reason.value}"')
        if click.bot_reason is not None:
            self._metrics.count("bots")
        if outcome.reason is Reason.LOCATION_UNSENDABLE:
            self._metrics.count("unsendable_locations")
        if click.link.url_id not in (None, outcome.offer_url_id) and outcome.status is Status.ACCEPTED:
            self._metrics.count("unknown_url_ids")


_REJECTED, _NOTHING = Status.REJECTED, Reason.NONE  # Enum attributes are slow
