"""The two users that root's tracker runs as: one has the engines, the other has edges, API and worker.

Each has the files that it needs and no others. Started by anybody else, all processes run as that user.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import stat
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tracker.errors import CannotStartError
from tracker.processes.children import Account, first_closed

ENGINES, SERVICES = "tracker-engines", "tracker-services"
"""Their names. The services are also in the engines' group, which may enter the directory of the sockets."""

_FIRST_PERSON = 1000  # the least uid of people: UID_MIN of Debian's and Red Hat's login.defs
_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_USERADD = "useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /bin/false"


def engines() -> Account | None:
    """Whom the engines run as; None: as ourselves, who are not root.

    Raises:
        CannotStartError: root has no such user, and cannot make one.
    """
    return None if os.geteuid() != 0 else _account(ENGINES)


def services(code: Sequence[Path], data_dir: Path) -> tuple[Account | None, Path | None]:
    """Whom edges, the API and the worker run as; None: as ourselves, who are not root.

    Where the files of `code` or the data directory are closed to them they stay root, but without its
    capabilities. The second value says what is closed: a file, or the first directory on the way to it.

    Raises:
        CannotStartError: root has no such user, and cannot make one; or the code is closed to root, too.
    """
    if os.geteuid() != 0:
        return None, None
    let_through(data_dir)
    needed = [*code, data_dir]
    sockets = _account(ENGINES).gid
    account = _account(SERVICES, "--groups", ENGINES)._replace(groups=(sockets,))
    closed = first_closed(account, needed)
    if closed is None:
        return account, None
    root = Account("root", 0, 0, (sockets,), pwd.getpwuid(0).pw_dir)
    if closed_to_root := first_closed(root, needed):
        raise CannotStartError(
            f"{closed_to_root} is closed to root without capabilities: run as its owner, or move it elsewhere"
        )
    return root, closed


def let_through(data_dir: Path) -> None:
    """Let other users pass through root's data directory: what is in it is closed to all but its owner."""
    mode = data_dir.stat().st_mode
    if mode & 0o011 != 0o011:
        data_dir.chmod(mode | 0o011)


def owners(data_dir: Path) -> set[int]:
    """Who may have made the engines' sockets, for who connects to them."""
    found = {os.geteuid()}
    with suppress(KeyError):
        found.add(pwd.getpwnam(ENGINES).pw_uid)
    if os.geteuid() == 0:
        with suppress(FileNotFoundError):
            found.add((data_dir / "postgres").stat().st_uid)
    return found


def own(path: Path, account: Account | None, mode: int = 0o700, *, all_of_it: bool = False) -> Path:
    """Make a directory an account's own, made where it is missing.

    Root takes over what is its own, nobody's or a system user's, with all that is in it. With `all_of_it` it
    does so also where the directory is the account's already.

    Raises:
        CannotStartError: it is a person's.
    """
    try:
        path.mkdir(mode=mode, exist_ok=True)
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or not _may_have(account, status.st_uid):
            raise CannotStartError(
                f"{path} is another user's ({_name(status.st_uid)}): run as that user, "
                "or set TRACKER_DATA_DIR elsewhere"
            )
        if account is not None and (all_of_it or status.st_uid != account.uid):
            _give(path, account)
        path.chmod(mode)
    except OSError as error:
        raise CannotStartError(f"{path} cannot be used: {error.strerror}") from error
    return path


def _may_have(account: Account | None, uid: int) -> bool:
    if account is None:
        return uid == os.geteuid()
    try:
        user = pwd.getpwuid(uid)
    except KeyError:  # a system user's number on another machine
        return True
    return uid < _FIRST_PERSON or user.pw_name in ("nobody", ENGINES, SERVICES)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _give(directory: Path, account: Account) -> None:
    """From the inside out, so that a directory whose owner is right has been given whole."""
    owner = directory.stat().st_uid
    for _, directories, files, opened in os.fwalk(directory, topdown=False):
        for name in (*directories, *files):
            status = os.lstat(name, dir_fd=opened)
            # A hard link that they have laid to root's file does not make that file theirs.
            if status.st_uid == owner or status.st_nlink == 1 or stat.S_ISDIR(status.st_mode):
                os.chown(name, account.uid, account.gid, dir_fd=opened, follow_symlinks=False)
    os.chown(directory, account.uid, account.gid)


def _account(name: str, *options: str) -> Account:
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        _make(name, *options)
        user = pwd.getpwnam(name)
    if user.pw_uid == 0:
        raise CannotStartError(f"the user {name} is root by another name: make it a system user")
    return Account(name, user.pw_uid, user.pw_gid, (), user.pw_dir)


def _make(name: str, *options: str) -> None:
    """Make a system user; who finds it made meanwhile, by another tracker's start, is content."""
    command = [*_USERADD.split(), *options, name]
    etc = os.open("/etc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(etc, fcntl.LOCK_EX)
        with suppress(KeyError):
            pwd.getpwnam(name)
            return
        subprocess.run(command, env={"PATH": _SYSTEM_PATH}, capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else error
        raise CannotStartError(
            f"root's tracker needs a user {name}, who cannot be made ({said}): see to `{' '.join(command)}`, "
            "or run as another user than root"
        ) from error
    finally:
        os.close(etc)
