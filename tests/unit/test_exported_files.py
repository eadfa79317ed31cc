"""Files of an export: they appear together, when all of them are complete."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tracker.errors import UserError
from tracker.exporting.files import new_files

_FAMILY = r"network(\.(?P<part>[0-9]+))?\.yaml"


def _all(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_files_appear_at_the_end(tmp_path: Path) -> None:
    with new_files(tmp_path, _FAMILY, force=False) as files:
        files.open("network.yaml").write(b"one")
        files.open("network.2.yaml").write(b"two")
        assert [path for path in tmp_path.iterdir() if path.suffix != ".part"] == []
    assert _all(tmp_path) == {"network.yaml": b"one", "network.2.yaml": b"two"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.paths} == {0o600}


def _fail(directory: Path, error: BaseException) -> None:
    with new_files(directory, _FAMILY, force=True) as files:
        files.open("network.yaml").write(b"new")
        raise error


@pytest.mark.parametrize("former", [{}, {"network.yaml": b"former", "network.2.yaml": b"former"}])
@pytest.mark.parametrize("error", [UserError("x"), KeyboardInterrupt(), OSError(28, "no space")])
def test_error_leaves_former_files(tmp_path: Path, former: dict[str, bytes], error: BaseException) -> None:
    for name, content in former.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(type(error)):
        _fail(tmp_path, error)
    assert _all(tmp_path) == former


def test_files_take_the_place_of_all_former_ones(tmp_path: Path) -> None:
    for name in ("network.yaml", "network.2.yaml", "network.3.yaml", "other.yaml", "network.yaml.bak"):
        (tmp_path / name).write_bytes(b"former")
    with new_files(tmp_path, _FAMILY, force=True) as files:
        files.open("network.yaml").write(b"new")
    assert _all(tmp_path) == {"network.yaml": b"new", "other.yaml": b"former", "network.yaml.bak": b"former"}


def test_files_that_follow_no_other_stay(tmp_path: Path) -> None:
    own = {"network.2024.yaml": b"mine", "network.5.yaml": b"mine", "network.4.yaml": b"mine"}
    for name, content in {**own, "network.yaml": b"former", "network.2.yaml": b"former"}.items():
        (tmp_path / name).write_bytes(content)
    with new_files(tmp_path, _FAMILY, force=True) as files:
        files.open("network.yaml").write(b"new")
    assert _all(tmp_path) == {**own, "network.yaml": b"new"}


def _three(directory: Path) -> None:
    with new_files(directory, _FAMILY, force=False) as files:
        for name in ("network.yaml", "network.2.yaml", "network.3.yaml"):
            files.open(name).write(b"new")


def test_file_that_is_no_former_one_is_not_replaced_without_force(tmp_path: Path) -> None:
    (tmp_path / "network.3.yaml").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"network.3.yaml is there already"):
        _three(tmp_path)
    assert _all(tmp_path) == {"network.3.yaml": b"mine"}


@pytest.mark.parametrize("name", ["network.yaml", "network.2.yaml"])
def test_former_file_stays_without_force(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"former")
    with (
        pytest.raises(UserError, match=f"{name} is there already"),
        new_files(tmp_path, _FAMILY, force=False),
    ):
        raise AssertionError
    assert _all(tmp_path) == {name: b"former"}
