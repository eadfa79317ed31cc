"""What the parts of this worker measure, for its metrics."""

from __future__ import annotations

import time

from tracker.metrics.exposition import Exposition
from tracker.metrics.families import FAMILIES, WORKERS
from tracker.metrics.histogram import Histogram
from tracker.metrics_socket import Answers


def _histogram(name: str) -> Histogram:
    return Histogram(FAMILIES[name].buckets)


BATCH_SECONDS = _histogram("tracker_batch_seconds")
BATCH_CLICKS = _histogram("tracker_batch_clicks")
CLICK_DELAYS = _histogram("tracker_click_delay_seconds")
POSTBACKS_IN = _histogram("tracker_postback_delay_seconds")
POSTBACKS_OUT = _histogram("tracker_postback_delay_seconds")


def since(millis: int) -> float:
    """Seconds since a time of this or another machine's clock, in Unix milliseconds."""
    return max(time.time() - millis / 1000, 0.0)


def answers(slot: int) -> Answers:
    """The answers to the metrics' listener."""

    async def metrics(_: str) -> str:
        shown, name = Exposition(), f"worker-{slot}"
        shown.add_process(name)
        shown.add_build(name)
        shown.declare(*(family.name for family in WORKERS))
        shown.add_histogram("tracker_batch_seconds", BATCH_SECONDS, worker=slot)
        shown.add_histogram("tracker_batch_clicks", BATCH_CLICKS, worker=slot)
        shown.add_histogram("tracker_click_delay_seconds", CLICK_DELAYS, worker=slot)
        for direction, delays in (("in", POSTBACKS_IN), ("out", POSTBACKS_OUT)):
            shown.add_histogram("tracker_postback_delay_seconds", delays, worker=slot, direction=direction)
        return shown.text()

    return {"metrics": metrics}
