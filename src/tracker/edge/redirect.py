"""The hot path: hits on tracking links, top to bottom. It awaits one thing, the append.

Hits that come in together take each step together. The code of a step is then at hand for all of them but the
first, where hit by hit every step would have to be fetched into the processor's caches again: that made a
click cost half as much again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from tracker.clickhash import ZERO_HASH, Mint
from tracker.edge import answer, cookie
from tracker.edge.address import Proxies
from tracker.edge.answer import Answer, Send
from tracker.edge.catalog import Catalog
from tracker.edge.click import assemble
from tracker.edge.geo import GeoReader
from tracker.edge.lenient_link import read_leniently
from tracker.edge.link import MAX_TARGET, is_tracking_path, read_link
from tracker.edge.metrics import Metrics
from tracker.edge.orphans import OrphanLog
from tracker.edge.recorder import NotRecorded
from tracker.edge.recorders import Part, Recorders
from tracker.edge.request import Request
from tracker.edge.verdict import prepare
from tracker.edge.visitor import is_speculative, read_visitor
from tracker.model import Click, Link, Outcome, Outcomes, Reason, Status, Visitor
from tracker.settings import Settings

logger = logging.getLogger(__name__)

MAX_TOGETHER = 32
"""Most hits that take their steps together: more would gain nothing, and keep the first one waiting."""

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]


class Hit(Protocol):
    """A request of a link, and who waits for its answer."""

    request: Request

    def give(self, answer: Answer) -> None: ...


class Redirect:
    """Answers tracking links: what `take` takes; as an ASGI application whatever is asked of their paths."""

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
        self._arrived: list[Hit] = []
        self._following: set[asyncio.Task[None]] = set()

    def take(self, hit: Hit) -> None:
        """Follow a GET, together with those that come in before the loop turns."""
        arrived = self._arrived
        arrived.append(hit)
        if len(arrived) == 1:
            task = asyncio.create_task(self._follow_arrived(arrived))
            self._following.add(task)
            task.add_done_callback(self._following.discard)
        elif len(arrived) == MAX_TOGETHER:
            self._arrived = []

    async def _follow_arrived(self, arrived: list[Hit]) -> None:
        if self._arrived is arrived:
            self._arrived = []
        await self.follow(arrived)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request.from_scope(scope)
        hit = _Asked(request)
        if request.method == "GET":
            await self.follow([hit])
        else:
            hit.give(self._refusal(answer.NOT_ALLOWED) if request.method != "HEAD" else self._head(request))
        await answer.send_as_messages(send, hit.given, without_body=request.method == "HEAD")

    async def follow(self, hits: Sequence[Hit]) -> None:
        """Answer GETs of links; one that cannot be answered, whyever, is no other's fate."""
        hits = [hit for hit in hits if not self._turn_away(hit)]
        if not hits:
            return
        try:
            hits, clicks, outcomes, parts = self._prepare(hits)
        except Exception:
            if len(hits) > 1:
                await asyncio.gather(*(self.follow([hit]) for hit in hits))
            else:
                _fail(hits[0])
            return
        if len(parts) == 1:
            await self._record(parts[0], hits, clicks, outcomes)
        else:
            await asyncio.gather(*(self._record(part, hits, clicks, outcomes) for part in parts))

    def _turn_away(self, hit: Hit) -> bool:
        """Answer what is no click, before anything of it is read."""
        request = hit.request
        if len(request.raw_path) + len(request.query) > MAX_TARGET:
            hit.give(self._refusal(answer.TOO_LONG))
        elif is_speculative(request.headers):
            self._metrics.count("speculative_requests")
            hit.give(self._prefetched)
        else:
            return False
        return True

    def _prepare(
        self, hits: Sequence[Hit]
    ) -> tuple[Sequence[Hit], Sequence[Click], Sequence[Outcomes], Sequence[Part]]:
        """The hits that are clicks, these, what each is answered, and who records them."""
        catalog, mint, geo, proxies = self._catalog, self._mint, self._geo, self._proxies
        requests = [hit.request for hit in hits]
        visitors = [read_visitor(request, proxies) for request in requests]
        links = [self._link(request, visitor) for request, visitor in zip(requests, visitors, strict=True)]
        keys = [self._cookie_key(request) for request in requests]
        found = [
            assemble(mint.hash(), link, visitor, key, catalog, geo)
            for link, visitor, key in zip(links, visitors, keys, strict=True)
        ]
        clicks = [click for click in found if click is not None]
        if len(clicks) < len(hits):
            found = [
                click or self._second_reading(request, visitor, key)
                for click, request, visitor, key in zip(found, requests, visitors, keys, strict=True)
            ]
            clicks = [click for click in found if click is not None]
        outcomes = [prepare(click, catalog) for click in clicks]
        parts = self._recorders.parts(clicks, outcomes)
        if len(clicks) < len(hits):
            for hit, click, link, visitor in zip(hits, found, links, visitors, strict=True):
                if click is None:
                    hit.give(self._orphan(link, visitor, is_click=True))
            hits = [hit for hit, click in zip(hits, found, strict=True) if click is not None]
        return hits, clicks, outcomes, parts

    async def _record(
        self, part: Part, hits: Sequence[Hit], clicks: Sequence[Click], outcomes: Sequence[Outcomes]
    ) -> None:
        """Put a part of the clicks on disk, and only then answer their hits."""
        recorder, places, entries = part
        try:
            chosen = await recorder.record(entries)
        except NotRecorded:
            for place in places:
                hits[place].give(self._lost(clicks[place], outcomes[place].unique))
            return
        except Exception:
            for place in places:
                _fail(hits[place])
            return
        for place, outcome in zip(places, chosen, strict=True):
            try:
                self._give(hits[place], clicks[place], outcomes[place][outcome])
            except Exception:
                _fail(hits[place])
        recorder.answered([clicks[place].millis // 60_000 for place in places])

    def _give(self, hit: Hit, click: Click, outcome: Outcome) -> None:
        given = self._answer(click, outcome)
        if click.offer.visitor_cookie and self._cookie_key(hit.request) is None:
            given = answer.with_header(given, b"set-cookie", self._new_cookie(click))
        hit.give(given)
        self._count(click, outcome)

    def _head(self, request: Request) -> Answer:
        """What a GET would get; nothing is recorded, and nothing used up."""
        asked = _Asked(request)
        if self._turn_away(asked):
            return asked.given
        visitor = read_visitor(request, self._proxies)
        link = self._link(request, visitor)
        key = self._cookie_key(request)
        click = assemble(self._mint.hash(), link, visitor, key, self._catalog, self._geo)
        click = click or self._second_reading(request, visitor, key, is_click=False)
        if click is None:
            return self._orphan(link, visitor, is_click=False)
        self._metrics.count("head_requests")
        click = click._replace(hash=ZERO_HASH)
        return self._answer(click, prepare(click, self._catalog).unique)

    def _link(self, request: Request, visitor: Visitor) -> Link:
        path = request.path
        form = None if is_tracking_path(path) else self._catalog.link_forms.find(visitor.host, path)
        return read_link(path, request.query, form)

    def _second_reading(
        self, request: Request, visitor: Visitor, key: int | None, *, is_click: bool = True
    ) -> Click | None:
        """The click of a link that leads nowhere as it is written, but names an offer and an affiliate."""
        path = request.path
        if not is_tracking_path(path) and self._catalog.link_forms.find(visitor.host, path):
            return None
        link = read_leniently(request.raw_path, request.query)
        click = assemble(self._mint.hash(), link, visitor, key, self._catalog, self._geo) if link else None
        if click is not None and is_click:
            self._metrics.count("lenient_links")
        return click

    def _cookie_key(self, request: Request) -> int | None:
        return cookie.read(request.headers, self._cookie_name, self._catalog.visitor_secret)

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

    def _orphan(self, link: Link, visitor: Visitor, *, is_click: bool) -> Answer:
        """What a hit gets that names no known offer or affiliate: the network's fallback, else a page."""
        if not self._catalog.loaded.is_set():
            return answer.UNAVAILABLE
        self._metrics.count("orphans")
        if is_click:
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


class _Asked:
    """A hit that came as an ASGI application's request."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.given = answer.FAILED

    def give(self, answer: Answer) -> None:
        self.given = answer


def _fail(hit: Hit) -> None:
    logger.exception("a hit could not be answered")
    hit.give(answer.FAILED)


_REJECTED, _NOTHING = Status.REJECTED, Reason.NONE  # Enum attributes are slow
