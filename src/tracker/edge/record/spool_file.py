"""A file of the spool: groups of clicks in frames with checksums."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self
from zlib import crc32

from tracker.stream.record import ANSWER_BYTES, Entry, millis_of_entry

logger = logging.getLogger(__name__)

ROOM_BYTES = 1 << 20  # written between checks of the directory's size: several edges may write
_VERSION = b"\x01"  # the only one so far. A reader of the next one knows this one, too
_MAGIC = b"\xabK"
_FRAME = struct.Struct(">2scII")  # magic, kind, length of what follows, its checksum
_HEAD, _GROUP, _CLICK = b"H", b"G", b"C"
_GROUP_FIELDS = struct.Struct(">16sQBI")  # lane, sequence, kind of call, clicks. Then what was answered
_OWN, _UNCERTAIN, _COPY = 0, 1, 2  # kinds of calls. A copy has the decisions, then what was answered
_CONTROL_LENGTH = struct.Struct(">I")


class SpoolError(Exception):
    """A group could not be put on disk. The message is the cause."""


class Call(NamedTuple):
    """The identity of an append call."""

    lane: bytes  # 16 hex digits
    sequence: int


class Group(NamedTuple):
    """Clicks that are appended by one call."""

    call: Call
    is_uncertain: bool  # an earlier call with the same clicks may have been done
    answered: bytes  # see record_clicks.lua
    entries: list[Entry]
    decided: bytes = b""  # of a call that was done, whose server may be lost: the decisions on its clicks


class Segment:
    """One file of a spool, and its lock."""

    def __init__(self, path: Path, fd: int, partition: int, lane: bytes) -> None:
        self.path = path
        self.partition = partition
        self.minutes: Counter[int] = Counter()  # clicks not on the stream yet, by the minute of their hash
        self.drained_groups = 0
        self.is_drained = False  # all groups are on the stream
        self.opening: int | None = None  # of the connection that drained the first of them
        self.size = 0
        self._fd = fd
        self._lane = lane
        self._sequence = 0

    @classmethod
    def create(cls, directory: Path, slot: int, partition: int, first_millis: int) -> Self:
        """Begin a segment. All its clicks must be as new as the first one, or newer.

        Raises:
            OSError: it cannot be created.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lane = secrets.token_hex(8).encode()
        path = directory / f"{first_millis:012x}-{slot}-{partition}-{lane.decode()}.spool"
        # It gets its name once it is locked. Otherwise another edge might adopt and delete it too early.
        unnamed = path.with_suffix(".new")
        segment = cls(path, os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), partition, lane)
        try:
            fcntl.flock(segment._fd, fcntl.LOCK_EX)
            os.rename(unnamed, path)
            segment._write(_frame(_HEAD, _VERSION))
            _sync_directory(directory)
            _sync_directory(directory.parent)  # the spool's directory may be new
        except BaseException:
            unnamed.unlink(missing_ok=True)
            segment.delete()
            raise
        return segment

    @classmethod
    def adopt(cls, path: Path) -> Self | None:
        """Take over a segment that no process holds, and count its clicks. None if a process holds it.

        Raises:
            OSError: it cannot be read.
            ValueError: its name or its version is unknown.
        """
        _, _, partition, lane = path.stem.split("-")
        try:
            fd = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return None  # drained meanwhile
        segment = cls(path, fd, int(partition), lane.encode())
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            segment._count()
        except BaseException as error:
            os.close(fd)
            if isinstance(error, BlockingIOError):
                return None
            raise
        return segment

    def append(
        self,
        entries: Sequence[Entry],
        answered: bytes = b"",
        call: Call | None = None,
        decided: bytes = b"",
    ) -> int:
        """Put a group on disk, and return its size in bytes. A group that is not written whole is removed.

        `call`: an uncertain one, or with `decided` one that was done.

        Raises:
            OSError: it could not be written or synced. The segment must not be written to again.
        """
        self._sequence += 1
        lane, sequence = call or (self._lane, self._sequence)
        kind = _COPY if decided else _UNCERTAIN if call else _OWN
        fields = _GROUP_FIELDS.pack(lane, sequence, kind, len(entries))
        frames = [_frame(_GROUP, fields + decided + answered)]
        for control, record in entries:
            frames.append(_frame(_CLICK, _CONTROL_LENGTH.pack(len(control)) + control + record))
        group = b"".join(frames)
        try:
            self._write(group)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self.size)
            raise
        if kind != _COPY:
            self.minutes.update(_minutes_of(entries))
        return len(group)

    def make_sure_of_room(self) -> None:
        """See that the disk takes ROOM_BYTES more.

        Raises:
            OSError: it does not.
        """
        os.posix_fallocate(self._fd, self.size, ROOM_BYTES)
        os.ftruncate(self._fd, self.size)

    def groups(self) -> Iterator[Group]:
        """The segment's groups, oldest first. Damage is skipped and logged. A torn end is not damage."""
        reading = _Reading(os.pread(self._fd, os.fstat(self._fd).st_size, 0))
        yield from _groups(reading, self._lane)
        if reading.damaged:
            logger.error(
                "spool: %(path)s: %(bytes)d bytes are damaged and skipped",
                {"event": "spool_damaged", "path": self.path, "bytes": reading.damaged},
            )

    def drained(self, group: Group) -> None:
        """Note that a group is on the stream."""
        self.minutes -= _waiting_of(group)
        self.drained_groups += 1

    def rewind(self) -> None:
        """Forget that groups are on the stream: its server may have been lost."""
        self.minutes, self.drained_groups = Counter(), 0
        self.is_drained, self.opening = False, None
        for group in self.groups():
            self.minutes.update(_waiting_of(group))

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self._fd)

    def close(self) -> None:
        """Leave the segment to the edge that adopts it."""
        os.close(self._fd)

    def _count(self) -> None:
        self.size = os.fstat(self._fd).st_size
        head = next(iter(_Reading(os.pread(self._fd, _FRAME.size + len(_VERSION), 0))), None)
        if head and (head.kind, head.payload) != (_HEAD, _VERSION):
            raise ValueError(f"{self.path} has version {head.payload!r}, which this tracker does not know")
        for group in self.groups():
            self.minutes.update(_waiting_of(group))

    def _write(self, data: bytes) -> None:
        view, written = memoryview(data), 0
        while written < len(data):
            written += os.pwrite(self._fd, view[written:], self.size + written)
        os.fdatasync(self._fd)
        self.size += written


