"""The spool: where clicks wait on local disk while the stream is away.

A segment is an append-only file of frames, each with a checksum: a head, then groups, each a frame that says
how many clicks follow, and a frame for each. A group is on disk when `Spool.append` returns, and not before
is any of its clicks answered. So what a crash has torn off the end was promised to nobody.

Whoever holds a segment's lock owns it. It is sealed when the stream is back, drained, and deleted; those of
an edge that died are adopted by any edge of the same data directory.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tracker.edge.record.spool_file import ROOM_BYTES, Call, Segment, SpoolError
from tracker.stream.record import Entry, millis_of_entry

SEGMENT_BYTES = 16 << 20
"""A segment as large as this is sealed, and the next one begun."""


class Spool:
    """Where one partition's clicks of this edge go while the stream is away."""

    def __init__(self, directory: Path, slot: int, partition: int, max_bytes: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._slot = slot
        self._partition = partition
        self._room = 0  # bytes to be written before the next look at how many there are
        self.open: Segment | None = None
        """The segment that is written to."""

    def append(self, entries: Sequence[Entry], answered: bytes, uncertain_call: Call | None) -> None:
        """Put a batch on disk.

        Raises:
            SpoolError: it is not there. It may turn out to be, should the disk come to its senses.
        """
        try:
            if self._room <= 0:
                self._make_sure_of_room()
            if self.open is None:
                first = millis_of_entry(entries[0])
                self.open = Segment.create(self._directory, self._slot, self._partition, first)
            self._room -= self.open.append(entries, answered, uncertain_call)
        except OSError as error:
            raise SpoolError(f"{self._directory}: {error.strerror or error}") from error

    def seal(self) -> Segment | None:
        """Give away what has been written; the next batch begins a new segment."""
        sealed, self.open = self.open, None
        return sealed

    def _make_sure_of_room(self) -> None:
        if size_of(self._directory) + ROOM_BYTES > self._max_bytes:
            raise SpoolError(f"{self._directory} is full: TRACKER_SPOOL_MB allows no more")
        self._room = ROOM_BYTES


def segments(directory: Path) -> list[Path]:
    """The segments in a directory, oldest first, whoever holds them."""
    with suppress(FileNotFoundError):
        return sorted(directory.glob("*.spool"))
    return []


def first_millis(path: Path) -> int:
    """A time that no click of a segment is older than, Unix milliseconds; 0 where its name is not ours."""
    try:
        return int(path.name.split("-")[0], 16)
    except ValueError:
        return 0


def size_of(directory: Path) -> int:
    """Bytes of all segments in a directory."""
    size = 0
    for path in segments(directory):
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size
