"""`tracker up` of root: the users of its processes, and their rights."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import open_directory
from tests.e2e.running import Up, up, wait_until
from tracker.processes.engines.accounts import ENGINES, SERVICES
from tracker.processes.engines.cluster import ADMIN, ROLE
from tracker.processes.engines.engine import socket_dir
from tracker.processes.engines.postgres import postgres_tool

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root alone has processes of several users")

_ROOT = Path(__file__).parents[2]
_PARTS = {
    "valkey-server": ENGINES,
    "postgres": ENGINES,
    "tracker edge": SERVICES,
    "tracker api": SERVICES,
    "tracker worker": SERVICES,
    "tracker metrics": SERVICES,
}


@pytest.fixture(scope="module")
def open_dir() -> Iterator[Path]:
    """A directory that every user may enter, unlike those of pytest."""
    with open_directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def open_python(open_dir: Path) -> str:
    """This interpreter with its packages and the tracker, where everybody may read them."""
    base, home = Path(sys.base_prefix), open_dir / "python"
    library = Path("lib") / f"python{sys.version_info.major}.{sys.version_info.minor}"
    _open_copy(base / library, home / library, "test", "site-packages", "__pycache__")
    (home / "bin").mkdir()
    interpreter = _linked(Path(sys.executable).resolve(), home / "bin" / "python3")
    for shared in (base / "lib").glob("libpython*"):
        _linked(shared.resolve(), home / "lib" / shared.name)
    packages = open_dir / "venv" / library / "site-packages"
    _open_copy(Path(pytest.__file__).parents[1], packages, "_editable_*", "__editable__*", "ruff*", "mypy*")
    for package in (_ROOT / "src" / "tracker", _ROOT / "workers"):
        _open_copy(package, packages / package.name)
    (open_dir / "venv" / "pyvenv.cfg").write_text(f"home = {home / 'bin'}\n")
    (open_dir / "venv" / "bin").mkdir()
    (open_dir / "venv" / "bin" / "python").symlink_to(interpreter)
    return str(open_dir / "venv" / "bin" / "python")


def _open_copy(source: Path, target: Path, *without: str) -> None:
    shutil.copytree(source, target, copy_function=_linked, ignore=shutil.ignore_patterns(*without))


def _linked(source: Path | str, target: Path | str) -> Path:
    """A hard link, which costs nothing, or a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return Path(target)


@pytest.fixture(scope="module")
def running(open_dir: Path, open_python: str) -> Iterator[Up]:
    with up(open_dir / "var", python=open_python, LD_LIBRARY_PATH=str(open_dir / "python/lib")) as tracker:
        yield tracker


def _status(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: values.split() for name, _, values in (line.partition(":") for line in lines)}


@pytest.mark.parametrize(("part", "user"), _PARTS.items())
def test_parts_run_as_their_user_with_least_rights(running: Up, part: str, user: str) -> None:
    account, status = pwd.getpwnam(user), _status(running.child(part))
    assert status["Uid"] == [str(account.pw_uid)] * 4
    assert status["Gid"] == [str(account.pw_gid)] * 4
    engines = str(pwd.getpwnam(ENGINES).pw_gid)
    assert status["Groups"] == ([] if user == ENGINES else [engines])
    assert {status[name][0] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == ["1"]
    assert "root" not in running.output


def test_click_is_stored_after_a_restart_of_the_edge(running: Up) -> None:
    before = running.child("tracker edge")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: {*running.children_with("tracker edge")} - {before})
    response, _ = running.get(running.link)
    assert response.status == 302
    wait_until(lambda: any(c["redirected_link"] == response.headers["location"] for c in running.clicks()))


def test_metrics_show_the_processes_of_their_user(running: Up) -> None:
    response, body = running.get("/metrics", running.metrics_port)
    assert response.status == 200
    shown = re.findall(r'tracker_process_up{process="(.+?)"} 1.0\n', body.decode())
    assert shown == [f"api-{running.api_port}", "edge-0", "worker-0"]


