"""How often long-running processes collect garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collect_no_imports() -> Iterator[None]:
    """Import modules without the collector, and leave them out of its later rounds.

    They stay until the process ends. To look at them again and again took a third of an API's start.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def collect_rarely() -> None:
    """Hits, rows and clicks leave no cycles behind, but the collector's defaults expect many.

    A worker's batch has more objects than the default threshold, so collections took a fifth of the worker's
    time.
    """
    gc.set_threshold(100_000, 50, 1000)


def collect_as_api() -> None:
    """A response of the API is large but has few objects: one that an error holds must not stay for long.

    Responses leave no cycles behind, and abandoned ones neither. Libraries do leave some: all objects newer
    than the start are scanned after at most 200,000 new objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 10, 10)
