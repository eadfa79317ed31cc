"""The spool: clicks on local disk while the stream is away, or its replica if there shall be two copies.

A segment is an append-only file of frames with checksums. It has a head, then groups. A group is a frame with
the number of its clicks, and a frame for each click. A group is on disk when `Spool.append` returns, and its
clicks are answered only then. So a crash can tear off only clicks that were not answered.

The process that holds a segment's lock owns it. When the stream is back, the segment is sealed, drained and
deleted. Segments of an edge that died are adopted by any edge of the same data directory.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tracker.edge.record.spool_file import ROOM_BYTES, Call, Segment, SpoolError
from tracker.stream.record import Entry, in_oldest, millis_of_entry

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 16 << 20
"""A segment of this size is sealed, and the next one is begun."""


class Spool:
    """This edge's spool of one partition."""

    def __init__(self, directory: Path, slot: int, partition: int, max_bytes: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._slot = slot
        self._partition = partition
        self._room = 0  # bytes that may be written before the directory's size is checked again
        self.open: Segment | None = None
        """The segment that is written to."""

    def append(
        self,
        entries: Sequence[Entry],
        answered: bytes,
        call: Call | None = None,
        decided: bytes = b"",
    ) -> None:
        """Put a batch on disk, with records of the oldest version (see format_watch).

        For `call` and `decided` see Segment.append.

        Raises:
            SpoolError: the batch is not on disk, or the disk does not confirm it.
        """
        try:
            if self._room <= 0:
                self._make_sure_of_room()
            if self.open is None:
                self.open = self._create(millis_of_entry(entries[0]))
            readable = [(control, in_oldest(record)) for control, record in entries]
            self._room -= self.open.append(readable, answered, call, decided)
        except OSError as error:
            raise SpoolError(f"{self._directory}: {error.strerror or error}") from error

    def begin(self, first_millis: int) -> None:
        """Begin a segment for clicks of this Unix millisecond or later, with room for them on the disk.

        Raises:
            SpoolError: there is no room, or the disk takes nothing.
        """
        try:
            self._make_sure_of_room()
            segment = self._create(first_millis)
            try:
                segment.make_sure_of_room()
            except OSError:
                segment.delete()
                raise
        except OSError as error:
            raise SpoolError(f"{self._directory}: {error.strerror or error}") from error
        self.open = segment

    def seal(self) -> Segment | None:
        """Return the written segment, if there is one. The next batch begins a new segment."""
        sealed, self.open = self.open, None
        return sealed

    def _create(self, first_millis: int) -> Segment:
        return Segment.create(self._directory, self._slot, self._partition, first_millis)

    def _make_sure_of_room(self) -> None:
        if size_of(self._directory) + ROOM_BYTES > self._max_bytes:
            raise SpoolError(f"{self._directory} is full: it has all that TRACKER_SPOOL_MB allows")
        self._room = ROOM_BYTES


def make_directory(directory: Path) -> None:
    """Make the spool's directory, so that a spool of another edge can be taken over into it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:  # the edge serves all the same while the stream is there
        logger.error(
            "spool: %(path)s cannot be made: %(cause)s",
            {"event": "spool_not_made", "path": directory, "cause": error.strerror},
        )


def segments(directory: Path) -> list[Path]:
    """All segments in a directory, oldest first."""
    with suppress(FileNotFoundError):
        return sorted(directory.glob("*.spool"))
    return []


def first_millis(path: Path) -> int:
    """A time before all clicks of a segment, in Unix milliseconds. 0 if its name is not ours."""
    try:
        return int(path.name.split("-")[0], 16)
    except ValueError:
        return 0


def size_of(directory: Path) -> int:
    """The bytes of all segments in a directory."""
    size = 0
    for path in segments(directory):
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size
