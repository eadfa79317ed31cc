"""Compiles the hot modules by mypyc. Not finished: nothing calls it, and not all tests pass with its result.

`python hatch_build.py` builds in a working copy. The class is a build hook of hatchling for wheels.
Without a C compiler, or with TRACKER_PURE=1, nothing is compiled, and the same sources run as they are.
"""

from __future__ import annotations

import ast
import io
import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

if TYPE_CHECKING:
    from setuptools import Extension

MODULES = {
    "domain": "click_id macros model targeting",
    "edge": "click metrics outcome redirect visitor_cookie",
    "edge/catalogue": "block_lists catalogue link_forms",
    "edge/http": "batching hit request response",
    "edge/read": "client_address cookie link text visitor",
    "edge/record": "partitioned recorder",
    "stream": "appender connection partitions record",
}
"""The compiled modules: what each click passes. To add one, add its name."""
LEFT_OUT = {
    "device.py": "its judge has a base without types, which mypyc cannot extend",
    "domain/caps.py": "its answers are remembered by functools.lru_cache, which is C already",
    "edge/catalogue/bot_rules.py": "as domain/caps.py",
    "edge/enrich/bots.py": "as domain/caps.py, and it searches in Rust",
    "edge/enrich/geo.py": "as domain/caps.py, and it searches in C",
    "edge/http/bounds.py": "its protocol extends uvicorn's class, which has no native form",
    "edge/http/fast_path.py": "as edge/http/bounds.py",
    "edge/read/remembered.py": "it is a dict, which mypyc extends only by slow calls",
    "edge/record/spool_file.py": "it runs during outages only, and waits for the disk",
    "edge/unmatched.py": "few hits name no known offer or affiliate",
    "store/clicks/insert.py": "its time is PostgreSQL's",
}
"""Modules on the way of a click that stay as they are, with the reason."""

ROOT = Path(__file__).parent
PACKAGE = ROOT / "src" / "tracker"
NEEDS = ["mypy==2.4.1", "setuptools>=80"]
"""Build requirements of the compiled form. Another mypy compiles otherwise, so tests hold for this one."""
_FLAGS = ["-O2", "-g0", "-fvisibility=hidden"]


class CustomBuildHook(BuildHookInterface[Any]):
    """Puts the compiled modules into a wheel, and gives it the tag of this Python and machine."""

    def dependencies(self) -> list[str]:
        """What pip installs for the build: mypyc reads the types of all that is imported."""
        return [*NEEDS, *self.metadata.core.dependencies] if why_pure() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        why = why_pure()
        if self.target_name != "wheel" or version == "editable":
            return
        if why:
            self.app.display_info(f"a pure wheel: {why}")
            return
        folder = ROOT / "build" / "wheel"
        build(folder)
        build_data["force_include"][str(folder)] = "tracker/_compiled"
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def why_pure() -> str | None:
    """Why nothing is compiled. None if it can be."""
    if os.environ.get("TRACKER_PURE", "").strip() == "1":
        return "TRACKER_PURE is 1"
    compiler = shlex.split(os.environ.get("CC") or str(sysconfig.get_config_var("CC") or "cc"))[0]
    if shutil.which(compiler) is None:
        return f"no C compiler ({compiler}) was found"
    header = Path(sysconfig.get_path("include"), "Python.h")
    return None if header.exists() else f"{header} is missing (Debian: apt install python3-dev)"


def build(folder: Path) -> None:
    """Compile all modules into `folder`, which is replaced. Unchanged parts are not compiled again.

    Raises:
        SystemExit: mypyc or the C compiler refuses. It has printed why.
    """
    sources = [f"{room}/{name}.py" for room, names in MODULES.items() for name in names.split()]
    shutil.rmtree(made := ROOT / "build" / "new", ignore_errors=True)
    extensions = _to_c(sources)
    _compile(extensions, made)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    files = {extension.name: extension.name.replace(".", "/") + suffix for extension in extensions}
    sys.path.insert(0, str(ROOT / "src"))
    from tracker.compiled import MANIFEST, write_manifest

    write_manifest(made, files, _with_imports(sources))
    (folder / MANIFEST).unlink(missing_ok=True)  # first, so that nobody uses a half of it
    shutil.rmtree(folder, ignore_errors=True)
    made.rename(folder)


def _to_c(sources: Sequence[str]) -> list[Extension]:
    """Translate modules to C, in build/c. The types of all that they import must be known."""
    from mypyc.build import mypycify

    os.chdir(ROOT)
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            return mypycify(
                [f"src/tracker/{source}" for source in sources],
                opt_level="2",
                multi_file=True,  # files compile side by side, and an edit compiles few of them again
                target_dir="build/c",
                group_name="tracker",
            )
    except SystemExit:
        print(printed.getvalue(), file=sys.stderr)
        raise


def _compile(extensions: Sequence[Extension], into: Path) -> None:
    """Compile and link extensions, on all cores. An object newer than all that it depends on stays."""
    from setuptools._distutils import ccompiler
    from setuptools._distutils import sysconfig as compilers

    changed = max(path.stat().st_mtime for path in [*Path("build/c").rglob("*.h"), Path(__file__)])

    def compiled(source: str, extension: Extension) -> str:
        compiler = ccompiler.new_compiler()
        compilers.customize_compiler(compiler)
        (name,) = compiler.object_filenames([source], output_dir="build/objects")
        there = Path(name)
        if not there.exists() or there.stat().st_mtime < max(changed, Path(source).stat().st_mtime):
            include = [*extension.include_dirs, sysconfig.get_path("include")]
            flags = [*extension.extra_compile_args, *_FLAGS]
            compiler.compile([source], "build/objects", include_dirs=include, extra_postargs=flags)
        return name

    def linked(extension: Extension, objects: Iterable[str]) -> None:
        compiler = ccompiler.new_compiler()
        compilers.customize_compiler(compiler)
        path = into / (extension.name.replace(".", "/") + sysconfig.get_config_var("EXT_SUFFIX"))
        compiler.link_shared_object(list(objects), str(path))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = {
            extension.name: [pool.submit(compiled, source, extension) for source in extension.sources]
            for extension in extensions
        }
        for extension in extensions:
            linked(extension, [made.result() for made in objects[extension.name]])


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
        print(f"The pure form runs: {why}.")
    else:
        build(PACKAGE / "_compiled")
