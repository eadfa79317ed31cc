"""Takes over the spool of a lost edge: its clicks are copied, synced, and put on the stream.

A copy keeps the segment's name, and with it the numbers of its calls. The stream skips calls that it has. So
a take that was killed is repeated, and each click is there once, even if the lost edge drained a part itself.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tracker.edge.record import deployment, spool
from tracker.edge.record.spool_drain import Drain
from tracker.errors import UserError
from tracker.ops.foreign_spool import ForeignSpool, RefusedError, Segment, slot_of
from tracker.settings import Settings
from tracker.stream.appender import MAX_BATCH, Appender, AppendError
from tracker.stream.ledger import ALIVE_MILLIS, StreamLedger
from tracker.stream.visitor_memory import VisitorMemory

MARK = "taken.json"
"""The file in a spool's directory that says who has taken its segments, and when."""
_MOST_MARK_BYTES = 4 << 20
_LONGEST_SHOWN = 300
_LOOK_SECONDS = 0.1
_LOOK_UP_SECONDS = 5.0
_MOST_TOGETHER = 10 * MAX_BATCH  # clicks of a group. Damage may join several groups
_MALFORMED = "BADBATCH"  # of record_clicks.lua

Say = Callable[[str], None]


@dataclass
class Taken:
    """What was taken, or would be."""

    segments: int = 0
    clicks: int = 0
    earlier: int = 0  # segments that were taken before
    refused: int = 0
    edges: set[str] = field(default_factory=set)  # whose spool it was: <slot>, or <slot>/<run id>


async def take(
    settings: Settings,
    source: Path,
    who: str,
    say: Say,
    *,
    is_dry: bool = False,
    any_deployment: bool = False,
) -> Taken:
    """Take over all segments of a directory. `who` is noted there. `say` gets one line for each event.

    Returns once all is on the stream, and marked as taken.

    Raises:
        UserError: the directory cannot be taken at all, or another process takes one into the same spool.
        UNREACHABLE: the stream is away.
    """
    assert settings.redis_url
    own = _own_spool(settings.data_dir, is_dry=is_dry)
    foreign = ForeignSpool.open(source, {os.geteuid(), 0, own.stat().st_uid})
    try:
        if foreign.is_same(own):
            raise UserError(
                f"{source} is the spool of this TRACKER_DATA_DIR: its edges drain it by themselves"
            )
        async with StreamLedger(settings.redis_url) as stream:
            here = await stream.deployment() or deployment.known(own)
            await _check_silence(stream, foreign)
        if not any_deployment:
            _check_deployment(foreign.deployment, here)
        with _alone(own):
            return await _Take(settings, foreign, own, say, is_dry=is_dry).run(who)
    finally:
        foreign.close()