def test_commands_of_root_work(running: Up) -> None:
    words = [sys.executable, "-m", "tracker", "token", "create", "--scope", "clicks:read"]
    env = {"TRACKER_DATA_DIR": str(running.data_dir)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("trk_"), done.stderr


_CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


@pytest.mark.parametrize("socket", ["valkey.sock", ".s.PGSQL.5432"])
def test_process_of_another_user_cannot_connect(running: Up, open_python: str, socket: str) -> None:
    path = socket_dir(running.data_dir) / socket
    assert _as("nobody", open_python, "-c", _CONNECT, str(path)).endswith("Permission denied\n")
    assert _as(SERVICES, open_python, "-c", _CONNECT, str(path), group=ENGINES) == ""


@pytest.mark.parametrize(
    ("user", "role", "statement", "answer"),
    [
        (SERVICES, ROLE, "SELECT current_user", ROLE),
        (SERVICES, ROLE, "COPY affiliate FROM PROGRAM 'id'", "permission denied to COPY"),
        (SERVICES, ROLE, "COPY affiliate FROM '/etc/passwd'", "permission denied to COPY"),
        (SERVICES, ROLE, "SELECT pg_read_file('/etc/passwd')", "permission denied for function"),
        (SERVICES, ROLE, "CREATE ROLE other SUPERUSER", "permission denied to create role"),
        (SERVICES, ROLE, f"SET ROLE {ADMIN}", "permission denied to set role"),
        (SERVICES, ROLE, "ALTER SYSTEM SET fsync = off", "permission denied to set parameter"),
        (SERVICES, ADMIN, "SELECT 1", "Peer authentication failed"),
        (ENGINES, ADMIN, "SELECT 1", "Peer authentication failed"),
        (ENGINES, ROLE, "SELECT 1", "Peer authentication failed"),
        ("nobody", ROLE, "SELECT 1", "Peer authentication failed"),
        ("root", ROLE, "SELECT current_user", ROLE),
        ("root", ADMIN, "SELECT pg_read_file('{data_dir}/demo-token')", "Permission denied"),
        ("root", ADMIN, "COPY affiliate FROM PROGRAM 'cat {data_dir}/demo-token'", "program .* failed"),
    ],
)
def test_database_role_belongs_to_its_user_with_least_rights(
    running: Up, open_dir: Path, user: str, role: str, statement: str, answer: str
) -> None:
    psql = postgres_tool("psql")
    copied = open_dir / "venv" / psql.relative_to(Path(sys.prefix))
    words = ["-X", "-A", "-t", "-h", str(socket_dir(running.data_dir)), "-U", role, "-d", "tracker", "-c"]
    said = _as(user, str(copied), *words, statement.format(data_dir=running.data_dir), group=ENGINES)
    assert re.search(answer, said), said


@pytest.mark.parametrize(
    ("user", "path"),
    [
        ("nobody", "run"),
        ("nobody", "metrics"),
        ("nobody", "demo-token"),
        (ENGINES, "demo-token"),
        (ENGINES, "spool"),
        (ENGINES, "catalogue"),
        (ENGINES, "metrics"),
        (SERVICES, "demo-token"),
        (SERVICES, "postgres"),
        (SERVICES, "valkey"),
        (SERVICES, "postgres.log"),
    ],
)
def test_files_of_a_user_are_closed_to_others(running: Up, user: str, path: str) -> None:
    closed = running.data_dir / path
    looking = "/usr/bin/ls" if closed.is_dir() else "/usr/bin/cat"
    assert "Permission denied" in _as(user, looking, str(closed))


def _as(user: str, *argv: str, group: str | None = None) -> str:
    """The output of a program run by this user with another group."""
    account = pwd.getpwnam(user)
    done = subprocess.run(
        argv,
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[] if group is None else [pwd.getpwnam(group).pw_gid],
        cwd="/",
        env={"LD_LIBRARY_PATH": str(Path(argv[0]).parents[2] / "python" / "lib"), "LC_ALL": "C"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout
