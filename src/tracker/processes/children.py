"""Child processes that end with their parent, and the claim on a data directory that they inherit."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import signal
import stat
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
"""How long the processes of a killed start may take to end by themselves. Then they are killed."""

_POLL_SECONDS = 0.05
_OF_OTHERS = 0o066
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITY_SETS = (
    24  # bytes of capset(2)'s data: effective, permitted and inheritable, each as two 32-bit words
)
_FIRST_CLOSED = """\
for path; do
    if test -d "$path"; then test -x "$path"; else test -r "$path"; fi || { printf '%s\\n' "$path"; break; }
done
"""
_LIBC = ctypes.CDLL(
    None, use_errno=True
)  # loaded here, because there is no time to load anything between fork and exec


class Account(NamedTuple):
    """The user that a child of root runs as. A user that is root itself gets no capabilities in the child."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    """Its supplementary groups."""
    home: str = "/"


class Claim:
    """The exclusive right to run a tracker's processes in a data directory.

    It has two locks. `lock` belongs to this process alone. Every child inherits the other one (`children`),
    which stays locked until the last child and its last child have ended. So two servers never write the same
    files.
    """

    def __init__(self, data_dir: Path, own: int, inherited: int) -> None:
        self.data_dir = data_dir
        self.inherited = inherited
        self._own = own

    @classmethod
    async def take(cls, data_dir: Path) -> Claim:
        """Claim `data_dir`, created if missing. Processes of a killed start that still run there are ended.

            Raises:
        CannotStartError: another process has claimed it, or it cannot be used.
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
        """Note a child, so that the next start can end it if this process is killed."""
        os.write(self.inherited, f"{pid} {_started_at(pid)} {death_signal.value}\n".encode())

    @asynccontextmanager
    async def alone(self, engine: str) -> AsyncIterator[int]:
        """A lock that all processes of an engine inherit.

        Its owner knows that no process of an earlier start runs.

                Raises:
            CannotStartError: a process of an earlier start has not ended.
        """
        lock = _open_lock(self.data_dir / f"{engine}.lock")
        try:
            if not await _locked_within(lock, LEFTOVER_SECONDS):
                raise CannotStartError(f"{self.data_dir}: a process of the last {engine} has not ended yet")
            yield lock
        finally:
            os.close(lock)

    async def release(self) -> None:
        """Release the directory. Remaining processes of ours are ended first."""
        os.close(self.inherited)  # only our children hold that lock
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
    """Seconds that it may take to finish its work before it is killed."""

    async def stop(self) -> None:
        """Send a signal and wait for the end of the process."""
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
    """Start a child in its own session. It gets `death_signal` when this process dies.

    It works in `directory`, even if its account may not enter a parent directory. Its output is appended to
    `log`, or goes to our own output.

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
    except (
        OSError,
        ValueError,
        subprocess.SubprocessError,
    ) as error:  # the last two are errors of the steps before exec
        raise CannotStartError(f"{argv[0]} cannot be started: {error}") from error
    finally:
        if output is not None:
            os.close(output)
    claim.note(process.pid, death_signal)
    return process


def first_closed(account: Account, paths: Iterable[Path]) -> Path | None:
    """The first directory that an account may not enter, or the file that it cannot read.

        A process of that account tries it, so access control lists count too.

    Raises:
        CannotStartError: we cannot switch to that account.
    """
    there = [step for path in paths for step in (*reversed(path.parents), path)]
    try:
        test = subprocess.run(
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
    closed = os.fsdecode(test.stdout).rstrip("\n")
    return Path(closed) if closed else None


def _before_exec(
    account: Account | None, directory: Path | None, death_signal: signal.Signals | None = None
) -> Callable[[], None]:
    parent = os.getpid()

    def prepare() -> None:
        if directory is not None:
            os.chdir(directory)  # while we still have the right
        if account is not None:
            os.setgroups(account.groups)
            os.setgid(account.gid)
            os.setuid(account.uid)
        if sys.platform != "linux":
            return
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)  # a program with special rights gets none of them
        if account is not None:
            _drop_capabilities()
        if death_signal is not None:
            _prctl(_PR_SET_PDEATHSIG, death_signal)  # set here because a change of user clears it
            if os.getppid() != parent:  # the parent died before the request
                os._exit(1)

    return prepare


def _drop_capabilities() -> None:
    """Drop the capabilities for good: with no_new_privs, exec does not restore them (capabilities(7))."""
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
        _close_to_others(data_dir)
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


def _close_to_others(data_dir: Path) -> None:
    """Take the rights to list and to write to our own directory from others. They could replace files in it.

    A directory such as /tmp is for everybody. Its sticky bit keeps others from replacing our files.
    """
    status = data_dir.stat()
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid == os.geteuid() and not mode & stat.S_ISVTX and mode & _OF_OTHERS:
        data_dir.chmod(mode & ~_OF_OTHERS)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _end_leftovers(inherited: int, data_dir: Path) -> None:
    """Take the lock that children inherit. Holders that do not end in time are killed."""
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
        # A pid alone may have been reused. Together with its start time it identifies the process that we
        # noted.
        if started_at == _started_at(int(pid)):
            with suppress(ProcessLookupError):
                os.kill(int(pid), number or int(death_signal))


async def _locked_within(fd: int, seconds: float) -> bool:
    deadline = asyncio.get_running_loop().time() + seconds
    while not (locked := _try_lock(fd)) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_SECONDS)
    return locked


def _started_at(pid: int) -> str:
    """The process with this number and its start time in this boot, or "-…" if there is no such process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return f"-{pid}"
    return f"{boot}/{fields[19]}"


def first_error(error: BaseException) -> BaseException:
    """The first error inside nested exception groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
