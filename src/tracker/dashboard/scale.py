"""Scales of charts: round ticks, and where a value lies between them."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_FLOOR, Decimal
from math import ceil, floor, isfinite, log10
from typing import NamedTuple

Number = int | float | Decimal

_LARGEST = 1e300  # charts draw larger values at this place
_SMALLEST = 1e-300  # and smaller ones at zero
_STEPS = (1, 2, 5, 10)
_SHORT = ((Decimal(10**9), "B"), (Decimal(10**6), "M"), (Decimal(10**3), "k"))
_PLAIN = (Decimal("0.000001"), Decimal(10**15))  # others are written as powers of ten


class Scale(NamedTuple):
    """An axis that begins and ends with a tick, and has zero on it."""

    ticks: tuple[Decimal, ...]  # rising, two at least

    def place(self, value: Number) -> float:
        """Where a value lies: 0 is the first tick, and 1 the last one."""
        low, high = float(self.ticks[0]), float(self.ticks[-1])
        return min(max((as_float(value) - low) / (high - low), 0.0), 1.0)


def scale_of(values: Iterable[Number | None], most: int = 5) -> Scale:
    """A scale with at most `most` + 2 ticks, 1, 2 or 5 times a power of ten apart. Of whole numbers they are
    whole.

    Raises:
        ValueError: a value is not finite.
    """
    known = [value for value in values if value is not None]
    if not all(map(_is_finite, known)):
        raise ValueError("a chart shows finite numbers only")
    low, high = min([0.0, *map(as_float, known)]), max([0.0, *map(as_float, known)])
    if low == high:
        high = 1.0
    step = _step((high - low) / most)
    if all(isinstance(value, int) for value in known):
        step = max(step, Decimal(1))
    first, last = floor(low / float(step)), ceil(high / float(step))
    return Scale(tuple(step * place for place in range(first, last + 1)))


def _step(least: float) -> Decimal:
    exponent = floor(log10(least))
    steps = (Decimal(step).scaleb(exponent) for step in _STEPS)
    return next((step for step in steps if float(step) >= least), Decimal(2).scaleb(exponent + 1))


def _is_finite(value: Number) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite()
    return isinstance(value, int) or isfinite(value)


def as_float(value: Number) -> float:
    """A value that can be added and divided without an overflow."""
    if not -_LARGEST <= value <= _LARGEST:
        return _LARGEST if value > 0 else -_LARGEST
    return 0.0 if -_SMALLEST < value < _SMALLEST else float(value)


def exact(value: Number) -> str:
    """A value as tables write it, with all of its digits."""
    return f"{value:,}"


def short(value: Decimal) -> str:
    """A round value as axes write it, such as 20k."""
    size = abs(value)
    if size and not _PLAIN[0] <= size < _PLAIN[1]:
        return f"{value.normalize():e}"
    for unit, letter in _SHORT:
        if size >= unit:
            return f"{_shortened(value / unit)}{letter}"
    return _shortened(value)


def _shortened(value: Decimal) -> str:
    whole = value.to_integral_value(ROUND_FLOOR)
    return f"{whole:f}" if whole == value else f"{value.normalize():f}"
