"""The second copy of what is written: how a write waits until replicas have it on disk."""

from __future__ import annotations

from typing import Any

_WAIT_SHARE = 0.4  # of a call's time, for each of the two waits
LATE_SECONDS = 0.2
"""How much later a call without a replica is answered. An idle server ends waits ten times a second."""


class OneCopyError(Exception):
    """A write was done, and no replica confirmed it in time."""


class Replicas:
    """The replicas that writes wait for: all that confirmed the last one, since each may take over.

    One that goes away delays one write. It is waited for again once it confirms a write with the others.
    """

    def __init__(self, number: int = 1) -> None:
        self._number = number
        self.have_it = True
        """Whether one of them has the last write on disk."""

    def waits(self, within: float) -> list[tuple[bytes, ...]]:
        """The commands that wait, behind those that write, in a call that may take so many seconds.

        WAITAOF alone would take a second: a replica answers what it had on disk before. Behind a WAIT it is
        asked once more (src/replication.c of Valkey).
        """
        number, millis = b"%d" % self._number, b"%d" % max(within * _WAIT_SHARE * 1000, 1)
        return [(b"WAIT", number, millis), (b"WAITAOF", b"1", number, millis)]

    def note(self, reached: int, on_disk: list[Any]) -> None:
        """Note the replies to `waits`."""
        confirmed = min(reached, int(on_disk[1]))
        self.have_it = confirmed > 0
        self._number = max(confirmed, 1)
