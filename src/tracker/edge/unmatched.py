"""Hits that name no known offer or affiliate, on their way to a bounded log. No visitor waits for it."""

from __future__ import annotations

import re
from time import time_ns

from tracker.domain.model import Link, Visitor
from tracker.edge.catalogue.advertiser_secrets import HIDDEN
from tracker.edge.record.later_log import LaterLog
from tracker.settings import Settings
from tracker.stream.unmatched import Orphan, OrphanStream

MAX_TEXT = 500
"""Longest text of an orphan, in characters; the rest is cut off."""

_SECRET = re.compile(r"tr[sk](?:_|%(?:25)*5F)[^\s\"'<>&,;#]*", re.IGNORECASE)
"""An advertiser's secret or a token of the API in a link that somebody has mixed up, also percent-encoded."""


class OrphanLog(LaterLog[Orphan]):
    """Collects orphans, and logs them every second."""

    def __init__(self, settings: Settings) -> None:
        assert settings.redis_url
        stream = OrphanStream(settings.redis_url)
        super().__init__("orphans", stream.append, stream.close)

    def note(self, link: Link, visitor: Visitor, *, is_offer_known: bool) -> None:
        """Log a hit within the next second or so, without what looks like a secret of ours."""
        texts = (visitor.requested_link, visitor.referrer, visitor.ip, visitor.user_agent)
        why = _why(link, is_offer_known=is_offer_known)
        self.add(Orphan(time_ns() // 1_000_000, why, *map(_shown, texts)))


def _shown(text: str) -> str:
    return _SECRET.sub(HIDDEN, text)[:MAX_TEXT]


def _why(link: Link, *, is_offer_known: bool) -> str:
    if is_offer_known:
        return "unknown affiliate"
    return "unknown offer" if link.offer_id else "unknown link"
