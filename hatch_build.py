"""Compiles the hot modules by mypyc: in a working copy (`make build`), and in a wheel by a hook of hatchling.

Another hook makes the page that an index of packages shows.

Without a C compiler, or with TRACKER_PURE=1, nothing is compiled, and the same sources run as they are.
See docs/decisions/0033-mypyc.md.
"""

from __future__ import annotations

import ast
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from fcntl import LOCK_EX, flock
from importlib.metadata import files as files_of
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

if TYPE_CHECKING:
    from setuptools import Extension

MODULES = {
    "domain": "click_id macros model targeting",
    "edge": "click metrics outcome redirect visitor_cookie",
    "edge/catalogue": "block_lists catalogue form_paths link_forms",
    "edge/enrich": "geo mmdb_tree",
    "edge/http": "batching hit request request_head response",
    "edge/read": "client_address cookie link text visitor",
    "edge/record": "partitioned recorder",
    "stream": "appender connection partitions record shared_connection",
}
"""The compiled modules: what each click passes. To add one, add its name."""
LEFT_OUT = {
    "device.py": "as domain/caps.py, and it searches in Rust",
    "domain/caps.py": "its answers are remembered by functools.lru_cache, which is C already",
    "edge/catalogue/bot_rules.py": "as domain/caps.py",
    "edge/enrich/bots.py": "as domain/caps.py, and it searches in Rust",
    "edge/http/bounds.py": "its protocol extends uvicorn's class, which has no native form",
    "edge/http/fast_path.py": "as edge/http/bounds.py",
    "edge/read/remembered.py": "it is a dict, which mypyc extends only by slow calls",
    "edge/record/spool_file.py": "it runs during outages only, and waits for the disk",
    "edge/unmatched.py": "few hits name no known offer or affiliate",
    "store/clicks/insert.py": "its time is PostgreSQL's",
}
"""Modules on the way of a click that stay as they are, with the reason."""

ROOT = Path(__file__).resolve().parent
SOURCE = ROOT / "src"
PACKAGE = SOURCE / "tracker"
BUILD = ROOT / "build" / str(sysconfig.get_config_var("SOABI"))
NEEDS = ["mypy==2.4.1", "setuptools==84.2.1"]
"""Build requirements of the compiled form. Another mypy compiles otherwise, so tests hold for this one."""


class CustomBuildHook(BuildHookInterface[Any]):
    """Puts the compiled modules into a wheel, and gives it the tag of this Python and machine."""

    def dependencies(self) -> list[str]:
        """The packages that pip installs for the build. mypyc reads the types of all that is imported."""
        return [*NEEDS, *self.metadata.core.dependencies] if why_pure() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # that is a working copy, which `make build` compiles
            return
        why = why_pure()
        self._add_bill(build_data, None if why else version_of("mypy"))
        if why:
            self.app.display_info(f"A pure wheel: {why}.")
            return
        folder = build()
        build_data["artifacts"].append(f"/{folder.relative_to(ROOT).as_posix()}/")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def _add_bill(self, build_data: dict[str, Any], compiler: str | None) -> None:
        """Add the bill of materials, where what it lists is installed. A part of one would mislead."""
        sys.path.insert(0, str(ROOT))
        import sbom

        try:
            text = sbom.bill_of(self.metadata.version, self.metadata.core.dependencies, compiler)
        except sbom.IncompleteError as error:
            self.app.display_warning(f"No bill of materials: {error}. `make package` makes complete wheels.")
            return
        BUILD.mkdir(parents=True, exist_ok=True)
        (BUILD / sbom.FILE).write_text(text)
        build_data["sbom_files"].append(str((BUILD / sbom.FILE).relative_to(ROOT)))


class CustomMetadataHook(MetadataHookInterface):
    """Describes the package by README.md, as an index can show it."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = index_page((ROOT / "README.md").read_text(encoding="utf-8"))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def index_page(readme: str) -> str:
    """A README without pictures and links to files of the repository, which an index does not have."""
    without_pictures = re.sub(r"(?m)^\|.*!\[.*\n(?:\|[-| ]+\n)?", "", readme)
    without_head = re.sub(r"(?m)^\|.*\|\n\|[-| ]+\n(?!\|)", "", without_pictures)
    return re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]*\)", r"\1", without_head)


def why_pure() -> str | None:
    """Why nothing can be compiled here. None if it can."""
    if os.environ.get("TRACKER_PURE", "").strip() == "1":
        return "TRACKER_PURE is 1"
    if sys.version_info < (3, 11):  # noqa: UP036 - pip builds first, and then says which Python is needed
        return "Python is too old"
    compiler, *_ = _compiler()
    if shutil.which(compiler) is None:
        return f"no C compiler was found ({compiler})"
    if not _includes_python():  # one that is found may lack headers, of the C library or of Python
        return (
            f"{compiler} cannot compile a file that includes Python.h "
            "(Debian: apt install libc6-dev python3-dev)"
        )
    return None


def _includes_python() -> bool:
    words = [*_compiler(), f"-I{sysconfig.get_path('include')}", "-fsyntax-only", "-x", "c", "-"]
    done = subprocess.run(words, input=b"#include <Python.h>\n", capture_output=True, check=False)
    return done.returncode == 0


def build() -> Path:
    """Compile all modules, unless this is done. Return their folder in the package.

    Raises:
        SystemExit: mypyc refuses a source, or the C compiler fails. It has printed why.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        flock(lock, LOCK_EX)  # two builds would write the same files
        return _build()


