"""Which edge this is: its slot, and the run id of the spool that it has.

Slots are numbers that operators give, so two machines may have the same one. The run id is made once for a
data directory and a slot, and stays there, beside the spool. So an edge that starts again has its spool and
its id, and another machine's edge has neither. Backups copy both.

A copied data directory, of an image or of another disk, would bring the id along: then two edges would renew
one heartbeat, and nobody would wait for the one that is cut off. So the file names its own inode, and a file
that names another one is a copy. That edge gets an id of its own. A copy of a whole disk has the same inodes,
and a file system whose inodes change at each mount, as some of FUSE do, looks like a copy at each start.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tracker.children import CannotStart
from tracker.edge.spool import segments

logger = logging.getLogger(__name__)

DIRECTORY = "edges"
"""Of the files that hold run ids, in a data directory."""
RUN_LENGTH = 16
"""Hex digits of a run id. A file with no more than that is for the edge that finds it: so are a backup's."""
_FILE = re.compile(r"(?P<run>[0-9a-f]{16})( (?P<place>\d+-\d+)(?P<elder> elder)?)?")
_MOST_BYTES = 128  # that such a file has
_GETVERSION = 0x80087601  # FS_IOC_GETVERSION of linux/fs.h: the generation of an inode
_COPY = (
    "edge %d: %s is a copy of another edge's (run %s), so this one gets a run id of its own, %s. "
    "If the other one never runs again: tracker ledger --forget-edge %s"
)


class EdgeId(NamedTuple):
    """What an edge's heartbeats are kept under."""

    slot: int
    run: str
    has_elder: bool = False
    """Whether an edge of a version before run ids had its slot and its data directory."""

    def __str__(self) -> str:
        return f"{self.slot}/{self.run}"


def read(data_dir: Path, slot: int) -> EdgeId:
    """The edge of this slot in a data directory; if nothing can be written there, with one for this time."""
    try:
        fd = _open(data_dir, slot)
    except OSError as error:
        return _for_this_time(slot, error)
    try:
        return _of_file(fd, data_dir, slot)
    finally:
        os.close(fd)


@contextmanager
def held(data_dir: Path, slot: int) -> Iterator[EdgeId]:
    """The same; meanwhile no other process has it.

    Raises:
        CannotStart: another process has it.
    """
    try:
        fd = _open(data_dir, slot)
    except OSError as error:
        yield _for_this_time(slot, error)
        return
    try:
        _lock(fd, data_dir, slot)
        yield _of_file(fd, data_dir, slot)
    finally:
        os.close(fd)


def _open(data_dir: Path, slot: int) -> int:
    directory = data_dir / DIRECTORY
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(directory / f"{slot}.run", os.O_RDWR | os.O_CREAT, 0o600)


def _lock(fd: int, data_dir: Path, slot: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CannotStart(
            f"edge {slot} runs in {data_dir} already: give this one another --slot, or a TRACKER_DATA_DIR"
        ) from None


def _of_file(fd: int, data_dir: Path, slot: int) -> EdgeId:
    line = os.pread(fd, _MOST_BYTES, 0).decode(errors="replace").partition("\n")[0]
    here, found = _place(fd), _FILE.fullmatch(line)
    if found and found["place"] == here:
        return EdgeId(slot, found["run"], has_elder=found["elder"] is not None)
    if found and found["place"] is None:  # of the version before, or out of a backup
        edge = EdgeId(slot, found["run"])
    elif found:
        edge = EdgeId(slot, _new_run())
        logger.warning(_COPY, slot, data_dir, found["run"], edge.run, EdgeId(slot, found["run"]))
    else:
        edge = EdgeId(slot, _new_run(), has_elder=_had_edge(data_dir, slot))
    try:
        os.pwrite(fd, f"{edge.run} {here}{' elder' if edge.has_elder else ''}\n".encode(), 0)
        os.fsync(fd)
    except OSError as error:
        return _for_this_time(slot, error)
    return edge


def _place(fd: int) -> str:
    """What no copy of a file has: its inode, and where the file system has that, the inode's generation."""
    generation = bytearray(8)
    with suppress(OSError):
        fcntl.ioctl(fd, _GETVERSION, generation)
    return f"{os.fstat(fd).st_ino}-{struct.unpack_from('=I', generation)[0]}"


def _had_edge(data_dir: Path, slot: int) -> bool:
    """Whether an edge of this slot has been here: it left its catalogue, or a segment of its spool."""
    is_its = (path.name.split("-")[1:2] == [str(slot)] for path in segments(data_dir / "spool"))
    return (data_dir / "catalogue" / f"{slot}.ndjson").exists() or any(is_its)


def _new_run() -> str:
    return secrets.token_hex(RUN_LENGTH // 2)


def _for_this_time(slot: int, error: OSError) -> EdgeId:
    logger.warning("edge %d: its run id cannot be kept beside the spool: %s", slot, error)
    return EdgeId(slot, _new_run())
