"""Which form runs: compiled modules only while they are made from the sources as they are now.

A small package stands for the tracker. Its "compiled" module is another C extension of the same name, so no
compiler is needed here. `make package` and the suite run modules that mypyc compiled.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from fcntl import LOCK_EX, LOCK_NB, flock
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

import hatch_build
from tracker import compiled
from tracker.compiled import FORM, Form
from tracker.domain import click_id
from tracker.ops.doctor import form as doctor

ROOT = Path(__file__).parents[2]

BUILD = """
from pathlib import Path
import shutil, sys
from tracker.compiled import FOLDER, hashes_of, write_manifest
FOLDER.mkdir(parents=True)
shutil.copy(sys.argv[1], FOLDER / "tracker.extension.so")
write_manifest(FOLDER, compiler="mypyc 0", recipe="", modules=["tracker.extension"],
               sources=hashes_of(["extension.py", "imported.py"]))
"""
ASK = """
import json
from tracker import compiled, extension
print(json.dumps([extension.__file__.endswith(".so"), *compiled.FORM]))
"""


def run(package: Path, program: str, *arguments: str, **variables: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "TRACKER_PURE": "", **variables}
    words = [sys.executable, "-c", program, *arguments]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package `tracker` of two modules. One is compiled, and relies on the other."""
    package = tmp_path / "tracker"
    package.mkdir()
    front = Path(compiled.__file__).with_name("__init__.py")
    for path in (front, Path(compiled.__file__)):
        (package / path.name).write_bytes(path.read_bytes())
    (package / "extension.py").write_text("from tracker import imported\n")
    (package / "imported.py").write_text("ONE = 1\n")
    spec = find_spec("maxminddb.extension")
    assert spec
    assert spec.origin
    run(package, BUILD, spec.origin)
    return package


def folder(package: Path) -> Path:
    return package / compiled.FOLDER.relative_to(compiled.PACKAGE)


def edit(package: Path) -> None:
    (package / "extension.py").write_text("from tracker import imported \n")


def edit_import(package: Path) -> None:
    (package / "imported.py").write_text("ONE = 2\n")


def remove_import(package: Path) -> None:
    (package / "imported.py").rename(package / "other.py")
    (package / "extension.py").write_text("")


def touch(package: Path) -> None:
    os.utime(package / "extension.py", (0, 0))


def build_by_another_python(package: Path) -> None:
    folder(package).rename(folder(package).with_name("cpython-310-x86_64-linux-gnu"))


def stop_halfway(package: Path) -> None:
    (folder(package) / compiled.MANIFEST).unlink()


def lose_power(package: Path) -> None:
    (folder(package) / compiled.MANIFEST).write_bytes(b"")


BUILT = [True, "compiled: 1 modules by mypyc 0", True, False]
STALE = "pure Python: tracker/{} has changed since it was compiled"
UNREADABLE = "pure Python: the compiled modules cannot be read: Expecting value: line 1 column 1 (char 0)"
NOTHING = [False, f"pure Python: nothing was compiled for {compiled.FOLDER.name}", False, False]


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (touch, BUILT),
        (edit, [False, STALE.format("extension.py"), False, True]),
        (edit_import, [False, STALE.format("imported.py"), False, True]),
        (remove_import, [False, STALE.format("extension.py"), False, True]),
        (build_by_another_python, NOTHING),
        (stop_halfway, NOTHING),
        (lose_power, [False, UNREADABLE, False, True]),
    ],
)
def test_compiled_module_runs_only_as_its_sources_are(
    package: Path, change: Callable[[Path], None], answer: list[object]
) -> None:
    assert json.loads(run(package, ASK)) == BUILT
    change(package)
    assert json.loads(run(package, ASK)) == answer


def test_sources_run_where_tracker_pure_asks_for_them(package: Path) -> None:
    pure = [False, "pure Python: TRACKER_PURE is 1", False, False]
    assert json.loads(run(package, ASK, TRACKER_PURE="1")) == pure
    assert json.loads(run(package, ASK, TRACKER_PURE="0")) == BUILT


def test_each_python_has_a_folder_of_its_own() -> None:
    assert compiled.FOLDER.name in EXTENSION_SUFFIXES[0]
    assert sys.implementation.cache_tag.removeprefix("cpython-") in compiled.FOLDER.name


@pytest.mark.parametrize(
    ("form", "level", "advice"),
    [
        (Form("compiled: 43 modules by mypyc 2.4.1", is_compiled=True), "ok", ""),
        (Form("pure Python: TRACKER_PURE is 1"), "ok", ""),
        (Form(STALE.format("domain/rules.py"), is_stale=True), "fail", "run make build"),
    ],
)
def test_doctor_refuses_stale_modules(form: Form, level: str, advice: str) -> None:
    found = doctor.finding(form)
    assert (found.level, found.text, found.advice.partition(",")[0]) == (level, form.text, advice)


