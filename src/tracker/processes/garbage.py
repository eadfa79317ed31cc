"""How often processes that run for long look for garbage."""

from __future__ import annotations

import gc


def collect_rarely() -> None:
    """Hits, rows and clicks leave no cycles behind, and the collector's defaults are for programs that do.

    A worker's batch is of more objects than it waits for: it took a fifth of the worker's time.
    """
    gc.set_threshold(100_000, 50, 1000)


def collect_as_api() -> None:
    """An answer of the API is large and of few objects: what an error keeps of it must not wait for many.

    Answers leave no cycles behind, abandoned ones neither. This is for libraries that do: all but what is
    there from the start is looked through at the latest when 200,000 objects have come.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 10, 10)
