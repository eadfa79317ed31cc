"""Reads the spool of a lost edge. Who had its disk may have put anything there.

Files are opened without following links and without waiting for anybody (open(2): O_NOFOLLOW, O_NONBLOCK),
and only after a look at what they are. A file that somebody else could have written, or that is more than a
segment can be, is refused. Nothing is changed.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from time import time
from typing import NamedTuple, Self

from tracker.edge.record import deployment
from tracker.edge.record.identity import DIRECTORY as EDGES
from tracker.edge.record.identity import RUN_LENGTH
from tracker.edge.record.spool_file import Contents, contents
from tracker.errors import UserError
from tracker.settings import MAX_PARTITIONS
from tracker.stream.record import millis_of_entry

MOST_FILES = 10_000
"""Most files of a directory that are looked at."""
MOST_BYTES = 64 << 20
"""Most bytes of a segment: it is sealed at 16 MB, and the last group may add 26 MB."""

_NAME = re.compile(
    r"(?P<millis>[0-9a-f]{12})-(?P<slot>\d{1,4})-(?P<partition>\d{1,2})-(?P<lane>[0-9a-f]{16})\.spool"
)
_RUN = re.compile(rf"[0-9a-f]{{{RUN_LENGTH}}}")
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a directory",
}
_HOUR, _DAY = 3_600_000, 86_400_000  # milliseconds


def slot_of(name: str) -> str | None:
    """The slot in a segment's name. None if it is not the name of a segment."""
    match = _NAME.fullmatch(name)
    return match["slot"] if match else None


class RefusedError(Exception):
    """A file is not taken. The message continues a line that names it."""


class Segment(NamedTuple):
    """A whole segment of the foreign spool."""

    name: str
    slot: str
    partition: int
    data: bytes
    contents: Contents

    @property
    def clicks(self) -> int:
        return sum(len(group.entries) for group in self.contents.groups)


