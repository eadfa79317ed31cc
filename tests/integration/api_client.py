"""The API, against a real Postgres: a client of the application in this process, or a process of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

from httpx import ASGITransport, AsyncClient, HTTPError

from tests.factories.clicks import store as store_rows
from tests.integration.edge_client import PATIENCE
from tracker.api.app import create_api
from tracker.domain.click_id import first_hash_at
from tracker.domain.model import ClickRow
from tracker.settings import Settings
from tracker.store.clicks import insert as clicks
from tracker.store.db import connect
from tracker.store.tokens import create_token

CLICKS = "/backend/open-api/v1/users/clicks"


@asynccontextmanager
async def api_of(
    settings: Settings, *, scopes: tuple[str, ...] = ("clicks:read",)
) -> AsyncIterator[AsyncClient]:
    """A client with a token of these scopes. Without scopes it has no token."""
    app = create_api(settings)
    headers = {}
    if scopes:
        assert settings.postgres_dsn is not None
        headers["Authorization"] = f"Bearer {await create_token(settings.postgres_dsn, scopes)}"
    async with (
        app.router.lifespan_context(app),
        AsyncClient(
            transport=ASGITransport(app, raise_app_exceptions=False),
            base_url="http://api.test",
            headers=headers,
        ) as client,
    ):
        yield client


@asynccontextmanager
async def api_process(
    settings: Settings, port: int, first: str = ""
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A ready `tracker api`, killed at the end. `first` is Python to run before it."""
    variables = {
        "TRACKER_REDIS_URL": settings.redis_url or "",
        "TRACKER_POSTGRES_DSN": settings.postgres_dsn or "",
        "TRACKER_DATA_DIR": str(settings.data_dir),
        "TRACKER_API_PORT": str(port),
    }
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-c",
            f"{first}\nimport runpy; runpy.run_module('tracker', run_name='__main__')",
            "api",
        ),
        env=variables,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await _ready(port)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _ready(port: int) -> None:
    async with asyncio.timeout(PATIENCE), AsyncClient() as client:
        while True:
            with suppress(HTTPError):
                if (await client.get(f"http://127.0.0.1:{port}/health/ready")).status_code == 200:
                    return
            await asyncio.sleep(0.05)


async def store(settings: Settings, rows: Iterable[ClickRow]) -> None:
    assert settings.postgres_dsn is not None
    connection = await connect(settings.postgres_dsn)
    try:
        await clicks.prepare(connection)
        await store_rows(connection, rows)
    finally:
        await connection.close()


async def count_sub_ids_now(settings: Settings) -> None:
    """Let sub ids count as counted just now. A test's database is as old as the run of all tests."""
    await run_sql(settings, "UPDATE sub_id_round SET ended_at = clock_timestamp()")


async def run_sql(settings: Settings, statement: str, *values: object) -> None:
    assert settings.postgres_dsn is not None
    connection = await connect(settings.postgres_dsn)
    try:
        await connection.execute(statement, *values)
    finally:
        await connection.close()


def hash_at(millis: int, n: int = 0) -> str:
    """A click hash of a Unix millisecond. `n` distinguishes hashes of one millisecond."""
    return first_hash_at(millis)[:12] + f"7{n:03x}8" + "0" * 15
