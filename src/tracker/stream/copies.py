"""The second copy of what is written: how a write waits until replicas have it on disk."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from time import monotonic
from typing import Any

_WAIT_SHARE = 0.4  # of a call's time, for each of the two waits
LATE_SECONDS = 0.2
"""How much later a call without a replica is answered. An idle server ends waits ten times a second."""
LOOK = (b"INFO", b"replication")
"""The command whose reply says which replicas keep up (see Replicas.look_at)."""

_LOOK_SECONDS, _LONGEST_PAUSE = 1.0, 60.0
_OFFSET = re.compile(rb"^slave\d+:.*state=online,offset=(\d+)", re.MULTILINE)
_SERVERS = re.compile(rb"^master_repl_offset:(\d+)", re.MULTILINE)


class OneCopyError(Exception):
    """A write was done, and no replica confirmed it in time."""


class Replicas:
    """The replicas that writes wait for: all that confirmed the last one, since each may take over.

    One that goes away delays one write. It is waited for again once it confirms a write with the others, or
    is seen to keep up: the first one may always be faster, and the server answers once enough confirm.
    """

    def __init__(self, number: int = 1) -> None:
        self._number = number
        self._offset = 0  # bytes that the server had written at the last look
        self._look_at = 0.0  # by the monotonic clock
        self._pause = _LOOK_SECONDS
        self._has_raised = False  # whether the last look found more replicas
        self.have_it = True
        """Whether one of them has the last write on disk."""

    @property
    def is_look_due(self) -> bool:
        return monotonic() >= self._look_at

    def look(self, offset: int, replicas: Sequence[int]) -> None:
        """Wait for all that keep up from now on, by the bytes that the server and each of its replicas have.

        A replica keeps up if it has what the server had at the last look. One that still confirms too late
        delays a write each time, so the pauses grow.
        """
        keeping_up = sum(there >= self._offset for there in replicas)
        is_more = keeping_up > self._number
        is_too_late = is_more and self._has_raised
        self._pause = min(2 * self._pause, _LONGEST_PAUSE) if is_too_late else _LOOK_SECONDS
        self._number, self._offset, self._has_raised = max(self._number, keeping_up), offset, is_more
        self._look_at = monotonic() + self._pause

    def look_at(self, info: bytes) -> None:
        """As `look`, by the text of INFO replication."""
        servers = _SERVERS.search(info)
        self.look(int(servers[1]) if servers else 0, [int(offset) for offset in _OFFSET.findall(info)])

    def never_look(self) -> None:
        """A hosted server may hide its replicas."""
        self._look_at = math.inf

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
