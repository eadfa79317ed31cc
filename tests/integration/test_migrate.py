"""Killed migrations, and others running at the same time."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.conftest import Engines
from tests.environ import clean_environ
from tests.integration.engines import until
from tracker.errors import UserError
from tracker.settings import Settings
from tracker.store import migrate as module
from tracker.store.distribution import distribute
from tracker.store.locks import Lock
from tracker.store.migrate import migrate

pytestmark = pytest.mark.anyio

_LAST = module._names()[-1]
_WAITS = "SELECT true FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
_NOBODY_WAITS = f"SELECT NOT EXISTS ({_WAITS})"


@pytest.fixture
async def lagging(
    engines: Engines, maintenance: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[str]:
    """The DSN of a database that lacks the last migration."""
    await maintenance.execute("CREATE DATABASE lagging OWNER tracker")
    names = module._names()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_names", lambda: names[:-1])
        await migrate(engines.dsn_of("lagging"))
    yield engines.dsn_of("lagging")
    await maintenance.execute("DROP DATABASE lagging WITH (FORCE)")


async def _migrating(dsn: str) -> asyncio.subprocess.Process:
    environ = clean_environ()
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tracker", "migrate"),
        env=environ | {"TRACKER_POSTGRES_DSN": dsn},
        stderr=asyncio.subprocess.PIPE,
    )


async def test_killed_migration_frees_its_lock_and_the_next_run_says_so(
    lagging: str, caplog: pytest.LogCaptureFixture
) -> None:
    blocker, observer = await asyncpg.connect(lagging), await asyncpg.connect(lagging)
    async with blocker.transaction():
        await blocker.execute("LOCK TABLE migration IN SHARE MODE")  # which is read, and not written to
        killed = await _migrating(lagging)
        await until(lambda: observer.fetchval(_WAITS))
        killed.send_signal(signal.SIGKILL)
        await killed.communicate()
        await until(lambda: observer.fetchval(_NOBODY_WAITS))  # its lock is still held by another
    await asyncio.gather(blocker.close(), observer.close())
    assert await migrate(lagging) == [_LAST]
    assert f"migration {_LAST} was cut off: nothing of it is left, and it is applied again" in caplog.text
    caplog.clear()
    assert await migrate(lagging) == []
    assert caplog.text == ""


async def test_migration_names_the_session_it_waits_for(database: Settings) -> None:
    assert database.postgres_dsn
    other = await asyncpg.connect(database.postgres_dsn)
    await other.execute("SELECT pg_advisory_lock($1)", Lock.MIGRATION)
    second = await _migrating(database.postgres_dsn)
    assert await until(lambda: other.fetchval(_WAITS))
    pid = other.get_server_pid()
    await other.close()
    _, said = await second.communicate()
    assert second.returncode == 0
    waited_for = f"waiting for another migration of this database to end: server process {pid}, since"
    assert waited_for in said.decode()


async def test_server_without_citus_distributes_nothing(lagging: str) -> None:
    for is_dry in (True, False):
        with pytest.raises(UserError, match="this PostgreSQL has no Citus: run CREATE EXTENSION citus"):
            await distribute(lagging, is_dry=is_dry)
