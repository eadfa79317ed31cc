"""Run a part of the tracker and note its pauses: python -m loadtests.observed DIRECTORY MODULE [WORD …].

A note is a JSON line in DIRECTORY: what it was, its beginning and end by the machine's monotonic clock, and a
detail. The tracker itself has nothing of this.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import uvloop

SUFFIX = ".pauses"

_LEAST_SECONDS = 0.005
_BEAT_SECONDS = 0.005


class Notes:
    def __init__(self, file: Path, process: str) -> None:
        self._lines = file.open("w", buffering=1)
        self._process = process

    def add(self, what: str, since: float, detail: str = "") -> None:
        """Note what has taken from `since` until now, unless it was short."""
        now = perf_counter()
        if now - since >= _LEAST_SECONDS:
            self._lines.write(json.dumps((f"{self._process} {what}", since, now, detail)) + "\n")


def watch_collector(notes: Notes) -> None:
    begun = 0.0

    def collect(phase: str, info: dict[str, int]) -> None:
        nonlocal begun
        if phase == "start":
            begun = perf_counter()
        else:
            notes.add("collector", begun, f"generation {info['generation']}")

    gc.callbacks.append(collect)


def watch_loops(notes: Notes) -> None:
    """Note when a loop turns late, and how long the process was on a core meanwhile."""

    class Loop(uvloop.Loop):
        def __init__(self) -> None:
            super().__init__()
            self.call_soon(self._beat, perf_counter(), process_time())

        def _beat(self, due: float, spent: float) -> None:
            notes.add("loop", due, f"{(process_time() - spent) * 1000:.0f} ms of it on a core")
            self.call_later(_BEAT_SECONDS, self._beat, perf_counter() + _BEAT_SECONDS, process_time())

    uvloop.Loop = Loop  # type: ignore[misc]  # what its new_event_loop makes


def watch_calls(notes: Notes, owner: Any, name: str, what: str) -> None:
    """Note each call of an asynchronous function that takes long."""
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)

    @wraps(original)
    async def noted(*arguments: Any, **named: Any) -> Any:
        begun = perf_counter()
        try:
            return await original(*arguments, **named)
        finally:
            notes.add(what, begun)

    setattr(owner, name, noted)


def main() -> None:
    directory, module, *words = sys.argv[1:]
    process = words[0] if module == "tracker" else module
    notes = Notes(Path(directory) / f"{os.getpid()}{SUFFIX}", process)
    watch_collector(notes)
    watch_loops(notes)
    from tracker.store.clicks import insert
    from tracker.stream.appender import Appender
    from tracker.stream.reader import Reader

    watch_calls(notes, Appender, "append", "call of Valkey")
    watch_calls(notes, insert, "store", "transaction")
    watch_calls(notes, Reader, "acknowledge", "acknowledgement")
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
