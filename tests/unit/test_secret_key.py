"""The key file: made once, for its owner only, and refused with one line if it cannot be trusted."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tracker import secret_key
from tracker.errors import CannotStartError
from tracker.secret_key import OtherKeyError


def test_key_file_is_made_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "secret.key"
    sealed = secret_key.load(path).seal(b"whsec_x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["secret.key"]
    assert b"whsec_x" not in sealed
    assert secret_key.load(path).open(sealed) == b"whsec_x"


def test_processes_that_start_at_once_make_one_key(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    with ProcessPoolExecutor(8, get_context("spawn")) as processes:
        made = list(processes.map(_sealed_by, [path] * 16))
    assert os.listdir(tmp_path) == ["secret.key"]
    assert {secret_key.read(path).open(sealed) for sealed in made} == {b"same"}


def _sealed_by(path: Path) -> bytes:
    return secret_key.load(path).seal(b"same")


def test_secret_of_another_key_is_unreadable(tmp_path: Path) -> None:
    sealed = secret_key.load(tmp_path / "one").seal(b"secret")
    other = secret_key.load(tmp_path / "other")
    for text in (sealed, b"", b"x", sealed[:-1], sealed[:-2] + b"AA"):
        with pytest.raises(OtherKeyError):
            other.open(text)


def _open_to_group(path: Path) -> None:
    path.chmod(0o640)


def _open_to_all(path: Path) -> None:
    path.chmod(0o604)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


BAD = [
    (_open_to_group, "is open to other users: run `chmod 600 "),
    (_open_to_all, "is open to other users: run `chmod 600 "),
    (_empty, "is not a key file: put the right file there"),
    (_cut, "is not a key file: put the right file there"),
    (_directory, "cannot be read: Is a directory"),
]


@pytest.mark.parametrize(("spoil", "complaint"), BAD, ids=[spoil.__name__ for spoil, _ in BAD])
def test_bad_key_file_is_refused_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], None], complaint: str
) -> None:
    path = tmp_path / "secret.key"
    secret_key.load(path)
    spoil(path)
    for use in (secret_key.load, secret_key.read, secret_key.check):
        with pytest.raises(CannotStartError) as refusal:
            use(path)
        assert complaint in str(refusal.value)
        assert str(path) in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_key_file_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStartError, match="cannot be read: Not a directory"):
        secret_key.load(tmp_path / "file" / "secret.key")
    with pytest.raises(CannotStartError, match="cannot be made: "):
        secret_key.load(Path("/proc/keys-of-a-tracker/secret.key"))
    secret_key.check(tmp_path / "absent")


@pytest.mark.parametrize(
    ("mode", "owner", "user", "is_open"),
    [
        (0o600, 1000, 1000, False),
        (0o640, 1000, 1000, True),
        (0o440, 0, 1000, False),  # a secret of Kubernetes or systemd
        (0o460, 0, 1000, True),
        (0o444, 0, 1000, True),
        (0o440, 0, 0, True),
    ],
)
def test_group_of_a_file_of_root_is_trusted(
    monkeypatch: pytest.MonkeyPatch, mode: int, owner: int, user: int, is_open: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    status = os.stat_result((stat.S_IFREG | mode, 1, 1, 1, owner, 1000, 45, 0, 0, 0))
    assert secret_key.is_open_to_others(status) == is_open
