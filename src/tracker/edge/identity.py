"""Which edge this is: its slot, and the run id of the spool that it has.

Slots are numbers that operators give, so two machines may have the same one. The run id is made once for a
data directory and a slot, and stays there, beside the spool. So an edge that starts again has its spool and
its id, and another machine's edge has neither. Backups copy both.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tracker.children import CannotStart

logger = logging.getLogger(__name__)

DIRECTORY = "edges"
"""Of the files that hold run ids, in a data directory."""
_RUN = re.compile(r"[0-9a-f]{16}")
_LENGTH = 16


class EdgeId(NamedTuple):
    """What an edge's heartbeats are kept under."""

    slot: int
    run: str

    def __str__(self) -> str:
        return f"{self.slot}/{self.run}"


def read(data_dir: Path, slot: int) -> EdgeId:
    """The edge of this slot in a data directory; if nothing can be written there, with one for this time."""
    try:
        fd = _open(data_dir, slot)
    except OSError as error:
        return _for_this_time(slot, error)
    try:
        return _of_file(fd, slot)
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
        yield _of_file(fd, slot)
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


def _of_file(fd: int, slot: int) -> EdgeId:
    run = os.pread(fd, _LENGTH, 0).decode(errors="replace")
    if not _RUN.fullmatch(run):
        run = secrets.token_hex(_LENGTH // 2)
        try:
            os.pwrite(fd, run.encode(), 0)
            os.fsync(fd)
        except OSError as error:
            return _for_this_time(slot, error)
    return EdgeId(slot, run)


def _for_this_time(slot: int, error: OSError) -> EdgeId:
    logger.warning("edge %d: its run id cannot be kept beside the spool: %s", slot, error)
    return EdgeId(slot, secrets.token_hex(_LENGTH // 2))
