"""How often processes that run for long look for garbage."""

from __future__ import annotations

import gc


def collect_rarely() -> None:
    """Hits, rows and clicks leave no cycles behind, and the collector's defaults are for programs that do.

    A worker's batch is of more objects than it waits for: it took a fifth of the worker's time.
    """
    gc.set_threshold(100_000, 50, 1000)
