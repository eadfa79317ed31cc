"""The embedded PostgreSQL's cluster: conversion of earlier ones, kills and old locks."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.integration.engines import PATIENCE
from tracker.errors import CannotStartError
from tracker.ops.backup import programs
from tracker.processes import children
from tracker.processes.children import Claim
from tracker.processes.engines import accounts
from tracker.processes.engines.cluster import ADMIN, ROLE
from tracker.processes.engines.engine import Engine, socket_dir
from tracker.processes.engines.postgres import postgres_tool, start_postgres
from tracker.settings import Settings
from tracker.store.migrate import migrate

pytestmark = pytest.mark.anyio
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone has processes of several users")

_FILL = """
CREATE TABLE kept AS SELECT 'kept' AS value;
CREATE TYPE mood AS ENUM ('good');
CREATE DOMAIN natural_number AS int CHECK (VALUE > 0);
CREATE SCHEMA reports;
CREATE VIEW reports.kept AS TABLE kept;
CREATE MATERIALIZED VIEW reports.kept_once AS TABLE kept;
CREATE SEQUENCE reports."Odd name";
CREATE TYPE reports.pair AS (a int, b int);
CREATE FUNCTION reports.double(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';
CREATE PROCEDURE nothing() LANGUAGE sql AS '';
CREATE STATISTICS reports.related ON id, name FROM affiliate;
CREATE EXTENSION pg_trgm;
"""
_OWNERS = """
WITH spaces AS (SELECT oid, nspowner FROM pg_namespace WHERE nspname IN ('public', 'reports'))
SELECT relowner::regrole::text FROM pg_class JOIN spaces ON spaces.oid = relnamespace
UNION SELECT nspowner::regrole::text FROM spaces WHERE nspowner <> 'pg_database_owner'::regrole
UNION SELECT typowner::regrole::text FROM pg_type JOIN spaces ON spaces.oid = typnamespace
    WHERE typname !~ 'gtrgm'
UNION SELECT proowner::regrole::text FROM pg_proc WHERE proname IN ('double', 'nothing')
UNION SELECT stxowner::regrole::text FROM pg_statistic_ext
UNION SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()
"""


def _nobody() -> dict[str, int]:
    """The user of root's engines in earlier versions."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid}


def _run_old(cluster: Path, program: str, *words: str, text: str = "") -> None:
    command = [str(postgres_tool(program)), *words]
    subprocess.run(command, cwd=cluster, input=text, text=True, check=True, capture_output=True, **_nobody())


@contextmanager
def _old_server(cluster: Path) -> Iterator[str]:
    """A cluster as earlier versions ran it. Yields its DSN."""
    command = [str(postgres_tool("postgres")), "-D", "/proc/self/cwd", "-c", "listen_addresses="]
    command += ["-c", "unix_socket_directories=.", "-c", "fsync=off"]
    server = subprocess.Popen(command, cwd=cluster, stderr=subprocess.DEVNULL, **_nobody())
    try:
        ready = [str(postgres_tool("pg_isready")), "-q", "-h", str(cluster)]
        while subprocess.run(ready, check=False).returncode != 0:
            assert server.poll() is None
        yield f"postgresql://tracker@/tracker?host={cluster}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(PATIENCE)


@pytest.fixture(scope="module")
async def old(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory of earlier versions: one superuser role and `trust`. Root's belongs to nobody."""
    data_dir = tmp_path_factory.mktemp("old")
    cluster = data_dir / "postgres"
    cluster.mkdir(mode=0o700)
    _chown(cluster)
    _run_old(cluster, "initdb", "-D", "/proc/self/cwd", "-U", "tracker", "--auth=trust", "--locale=C", "-N")
    single = ["--single", "-D", "/proc/self/cwd", "postgres"]
    _run_old(cluster, "postgres", *single, text="CREATE DATABASE tracker\n")
    with _old_server(cluster) as dsn:
        await migrate(dsn)
        await _execute(dsn, _FILL)
        dump = [f"--dbname={dsn}", "-Fc", f"--file={data_dir / 'dump'}"]
        await programs.run("pg_dump", *dump)
    return data_dir


@pytest.fixture
def data_dir(old: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(old / "postgres", tmp_path / "postgres")
    (tmp_path / "run").mkdir(mode=0o700)
    _chown(tmp_path / "postgres")
    _chown(tmp_path / "run")
    return tmp_path


def _chown(directory: Path) -> None:
    if nobody := _nobody():
        for path in (directory, *directory.rglob("*")):
            os.chown(path, nobody["user"], nobody["group"], follow_symlinks=False)


async def _execute(dsn: str, statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


async def _values(dsn: str, query: str) -> set[object]:
    connection = await asyncpg.connect(dsn)
    try:
        return {row[0] for row in await connection.fetch(query)}
    finally:
        await connection.close()


@asynccontextmanager
async def started(data_dir: Path) -> AsyncIterator[Engine]:
    claim = await Claim.take(data_dir)
    try:
        postgres = await start_postgres(Settings(data_dir=data_dir), claim)
        try:
            yield postgres
        finally:
            await postgres.stop()
    finally:
        await claim.release()


async def _check_converted(data_dir: Path) -> None:
    async with started(data_dir) as postgres:
        assert await _values(postgres.url, "SELECT value FROM kept") == {"kept"}
        assert await _values(postgres.url, "SELECT rolname FROM pg_roles WHERE rolsuper") == {ADMIN}
        assert await _values(postgres.url, "SELECT rolname FROM pg_roles WHERE rolcanlogin") == {ADMIN, ROLE}
        assert await _values(postgres.url, _OWNERS) == {ROLE}
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await _execute(postgres.url, "COPY kept FROM PROGRAM 'echo'")
        await _execute(postgres.url, "ALTER TABLE kept ADD more int; DROP FUNCTION reports.double(int)")
        await _execute(postgres.url, "DROP TABLE migration; CREATE TABLE migration (name text)")
    account = accounts.engines()
    owner = os.geteuid() if account is None else account.uid
    there = [data_dir / "postgres", data_dir / "run", *(data_dir / "postgres").rglob("*")]
    assert {path.lstat().st_uid for path in there} == {owner}


async def test_earlier_cluster_is_converted_once(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "tracker.processes.engines.cluster")
    await _check_converted(data_dir)
    async with started(data_dir):
        pass
    assert [record.name for record in caplog.records] == ["tracker.processes.engines.cluster"]


async def test_dump_of_an_earlier_cluster_is_loaded(old: Path, tmp_path: Path) -> None:
    async with started(tmp_path) as postgres:
        connection = f"--dbname={postgres.url}"
        await programs.run("pg_restore", connection, "--exit-on-error", str(old / "dump"))
        assert await _values(postgres.url, "SELECT value FROM kept") == {"kept"}


_START = """
import asyncio, os, signal, sys
from pathlib import Path
from tracker.processes.engines import accounts
from tracker.processes.engines import cluster
from tracker.processes.children import Claim
from tracker.processes.engines.postgres import start_postgres
from tracker.settings import Settings

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

async def main(data_dir):
    claim = await Claim.take(data_dir)
    await start_postgres(Settings(data_dir=data_dir), claim)

{where}
asyncio.run(main(Path(sys.argv[1])))
"""
_AFTER_SOME_FILES = """
chown, times = os.chown, iter(range(300))
os.chown = lambda *given, **named: chown(*given, **named) if next(times, None) is not None else die()
"""
_BETWEEN_THE_FILES = """
write = cluster._write
cluster._write = lambda path, *given: die() if path.name == "pg_hba.conf" else write(path, *given)
"""
_IN_ITS_TRANSACTION = """
cluster._CONVERT = cluster._CONVERT.replace("END $$", "RAISE LOG 'converted'; PERFORM pg_sleep(60); END $$")
"""


@pytest.mark.parametrize(
    "where",
    [
        pytest.param(_AFTER_SOME_FILES, marks=needs_root, id="between-two-owners"),
        pytest.param("cluster._single = die", id="before-the-roles"),
        pytest.param("cluster._users = die", id="after-the-roles"),
        pytest.param(_BETWEEN_THE_FILES, id="between-the-files"),
        pytest.param(_IN_ITS_TRANSACTION, id="in-its-transaction"),
    ],
)
async def test_interrupted_conversion_of_a_cluster_is_done_at_the_next_start(
    data_dir: Path, where: str
) -> None:
    program = [sys.executable, "-c", _START.format(where=where), str(data_dir)]
    process = await asyncio.create_subprocess_exec(*program)
    if where == _IN_ITS_TRANSACTION:
        log = data_dir / "postgres.log"
        async with asyncio.timeout(PATIENCE):
            while not log.exists() or "LOG:  converted" not in log.read_text():
                await asyncio.sleep(0.01)
        process.kill()
        os.kill(int((data_dir / "children").read_text().splitlines()[-1].split()[0]), signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    await _check_converted(data_dir)


@contextmanager
def stranger() -> Iterator[int]:
    """A program named like the server, run by the engines' user. Yields its process number."""
    account = accounts.engines()
    identity = {} if account is None else {"user": account.uid, "group": account.gid}
    process = subprocess.Popen(["postgres", "600"], executable="/bin/sleep", **identity)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


async def test_locks_naming_a_foreign_program_do_not_prevent_a_start(tmp_path: Path) -> None:
    async with started(tmp_path) as postgres:
        locks = [tmp_path / "postgres" / "postmaster.pid", socket_dir(tmp_path) / ".s.PGSQL.5432.lock"]
        lines = [lock.read_text().split("\n")[1:] for lock in locks]
        os.kill(postgres.process.pid, signal.SIGKILL)
    with stranger() as pid:
        for lock, rest in zip(locks, lines, strict=True):
            lock.write_text("\n".join([str(pid), *rest]))
        async with started(tmp_path) as postgres:
            assert await _values(postgres.url, "SELECT 1") == {1}


async def test_server_is_not_started_beside_processes_of_the_last_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = await Claim.take(tmp_path)
    settings = Settings(data_dir=tmp_path)
    first = await start_postgres(settings, claim)
    connection = await asyncpg.connect(first.url)
    backend = await connection.fetchval("SELECT pg_backend_pid()")
    os.kill(backend, signal.SIGSTOP)
    await first.kill()
    with monkeypatch.context() as patch:
        patch.setattr(children, "LEFTOVER_SECONDS", 0.2)
        with pytest.raises(CannotStartError, match=r"a process of the last postgres has not ended yet$"):
            await start_postgres(settings, claim)
    os.kill(backend, signal.SIGCONT)
    connection.terminate()
    second = await start_postgres(settings, claim)
    await second.stop()
    await claim.release()
