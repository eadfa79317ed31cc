"""Starts the programs of an engine as the engines' user, with only the files and variables that they need."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tracker.errors import CannotStartError
from tracker.processes.children import Account, Claim, first_closed, spawn
from tracker.processes.engines import accounts
from tracker.settings import environment

_COPIES = Path("/var/cache/tracker")
"""Where root copies the engines' programs if they are installed in a closed directory such as /root."""

_HERE = Path("/proc/self/cwd")
_VARIABLES = ("PATH", "LD_LIBRARY_PATH")  # variables of ours: the others may hold secrets
_ERROR = re.compile(r"\b(ERROR|FATAL|PANIC):")
_LAST_LINES = 100  # details and the statement follow the error
_NOT_TO_RUN = shutil.ignore_patterns("include", "__pycache__", "*.py", "*.a")


@dataclass(frozen=True, slots=True)
class Launcher:
    """How the programs of one engine are started in a data directory: see launcher_of()."""

    claim: Claim
    account: Account | None
    log: Path
    is_closed: bool
    """Whether the account may not enter a parent of the data directory, such as /root.

    Then programs start in their own directory and use relative paths.
    """
    fds: tuple[int, ...] = ()
    """The environment that they inherit."""

    def path_of(self, directory: Path) -> str:
        """The engine's directory, as a program that starts there names it."""
        return str(_HERE if self.is_closed else directory)

    def path_beside(self, directory: Path) -> str:
        """Another directory, as a program that starts beside it names it."""
        is_beside = directory.parent == self.claim.data_dir
        return os.path.join("..", directory.name) if self.is_closed and is_beside else str(directory)

    async def spawn(
        self, argv: Sequence[str], directory: Path, death_signal: signal.Signals, stdin: int = DEVNULL
    ) -> Process:
        """Start a program in a directory of the engine.

        Raises:
            CannotStartError: it cannot be started.
        """
        return await spawn(
            argv,
            self.claim,
            death_signal,
            account=self.account,
            directory=directory,
            environment=environment(_VARIABLES),
            log=self.log,
            stdin=stdin,
            fds=self.fds,
        )

    async def run(self, argv: Sequence[str], directory: Path, text: str = "") -> None:
        """Run a program that reads a short text, and wait for its end.

        Raises:
            CannotStartError: it failed. The message contains the last line of the log.
        """
        reading, writing = os.pipe()
        try:
            os.write(writing, text.encode())
            os.close(writing)
            process = await self.spawn(argv, directory, signal.SIGTERM, reading)
        finally:
            os.close(reading)
        if await process.wait() != 0:
            raise CannotStartError(f"{Path(argv[0]).name} failed: {last_line(self.log)} (see {self.log})")


def launcher_of(engine: str, claim: Claim, *fds: int) -> Launcher:
    """How an engine is started here.

    Raises:
        CannotStartError: no user can run it, or that user cannot enter the data directory.
    """
    account = accounts.engines()
    closed = None
    if account is not None:
        accounts.let_through(claim.data_dir)
        closed = first_closed(account, [claim.data_dir])
        if closed and not _HERE.exists():
            raise CannotStartError(
                f"{closed} is closed to user {account.name}, who runs the engines for root: set "
                "TRACKER_DATA_DIR elsewhere"
            )
    return Launcher(claim, account, claim.data_dir / f"{engine}.log", closed is not None, fds)


def installed(package: str, pattern: str) -> Path:
    """A program from a wheel.

    Raises:
        CannotStartError: the wheel has no such program for this machine.
    """
    spec = find_spec(package)
    if spec is not None and spec.origin is not None:
        for path in Path(spec.origin).resolve().parent.glob(pattern):
            return path
    raise CannotStartError(
        f"{package} has no server for this machine: set TRACKER_REDIS_URL and TRACKER_POSTGRES_DSN"
    )


def program(package: str, pattern: str, account: Account | None) -> Path:
    """A program from a wheel, or its copy if an account cannot read it.

    Raises:
        CannotStartError: the wheel has no program for this machine, or a copy cannot be made or read.
    """
    path = installed(package, pattern)
    if account is None or not (closed := first_closed(account, [path])):
        return path
    package_dir = next(parent for parent in path.parents if parent.name == package)
    try:
        copy = _copied(package_dir) / path.relative_to(package_dir.parent)
    except OSError as error:
        raise CannotStartError(
            f"{closed} is closed to {account.name}, the user of root's engines, and a copy cannot be made "
            f"in {_COPIES} ({error.strerror}): install the tracker where others may read it"
        ) from error
    if closed := first_closed(account, [copy]):
        raise CannotStartError(
            f"{closed} is closed to user {account.name}, who runs the engines for root: open it"
        )
    return copy


def last_line(log: Path) -> str:
    """The last line of a log with text, or one of the last few if that names PostgreSQL's error."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").split("\n") if line.strip()]
    except OSError:
        return "no log"
    errors = [line for line in lines[-_LAST_LINES:] if _ERROR.search(line)]
    return next(reversed(errors or lines), "nothing logged")


def _copied(package_dir: Path) -> Path:
    """A copy of a package's programs and libraries, complete or absent, for all trackers of this version."""
    from importlib.metadata import version  # 7 ms of each command's start, and few need it

    package = package_dir.name
    copies = _COPIES / f"{package}-{version(package)}"
    if copies.exists():
        return copies
    _COPIES.mkdir(parents=True, exist_ok=True)
    _COPIES.chmod(0o755)  # our umask may be stricter, and the engines' user runs what is in it
    with tempfile.TemporaryDirectory(prefix="unfinished-", dir=_COPIES) as directory:
        unfinished = Path(directory) / package
        for part in (package_dir, package_dir.with_name(f"{package}.libs")):
            if part.exists():
                shutil.copytree(part, unfinished / part.name, ignore=_NOT_TO_RUN, symlinks=True)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.sync()
        with suppress(FileExistsError):  # another tracker's start was faster
            unfinished.rename(copies)
    return copies