class Contents(NamedTuple):
    """What the bytes of a segment hold."""

    groups: list[Group]
    damaged: int  # bytes that are skipped between undamaged frames
    torn: int  # bytes behind the last whole frame: a write that was cut off, or damage


def contents(data: bytes, lane: bytes) -> Contents:
    """Read a segment that may be anybody's.

    Raises:
        ValueError: it has no frame of ours, another version, or frames that no edge has written.
    """
    reading = _Reading(data)
    try:
        frames = list(reading)
        if not frames:
            raise ValueError("it has no whole frame")
        if (head := frames[0]).kind == _HEAD and head.payload != _VERSION:
            raise ValueError(f"it has version {head.payload!r}")
        groups = list(_groups(frames, lane))
    except struct.error as error:
        raise ValueError(f"a frame is too short: {error}") from None
    return Contents(groups, reading.damaged, len(data) - reading.at)


class _Frame(NamedTuple):
    at: int  # where it begins
    kind: bytes
    payload: bytes


class _Reading:
    """The undamaged frames of a segment."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0  # behind the last frame
        self.damaged = 0  # skipped bytes before an undamaged frame

    def __iter__(self) -> Iterator[_Frame]:
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> _Frame | None:
        at = self.at
        while at >= 0 and not (frame := self._frame_at(at)):
            at = self._data.find(_MAGIC, at + 1)
        if at < 0 or frame is None:
            return None
        self.damaged += at - self.at
        self.at = at + _FRAME.size + len(frame.payload)
        return frame

    def _frame_at(self, at: int) -> _Frame | None:
        if at + _FRAME.size > len(self._data):
            return None
        magic, kind, length, checksum = _FRAME.unpack_from(self._data, at)
        start = at + _FRAME.size
        payload = self._data[start : start + length]
        is_whole = magic == _MAGIC and len(payload) == length and crc32(payload, crc32(kind)) == checksum
        return _Frame(at, kind, payload) if is_whole else None


def _groups(frames: Iterable[_Frame], lane: bytes) -> Iterator[Group]:
    """Clicks by their groups. Clicks without their group's frame make groups of their own."""
    group, wanted, entries = None, 0, list[Entry]()
    for frame in frames:
        if frame.kind != _CLICK:
            if entries:
                yield _group(group, entries, lane)
            group, wanted, entries = frame, _clicks_of(frame), []
            continue
        group = group or frame
        entries.append(_entry(frame.payload))
        if len(entries) == wanted:
            yield _group(group, entries, lane)
            group, wanted, entries = None, 0, []
    if entries:
        yield _group(group, entries, lane)


def _group(frame: _Frame | None, entries: list[Entry], lane: bytes) -> Group:
    """The group of a frame. If its frame is damaged, `frame` is that of its first click.

    A damaged group cannot reuse its call id. It gets a derived id that is the same on every read.
    """
    assert frame
    if frame.kind != _GROUP:
        return Group(Call(lane + b"-orphans", frame.at), False, b"", entries)
    lane, sequence, kind, clicks = _GROUP_FIELDS.unpack_from(frame.payload)
    answered_at = _GROUP_FIELDS.size + (ANSWER_BYTES * clicks if kind == _COPY else 0)
    if kind != _OWN and (clicks != len(entries) or len(frame.payload) < answered_at):
        return Group(Call(lane + b"-damaged", sequence), False, b"", entries)
    decided, answered = frame.payload[_GROUP_FIELDS.size : answered_at], frame.payload[answered_at:]
    return Group(Call(lane, sequence), kind == _UNCERTAIN, answered, entries, decided)


def _clicks_of(frame: _Frame) -> int:
    return int(_GROUP_FIELDS.unpack_from(frame.payload)[3]) if frame.kind == _GROUP else 0


def _entry(payload: bytes) -> Entry:
    start = _CONTROL_LENGTH.size
    end = start + _CONTROL_LENGTH.unpack_from(payload)[0]
    return payload[start:end], payload[end:]


def _frame(kind: bytes, payload: bytes) -> bytes:
    return _FRAME.pack(_MAGIC, kind, len(payload), crc32(payload, crc32(kind))) + payload


def _waiting_of(group: Group) -> Counter[int]:
    """The clicks of a group that are not on the stream, by minute."""
    return Counter() if group.decided else _minutes_of(group.entries)


def _minutes_of(entries: Sequence[Entry]) -> Counter[int]:
    return Counter(millis_of_entry(entry) // 60_000 for entry in entries)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
