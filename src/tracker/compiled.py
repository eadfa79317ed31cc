"""Chooses the form that runs: the sources as they are (pure), or the modules that mypyc compiled from them.

The compiled modules are in a folder of their own, so no binary lies beside a source and hides it. They are
used only if they were made from exactly these sources. After an edit the sources run, until the next build.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from linecache import lazycache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

PACKAGE = Path(__file__).parent
FOLDER = PACKAGE / "_compiled" / EXTENSION_SUFFIXES[0].removesuffix(".so").removeprefix(".")
"""The compiled modules for this Python, processor and C library. Each Python has a folder of its own."""
MANIFEST = "manifest.json"
"""The file in FOLDER that describes the build."""


class Form(NamedTuple):
    """The form of this program that runs."""

    text: str
    is_compiled: bool = False
    is_stale: bool = False  # compiled modules exist, but are damaged or were made from other sources


class _Finder:
    """Finds compiled modules by name, before Python looks for their sources.

    Not by the base class of importlib.abc: its import costs each process 5 ms.
    """

    def __init__(self, modules: Collection[str]) -> None:
        self._modules = frozenset(modules)
        for module in modules:  # for tracebacks, because compiled code keeps no path to its source
            lazycache(_source_of(module), {"__name__": module, "__loader__": self})

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._modules:
            return None
        file = str(FOLDER / f"{fullname}.so")
        return spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, file))

    def get_source(self, fullname: str) -> str:
        return (PACKAGE.parent / _source_of(fullname)).read_text()


def write_manifest(
    folder: Path, *, compiler: str, recipe: str, modules: Sequence[str], sources: Mapping[str, str]
) -> None:
    """Describe a build in `folder`: who made it and how, and the hashes of the sources that it relies on."""
    manifest = {"compiler": compiler, "recipe": recipe, "modules": modules, "sources": sources}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def is_made_by(compiler: str, recipe: str) -> bool:
    """Whether this compiler has made FOLDER by this recipe, from these sources."""
    try:
        manifest = json.loads((FOLDER / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    made_by = (manifest["compiler"], manifest["recipe"])
    return made_by == (compiler, recipe) and _changed(manifest["sources"]) is None


def hash_of(path: Path) -> str:
    """The hash of a file. "" if there is no such file."""
    try:
        return blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except FileNotFoundError:
        return ""


def _source_of(module: str) -> str:
    return module.replace(".", "/") + ".py"


def hashes_of(sources: Iterable[str]) -> dict[str, str]:
    """The hash of each source, by its path in the package."""
    return {source: hash_of(PACKAGE / source) for source in sources}


def _use() -> Form:
    """Let imports find the compiled modules, unless they are missing or stale, or TRACKER_PURE is 1."""
    if os.environ.get("TRACKER_PURE", "").strip() == "1":
        return Form("pure Python: TRACKER_PURE is 1")
    try:
        manifest = json.loads((FOLDER / MANIFEST).read_bytes())
    except FileNotFoundError:
        return Form(f"pure Python: nothing was compiled for {FOLDER.name}")
    except (OSError, ValueError) as error:
        return Form(f"pure Python: the compiled modules cannot be read: {error}", is_stale=True)
    if changed := _changed(manifest["sources"]):
        return Form(f"pure Python: tracker/{changed} has changed since it was compiled", is_stale=True)
    sys.meta_path.insert(0, _Finder(manifest["modules"]))
    own = [module for module in manifest["modules"] if module.startswith("tracker.")]  # not what they share
    return Form(f"compiled: {len(own)} modules by {manifest['compiler']}", is_compiled=True)


def _changed(hashes: Mapping[str, str]) -> str | None:
    """A source that is no longer as it was. None if all are."""
    return next((source for source, then in hashes.items() if hash_of(PACKAGE / source) != then), None)


FORM = _use()
"""The form that runs in this process."""
