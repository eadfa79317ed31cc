"""The embedded engines: real servers from the wheels, in difficult places and after kills."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from tests.conftest import Engines
from tracker.errors import CannotStartError
from tracker.processes import children
from tracker.processes.children import Child, Claim
from tracker.processes.engines.engine import (
    Engine,
    check_version,
    postgres_dsn,
    redis_url,
    resolve,
    socket_dir,
)
from tracker.processes.engines.postgres import start_postgres
from tracker.processes.engines.valkey import start_valkey
from tracker.settings import Settings

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def claimed(data_dir: Path) -> AsyncIterator[Claim]:
    claim = await Claim.take(data_dir)
    try:
        yield claim
    finally:
        await claim.release()


@asynccontextmanager
async def stopped_later(*engines: Child) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await asyncio.gather(*(engine.stop() for engine in engines))


async def eventually(happens: Callable[[], bool]) -> None:
    while not happens():
        await asyncio.sleep(0.01)


@pytest.fixture(params=["plain", "deep, dark and 0700" + "/too long for a socket" * 4], ids=["plain", "deep"])
def data_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path / request.param


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("save", ""),
        ("maxmemory-policy", "noeviction"),
        ("hash-max-listpack-entries", "512"),
        ("port", "0"),
    ],
)
async def test_valkey_is_set_to_keep_its_promise(engines: Engines, name: str, expected: str) -> None:
    async with redis.asyncio.Redis.from_url(engines.redis_url, decode_responses=True) as client:
        assert (await client.config_get(name))[name] == expected
        assert int((await client.config_get("maxmemory"))["maxmemory"]) >= 256 << 20


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("listen_addresses", ""),
        ("server_encoding", "UTF8"),
        ("lc_collate", "C"),
        ("timezone", "UTC"),
    ],
)
async def test_postgres_is_set_to_keep_its_promise(database: Settings, name: str, expected: str) -> None:
    connection = await asyncpg.connect(database.postgres_dsn)
    query = "SELECT datcollate FROM pg_database WHERE datname = current_database()"
    value = await connection.fetchval(query if name == "lc_collate" else f"SHOW {name}")
    await connection.close()
    assert value == expected


async def test_written_records_survive_a_kill(data_dir: Path) -> None:
    settings = Settings(data_dir=data_dir)
    async with claimed(data_dir) as claim:
        valkey, postgres = await _start_both(settings, claim)
        async with stopped_later(valkey, postgres):
            await _write(valkey, postgres)
            for engine in (valkey, postgres):
                os.kill(engine.process.pid, signal.SIGKILL)
                await engine.process.wait()
        # A reused process number must not be taken for the server's.
        pid_file = data_dir / "postgres" / "postmaster.pid"
        lines = pid_file.read_text().split("\n")
        pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    async with claimed(data_dir) as claim:
        valkey, postgres = await _start_both(settings, claim)
        async with stopped_later(valkey, postgres):
            assert await _read(valkey, postgres) == (b"kept", "kept")
    if socket_dir(data_dir).parent == Path("/tmp"):
        shutil.rmtree(socket_dir(data_dir))


async def test_data_dir_has_one_claim_at_a_time(tmp_path: Path) -> None:
    async with claimed(tmp_path):
        with pytest.raises(
            CannotStartError, match=rf"^TRACKER_DATA_DIR: {tmp_path} is in use .* \(pid {os.getpid()}\)$"
        ):
            await Claim.take(tmp_path)
    async with claimed(tmp_path):
        pass


async def test_process_ends_with_its_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "LEFTOVER_SECONDS", 0.5)
    async with claimed(tmp_path) as claim:
        deaf = ["/bin/sh", "-c", 'trap "" TERM; echo up; while :; do sleep 0.1; done']
        log = tmp_path / "log"
        process = await children.spawn(deaf, claim, signal.SIGTERM, log=log)
        await eventually(lambda: log.read_text() == "up\n")
    assert await process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("17", r"is a cluster of PostgreSQL 17, but the embedded server is \d+"),
        (None, "is not a PostgreSQL cluster"),
    ],
)
async def test_foreign_cluster_is_refused(tmp_path: Path, version: str | None, message: str) -> None:
    (tmp_path / "postgres").mkdir()
    if version:
        (tmp_path / "postgres" / "PG_VERSION").write_text(f"{version}\n")
    async with claimed(tmp_path) as claim:
        with pytest.raises(CannotStartError, match=message):
            await start_postgres(Settings(data_dir=tmp_path), claim)


async def test_engine_with_unreadable_data_names_the_reason(tmp_path: Path) -> None:
    (tmp_path / "valkey" / "appendonlydir").mkdir(parents=True)
    (tmp_path / "valkey" / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    async with claimed(tmp_path) as claim:
        with pytest.raises(CannotStartError, match=r"^Valkey does not start: .*manifest"):
            await start_valkey(Settings(data_dir=tmp_path), claim)


def test_addresses_follow_from_the_data_directory(tmp_path: Path) -> None:
    short, long = Path("/srv/tracker"), Path("/srv") / ("deep" * 30)
    assert redis_url(short) == "unix:///srv/tracker/run/valkey.sock"
    assert postgres_dsn(short) == "postgresql://tracker@/tracker?host=%2Fsrv%2Ftracker%2Frun"
    assert socket_dir(long).parent == Path("/tmp")
    assert len(os.fsencode(socket_dir(long))) < 80
    assert resolve(Settings(data_dir=short, redis_url="redis://r")).redis_url == "redis://r"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's directory")
def test_strangers_socket_directory_is_refused(tmp_path: Path) -> None:
    stranger = socket_dir(tmp_path)
    stranger.mkdir()
    os.chown(stranger, 4242, 4242)
    with pytest.raises(CannotStartError, match="is another user's"):
        resolve(Settings(data_dir=tmp_path))


@pytest.mark.parametrize(
    ("server", "version", "is_refused"),
    [
        ("redis", "6.0.20", True),
        ("redis", "6.2", False),
        ("redis", "10.0.1", False),
        ("valkey", "7.2.5", True),
        ("valkey", "8.0.0", False),
        ("postgresql", "14.9", True),
        ("postgresql", "15beta2", False),
        ("postgresql", "18.6", False),
    ],
)
def test_servers_too_old_are_refused(server: str, version: str, is_refused: bool) -> None:
    if is_refused:
        with pytest.raises(CannotStartError, match=f"^TRACKER_X: {server} {version} is too old"):
            check_version("TRACKER_X", server, version)
    else:
        check_version("TRACKER_X", server, version)


async def _start_both(settings: Settings, claim: Claim) -> tuple[Engine, Engine]:
    return await start_valkey(settings, claim), await start_postgres(settings, claim)


async def _write(valkey: Engine, postgres: Engine) -> None:
    async with redis.asyncio.Redis.from_url(valkey.url) as client:
        await client.set("key", "kept")
    connection = await asyncpg.connect(postgres.url)
    assert await connection.fetchval("SHOW fsync") == "on"  # the server of other tests runs without it
    await connection.execute("CREATE TABLE kept AS SELECT 'kept' AS value")
    await connection.close()


async def _read(valkey: Engine, postgres: Engine) -> tuple[bytes, str]:
    connection = await asyncpg.connect(postgres.url)
    value = await connection.fetchval("SELECT value FROM kept")
    await connection.close()
    async with redis.asyncio.Redis.from_url(valkey.url) as client:
        return await client.get("key"), value
