"""Child processes that end with their parent, and the claim on a data directory that they hold till then."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import signal
import struct
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tracker.errors import CannotStartError

LEFTOVER_SECONDS = 10.0
"""How long the processes of a killed start may take to end by themselves; then they are killed."""

_POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITY_SETS = 24  # bytes of capset(2)'s data: effective, permitted and inheritable, twice 32 bits each
_FIRST_CLOSED = """\
for path; do
    if test -d "$path"; then test -x "$path"; else test -r "$path"; fi || { printf '%s\\n' "$path"; break; }
done
"""
_LIBC = ctypes.CDLL(None, use_errno=True)  # loaded here: between fork and exec is no time to load anything


class Account(NamedTuple):
    """The user that a child of root runs as. Where that is root itself, the child has no capabilities."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    """Its other groups."""
    home: str = "/"


class Claim:
    """The sole right to run a tracker's processes in a data directory.

    Two locks: `lock` is this process's alone; `children` is inherited by every child and so stays taken until
    the last of them, and the last of theirs, is gone: no two servers ever write the same files.
    """

    def __init__(self, data_dir: Path, own: int, inherited: int) -> None:
        self.data_dir = data_dir
        self.inherited = inherited
        self._own = own

    @classmethod
    async def take(cls, data_dir: Path) -> Claim:
        """Claim `data_dir` (created where missing) and end what a killed start has left running there.

        Raises:
            CannotStartError: another process has it, or it cannot be used.
        """
        claim = cls(*_open_locks(data_dir))
        try:
            await _end_leftovers(claim.inherited, claim.data_dir)
        except BaseException:
            claim._close()
            raise
        os.truncate(claim.inherited, 0)
        return claim

    def note(self, pid: int, death_signal: signal.Signals) -> None:
        """Remember a child, for the next start to end it should this one be killed."""
        os.write(self.inherited, f"{pid} {_started_at(pid)} {death_signal.value}\n".encode())

    @asynccontextmanager
    async def alone(self, engine: str) -> AsyncIterator[int]:
        """A lock for all processes of an engine to inherit: once it is had, none of an earlier start is left.

        Raises:
            CannotStartError: one is.
        """
        lock = _open_lock(self.data_dir / f"{engine}.lock")
        try:
            if not await _locked_within(lock, LEFTOVER_SECONDS):
                raise CannotStartError(f"{self.data_dir}: a process of the last {engine} has not ended yet")
            yield lock
        finally:
            os.close(lock)

    async def release(self) -> None:
        """Give the directory up once nothing of ours runs there: what was not ended before is ended now."""
        os.close(self.inherited)  # by which only our children hold that lock
        self.inherited = _open_lock(self.data_dir / "children")
        try:
            await _end_leftovers(self.inherited, self.data_dir)
        finally:
            self._close()

    def _close(self) -> None:
        os.close(self.inherited)
        os.close(self._own)


@dataclass(frozen=True, slots=True)
class Child:
    """A process of ours, and how to end it."""

    name: str
    process: Process
    stop_signal: signal.Signals
    patience: float
    """Seconds that it may take to finish what it is at before it is killed."""

    async def stop(self) -> None:
        """Signal it and wait until it is gone."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(self.stop_signal)
        try:
            async with asyncio.timeout(self.patience):
                await self.process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


async def spawn(
    argv: Sequence[str],
    claim: Claim,
    death_signal: signal.Signals,
    *,
    account: Account | None = None,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    stdin: int = asyncio.subprocess.DEVNULL,
    fds: Sequence[int] = (),
) -> Process:
    """Start a child in a session of its own, which gets `death_signal` when this process dies.

    It works in `directory`, also where its account may not go there by itself. Its output is appended to
    `log`, or goes where ours goes.

    Raises:
        CannotStartError: the program cannot be started.
    """
    output = None if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=stdin,
            stdout=output,
            stderr=output,
            env=environment,
            pass_fds=(claim.inherited, *fds),
            start_new_session=True,
            preexec_fn=_before_exec(account, directory, death_signal),
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:  # the last two: of what precedes exec
        raise CannotStartError(f"{argv[0]} cannot be started: {error}") from error
    finally:
        if output is not None:
            os.close(output)
    claim.note(process.pid, death_signal)
    return process


