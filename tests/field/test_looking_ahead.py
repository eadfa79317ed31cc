"""Prefetches and previews, which are not clicks."""

from __future__ import annotations

import pytest

from tests.integration.edge_client import edge_of, raw, recorded
from tests.integration.metrics_client import metrics_of
from tracker.settings import Settings

pytestmark = pytest.mark.anyio

LINK = "/offer/3?affiliate_id=513"
LOOKS_AHEAD = [
    ("X-Purpose: preview", "Facebook's in-app browser; Safari's top sites"),
    ("X-Purpose: Preview", "whatever the case"),
    ("x-purpose: prefetch", "WebKit of 2010"),
    ("X-Purpose: instant", "Chrome's Instant"),
    ("Purpose: prefetch", "Chrome's <link rel=prefetch>"),
    ("Purpose: preview", "Safari"),
    ("X-Moz: prefetch", "Firefox before 115"),
    ("Moz-Purpose: prefetch", "as some of its forks have it"),
    ("Sec-Purpose: prefetch", "Fetch, section 3.8; Firefox from 115 on"),
    ("Sec-Purpose: prefetch;prerender", "Chrome's speculation rules"),
    ("Sec-Purpose: prefetch;prerender;preview", "Chrome's link preview"),
    ("Sec-Purpose: prefetch;anonymous-client-ip", "Chrome's private prefetch proxy"),
    ("Sec-Fetch-Purpose: prefetch", "its name in the draft"),
    ("Purpose: none\r\nX-Purpose: preview", "one of several"),
]
FOLLOWS = [
    ("X-Purpose: navigate", "an app's own word"),
    ("Purpose: research", "somebody's own header"),
    ("X-Purpose: ", "nothing"),
    ("X-Moz: microsummary", "no page is looked at ahead"),
    ("Sec-Fetch-Dest: document", "a navigation"),
    ("X-Purpose-Of-Use: preview", "another header"),
]


async def test_prefetch_is_not_recorded(database: Settings) -> None:
    async with edge_of(database) as client:
        for method in ("GET", "HEAD"):
            for header, reason in LOOKS_AHEAD:
                answer = await raw(client, request_of(method, header))
                assert answer.startswith(b"HTTP/1.1 503 "), (header, reason)
                assert b"\r\ncache-control: no-store" in answer
        assert await recorded(database) == []
        metrics = await metrics_of(database)
        assert f'tracker_speculative_requests_total{{edge="0"}} {2 * len(LOOKS_AHEAD)}' in metrics
        for header, reason in FOLLOWS:
            answer = await raw(client, request_of("GET", header))
            assert answer.startswith(b"HTTP/1.1 302 "), (header, reason)
        assert len(await recorded(database)) == len(FOLLOWS)


def request_of(method: str, header: str) -> bytes:
    return f"{method} {LINK} HTTP/1.1\r\nHost: t\r\n{header}\r\nConnection: close\r\n\r\n".encode()
