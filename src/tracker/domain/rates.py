"""Rates of requests as operators write them: 600/minute."""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST = 1_000_000

_SECONDS = {"second": 1, "minute": 60, "hour": 3600}
_RATE = re.compile(rf"([1-9][0-9]{{0,6}})/({'|'.join(_SECONDS)})")


@dataclass(frozen=True, slots=True)
class Rate:
    """A number of requests per second, minute or hour, in a burst or spread out."""

    requests: int
    unit: str

    def __str__(self) -> str:
        return f"{self.requests}/{self.unit}"

    @property
    def seconds(self) -> int:
        return _SECONDS[self.unit]


def read_rate(text: str) -> Rate:
    """The rate of a text.

    Raises:
        ValueError: it is not a rate, or more than MOST.
    """
    match = _RATE.fullmatch(text)
    if match is None or int(match[1]) > MOST:
        raise ValueError(f"is not a rate such as 600/minute: 1 to {MOST} per second, minute or hour")
    return Rate(int(match[1]), match[2])
