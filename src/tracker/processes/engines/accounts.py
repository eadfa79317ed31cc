"""The two users of a tracker that root starts: one runs the engines, the other runs edges, API and worker.

Each can read only the files that it needs. If another user starts the tracker, all processes run as that
user.
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
"""The names of the two users.

The services are also in the engines' group, which may enter the directory of the sockets.
"""

_FIRST_PERSON = 1000  # the lowest uid of people: UID_MIN in Debian's and Red Hat's login.defs
_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_USERADD = "useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /bin/false"


def engines() -> Account | None:
    """The account of the engines. None if we are not root: then they run as ourselves.

    Raises:
        CannotStartError: the system has no such user, and root cannot create it.
    """
    return None if os.geteuid() != 0 else _account(ENGINES)


def services(code: Sequence[Path], data_dir: Path) -> tuple[Account | None, Path | None]:
    """The account of edges, API and worker. None if we are not root: then they run as ourselves.

    If the files of `code` or the data directory are closed to that account, they stay root without
    capabilities. The second value names the closed file, or the first closed directory on the way to it.

    Raises:
        CannotStartError: the system has no such user and root cannot create it, or the code is closed to root
            too.
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
    """Let other users pass through root's data directory.

    Its contents are still closed to all but their owners.
    """
    mode = data_dir.stat().st_mode
    if mode & 0o011 != 0o011:
        data_dir.chmod(mode | 0o011)


def owners(data_dir: Path) -> set[int]:
    """The users that may own the engines' sockets, for clients that connect to them."""
    uids = {os.geteuid()}
    with suppress(KeyError):
        uids.add(pwd.getpwnam(ENGINES).pw_uid)
    if os.geteuid() == 0:
        with suppress(FileNotFoundError):
            uids.add((data_dir / "postgres").stat().st_uid)
    return uids


def own(path: Path, account: Account | None, mode: int = 0o700, *, all_of_it: bool = False) -> Path:
    """Give a directory to an account. A missing directory is created.

    Root takes over a directory of its own, of nobody or of a system user, with all contents. With `all_of_it`
    it also does so if the account already owns the directory.

    Raises:
        CannotStartError: the directory belongs to a person.
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
    """From the inside out, so that a directory with the right owner has been converted completely."""
    owner = directory.stat().st_uid
    for _, directories, files, opened in os.fwalk(directory, topdown=False):
        for name in (*directories, *files):
            status = os.lstat(name, dir_fd=opened)
            # A hard link that such a user made to root's file does not give the user that file.
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
        raise CannotStartError(f"the user {name} is root under another name: make it a system user")
    return Account(name, user.pw_uid, user.pw_gid, (), user.pw_dir)


def _make(name: str, *options: str) -> None:
    """Create a system user. It is fine if another tracker's start has created it meanwhile."""
    command = [*_USERADD.split(), *options, name]
    etc = os.open("/etc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(etc, fcntl.LOCK_EX)
        with suppress(KeyError):
            pwd.getpwnam(name)
            return
        subprocess.run(command, env={"PATH": _SYSTEM_PATH}, capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else error
        raise CannotStartError(
            f"root's tracker needs a user {name}, but it cannot be created ({reason}): check "
            f"`{' '.join(command)}`, "
            "or run as another user than root"
        ) from error
    finally:
        os.close(etc)
