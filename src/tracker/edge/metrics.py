"""The counters and gauges of an edge, each with its meaning. `/metrics` prints them in Prometheus' format."""

from __future__ import annotations

from collections import Counter
from typing import Final

from tracker.domain.model import Click, Outcome, Reason, Status

HELP = {
    "clicks_recorded": "Clicks on the stream and answered, by status and reason (numbers: see the docs).",
    "clicks_spooled": "Clicks put on local disk and answered while the stream or its replica was away.",
    "clicks_one_copy": "Clicks that only one machine had, with TRACKER_COPIES=2: see TRACKER_ON_LOSS.",
    "visitors_unknown": "Clicks stored as not unique with reason 41: no room to remember their visitors.",
    "clicks_not_recorded": "Clicks that neither stream nor spool took; `answer` says what visitors got.",
    "speculative_requests": "Prefetches and previews, which are not clicks.",
    "head_requests": "HEAD requests answered like a GET, which are not clicks.",
    "lenient_links": "Clicks whose offer or affiliate only the lenient reading of their link found.",
    "orphans": "Hits that name no known offer or affiliate.",
    "unknown_url_ids": "Clicks that asked for an offer URL which is not active or not of their offer.",
    "bots": "Clicks of bots: recorded, flagged, and redirected like people's.",
    "unsendable_locations": "Clicks whose filled Location could not be sent: check the URL of their offer.",
    "parameters_left_out": "Parameters of links that an offer passes on, and that had no room in a Location.",
    "postbacks": "Postbacks and pixels, by status: those with 200 are on the stream.",
    "bad_requests": "Requests refused before anything was read, by status.",
}

GAUGES = {
    "catalogue_problems": "Wrong objects of the catalogue, which are left out in whole or in part.",
    "stream_up": "Whether clicks go to the stream (1) or to the spool (0).",
    "spool_bytes": "Bytes on local disk that wait for the stream, of all edges of this data directory.",
    "clock_skew_seconds": "Seconds that the stream server's clock is ahead; over 1 is an alarm.",
}

_PLAIN = 'status="accepted",reason="0"'  # the labels of plain clicks
_NO_REASON: Final = Reason.NONE  # an Enum's attributes are slow


class Metrics:
    """Counters of one edge process since its start."""

    def __init__(self, slot: int) -> None:
        self._slot = slot
        self._counts: Counter[tuple[str, str]] = Counter()
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

    def text(self, **gauges: object) -> str:
        """Counters and the given gauges as Prometheus text exposition, version 0.0.4."""
        counts = self._counts.copy()
        if self.plain_clicks:
            counts["clicks_recorded", _PLAIN] += self.plain_clicks
        lines = []
        for name, value in gauges.items():
            lines += [f"# HELP tracker_{name} {GAUGES[name]}", f"# TYPE tracker_{name} gauge"]
            lines.append(f'tracker_{name}{{edge="{self._slot}"}} {value}')
        for name, meaning in HELP.items():
            lines += [f"# HELP tracker_{name}_total {meaning}", f"# TYPE tracker_{name}_total counter"]
            for (counted, label), value in sorted(counts.items()):
                if counted == name:
                    lines.append(
                        f'tracker_{name}_total{{edge="{self._slot}"{label and "," + label}}} {value}'
                    )
        return "\n".join(lines) + "\n"
