"""`make package`: the contents of the source archive and the wheels in dist/, and installed wheels."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import venv
from collections.abc import Iterator
from email import message_from_bytes
from importlib.metadata import requires, version
from importlib.resources import files
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from jsonschema import Draft7Validator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from referencing import Registry, Resource
from trove_classifiers import classifiers

import hatch_build
import sbom
from tests.conftest import open_directory
from tests.e2e.running import clicks_of, up
from tracker import release
from tracker.compiled import FOLDER
from tracker.release import DISTRIBUTION

ROOT = Path(__file__).parents[1]
NAME = f"{DISTRIBUTION.replace('-', '_')}-{release.version()}"
DIST = ROOT / "dist"
PURE = DIST / f"{NAME}-py3-none-any.whl"
WHEELS = sorted(DIST.glob("*.whl"))
MODULES = [f"{room}/{name}" for room, names in hatch_build.MODULES.items() for name in names.split()]
IMPORT_ALL = """
import importlib, pkgutil, sys, tracker, workers
for package in (tracker, workers):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            assert importlib.import_module(module.name).__file__.startswith(sys.prefix), module
"""


def committed(*folders: str) -> set[str]:
    """The files of the repository, or of folders in it."""
    words = ["git", "ls-files", "-z", "--", *folders]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split("\0")) - {""}


def test_wheels_are_one_for_every_python_and_one_compiled_if_it_can_be() -> None:
    assert PURE in WHEELS
    assert len(WHEELS) == 1 + (hatch_build.why_pure() is None)


def test_source_archive_has_all_files_of_the_repository() -> None:
    with tarfile.open(DIST / f"{NAME}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names == {*committed(), "PKG-INFO"}


@pytest.mark.parametrize("wheel", WHEELS, ids=lambda path: path.name)
def test_wheel_has_the_package_and_its_compiled_modules(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if f"{NAME}.dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    folder = FOLDER.relative_to(FOLDER.parents[2]).as_posix()
    binaries = {f"tracker.{module.replace('/', '.')}.so" for module in MODULES} | {"tracker__mypyc.so"}
    others = {"manifest.json", "LICENSE.mypyc"}
    compiled = set() if wheel == PURE else {f"{folder}/{name}" for name in binaries | others}
    sources = {path.removeprefix("src/") for path in committed("src/tracker", "workers")}
    assert names == sources | compiled
    assert licences == [f"{NAME}.dist-info/licenses/LICENSE"]


@pytest.mark.parametrize("wheel", WHEELS, ids=lambda path: path.name)
def test_wheel_has_a_valid_and_complete_bill_of_materials(wheel: Path) -> None:
    """https://peps.python.org/pep-0770/"""
    with ZipFile(wheel) as archive:
        bill = json.loads(archive.read(f"{NAME}.dist-info/sboms/{sbom.FILE}"))
    _validate(bill)
    parts = {part["name"]: part for part in bill["components"]}
    direct = {
        canonicalize_name(Requirement(line).name)
        for line in requires(DISTRIBUTION) or []
        if "extra" not in line
    }
    assert direct | {sbom.GEO} <= parts.keys()
    pinned = sbom.pins(ROOT / "requirements.txt")
    for name, part in parts.items():
        assert part["version"] == version(name) == pinned[name].version
        assert [each["content"] for each in part["hashes"]] == pinned[name].hashes
        assert part["licenses"][0]["expression"]
        assert part["purl"] == f"pkg:pypi/{name}@{version(name)}"
    inside = {each["name"]: each for part in parts.values() for each in part["components"]}
    assert inside.keys() == {"postgresql", "valkey", "DB-IP City Lite"}
    assert inside["postgresql"]["version"].startswith("18.")
    assert inside["valkey"]["version"].startswith("9.")
    named = [each["name"] for each in bill["metadata"]["component"]["components"]]
    assert named == ([] if wheel == PURE else ["mypy"])
    refs = {bill["metadata"]["component"]["bom-ref"], *(part["bom-ref"] for part in parts.values())}
    edges = {edge["ref"]: set(edge["dependsOn"]) for edge in bill["dependencies"]}
    assert edges.keys() == refs
    reached = {ref for wanted in edges.values() for ref in wanted}
    assert refs - reached == {bill["metadata"]["component"]["bom-ref"], parts[sbom.GEO]["bom-ref"]}


def _validate(bill: dict[str, Any]) -> None:
    """Hold a bill to CycloneDX's schema, which refuses unknown keys."""
    folder = files("cyclonedx.schema") / "_res"
    schemas = {
        name: json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text())
        for name in ("bom-1.6", "spdx", "jsf-0.82")
    }
    base, _, _ = schemas["bom-1.6"]["$id"].rpartition("/")
    resources = [
        (f"{base}/{name}.SNAPSHOT.schema.json", Resource.from_contents(schema))
        for name, schema in schemas.items()
    ]
    validator = Draft7Validator(schemas["bom-1.6"], registry=Registry().with_resources(resources))
    assert [error.message for error in validator.iter_errors(bill)] == []
    assert not validator.is_valid(bill | {"unknown": 1})


@pytest.mark.parametrize("wheel", WHEELS, ids=lambda path: path.name)
def test_index_can_show_the_wheel(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        metadata = message_from_bytes(archive.read(f"{NAME}.dist-info/METADATA"))
    page = str(metadata.get_payload())
    assert page.startswith("# Tracker\n")
    assert re.findall(r"!\[|\]\((?!https?:)[^)]*\)", page) == [], "an index has no such files"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["License-Expression"] == "MIT"
    assert all(each in classifiers for each in metadata.get_all("Classifier", []))


@pytest.fixture(scope="module", params=WHEELS, ids=lambda path: path.name)
def installed(request: pytest.FixtureRequest) -> Iterator[tuple[Path, bool]]:
    """The Python of an environment with one wheel, and whether it is compiled. It borrows other packages."""
    wheel: Path = request.param
    with open_directory() as directory:
        venv.create(directory / "venv", symlinks=True)
        python = directory / "venv" / "bin" / "python"
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
        words = [sys.executable, "-m", "pip", "--python", str(python), "install", *options, str(wheel)]
        subprocess.run(words, check=True)
        (site,) = directory.glob("venv/lib/python*/site-packages")
        others = Path(pytest.__file__).parents[1]  # its .pth files have no effect there, so ours is not found
        (site / "others.pth").write_text(f"{others}\n")
        yield python, wheel != PURE


def run(python: Path, *words: str) -> str:
    done = subprocess.run(words, cwd=python.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_installed_wheel_imports_all_its_modules(installed: tuple[Path, bool]) -> None:
    python, _ = installed
    assert run(python, str(python), "-W", "error", "-c", IMPORT_ALL) == ""


def test_installed_wheel_says_its_version_and_form(installed: tuple[Path, bool]) -> None:
    python, is_compiled = installed
    command = str(python.with_name("tracker"))
    assert run(python, command, "--version") == f"tracker {release.version()}\n"
    form = run(python, command, "doctor", "--only", "form")
    assert (f"compiled: {len(MODULES)} modules by mypyc" in form) == is_compiled, form
    assert ("pure Python: nothing was compiled" in form) != is_compiled, form


def test_installed_wheel_redirects_and_stores_a_click(installed: tuple[Path, bool]) -> None:
    python, _ = installed
    with open_directory() as directory, up(directory / "var", python=str(python)) as tracker:
        response, _ = tracker.get(tracker.link)
        assert response.status == 302
        clicks_of(tracker, "", 1)
