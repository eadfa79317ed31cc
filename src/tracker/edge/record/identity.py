"""An edge's identity: its slot, and the run id of its spool.

Operators choose slots, so edges on two machines may have the same one. A run id is made once for a data
directory and a slot, and is kept there beside the spool. An edge that starts again finds its spool and its
run id. An edge on another machine has neither. Backups copy both.

A copied data directory, of an image or of another disk, would bring the run id along. Two edges would then
renew one heartbeat, and Complete-Until would not wait for an edge that is cut off. So the file names its own
inode, and a file that names another inode is a copy: that edge gets a new run id. A copy of a whole disk has
the same inodes. Only the running edges notice it (format_watch.py). Some FUSE file systems change inodes at
each mount. They look like a copy at each start.
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

from tracker.edge.record.spool import segments
from tracker.errors import CannotStartError

logger = logging.getLogger(__name__)

DIRECTORY = "edges"
"""The directory of run id files, in a data directory."""
RUN_LENGTH = 16
"""Hex digits of a run id. A file with no more than that belongs to the edge that finds it, as in backups."""
_FILE = re.compile(r"(?P<run>[0-9a-f]{16})( (?P<place>\d+-\d+)(?P<elder> elder)?)?")
_MOST_BYTES = 128  # of such a file
_GETVERSION = 0x80087601  # FS_IOC_GETVERSION of linux/fs.h: the generation of an inode
_COPY = (
    "edge %(slot)d: %(path)s is a copy of another edge's data directory (run %(other)s): this edge gets the "
    "new run id %(run)s. If the other edge never runs again: tracker ledger --forget-edge %(slot)d/%(other)s"
)


class EdgeId(NamedTuple):
    """The name that an edge's heartbeats are kept under."""

    slot: int
    run: str
    has_elder: bool = False
    """Whether an edge of a version before run ids had its slot and its data directory."""

    def __str__(self) -> str:
        return f"{self.slot}/{self.run}"


def read(data_dir: Path, slot: int) -> EdgeId:
    """The edge of a slot in a data directory. If the directory is not writable, its run id is temporary."""
    try:
        fd = _open(data_dir, slot)
    except OSError as error:
        return _temporary(slot, error)
    try:
        return _of_file(fd, data_dir, slot)
    finally:
        os.close(fd)


@contextmanager
def held(data_dir: Path, slot: int) -> Iterator[EdgeId]:
    """The edge of a slot in a data directory, locked against other processes.

    Raises:
        CannotStartError: another process has the lock.
    """
    try:
        fd = _open(data_dir, slot)
    except OSError as error:
        yield _temporary(slot, error)
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
        raise CannotStartError(
            f"edge {slot} runs in {data_dir} already: give this one another --slot or TRACKER_DATA_DIR"
        ) from None


def _of_file(fd: int, data_dir: Path, slot: int) -> EdgeId:
    line = os.pread(fd, _MOST_BYTES, 0).decode(errors="replace").partition("\n")[0]
    here, match = _place(fd), _FILE.fullmatch(line)
    if match and match["place"] == here:
        return EdgeId(slot, match["run"], has_elder=match["elder"] is not None)
    if match and match["place"] is None:  # of the previous version, or from a backup
        edge = EdgeId(slot, match["run"])
    elif match:
        edge = EdgeId(slot, _new_run())
        logger.warning(
            _COPY,
            {
                "event": "data_dir_copied",
                "slot": slot,
                "path": data_dir,
                "other": match["run"],
                "run": edge.run,
            },
        )
    else:
        edge = EdgeId(slot, _new_run(), has_elder=_had_edge(data_dir, slot))
    try:
        os.pwrite(fd, f"{edge.run} {here}{' elder' if edge.has_elder else ''}\n".encode(), 0)
        os.fsync(fd)
    except OSError as error:
        return _temporary(slot, error)
    return edge


def _place(fd: int) -> str:
    """A file's inode and its generation, if the file system has one. A copy of the file has others."""
    generation = bytearray(8)
    with suppress(OSError):
        fcntl.ioctl(fd, _GETVERSION, generation)
    return f"{os.fstat(fd).st_ino}-{struct.unpack_from('=I', generation)[0]}"


def _had_edge(data_dir: Path, slot: int) -> bool:
    """Whether an edge of this slot left its catalogue or a segment of its spool here."""
    is_own = (path.name.split("-")[1:2] == [str(slot)] for path in segments(data_dir / "spool"))
    return (data_dir / "catalogue" / f"{slot}.ndjson").exists() or any(is_own)


def _new_run() -> str:
    return secrets.token_hex(RUN_LENGTH // 2)


def _temporary(slot: int, error: OSError) -> EdgeId:
    logger.warning(
        "edge %(slot)d: its run id cannot be kept beside the spool: %(cause)s",
        {"event": "run_not_kept", "slot": slot, "cause": error},
    )
    return EdgeId(slot, _new_run())
