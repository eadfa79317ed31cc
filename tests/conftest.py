"""Real engines for tests: started once a session, with a database for each test.

With --no-skips a skipped test fails. A complete machine has no reason to skip.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import asyncpg
import pytest
import redis.asyncio
from hypothesis import settings as hypothesis_settings

from tests.integration import topologies
from tests.integration.topologies import Topology
from tracker.compiled import FORM
from tracker.processes.children import Claim
from tracker.processes.engines import postgres as engines_postgres
from tracker.processes.engines.cluster import ADMIN, ROLE
from tracker.processes.engines.engine import Engine, resolve
from tracker.processes.engines.postgres import start_postgres
from tracker.processes.engines.valkey import start_valkey
from tracker.settings import Settings
from tracker.store.distribution import distribute
from tracker.store.migrate import migrate

_MEMORY = Path("/dev/shm")
_ROOM = 6 << 30  # bytes of it that tests may need
_TEMPLATE = "migrated_template"
_TOPOLOGIES = {"cluster": topologies.cluster, "sentinel": topologies.sentinels}
_numbers = itertools.count(1)
# How long an example takes is the machine's affair. On a busy one, 1 ms of work took 780 ms.
hypothesis_settings.register_profile("patient", parent=hypothesis_settings(), deadline=None)
hypothesis_settings.load_profile("patient")

CITUS_DSN = os.environ.get("TRACKER_TEST_CITUS_DSN", "")
"""A superuser's DSN of a Citus of one node, if the tests shall use it in place of the embedded PostgreSQL."""
_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)


def pytest_addoption(parser: pytest.Parser) -> None:
    if _has_room():
        # A database has 600 files. ext4 takes 30 to 300 ms of a core to create them, memory takes 12 ms.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))
    parser.addoption("--no-skips", action="store_true", help="a test that is skipped fails")
    parser.addoption("--on", choices=sorted(_TOPOLOGIES), help="stream servers on several nodes")


def pytest_report_header() -> list[str]:
    where = "there" if CITUS_DSN else "left out, because TRACKER_TEST_CITUS_DSN is not set"
    return [f"tracker: {FORM.text}", f"tests on Citus: {where}"]


collect_ignore = [] if CITUS_DSN else ["integration/test_citus.py"]
"""No test is skipped for it: few machines have a Citus."""


