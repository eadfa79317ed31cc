"""Imported clicks whose ip is not an address. Imports refuse these now."""

from __future__ import annotations

from tracker.edge.read.client_address import plain_address
from tracker.ops.upgrade.concern import Concern
from tracker.store import doubtful_rows
from tracker.store.db import Connection
from tracker.store.doubtful_rows import IMPORTED_CLICKS

MOST_NAMED = 20


async def find(connection: Connection) -> list[Concern]:
    """Find such clicks, grouped by their text. Clicks are never changed."""
    found = await doubtful_rows.imported_ips(connection)
    wrong = [(text, clicks) for text, clicks in found.most_common() if not plain_address(text)]
    of_them = f"of {IMPORTED_CLICKS:,} imported clicks at most"
    named = [
        Concern("clicks", f"{clicks} {of_them} have the ip {text[:50]!a}, which is not an address")
        for text, clicks in wrong[:MOST_NAMED]
    ]
    more = wrong[MOST_NAMED:]
    rest = Concern(
        "clicks", f"and {sum(clicks for _, clicks in more)} more with {len(more)} other texts for an ip"
    )
    return named + [rest] * bool(more)