def test_form_of_this_run_is_that_of_its_modules() -> None:
    assert (Path(str(click_id.__file__)).suffix == ".so") == FORM.is_compiled


def test_traceback_shows_the_source() -> None:
    with pytest.raises(ValueError, match="zz") as raised:
        click_id.millis_of("zz")
    assert "return int(hash_[:12], 16)" in "".join(traceback.format_exception(raised.value))


MODULES = [f"{room}/{name}.py" for room, names in hatch_build.MODULES.items() for name in names.split()]


def test_listed_modules_exist() -> None:
    listed = [*MODULES, *hatch_build.LEFT_OUT]
    assert [name for name in listed if not (compiled.PACKAGE / name).is_file()] == []
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("name", MODULES)
def test_compiled_modules_do_not_look_for_files_beside_them(name: str) -> None:
    """`__file__` is that of the binary."""
    nodes = ast.walk(ast.parse((compiled.PACKAGE / name).read_text()))
    assert [node.lineno for node in nodes if isinstance(node, ast.Name) and node.id == "__file__"] == []


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"TRACKER_PURE": "1"}, "TRACKER_PURE is 1"),
        ({"CC": "no-such-compiler -pthread"}, "no C compiler was found (no-such-compiler)"),
        ({"CC": "gcc", "PATH": "/nowhere"}, "no C compiler was found (gcc)"),
        (
            {"CC": "false"},
            "false cannot compile a file that includes Python.h (Debian: apt install libc6-dev python3-dev)",
        ),
    ],
)
def test_nothing_is_compiled_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], reason: str
) -> None:
    monkeypatch.delenv("TRACKER_PURE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hatch_build.why_pure() == reason


def test_nothing_is_compiled_by_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip builds, and only then refuses a Python that the package does not support."""
    monkeypatch.delenv("TRACKER_PURE", raising=False)
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    assert hatch_build.why_pure() == "Python is too old"


def test_build_requirements_are_the_versions_that_are_tested() -> None:
    pins = (ROOT / "requirements.txt").read_text()
    for need in hatch_build.NEEDS:
        assert re.search(rf"^{re.escape(need)}\b", pins, re.MULTILINE), need


COMPILER = """#!/bin/sh
for output; do :; done
printf %s "$WRITES" > "$output"
exit "$ENDS"
"""


def test_half_of_an_object_is_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that was killed left it, or a machine that lost power."""
    compiler, source, into = tmp_path / "cc", tmp_path / "c" / "module.c", tmp_path / "new"
    compiler.write_text(COMPILER)
    compiler.chmod(0o700)
    for folder_ in (source.parent, into):
        folder_.mkdir()
    for path in (source, source.with_name("module.h")):
        path.touch()
    extension = SimpleNamespace(name="module", sources=[str(source)], include_dirs=[], extra_compile_args=[])
    monkeypatch.setattr(hatch_build, "BUILD", tmp_path)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("WRITES", "half")
    monkeypatch.setenv("ENDS", "137")
    with pytest.raises(SystemExit, match=r"c-module\.o cannot be compiled"):
        hatch_build._compile([extension], into)
    assert not list((tmp_path / "objects").glob("*.o"))
    monkeypatch.setenv("WRITES", "whole")
    monkeypatch.setenv("ENDS", "0")
    hatch_build._compile([extension], into)
    assert [path.read_text() for path in (tmp_path / "objects").glob("*.o")] == ["whole"]


def test_builds_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build() -> Path:
        with (tmp_path / "build" / "lock").open() as lock, pytest.raises(BlockingIOError):
            flock(lock, LOCK_EX | LOCK_NB)
        return tmp_path

    monkeypatch.setattr(hatch_build, "BUILD", tmp_path / "build")
    monkeypatch.setattr(hatch_build, "_build", build)
    assert hatch_build.build() == tmp_path


def test_modules_in_use_are_not_removed_before_the_new_ones_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has read the manifest imports them one by one, for half a second."""
    folder, made = tmp_path / "compiled", tmp_path / "new"
    for path in (folder, made):
        path.mkdir()
        (path / "module.so").write_text(path.name)
    removed: list[Path] = []
    monkeypatch.setattr(hatch_build, "BUILD", tmp_path)
    monkeypatch.setattr(hatch_build.shutil, "rmtree", lambda path, **_: removed.append(path))
    hatch_build._replace(folder, made)
    assert (folder / "module.so").read_text() == "new"
    assert folder not in removed
    assert (removed[-1] / "module.so").read_text() == "compiled"
