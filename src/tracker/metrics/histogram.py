"""A histogram that costs the hot path one search: prometheus_client's takes a lock for each value."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate


class Histogram:
    """Counts values by upper bounds."""

    __slots__ = ("_bounds", "_numbers", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._numbers = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, so many times."""
        self._numbers[bisect_left(self._bounds, value)] += times
        self.sum += value * times

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """The number of values up to each bound, as Prometheus wants them."""
        names = [*map(str, self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._numbers)), strict=True))

    def __bool__(self) -> bool:
        return any(self._numbers)
