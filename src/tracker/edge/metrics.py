"""The counters of an edge. metrics/families.py has their meanings."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from tracker.domain.model import Click, Outcome, Reason, Status
from tracker.metrics.exposition import Exposition
from tracker.metrics.families import EDGES, FAMILIES
from tracker.metrics.histogram import Histogram

_LABEL = re.compile(r'(\w+)="([^"]*)"')
_SECONDS = FAMILIES["tracker_redirect_seconds"].buckets
_PLAIN = 'status="accepted",reason="0"'  # the labels of plain clicks
_NO_REASON: Final = Reason.NONE  # an Enum's attributes are slow


class Metrics:
    """Counters of one edge process since its start."""

    def __init__(self, slot: int) -> None:
        self._slot = slot
        self._counts: Counter[tuple[str, str]] = Counter()
        self.redirects = {outcome: Histogram(_SECONDS) for outcome in ("recorded", "not_recorded")}
        """Seconds from a batch of requests to its answers, once for each of its clicks."""
        self.plain_clicks = 0
        """Accepted clicks without a reason, a bot or an offer URL of their own: nearly all."""

    def count(self, name: str, label: str = "", by: int = 1) -> None:
        self._counts[name, label] += by

    def count_click(self, click: Click, outcome: Outcome) -> None:
        """Count a click that was recorded and answered."""
        if outcome.reason is _NO_REASON and click.bot_reason is None and click.link.url_id is None:
            self.plain_clicks += 1
            return
        self.count("clicks_recorded", f'status="{outcome.status}",reason="{outcome.reason.value}"')
        if click.bot_reason is not None:
            self.count("bots")
        if outcome.reason is Reason.LOCATION_UNSENDABLE:
            self.count("unsendable_locations")
        if click.link.url_id not in (None, outcome.offer_url_id) and outcome.status is Status.ACCEPTED:
            self.count("unknown_url_ids")

    def set(self, name: str, count: int) -> None:
        """Set a counter that is kept elsewhere."""
        self._counts[name, ""] = count

    def show(self, exposition: Exposition, **gauges: float) -> None:
        """Add the counters and the given gauges."""
        for name, value in gauges.items():
            exposition.add(f"tracker_{name}", value, edge=self._slot)
        counts = self._counts.copy()
        if self.plain_clicks:
            counts["clicks_recorded", _PLAIN] += self.plain_clicks
        exposition.declare(*(family.name for family in EDGES))
        for (name, label), number in sorted(counts.items()):
            labels = dict(_LABEL.findall(label))
            exposition.add(f"tracker_{name}_total", number, edge=self._slot, **labels)
        for outcome, histogram in self.redirects.items():
            exposition.add_histogram("tracker_redirect_seconds", histogram, edge=self._slot, outcome=outcome)
