"""Minutes whose clicks are not all in the table. A minute is of the clicks' hashes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Set
from typing import NamedTuple


class Unstored(NamedTuple):
    """Unix minutes with clicks outside the table."""

    in_flight: Set[int]  # with clicks on their way
    dead: Set[int]  # with dead letters


AskUnstored = Callable[[Set[int]], Awaitable[Unstored]]
"""Returns which of these minutes have clicks outside the table, as of now."""


async def nothing_unstored(_: Set[int]) -> Unstored:
    """All minutes are stored: there is no stream."""
    return Unstored(frozenset(), frozenset())
