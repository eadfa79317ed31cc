"""The hot path: one hit on a tracking link, top to bottom. It awaits one thing, the append."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tracker import macros, targeting
from tracker.clickhash import ZERO_HASH, Mint, millis_of
from tracker.edge import answer, device
from tracker.edge.address import Proxies
from tracker.edge.answer import Answer, Send, give
from tracker.edge.catalog import Catalog
from tracker.edge.geo import GeoReader
from tracker.edge.link import MAX_TARGET, read_link
from tracker.edge.metrics import Metrics
from tracker.edge.recorder import NotRecorded, Recorder
from tracker.edge.visitor import is_speculative, read_visitor, visitor_key
from tracker.model import Click, Offer, OfferUrl, Outcome, Outcomes, Reason, Status
from tracker.settings import Settings
from tracker.stream.record import encode

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]

_REFUSALS = {Reason.OFFER_PAUSED: answer.PAUSED}  # every other reason: answer.REFUSED


class Redirect:
    """Answers tracking links: an ASGI application for the paths of edge.link."""

    def __init__(
        self, settings: Settings, catalog: Catalog, geo: GeoReader, recorder: Recorder, metrics: Metrics
    ) -> None:
        self._proxies = Proxies(settings.trusted_proxies)
        self._on_loss = settings.on_loss
        self._prefetched = answer.page(
            settings.prefetch_status, "Not followed yet", "This link is counted when it is followed."
        )
        self._catalog = catalog
        self._geo = geo
        self._recorder = recorder
        self._metrics = metrics
        self._mint = Mint()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method not in ("GET", "HEAD"):
            return await self._refuse(send, answer.NOT_ALLOWED)
        if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET:
            return await self._refuse(send, answer.TOO_LONG)
        headers = dict(scope["headers"])
        if is_speculative(headers):
            self._metrics.count("speculative_requests")
            return await give(send, self._prefetched, without_body=method == "HEAD")

        click = self._click(scope, headers)
        if click is None:
            return await give(send, self._orphan(), without_body=method == "HEAD")
        if method == "HEAD":
            self._metrics.count("head_requests")
            click = click._replace(hash=ZERO_HASH)
            return await give(send, _answer(click, self._prepare(click).unique), without_body=True)

        outcomes = self._prepare(click)
        try:
            outcome = outcomes[await self._recorder.record(encode(click, outcomes))]
        except NotRecorded:
            return await give(send, self._lost(click, outcomes))
        self._metrics.count("clicks_recorded", _BY_STATUS[outcome.status])
        return await give(send, _answer(click, outcome))

    def _click(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Click | None:
        """Everything known of the hit; None where it names no known offer or affiliate."""
        link = read_link(scope["path"], scope["query_string"])
        offer = self._catalog.offers.get(link.offer_id)
        affiliate = self._catalog.affiliates.get(link.affiliate_id)
        if offer is None or affiliate is None:
            return None
        visitor = read_visitor(scope, headers, self._proxies)
        hash_ = self._mint.hash()
        return Click(
            hash_,
            millis_of(hash_),
            link,
            offer,
            affiliate,
            visitor,
            visitor_key(link, visitor, self._catalog.visitor_secret),
            device.read(visitor.user_agent, visitor.client_hints),
            self._geo.locate(visitor.ip),
            affiliate.is_test,
            None,
        )

    def _prepare(self, click: Click) -> Outcomes:
        """The answers for whatever the stream decides; today they are one and the same."""
        choice = targeting.choose(
            click.offer, click.affiliate, click.link, click.visitor_key, is_test=click.is_test
        )
        outcome = _refused(click.offer, choice) if isinstance(choice, Reason) else _accepted(click, choice)
        if click.link.url_id not in (None, outcome.offer_url_id):
            self._metrics.count("unknown_url_ids")
        return Outcomes(outcome, outcome, outcome)

    def _orphan(self) -> Answer:
        self._metrics.count("orphans")
        return answer.NOT_FOUND if self._catalog.loaded.is_set() else answer.UNAVAILABLE

    def _lost(self, click: Click, outcomes: Outcomes) -> Answer:
        self._metrics.count("clicks_not_recorded", f'answer="{self._on_loss}"')
        return _answer(click, outcomes.unique) if self._on_loss == "redirect" else answer.UNAVAILABLE

    async def _refuse(self, send: Send, refusal: Answer) -> None:
        self._metrics.count("bad_requests", f'status="{refusal.start["status"]}"')
        await give(send, refusal)


def _accepted(click: Click, offer_url: OfferUrl) -> Outcome:
    offer = click.offer
    location = macros.fill(offer_url.template, click, offer, offer_url)
    if len(location) > macros.MAX_LOCATION or not location.isascii():
        return _refused(offer, Reason.LOCATION_UNSENDABLE)
    return Outcome(
        Status.ACCEPTED, Reason.NONE, offer.id, offer_url.id, offer.advertiser_id, offer.brand_id, location
    )


def _refused(offer: Offer, reason: Reason) -> Outcome:
    return Outcome(Status.REJECTED, reason, offer.id, None, offer.advertiser_id, offer.brand_id, "")


def _answer(click: Click, outcome: Outcome) -> Answer:
    if outcome.status is Status.REJECTED:
        return _REFUSALS.get(outcome.reason, answer.REFUSED)
    return answer.redirect(click.offer.redirect_status, outcome.location, click.offer.referrer_policy)


_BY_STATUS = {status: f'status="{status}"' for status in Status}