def _build() -> Path:
    sys.path.insert(0, str(SOURCE))
    from tracker.compiled import FOLDER, hash_of, hashes_of, is_made_by, write_manifest

    compiler, recipe = f"mypyc {version_of('mypy')}", hash_of(Path(__file__))
    if is_made_by(compiler, recipe):
        return FOLDER
    sources = [f"{room}/{name}.py" for room, names in MODULES.items() for name in names.split()]
    hashes = hashes_of(_with_imports(sources))  # before mypyc reads them: one may be edited meanwhile
    extensions = _to_c(sources)
    shutil.rmtree(made := BUILD / "new", ignore_errors=True)
    made.mkdir(parents=True)
    _compile(extensions, made)
    modules = [extension.name for extension in extensions]
    write_manifest(made, compiler=compiler, recipe=recipe, modules=modules, sources=hashes)
    _add_licence(made)
    _replace(FOLDER, made)
    return FOLDER


def _add_licence(folder: Path) -> None:
    """Copy mypyc's licence, which asks for it: the compiled modules contain its runtime."""
    (licence,) = [path for path in files_of("mypy") or [] if path.match("*.dist-info/licenses/LICENSE")]
    shutil.copyfile(str(licence.locate()), folder / "LICENSE.mypyc")


def _replace(folder: Path, made: Path) -> None:
    """Put a new folder in the place of the old one, by renames: a process may start meanwhile."""
    shutil.rmtree(old := BUILD / "old", ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    if folder.exists():
        folder.rename(old)
    made.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _to_c(sources: Iterable[str]) -> list[Extension]:
    """Translate modules to C. The types of all that they import must be known."""
    from contextlib import chdir  # Python 3.10, which gets no further than why_pure(), has none

    from mypyc.build import mypycify

    printed = io.StringIO()
    try:
        with chdir(SOURCE), redirect_stdout(printed):  # tracebacks name tracker/…, wherever it is
            return mypycify(
                [
                    f"--config-file={ROOT / 'pyproject.toml'}",
                    f"--cache-dir={BUILD / 'mypy'}",
                    *(f"tracker/{source}" for source in sources),
                ],
                opt_level="2",
                debug_level="0",
                multi_file=True,  # files compile side by side, and an edit compiles few of them again
                target_dir=str(BUILD / "c"),
                group_name="tracker",
            )
    except SystemExit:
        print(printed.getvalue(), file=sys.stderr)
        raise


def _compile(extensions: Collection[Extension], into: Path) -> None:
    """Compile and link extensions, on all cores. An object newer than all that it depends on stays."""
    headers_changed = max(path.stat().st_mtime for path in [*BUILD.rglob("*.h"), Path(__file__)])
    (BUILD / "objects").mkdir(exist_ok=True)

    def compiled(source: Path, extension: Extension) -> str:
        made = BUILD / "objects" / "-".join(source.relative_to(BUILD).with_suffix(".o").parts)
        if not made.exists() or made.stat().st_mtime < max(headers_changed, source.stat().st_mtime):
            folders = [f"-I{folder}" for folder in (*extension.include_dirs, sysconfig.get_path("include"))]
            # -Wno-error: mypyc turns warnings into errors, and each compiler has warnings of its own.
            flags = [*_words("CFLAGS"), *_words("CCSHARED"), *extension.extra_compile_args, "-Wno-error"]
            _make(made, [*_compiler(), *flags, "-fvisibility=hidden", *folders, "-c", str(source)])
        return str(made)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = {
            extension.name: [pool.submit(compiled, Path(source), extension) for source in extension.sources]
            for extension in extensions
        }
        for name, parts in objects.items():
            paths = [part.result() for part in parts]
            _make(into / f"{name}.so", [*_compiler(), *_words("LDSHARED")[1:], *paths])


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CC", "")) or _words("CC")


def _words(variable: str) -> list[str]:
    """The words of a command with which this Python was built."""
    return shlex.split(str(sysconfig.get_config_var(variable) or ""))


def _make(path: Path, words: list[str]) -> None:
    """Make a file by the C compiler. If the compiler or the machine stops halfway, there is no such file."""
    part = path.with_suffix(".part")
    if subprocess.run([*words, "-o", str(part)], check=False).returncode:
        raise SystemExit(f"{path.name} cannot be compiled, see above. TRACKER_PURE=1 compiles nothing")
    part.rename(path)


def _with_imports(sources: Iterable[str]) -> list[str]:
    """The sources, and all of the package that they import: mypyc relies on their types and constants."""
    waiting, found = list(sources), set[str]()
    while waiting:
        source = waiting.pop()
        if source not in found:
            found.add(source)
            waiting += _imported(source)
    return sorted(found)


def _imported(source: str) -> set[str]:
    nodes = ast.walk(ast.parse((PACKAGE / source).read_bytes()))
    names = {
        name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module
        for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        if name.startswith("tracker.")
    }
    paths = {name.removeprefix("tracker.").replace(".", "/") + ".py" for name in names}
    return {path for path in paths if (PACKAGE / path).exists()}


if __name__ == "__main__":
    if why := why_pure():
        print(f"Nothing is compiled: {why}. The sources run as they are.")
    else:
        print(f"The compiled modules are in {build().relative_to(ROOT)}")