class ForeignSpool:
    """The directory of a spool, opened once: all its files are reached through it."""

    def __init__(self, path: Path, fd: int, owners: Collection[int]) -> None:
        self.path = path
        self.fd = fd
        self._owners = owners

    @classmethod
    def open(cls, path: Path, owners: Collection[int]) -> Self:
        """Open a spool's directory, or the one in a TRACKER_DATA_DIR. Its files must belong to `owners`.

        Raises:
            UserError: it cannot be opened, or others may write into it.
        """
        inner = path / "spool"
        path = inner if inner.is_dir() and not any(path.glob("*.spool")) else path
        try:
            fd = os.open(path, _READ | os.O_DIRECTORY)
        except OSError as error:
            raise UserError(f"{path} cannot be read as a directory: {error.strerror}") from error
        spool = cls(path, fd, owners)
        try:
            spool._check(os.fstat(fd))
        except RefusedError as error:
            spool.close()
            raise UserError(f"{path} {error}") from None
        return spool

    def close(self) -> None:
        os.close(self.fd)

    def is_same(self, directory: Path) -> bool:
        """Whether it is this directory."""
        return os.path.samestat(os.fstat(self.fd), directory.stat())

    def names(self) -> list[str]:
        """Names of segments, oldest first.

        Raises:
            UserError: there are more files than any spool has.
        """
        names = os.listdir(self.fd)
        if len(names) > MOST_FILES:
            raise UserError(f"{self.path} has {len(names)} files, and a spool at most {MOST_FILES}")
        return sorted(name for name in names if name.endswith(".spool"))

    @property
    def deployment(self) -> str | None:
        """The deployment that it says to be of.

        Raises:
            UserError: its file is not one that an edge has written.
        """
        text = self.small_file(deployment.FILE)
        return None if text is None else deployment.read_id(text)

    def small_file(self, name: str, most: int = 128) -> bytes | None:
        """The text of a file beside the segments. None if it does not exist.

        Raises:
            UserError: it is refused.
        """
        try:
            fd = self._open(name, most)
        except FileNotFoundError:
            return None
        except (RefusedError, OSError) as error:
            raise UserError(f"{self.path}/{name} {_why(error)}") from None
        try:
            return os.read(fd, most)
        finally:
            os.close(fd)

    def size(self, names: Collection[str]) -> int:
        """The bytes of these files, as they are now. Files that are too large to be taken do not count."""
        sizes = []
        for name in names:
            with suppress(OSError):
                sizes.append(os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_size)
        return sum(size for size in sizes if size <= MOST_BYTES)

    def lock(self, name: str) -> tuple[Segment, int]:
        """A segment, and the descriptor that keeps edges away from it until it is closed.

        Raises:
            RefusedError: it is no segment, or a running edge has it.
        """
        match = _NAME.fullmatch(name)
        if match is None or int(match["partition"]) >= MAX_PARTITIONS:
            raise RefusedError("has not the name of a segment")
        try:
            fd = self._open(name, MOST_BYTES)
        except OSError as error:
            raise RefusedError(_why(error)) from error
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RefusedError("is in use by a running edge, which drains it by itself") from None
            data = _read_all(fd)
            found = _contents(data, match["lane"].encode(), int(match["millis"], 16))
        except BaseException:
            os.close(fd)
            raise
        return Segment(name, match["slot"], int(match["partition"]), data, found), fd

    def edges(self) -> set[str]:
        """The edges that this spool was ever of, by the directory beside it: <slot>/<run id>."""
        names: list[str] = []
        with suppress(OSError):
            beside = os.open(f"../{EDGES}", _READ | os.O_DIRECTORY, dir_fd=self.fd)
            try:
                names = os.listdir(beside)[:MOST_FILES]
            finally:
                os.close(beside)
        slots = [name.removesuffix(".run") for name in names if name.endswith(".run")]
        return {f"{slot}/{run}" for slot in slots if (run := self.run_of(slot))}

    def run_of(self, slot: str) -> str:
        """The run id of the edge of a slot, from the directory beside the spool. "" if that does not say."""
        with suppress(OSError, RefusedError):
            beside = os.open(f"../{EDGES}", _READ | os.O_DIRECTORY, dir_fd=self.fd)
            try:
                fd = self._open(f"{slot}.run", 128, directory=beside)
                try:
                    found = _RUN.match(os.read(fd, 128).decode("ascii", "replace"))
                    return found[0] if found else ""
                finally:
                    os.close(fd)
            finally:
                os.close(beside)
        return ""

    def _open(self, name: str, most: int, directory: int | None = None) -> int:
        directory = self.fd if directory is None else directory
        there = os.stat(name, dir_fd=directory, follow_symlinks=False)
        self._check_file(there, most)
        fd = os.open(name, _READ, dir_fd=directory)
        opened = os.fstat(fd)
        if not os.path.samestat(there, opened):
            os.close(fd)
            raise RefusedError("was replaced while it was opened")
        return fd

    def _check_file(self, status: os.stat_result, most: int) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise RefusedError(f"is {_KINDS.get(stat.S_IFMT(status.st_mode), 'no regular file')}, not a file")
        if status.st_nlink != 1:
            raise RefusedError(f"has {status.st_nlink} names (hard links), so others may write it")
        if status.st_size > most:
            raise RefusedError(f"has {status.st_size} bytes, and such a file at most {most}")
        self._check(status)

    def _check(self, status: os.stat_result) -> None:
        if status.st_uid not in self._owners:
            raise RefusedError(f"belongs to user {status.st_uid}: if you trust it, chown it to yourself")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise RefusedError("may be written by other users: if you trust it, chmod go-w it")


def _contents(data: bytes, lane: bytes, first: int) -> Contents:
    if not data:
        raise RefusedError("is empty: its edge had not begun to write")
    try:
        found = contents(data, lane)
        times = [millis_of_entry(entry) for group in found.groups for entry in group.entries]
    except (ValueError, IndexError) as error:
        raise RefusedError(f"is not a segment of this tracker: {error}") from error
    if times and not first - _HOUR <= min(times) <= max(times) <= time() * 1000 + _DAY:
        raise RefusedError("has clicks of times that it cannot have")
    return found


def _read_all(fd: int) -> bytes:
    """All of a file, or as much as a segment may have."""
    pieces = []
    while piece := os.read(fd, 1 << 20):
        pieces.append(piece)
        if len(pieces) > 2 * (MOST_BYTES >> 20):
            raise RefusedError("grows while it is read")
    return b"".join(pieces)


def _why(error: Exception) -> str:
    return f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
