"""Chooses the form that runs: the sources as they are (pure), or those that mypyc has compiled.

The compiled modules are in a folder of their own, so no binary lies beside a source and hides it. They are
used only if they were made from exactly these sources, for this Python. After an edit the sources run, until
`python hatch_build.py` has run again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

PACKAGE = Path(__file__).parent
FOLDER = PACKAGE / "_compiled"
MANIFEST = "manifest.json"
"""The file in FOLDER that describes the build. It is written last."""


class Form(NamedTuple):
    """The form of this program that runs."""

    is_compiled: bool
    stale: str = ""  # why the compiled modules are not used although they exist

    def __str__(self) -> str:
        return "compiled" if self.is_compiled else "pure"


class _Finder(MetaPathFinder):
    """Finds compiled modules by name, before Python looks for their sources."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._files:
            return None
        file = str(FOLDER / self._files[fullname])
        return spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, file))


def write_manifest(folder: Path, files: Mapping[str, str], sources: Sequence[str]) -> None:
    """Describe a build in `folder`: its file for each module, and the sources that it was made from."""
    hashes = {source: _hash(source) for source in sources}
    manifest = {"python": EXTENSION_SUFFIXES[0], "files": files, "sources": hashes}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def _use() -> Form:
    """Let imports find the compiled modules, unless they are missing or stale, or TRACKER_PURE is 1."""
    if os.environ.get("TRACKER_PURE", "").strip() == "1":
        return Form(is_compiled=False)
    try:
        manifest = json.loads((FOLDER / MANIFEST).read_bytes())
    except FileNotFoundError:
        return Form(is_compiled=False)
    stale = _difference(manifest["python"], manifest["sources"])
    if not stale:
        sys.meta_path.insert(0, _Finder(manifest["files"]))
    return Form(is_compiled=not stale, stale=stale)


def _difference(python: str, sources: Mapping[str, str]) -> str:
    """How this Python or these sources differ from those of the build. "" if they do not."""
    if python != EXTENSION_SUFFIXES[0]:
        return "they are for another Python"
    changed = next((source for source, hash_ in sources.items() if _hash(source) != hash_), None)
    return f"tracker/{changed} has changed since" if changed else ""


def _hash(source: str) -> str:
    """The hash of a source, named relative to the package. "" if there is no such file."""
    try:
        return blake2b((PACKAGE / source).read_bytes(), digest_size=16).hexdigest()
    except FileNotFoundError:
        return ""


FORM = _use()
"""What runs in this process."""
