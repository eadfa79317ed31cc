"""What a network of some size needs, from what a click was measured to take."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

CLICKS_A_DAY = (1_000_000, 10_000_000, 100_000_000)
PEAK = 3.0
"""How many times the day's average the busiest minutes have."""
LOADED = 0.6
"""Part of a core that an edge may use at the peak: latencies grow beyond."""
OUTAGE_HOURS = 1
DAYS = 30

_GIB = 1 << 30
_DAY_SECONDS = 86_400


class Taken(NamedTuple):
    """What one click takes."""

    edge: float  # µs of CPU
    valkey: float
    writer: float  # worker and PostgreSQL
    stream: float  # bytes of Valkey's memory until it is stored
    table: float  # bytes of PostgreSQL, indexes included
    wal: float  # bytes written


def table(taken: Taken, sizes: Sequence[int] = CLICKS_A_DAY) -> str:
    """A line for each number of clicks a day."""
    lines = [
        f"{'clicks a day':>14}{'peak a second':>15}{'edges':>7}{'cores':>7}"
        f"{f'stream, {OUTAGE_HOURS} h outage':>20}{f'PostgreSQL, {DAYS} days':>21}{'WAL a day':>11}"
    ]
    return "\n".join([*lines, *(_line(taken, clicks) for clicks in sizes)])


def _line(taken: Taken, clicks: int) -> str:
    average = clicks / _DAY_SECONDS
    peak = average * PEAK
    edges = ceil(peak * taken.edge / 1e6 / LOADED)
    cores = peak * (taken.edge + taken.valkey + taken.writer) / 1e6
    stream, stored = peak * 3600 * OUTAGE_HOURS * taken.stream, clicks * DAYS * taken.table
    return (
        f"{clicks:14,}{peak:15,.0f}{edges:7}{cores:7.1f}"
        f"{f'{stream / _GIB:.1f} GiB':>20}{f'{stored / _GIB:,.0f} GiB':>21}"
        f"{f'{clicks * taken.wal / _GIB:.1f} GiB':>11}"
    )
