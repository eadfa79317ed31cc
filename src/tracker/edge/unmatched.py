"""Hits that name no known offer or affiliate: read leniently, answered and logged.

No visitor waits for the log.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from time import time_ns
from typing import TypeAlias

from tracker.domain.click_id import Mint
from tracker.domain.model import Click, Link, Visitor
from tracker.edge.catalogue.advertiser_secrets import HIDDEN, AdvertiserSecrets
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.click import assemble
from tracker.edge.enrich.geo import GeoReader
from tracker.edge.http import response
from tracker.edge.http.batching import Hit
from tracker.edge.http.response import Response
from tracker.edge.metrics import Metrics
from tracker.edge.read.lenient_link import read_leniently
from tracker.edge.read.link import is_tracking_path
from tracker.edge.record.later_log import LaterLog
from tracker.settings import Settings
from tracker.stream.unmatched import Orphan, OrphanStream

MAX_TEXT = 500
"""Longest text of an orphan, in characters. The rest is cut off."""

_SECRET = re.compile(r"tr[sk](?:_|%(?:25)*5F)[^\s\"'<>&,;#]*", re.IGNORECASE)
"""A secret of an advertiser or a token of the API in a link, also percent-encoded."""
ReadHit: TypeAlias = tuple[Hit, Link, Visitor, int | None]
"""A hit, its link and visitor, and the visitor key of its cookie."""


class OrphanLog(LaterLog[Orphan]):
    """Collects orphans, and logs them every second."""

    def __init__(self, settings: Settings) -> None:
        assert settings.redis_url
        stream = OrphanStream(settings.redis_url)
        super().__init__("orphans", stream.append, stream.close)

    def note(
        self,
        link: Link,
        visitor: Visitor,
        secrets: AdvertiserSecrets,
        *,
        is_offer_known: bool,
        unknown_codes: Sequence[str] = (),
    ) -> None:
        """Log a hit within the next second or so, without secrets and what looks like one of ours."""
        why = f"unknown {', '.join(unknown_codes)}" if unknown_codes else _why(link, is_offer_known)
        texts = (why, visitor.requested_link, visitor.referrer, visitor.ip, visitor.user_agent)
        shown = (secrets.hide(_SECRET.sub(HIDDEN, text))[:MAX_TEXT] for text in texts)
        self.add(Orphan(time_ns() // 1_000_000, *shown))


def _why(link: Link, is_offer_known: bool) -> str:
    if is_offer_known:
        return "unknown affiliate"
    return "unknown offer" if link.offer_id else "unknown link"


class Unmatched:
    """Hits whose links, as written, do not name an offer and an affiliate of the catalogue."""

    def __init__(
        self, mint: Mint, catalogue: Catalogue, geo: GeoReader, log: OrphanLog, metrics: Metrics
    ) -> None:
        self._mint = mint
        self._catalogue = catalogue
        self._geo = geo
        self._log = log
        self._metrics = metrics

    def match(
        self, reads: Sequence[ReadHit], clicks: Sequence[Click | None], *, is_head: bool
    ) -> tuple[list[Click | None], list[ReadHit]]:
        """Read the hits without a click leniently. Returns all clicks, and the hits that still have none."""
        matched = [click or self._match(read) for read, click in zip(reads, clicks, strict=True)]
        if not is_head:
            for strict, lenient in zip(clicks, matched, strict=True):
                if lenient is not strict:
                    self._metrics.count("lenient_links")
        return matched, [read for read, click in zip(reads, matched, strict=True) if click is None]

    def _match(self, read: ReadHit) -> Click | None:
        """The click of a hit by the lenient reading of its link."""
        hit, _, visitor, cookie_key = read
        request = hit.request
        if not is_tracking_path(request.path) and self._catalogue.link_forms.find(visitor.host, request.path):
            return None
        link = read_leniently(request.raw_path, request.query)
        if link is None:
            return None
        return assemble(self._mint.hash(), link, visitor, cookie_key, self._catalogue, self._geo)

    def respond(self, read: ReadHit, *, is_head: bool = False) -> None:
        """Answer a hit that has no click: with the network's fallback, else with a page."""
        hit, link, visitor, _ = read
        if not self._catalogue.loaded.is_set():
            hit.give(response.UNAVAILABLE)
            return
        self._metrics.count("orphans")
        if not is_head:
            catalogue, request = self._catalogue, hit.request
            codes = catalogue.link_forms.unknown_codes(visitor.host, request.path, request.query)
            is_known = link.offer_id in catalogue.offers
            self._log.note(link, visitor, catalogue.secrets, is_offer_known=is_known, unknown_codes=codes)
        hit.give(self._answer())

    def _answer(self) -> Response:
        location = self._catalogue.orphan_location()
        return response.redirect(302, location, "") if location else response.NOT_FOUND