def first_closed(account: Account, paths: Iterable[Path]) -> Path | None:
    """What keeps an account from reading these: the first directory that it may not enter, or file.

    Asked of the system, in a process of that account: access control lists count as well.

    Raises:
        CannotStartError: we cannot become that account.
    """
    there = [step for path in paths for step in (*reversed(path.parents), path)]
    try:
        asked = subprocess.run(
            ["/bin/sh", "-c", _FIRST_CLOSED, "sh", *dict.fromkeys(map(str, there))],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            env={},
            preexec_fn=_before_exec(account, Path("/")),
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotStartError(
            f"root may not start processes of user {account.name} here: run as another user than root"
        ) from error
    closed = os.fsdecode(asked.stdout).rstrip("\n")
    return Path(closed) if closed else None


def _before_exec(
    account: Account | None, directory: Path | None, death_signal: signal.Signals | None = None
) -> Callable[[], None]:
    parent = os.getpid()

    def prepare() -> None:
        if directory is not None:
            os.chdir(directory)  # while we still may
        if account is not None:
            os.setgroups(account.groups)
            os.setgid(account.gid)
            os.setuid(account.uid)
        if sys.platform != "linux":
            return
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)  # no program that it runs gives it rights that it does not have
        if account is not None:
            _drop_capabilities()
        if death_signal is not None:
            _prctl(_PR_SET_PDEATHSIG, death_signal)  # a change of user would clear it
            if os.getppid() != parent:  # died before it could be asked for
                os._exit(1)

    return prepare


def _drop_capabilities() -> None:
    """For good: without new privileges, exec gives none back to root either (capabilities(7))."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if _LIBC.capset(header, bytes(_CAPABILITY_SETS)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _prctl(option: int, argument: int) -> None:
    if _LIBC.prctl(option, *(ctypes.c_ulong(value) for value in (argument, 0, 0, 0))) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _open_locks(data_dir: Path) -> tuple[Path, int, int]:
    data_dir = data_dir.resolve()
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        own, inherited = _open_lock(data_dir / "lock"), _open_lock(data_dir / "children")
    except OSError as error:
        raise CannotStartError(f"TRACKER_DATA_DIR: {data_dir} cannot be used: {error.strerror}") from error
    if not _try_lock(own):
        holder = os.pread(own, 20, 0).decode(errors="replace").strip()
        os.close(inherited)
        os.close(own)
        raise CannotStartError(f"TRACKER_DATA_DIR: {data_dir} is in use by another tracker (pid {holder})")
    os.truncate(own, 0)
    os.write(own, f"{os.getpid()}\n".encode())
    return data_dir, own, inherited


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _end_leftovers(inherited: int, data_dir: Path) -> None:
    """Take the lock that children inherit; who has it and does not end in time is killed."""
    if _try_lock(inherited):
        return
    noted = os.pread(inherited, 1 << 20, 0).decode().splitlines()
    _signal_noted(noted, None)
    if await _locked_within(inherited, LEFTOVER_SECONDS):
        return
    _signal_noted(noted, signal.SIGKILL)
    if not await _locked_within(inherited, LEFTOVER_SECONDS):
        raise CannotStartError(f"TRACKER_DATA_DIR: processes that run in {data_dir} cannot be ended")


def _signal_noted(noted: Sequence[str], number: signal.Signals | None) -> None:
    for pid, started_at, death_signal in (line.split() for line in noted):
        # A pid alone may be anybody's by now; with the time it was started at it is the process we noted.
        if started_at == _started_at(int(pid)):
            with suppress(ProcessLookupError):
                os.kill(int(pid), number or int(death_signal))


async def _locked_within(fd: int, seconds: float) -> bool:
    deadline = asyncio.get_running_loop().time() + seconds
    while not (locked := _try_lock(fd)) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_SECONDS)
    return locked


def _started_at(pid: int) -> str:
    """Which process bears this number: it, and the time it began at, in this boot; "-…" where none does."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return f"-{pid}"
    return f"{boot}/{fields[19]}"


def first_error(error: BaseException) -> BaseException:
    """What went wrong first, out of the groups that it travelled in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
