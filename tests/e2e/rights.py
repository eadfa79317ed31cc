"""Who may do what with each file, directory and socket of a data directory."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.e2e.running import Up
from tracker.processes.engines.engine import socket_dir

ORDINARY = ("unshare", "--user", "--map-user=1", "--map-group=1") if os.geteuid() == 0 else ()
"""Root's command that runs another one as an ordinary user, who may read the code wherever it is.

In its user namespace, the files of root are those of user 1, who has no rights over others.
"""
_FILE, _DIRECTORY, _SOCKET = stat.S_IFREG, stat.S_IFDIR, stat.S_IFSOCK
_PASSABLE = frozenset(
    {0o700, 0o711}
)  # others may pass, but neither list nor write. A socket needs the right to write


class _Rule(NamedTuple):
    paths: str
    kind: int
    modes: frozenset[int]
    owner: str
    """The part that it belongs to: up, engines or services."""


_RULES = [
    _Rule(r"\.", _DIRECTORY, _PASSABLE, "up"),
    _Rule(
        r"lock|children|demo-token|postgres\.lock|(valkey|postgres)\.log",
        _FILE,
        frozenset({0o600}),
        "up",
    ),
    _Rule(r"run", _DIRECTORY, frozenset({0o700}), "engines"),
    _Rule(r"run/(valkey\.sock|\.s\.PGSQL\.5432)", _SOCKET, frozenset({0o700}), "engines"),
    _Rule(r"run/\.s\.PGSQL\.5432\.lock", _FILE, frozenset({0o600}), "engines"),
    _Rule(r"postgres(/[\w.]+)*", _DIRECTORY, frozenset({0o700}), "engines"),
    _Rule(r"postgres(/[\w.-]+)+", _FILE, frozenset({0o600}), "engines"),
    _Rule(r"valkey", _DIRECTORY, frozenset({0o700}), "engines"),
    _Rule(r"valkey/appendonlydir", _DIRECTORY, _PASSABLE, "engines"),
    _Rule(
        r"valkey/appendonlydir/appendonly\.aof\.(manifest|\d+\.(base\.rdb|incr\.aof))",
        _FILE,
        frozenset({0o600}),
        "engines",
    ),
    _Rule(r"catalogue|edges|keys|metrics|spool", _DIRECTORY, frozenset({0o700}), "services"),
    _Rule(r"catalogue/\d+\.ndjson", _FILE, frozenset({0o600}), "services"),
    _Rule(r"edges/\d+\.run", _FILE, frozenset({0o600}), "services"),
    _Rule(r"keys/secret\.key", _FILE, frozenset({0o600}), "services"),
    _Rule(r"metrics/(api|edge|worker)-\d+\.sock", _SOCKET, _PASSABLE, "services"),
    _Rule(r"spool/(deployment|[0-9a-f-]+\.spool)", _FILE, frozenset({0o600}), "services"),
]
_OF_ROOT = {r"run": frozenset({0o750}), r"run/(valkey\.sock|\.s\.PGSQL\.5432)": frozenset({0o770})}
"""The services of root are in the engines' group, which may use the sockets."""


def wrong_rights(tracker: Up) -> list[str]:
    """What a running tracker's data directory has without a rule or against one, and rules without a path."""
    owners = {
        "up": _user_of(tracker.process.pid),
        "engines": _user_of(tracker.child("valkey-server")),
        "services": _user_of(tracker.child("tracker edge")),
    }
    is_roots = owners["up"] != owners["engines"]
    unmet, wrong = set(_RULES), []
    for name, status in _walk(tracker.data_dir):
        kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
        rules = [rule for rule in _RULES if rule.kind == kind and re.fullmatch(rule.paths, name)]
        unmet -= {*rules}
        if not any(_is_kept(rule, mode, is_roots) and owners[rule.owner] == status.st_uid for rule in rules):
            wrong.append(f"{name}: {stat.filemode(status.st_mode)} of user {status.st_uid}")
    return wrong + [f"nothing is named {rule.paths}" for rule in unmet]


def rights_in(directory: Path) -> set[str]:
    """The modes of a directory and of everything in it, as `ls -l` shows them."""
    return {stat.filemode(path.lstat().st_mode) for path in (directory, *directory.rglob("*"))}


def _is_kept(rule: _Rule, mode: int, is_roots: bool) -> bool:
    return mode in (_OF_ROOT.get(rule.paths, rule.modes) if is_roots else rule.modes)


def _user_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def _walk(data_dir: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Each path, relative to the data directory. Files that vanish meanwhile are left out."""
    sockets = socket_dir(data_dir)  # in /tmp if its path would be too long
    for root, name in ((data_dir, ""), (sockets, "run")):
        for path in (root, *root.rglob("*")):
            relative = (Path(name) / path.relative_to(root)).as_posix()
            if name or relative.partition("/")[0] != "run":
                with suppress(FileNotFoundError):
                    yield relative, path.lstat()
