"""What a network of some size needs, from what a click was measured to take."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

CLICKS_A_DAY = (10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000)
PEAK = 3.0
"""How many times the day's average the busiest minutes have."""
LOADED = 0.6
"""Part of a core that a process may use at the peak: latencies grow beyond."""
OUTAGE_HOURS = 1
DAYS = 30

_GIB = 1 << 30
_DAY_SECONDS = 86_400


class Taken(NamedTuple):
    """What one click takes."""

    edge: float  # µs of CPU
    valkey: float
    worker: float
    postgres: float
    stream: float  # bytes of Valkey's memory until it is stored
    table: float  # bytes of PostgreSQL, indexes included
    wal: float  # bytes written


class Need(NamedTuple):
    """What a number of clicks a day needs."""

    clicks: int  # a day
    peak: float  # clicks a second
    edges: int
    primaries: int  # of the stream, each of which has one core
    workers: int
    postgres: float  # cores at the peak
    stream: float  # GiB on the stream after an outage of PostgreSQL
    table: float  # GiB after DAYS
    wal: float  # GiB a day


_HEADS = {
    "clicks a day": "15,",
    "peak/s": "9,.0f",
    "edges": "7",
    "primaries": "11",
    "workers": "9",
    "PG cores": "10.1f",
    f"stream, {OUTAGE_HOURS} h": "13,.1f",
    f"PG, {DAYS} days": "13,.0f",
    "WAL a day": "11,.1f",
}
"""The columns of the table, and how each formats its number."""


def need(taken: Taken, clicks: int) -> Need:
    """What a number of clicks a day needs, if each takes so much."""
    average = clicks / _DAY_SECONDS
    peak = average * PEAK

    def processes(micros: float) -> int:
        return ceil(peak * micros / 1e6 / LOADED)

    stream, stored = peak * 3600 * OUTAGE_HOURS * taken.stream, clicks * DAYS * taken.table
    return Need(
        clicks,
        peak,
        processes(taken.edge),
        processes(taken.valkey),
        processes(taken.worker),
        peak * taken.postgres / 1e6,
        stream / _GIB,
        stored / _GIB,
        clicks * taken.wal / _GIB,
    )


def table(taken: Taken, sizes: Sequence[int] = CLICKS_A_DAY) -> str:
    """A line for each number of clicks a day. Sizes are in GiB."""
    widths = [int(spec.partition(",")[0].partition(".")[0]) for spec in _HEADS.values()]
    heads = "".join(f"{head:>{width}}" for head, width in zip(_HEADS, widths, strict=True))
    return "\n".join([heads, *(_line(need(taken, clicks)) for clicks in sizes)])


def _line(needed: Need) -> str:
    return "".join(f"{value:{spec}}" for value, spec in zip(needed, _HEADS.values(), strict=True))
