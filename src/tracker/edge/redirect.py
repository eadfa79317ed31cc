"""The hot path: hits on tracking links, top to bottom. It awaits one thing, the append.

Hits that come in together take each step together. The processor then fetches the code of a step into its
caches once for all of them. A click cost half as much again when each hit took its steps alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from time import monotonic

from tracker.domain.click_id import Mint
from tracker.domain.model import Click, Outcome
from tracker.edge import pass_through
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.click import assemble
from tracker.edge.enrich.geo import GeoReader
from tracker.edge.http import response
from tracker.edge.http.batching import Hit
from tracker.edge.http.response import Response
from tracker.edge.metrics import Metrics
from tracker.edge.outcome import prepare_outcomes, response_of, taker
from tracker.edge.read.client_address import Proxies
from tracker.edge.read.link import MAX_TARGET
from tracker.edge.read.visitor import is_speculative, read_visitor
from tracker.edge.record.partitioned import Batch, PartitionedRecorder, Pending
from tracker.edge.record.recorder import NotRecorded
from tracker.edge.unmatched import OrphanLog, ReadHit, Unmatched
from tracker.edge.visitor_cookie import VisitorCookie
from tracker.settings import Settings

logger = logging.getLogger(__name__)


class Redirect:
    """Answers GETs of tracking links: reject early, read, build, decide, record, respond."""

    def __init__(
        self,
        settings: Settings,
        mint: Mint,
        catalogue: Catalogue,
        geo: GeoReader,
        recorders: PartitionedRecorder,
        orphans: OrphanLog,
        metrics: Metrics,
    ) -> None:
        self._proxies = Proxies(settings.trusted_proxies)
        self._on_loss = settings.on_loss
        self._prefetched = response.prefetched(settings.prefetch_status)
        self._cookie = VisitorCookie(settings, catalogue)
        self._mint = mint
        self._catalogue = catalogue
        self._geo = geo
        self._recorders = recorders
        self._metrics = metrics
        self.unmatched = Unmatched(mint, catalogue, geo, orphans, metrics)

    async def follow(self, hits: Sequence[Hit]) -> None:
        """Answer a batch of GETs. A failing hit does not affect the others."""
        began = monotonic()
        hits = [hit for hit in hits if not self.reject_early(hit)]
        batches = None
        try:
            pending, unmatched = self.build_clicks(hits)
            batches = self._recorders.batches(pending)
            for read in unmatched:
                self.unmatched.respond(read)
        except Exception:
            if len(hits) == 1:
                _fail(hits[0])
                return
            batches = None  # compiled coroutines share the handled exception, so none may wait in here
        if batches is None:
            await asyncio.gather(*(self.follow([hit]) for hit in hits))
        elif len(batches) == 1:
            await self._record(batches[0], began)
        else:
            await asyncio.gather(*(self._record(batch, began) for batch in batches))

    def reject_early(self, hit: Hit) -> bool:
        """Answer a hit that is not a click, before anything of it is read."""
        request = hit.request
        if len(request.raw_path) + len(request.query) > MAX_TARGET:
            self._metrics.count("bad_requests", 'status="414"')
            hit.give(response.TOO_LONG)
        elif is_speculative(request.headers):
            self._metrics.count("speculative_requests")
            hit.give(self._prefetched)
        else:
            return False
        return True

    def build_clicks(
        self, hits: Sequence[Hit], *, is_head: bool = False
    ) -> tuple[list[Pending], list[ReadHit]]:
        """Turn hits into clicks with prepared outcomes. Unmatched hits are returned as they were read."""
        catalogue, mint, geo, proxies = self._catalogue, self._mint, self._geo, self._proxies
        forms, cookie = catalogue.link_forms, self._cookie
        visitors = [read_visitor(hit.request, proxies) for hit in hits]
        links = [forms.read(hit.request, visitor.host) for hit, visitor in zip(hits, visitors, strict=True)]
        keys = [cookie.key(hit.request) for hit in hits]
        leaves_device = self._recorders.takes_unread
        clicks = [
            assemble(mint.hash(), link, visitor, key, catalogue, geo, leaves_device=leaves_device)
            for link, visitor, key in zip(links, visitors, keys, strict=True)
        ]
        unmatched: list[ReadHit] = []
        if not all(clicks):
            reads = list(zip(hits, links, visitors, keys, strict=True))
            clicks, unmatched = self.unmatched.match(reads, clicks, is_head=is_head)
        pending = [
            (hit, click, prepare_outcomes(click, catalogue))
            for hit, click in zip(hits, clicks, strict=True)
            if click
        ]
        return pending, unmatched

    async def _record(self, batch: Batch, began: float) -> None:
        """Put a batch of clicks on disk, and only then answer their hits."""
        recorder, pending, entries = batch
        try:
            numbers = await recorder.record(entries)
        except NotRecorded:
            for hit, click, outcomes in pending:
                hit.give(self._lost(click, outcomes.unique))
            self._metrics.redirects["not_recorded"].observe(monotonic() - began, len(pending))
            return
        except Exception:
            for hit, _, _ in pending:
                _fail(hit)
            return
        for (hit, click, outcomes), number in zip(pending, numbers, strict=True):
            try:
                self._respond(hit, click, outcomes[number])
            except Exception:
                _fail(hit)
        self._metrics.redirects["recorded"].observe(monotonic() - began, len(pending))
        recorder.answered([click.millis // 60_000 for _, click, _ in pending])

    def _respond(self, hit: Hit, click: Click, outcome: Outcome) -> None:
        offer = taker(click, outcome, self._catalogue)
        answer = response_of(outcome, offer)
        if click.offer.visitor_cookie and self._cookie.key(hit.request) is None:
            answer = self._cookie.set_in(answer, click)
        hit.give(answer)
        self._metrics.count_click(click, outcome)
        if offer.pass_through is not None and outcome.offer_url_id is not None:
            left = pass_through.left_out(outcome.location, click.link.query, offer.pass_through)
            self._metrics.count("parameters_left_out", by=left)

    def _lost(self, click: Click, outcome: Outcome) -> Response:
        self._metrics.count("clicks_not_recorded", f'answer="{self._on_loss}"')
        is_kept = self._on_loss == "redirect"
        offer = taker(click, outcome, self._catalogue)
        return response_of(outcome, offer) if is_kept else response.UNAVAILABLE


def _fail(hit: Hit) -> None:
    logger.exception("a hit could not be answered", {"event": "hit_failed"})
    hit.give(response.FAILED)