def _has_room() -> bool:
    """Whether files in memory may be as large as those of the tests, and may be executed."""
    if not os.access(_MEMORY, os.W_OK):
        return False
    there = os.statvfs(_MEMORY)
    return there.f_bavail * there.f_frsize >= _ROOM and not there.f_flag & os.ST_NOEXEC


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without the garbage collector: they all stay. It took 4 of 9 seconds to look at them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _without_skips(item.config, (yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _without_skips(collector.config, (yield))


def _without_skips(config: pytest.Config, report: _Report) -> _Report:
    if report.skipped and config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and --no-skips allows none: {report.longrepr}"
    return report


@dataclass(frozen=True)
class Engines:
    settings: Settings
    valkey: Engine
    postgres: Engine
    nodes: Topology | None = None  # of the stream, in place of `valkey`

    @property
    def redis_url(self) -> str:
        return self.nodes.url if self.nodes else self.valkey.url

    async def empty_stream(self) -> None:
        if self.nodes:
            await self.nodes.empty()
            return
        async with redis.asyncio.Redis.from_url(self.valkey.url) as client:
            await client.flushall()

    @property
    def postgres_dsn(self) -> str:
        return self.postgres.url

    def dsn_of(self, database: str) -> str:
        if CITUS_DSN:
            address = CITUS_DSN.rpartition("@")[2].partition("/")[0]
            return f"postgresql://{ROLE}@{address}/{database}"
        return urlsplit(self.postgres.url)._replace(path=f"/{database}").geturl()


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter, unlike those of pytest."""
    root = os.environ.get("PYTEST_DEBUG_TEMPROOT", "/tmp")
    with tempfile.TemporaryDirectory(prefix="tracker-open-", dir=root) as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


Furnish = Callable[[Path], Path]


@pytest.fixture(scope="session")
async def furnish(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Furnish:
    """Copies a migrated cluster into a new data directory. Making one takes two seconds."""
    settings = resolve(Settings(data_dir=tmp_path_factory.mktemp("furnished") / "var"))
    claim = await Claim.take(settings.data_dir)
    postgres = await start_postgres(settings, claim)
    await migrate(postgres.url)
    await postgres.stop()
    await claim.release()

    def lay(data_dir: Path) -> Path:
        shutil.copytree(settings.data_dir / "postgres", data_dir / "postgres")
        return data_dir

    return lay


@pytest.fixture(scope="session")
async def engines(
    furnish: Furnish, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Engines]:
    """Valkey and PostgreSQL as `tracker up` starts them, for the whole session.

    With --on the stream is on several nodes.
    """
    settings = resolve(Settings(data_dir=furnish(tmp_path_factory.mktemp("engines"))))
    claim = await Claim.take(settings.data_dir)
    with pytest.MonkeyPatch.context() as patch:
        # Without fsync: power stays on, and syncing costs half a second a test.
        patch.setitem(engines_postgres._POSTGRES_OPTIONS, "fsync", "off")
        valkey = await start_valkey(settings, claim)
        postgres = await start_postgres(settings, claim)
    async with AsyncExitStack() as stack:
        nodes = None
        if topology := _TOPOLOGIES.get(request.config.getoption("--on")):
            nodes = await stack.enter_async_context(topology(tmp_path_factory.mktemp("nodes") / "of"))
            settings = replace(settings, redis_url=nodes.url)
        yield Engines(settings, valkey, postgres, nodes)
    await asyncio.gather(valkey.stop(), postgres.stop())
    await claim.release()


@pytest.fixture(scope="session")
async def maintenance(engines: Engines) -> AsyncIterator[asyncpg.Connection]:
    """A connection for creating and dropping databases. The template exists."""
    connection = await _administer(engines)
    if CITUS_DSN:
        await _make_distributed_template(engines, connection)
    else:
        await connection.execute(f"CREATE DATABASE {_TEMPLATE} TEMPLATE tracker OWNER {ROLE}")
    yield connection
    await connection.close()


async def _make_distributed_template(engines: Engines, connection: asyncpg.Connection) -> None:
    """Of four shards, because databases are copied from it. Nobody may be connected to it then."""
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", ROLE):
        await connection.execute(f"CREATE ROLE {ROLE} LOGIN")
    # `distribute` sets it for its database, and a copy does not inherit that.
    await connection.execute(f"ALTER ROLE {ROLE} SET citus.override_table_visibility = off")
    await connection.execute(f"DROP DATABASE IF EXISTS {_TEMPLATE} WITH (FORCE)")
    await connection.execute(f"CREATE DATABASE {_TEMPLATE} OWNER {ROLE}")
    await connection.execute(f"ALTER DATABASE {_TEMPLATE} SET citus.shard_count = 4")
    inside = await asyncpg.connect(urlsplit(CITUS_DSN)._replace(path=f"/{_TEMPLATE}").geturl())
    await inside.execute("CREATE EXTENSION citus")
    await inside.close()
    await migrate(engines.dsn_of(_TEMPLATE))
    await distribute(engines.dsn_of(_TEMPLATE))
    await connection.execute(f"ALTER DATABASE {_TEMPLATE} ALLOW_CONNECTIONS false")
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", _TEMPLATE
    )


async def _administer(engines: Engines) -> asyncpg.Connection:
    if CITUS_DSN:
        return await asyncpg.connect(CITUS_DSN)
    return await asyncpg.connect(engines.dsn_of("postgres").replace(ROLE, ADMIN, 1))


class Databases:
    """Copies of the template. While a test runs, PostgreSQL drops the last one and makes the next one."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._used: list[str] = []
        self._next = asyncio.create_task(self._make())

    async def take(self) -> str:
        name = await self._next
        self._next = asyncio.create_task(self._make())
        return name

    def give_back(self, name: str) -> None:
        self._used.append(name)

    async def close(self) -> None:
        await self._next

    async def _make(self) -> str:
        while self._used:
            await self._connection.execute(f"DROP DATABASE {self._used.pop()} WITH (FORCE)")
        name = f"test_{next(_numbers)}"
        if CITUS_DSN:
            await self._connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await self._connection.execute(
            f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY file_copy OWNER {ROLE}"
        )
        return name


@pytest.fixture(scope="session")
async def databases(engines: Engines, maintenance: asyncpg.Connection) -> AsyncIterator[Databases]:
    """`maintenance` comes first: it makes the template."""
    connection = await _administer(engines)
    made = Databases(connection)
    yield made
    await made.close()
    await connection.close()


@pytest.fixture
async def database(engines: Engines, databases: Databases, tmp_path: Path) -> AsyncIterator[Settings]:
    """Settings with a migrated database of this test's own and an empty Valkey."""
    name = await databases.take()
    await engines.empty_stream()
    yield replace(engines.settings, postgres_dsn=engines.dsn_of(name), data_dir=tmp_path)
    databases.give_back(name)
