"""Processes on a database that was not migrated log it once, wait, and then work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from tests.conftest import Engines
from tests.integration.api_client import CLICKS, api_of
from tests.integration.edge_client import PATIENCE, edge_of
from tests.integration.stream_client import NOON, append, click_at, dead_letters
from tracker.processes import catalogue_sync
from tracker.settings import Settings
from tracker.store import migrate as module
from tracker.store.catalogue.read import visitor_secret
from tracker.store.db import connect
from tracker.store.migrate import migrate
from tracker.store.outages import NOT_MIGRATED
from workers import click_writer, conversion_writer, housekeeping, postback_sender, retry, sender

pytestmark = pytest.mark.anyio

_MIGRATE = "run `tracker migrate`"
_PAUSE, _LONG = 0.1, 1.0
"""Seconds between two tries of a process, and how long it is watched."""
_OLD = {"never": 0, "long ago": 7, "by the version before": -1}
"""The number of migrations done."""
_PAUSES = (
    (catalogue_sync, "_RETRY_SECONDS"),
    (retry, "LONGEST_PAUSE"),
    (sender, "_OUTAGE_SECONDS"),
    (housekeeping, "_RETRY_SECONDS"),
)


@pytest.fixture(params=_OLD)
async def unmigrated(
    request: pytest.FixtureRequest,
    engines: Engines,
    maintenance: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> AsyncIterator[Settings]:
    await maintenance.execute("CREATE DATABASE unmigrated OWNER tracker")
    dsn = engines.dsn_of("unmigrated")
    if number := _OLD[request.param]:
        names = module._names()[:number]
        with monkeypatch.context() as patch:
            patch.setattr(module, "_names", lambda: names)
            await migrate(dsn)
    for waiting, name in _PAUSES:
        monkeypatch.setattr(waiting, name, _PAUSE)
    yield replace(engines.settings, postgres_dsn=dsn, data_dir=tmp_path)
    await maintenance.execute("DROP DATABASE unmigrated WITH (FORCE)")


def _said(caplog: pytest.LogCaptureFixture, who: str) -> list[str]:
    return [line for line in caplog.messages if line.startswith(who)]


async def test_edge_logs_once_and_serves_after_the_migration(
    unmigrated: Settings, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    is_usable = "before" in request.node.callspec.id  # it may not read the last migration's tables
    with caplog.at_level(logging.INFO):
        async with edge_of(unmigrated, demo=False, wait=False) as client:
            if not is_usable:
                assert (await client.get("/health/ready")).status_code == 503
            await asyncio.sleep(_LONG)
            said = _said(caplog, "catalogue:")
            assert len(said) == 1 or (is_usable and not said), said
            assert all(_MIGRATE in line for line in said)
            await migrate(str(unmigrated.postgres_dsn))
            async with asyncio.timeout(PATIENCE):
                while (await client.get("/health/ready")).status_code != 200:
                    await asyncio.sleep(0.05)
            assert len(_said(caplog, "catalogue:")) == len(said)


async def test_workers_log_it_once(unmigrated: Settings, caplog: pytest.LogCaptureFixture) -> None:
    stopping = asyncio.Event()
    working = [
        asyncio.create_task(click_writer.run(unmigrated, 0, stopping)),
        asyncio.create_task(conversion_writer.run(unmigrated, stopping)),
        asyncio.create_task(postback_sender.run(unmigrated, stopping)),
        asyncio.create_task(housekeeping.run(unmigrated)),
    ]
    await asyncio.sleep(_LONG)
    stopping.set()
    working[3].cancel()
    await asyncio.gather(*working, return_exceptions=True)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == len(set(warnings)), warnings
    assert all(_MIGRATE in line for line in warnings), warnings


async def test_clicks_wait_for_the_migration(unmigrated: Settings) -> None:
    """A table of an earlier version refuses rows of this one. None of them is a dead letter."""
    async with redis.asyncio.Redis.from_url(unmigrated.redis_url) as client:
        await client.flushall()
        await append(unmigrated, click_at(NOON))
        writing = asyncio.create_task(click_writer.run(unmigrated))
        await asyncio.sleep(_LONG)
        assert await client.xlen("clicks:{0}") == 1
        await migrate(str(unmigrated.postgres_dsn))
        async with asyncio.timeout(PATIENCE):
            while await client.xlen("clicks:{0}"):
                await asyncio.sleep(0.05)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert await dead_letters(unmigrated) == []


async def test_api_logs_the_outage(unmigrated: Settings, caplog: pytest.LogCaptureFixture) -> None:
    async with api_of(unmigrated, scopes=()) as client:
        answer = await client.get(CLICKS, headers={"Authorization": "Bearer trk_anything"})
        if answer.status_code == 401:  # the token table is old
            return
        assert answer.status_code == 503
    assert _MIGRATE in caplog.text
    assert "Traceback" not in caplog.text


async def test_key_of_a_migration_under_way_is_waited_for(database: Settings) -> None:
    connection = await connect(str(database.postgres_dsn))
    try:
        await connection.execute("DELETE FROM deployment")
        with pytest.raises(NOT_MIGRATED, match="no visitor key yet"):
            await visitor_secret(connection)
    finally:
        await connection.close()