class _Take:
    """One run of the command."""

    def __init__(
        self, settings: Settings, foreign: ForeignSpool, own: Path, say: Say, *, is_dry: bool
    ) -> None:
        self._settings = settings
        self._foreign = foreign
        self._own = own
        self._say = say
        self._is_dry = is_dry
        self._taken = Taken()

    async def run(self, who: str) -> Taken:
        marks = _marks(self._foreign)
        names = self._not_yet_taken(marks)
        self._check_room(names)
        copied = {name: size for name in names if (size := await self._copy(name))}
        if copied and not self._is_dry:
            await self._drain(copied)
            mark = {"at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "by": f"{who} on {socket.gethostname()}"}
            self._mark([*marks, mark | {"into": str(self._own.resolve()), "segments": copied}])
        return self._taken

    def _not_yet_taken(self, marks: list[dict[str, Any]]) -> list[str]:
        names = self._foreign.names()
        for mark in marks:
            taken = mark["segments"]
            before = [name for name in names if name in taken and self._foreign.size([name]) <= taken[name]]
            if before:
                self._say(
                    f"{len(before)} segments were taken at {mark['at']} by {mark['by']} into {mark['into']}"
                )
            self._taken.earlier += len(before)
            self._taken.edges |= {self._edge_of(slot) for name in before if (slot := slot_of(name))}
            names = [name for name in names if name not in before]
        return names

    def _check_room(self, names: list[str]) -> None:
        size, room = self._foreign.size(names), self._settings.spool_bytes - spool.size_of(self._own)
        if size > room:
            raise UserError(
                f"{self._foreign.path} has {size >> 20} MB, and {self._own} has room for {room >> 20} MB: "
                "raise TRACKER_SPOOL_MB here"
            )
        if size > shutil.disk_usage(self._own).free:
            raise UserError(f"{self._own} has not {size >> 20} MB left on its disk")

    async def _copy(self, name: str) -> int:
        """Check a segment and copy it. Returns its size, since an edge may add to it later. 0 if refused."""
        try:
            segment, fd = await asyncio.to_thread(self._foreign.lock, name)
            try:
                await self._check_calls(segment)
                if not self._is_dry:
                    await asyncio.to_thread(_copy, segment, self._own)
            finally:
                os.close(fd)
        except RefusedError as error:
            self._say(f"refused: {name} {error}")
            self._taken.refused += 1
            return 0
        self._count(segment)
        return len(segment.data)

    def _count(self, segment: Segment) -> None:
        self._taken.segments += 1
        self._taken.clicks += segment.clicks
        self._taken.edges.add(self._edge_of(segment.slot))
        left = [
            f"{size} bytes {what}"
            for size, what in (
                (segment.contents.damaged, "in it are damaged and left out"),
                (segment.contents.torn, "at its end are an unfinished write, which was not answered"),
            )
            if size
        ]
        verb = "would be taken" if self._is_dry else "copied"
        self._say(": ".join([f"{segment.name}: {segment.clicks} clicks {verb}", *left]))

    def _edge_of(self, slot: str) -> str:
        run = self._foreign.run_of(slot)
        return f"{slot}/{run}" if run else slot

    async def _check_calls(self, segment: Segment) -> None:
        """Let the stream's script look at each group. One that it refuses would stop the spool for good.

        Raises:
            RefusedError: it refuses one.
        """
        assert self._settings.redis_url
        appender = Appender(self._settings.redis_url, segment.partition)
        try:
            for group in segment.contents.groups:
                if len(group.answered) % 8 or len(group.entries) > _MOST_TOGETHER:
                    raise RefusedError("has a group that no edge has written")
                for first in range(0, len(group.entries), MAX_BATCH):
                    await appender.look(group.entries[first : first + MAX_BATCH], _LOOK_UP_SECONDS)
        except AppendError as error:
            if _MALFORMED in str(error):
                raise RefusedError(f"has clicks that no edge has written: {error}") from error
            raise UserError(f"the stream does not answer ({error}): repeat the command") from error
        finally:
            await appender.close()

    async def _drain(self, names: Collection[str]) -> None:
        """Wait until edges of this directory, or we, have put all segments on the stream."""
        assert self._settings.redis_url
        drain = Drain(
            self._settings.redis_url, self._own, VisitorMemory.of(self._settings), self._settings.copies
        )
        await drain.start()
        try:
            said = None
            while left := sum((self._own / name).exists() for name in names):
                if left != said:
                    self._say(f"{left} of {len(names)} segments wait to be put on the stream")
                    said = left
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            await drain.stop()

    def _mark(self, marks: list[dict[str, Any]]) -> None:
        text = json.dumps({"takes": marks}, indent=1).encode()
        try:
            _write(self._foreign.fd, MARK, text)
        except OSError as error:
            self._say(
                f"{self._foreign.path} cannot be marked as taken: {error.strerror}. All is on the stream"
            )


def _own_spool(data_dir: Path, *, is_dry: bool) -> Path:
    """The spool to take into, or if that is not there and shall not be made, the directory it would be in.

    Raises:
        UserError: this user may not write into it.
    """
    own = data_dir / "spool"
    if is_dry and not own.exists():
        return next(path for path in own.parents if path.exists())
    _make(own)
    if not os.access(own, os.W_OK | os.X_OK):
        raise UserError(
            f"{own} belongs to user {own.stat().st_uid}: run this command as that user, or as root"
        )
    return own


async def _check_silence(stream: StreamLedger, foreign: ForeignSpool) -> None:
    """An edge on another host may still write into its spool: no lock of it is seen here.

    Raises:
        UserError: an edge of this spool was heard of seconds ago.
    """
    now, heartbeats = await stream.heartbeats()
    alive = {f"{each.slot}/{each.run}" for each in heartbeats if now - each.sent_at < ALIVE_MILLIS}
    if running := sorted(alive & foreign.edges()):
        raise UserError(
            f"edge {running[0]} of {foreign.path} runs, and drains its spool by itself. Stop it for "
            f"{ALIVE_MILLIS // 1000} s if you want to take its spool"
        )


def _make(own: Path) -> None:
    """Make the directory as an edge does at its start. An edge under another account must write into it."""
    if own.exists():
        return
    own.mkdir(mode=0o700, parents=True)
    if os.geteuid() == 0:
        owner = own.parent.stat()
        os.chown(own, owner.st_uid, owner.st_gid)


def _check_deployment(theirs: str | None, ours: str | None) -> None:
    override = "to take it all the same: --any-deployment"
    if theirs is None or ours is None:
        whose = "the spool" if theirs is None else "the stream server"
        raise UserError(
            f"{whose} does not say of which deployment it is (a former release does not); {override}"
        )
    if theirs != ours:
        raise UserError(f"the spool is of another deployment ({theirs}, and this one is {ours}); {override}")


def _marks(foreign: ForeignSpool) -> list[dict[str, Any]]:
    text = foreign.small_file(MARK, _MOST_MARK_BYTES)
    if text is None:
        return []
    try:
        takes = json.loads(text)["takes"]
        return [
            {name: str(take[name])[:_LONGEST_SHOWN] for name in ("at", "by", "into")}
            | {"segments": {name: int(size) for name, size in take["segments"].items()}}
            for take in takes
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{foreign.path}/{MARK} is not what a take has written: remove it") from None


@contextmanager
def _alone(own: Path) -> Iterator[None]:
    fd = os.open(own, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another take into {own} is running: wait for its end") from None
        yield
    finally:
        os.close(fd)


def _copy(segment: Segment, own: Path) -> None:
    """Copy a segment. It gets its name once it is whole and synced: edges adopt it from then on.

    One that is there already was copied by a take that was killed.

    Raises:
        RefusedError: an edge has added to the segment since then.
    """
    with suppress(FileNotFoundError):
        if (own / segment.name).stat().st_size != len(segment.data):
            raise RefusedError("was taken when it was shorter, and is drained: repeat the command")
        return
    fd = os.open(own, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _write(fd, segment.name, segment.data)
    finally:
        os.close(fd)


def _write(directory: int, name: str, data: bytes) -> None:
    """Write a file and sync it, then give it its name. It belongs to the owner of the directory.

    Nothing that is there under the other name is opened: on a foreign disk it may be a device.

    Raises:
        OSError: it is not written. Nothing of it stays.
    """
    unnamed = f"{name}.new"
    with suppress(FileNotFoundError):
        os.unlink(unnamed, dir_fd=directory)
    fd = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        _fill(fd, directory, data)
        os.rename(unnamed, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        os.unlink(unnamed, dir_fd=directory)
        raise
    finally:
        os.close(fd)
    os.fsync(directory)


def _fill(fd: int, directory: int, data: bytes) -> None:
    if os.geteuid() == 0:
        owner = os.fstat(directory)
        os.fchown(fd, owner.st_uid, owner.st_gid)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.fsync(fd)
