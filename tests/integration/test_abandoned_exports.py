"""Clients that leave in the middle of an answer or do not read it, and the API's memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtests import fill_history
from tests.conftest import Databases, Engines
from tests.e2e.running import free_port
from tests.integration.api_client import api_process, run_sql
from tests.integration.edge_client import PATIENCE
from tracker.api.http.exports import MOST_OF_A_TOKEN
from tracker.settings import Settings
from tracker.store.db import connect
from tracker.store.tokens import create_token

pytestmark = pytest.mark.anyio

ROOT = "/backend/open-api/v1"
CLICKS, CONVERSIONS = f"{ROOT}/users/clicks/export", f"{ROOT}/users/conversions/export"
KINDS = {
    "clicks as NDJSON": (CLICKS, {}),
    "an affiliate's clicks as CSV": (f"{ROOT}/affiliates/clicks/export?format=csv", {"affiliate_id": 1}),
    "conversions as CSV": (f"{CONVERSIONS}?format=csv", {}),
    "an advertiser's conversions": (f"{ROOT}/advertisers/conversions/export", {"advertiser_id": 1}),
    "a report as CSV": (f"{ROOT}/users/reports?group_by=offer,day&format=csv", {}),
}
SCOPES = ("clicks:read", "conversions:read", "reports:read")

ABANDONED = 30
MOST_GROWTH = 32 << 20
"""Bytes, twice what the allocator may keep. If each export kept a chunk, it would be 60 MB or more."""

ROWS = 6_000
"""About 10 MB of clicks, four times the kernel's buffer of an unread answer."""
SMALL_CHUNKS = (
    "from tracker.store.clicks import export as click_export; "
    "from tracker.store import table_pages; "
    "click_export.CHUNK_ROWS = table_pages._CHUNK_ROWS = 300"
)
"""Several chunks are left in the table when a client leaves. Chunks of 5,000 would take the test minutes."""
POOL = 5
"""Connections of the API's pool."""
NO_COLLECTOR = "import gc; gc.disable()"
NO_TIMEOUT = "from tracker.store import db; db.STATEMENT_TIMEOUT_SECONDS = 600"


@pytest.fixture(scope="module")
async def filled(
    engines: Engines, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Settings]:
    """A history in which all clicks are one affiliate's, and each that was accepted has a conversion.

    Exports leave it as it is, so all tests share it. Each makes tokens of its own.
    """
    name = await databases.take()
    dsn = engines.dsn_of(name)
    history = replace(engines.settings, postgres_dsn=dsn, data_dir=tmp_path_factory.mktemp("history"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fill_history, "CONVERTED_OF", 1)
        await fill_history.fill(dsn, ROWS, days=1)
    await run_sql(history, "UPDATE click SET affiliate_id = 1, advertiser_id = 1")
    await run_sql(history, "UPDATE conversion SET affiliate_id = 1, advertiser_id = 1")
    yield history
    databases.give_back(name)


async def token_of(settings: Settings, owner: dict[str, int]) -> str:
    assert settings.postgres_dsn
    return await create_token(settings.postgres_dsn, SCOPES, rate_limit="100000/minute", **owner)


class Client:
    """A connection with a small window, so that most of an answer stays unsent."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.setblocking(False)
        self._port = port

    async def ask(self, path: str, token: str) -> int:
        """The status of an answer whose body is still to come."""
        await self.send(path, token)
        async with asyncio.timeout(PATIENCE):
            return int((await self.read())[9:12])

    async def send(self, path: str, token: str) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, ("127.0.0.1", self._port))
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        await loop.sock_sendall(self._socket, request.encode())

    async def read(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._socket, 1 << 16)

    async def read_all(self) -> bytes:
        """Read until the server closes."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
        parts = [b"."]
        async with asyncio.timeout(PATIENCE):
            while parts[-1]:
                parts.append(await self.read())
        return b"".join(parts[1:])

    def leave(self) -> None:
        self._socket.close()


async def begun(port: int, path: str, token: str) -> Client:
    """A client with a running answer. It retries while other exports of its token run."""
    while True:
        client = Client(port)
        status = await client.ask(path, token)
        if status == 200:
            return client
        client.leave()
        assert status == 429


async def abandon(port: int, path: str, token: str) -> None:
    (await begun(port, path, token)).leave()


def resident(pid: int) -> int:
    """The bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


@asynccontextmanager
async def api(settings: Settings, first: str) -> AsyncIterator[tuple[int, int]]:
    """The port and pid of an API."""
    port = free_port()
    async with api_process(settings, port, first) as process:
        yield port, process.pid


@pytest.mark.parametrize("kind", KINDS)
async def test_abandoned_answers_leave_no_memory_behind_without_a_collector(
    filled: Settings, kind: str
) -> None:
    path, owner = KINDS[kind]
    token = await token_of(filled, owner)
    async with api(filled, f"{NO_COLLECTOR}\n{SMALL_CHUNKS}") as (port, pid):
        for _ in range(10):
            await abandon(port, path, token)
        before = resident(pid)
        for _ in range(ABANDONED):
            await abandon(port, path, token)
        assert resident(pid) - before < MOST_GROWTH


def waiting(dsn: str) -> Callable[[int], Coroutine[Any, Any, None]]:
    """Wait until `number` statements of a database wait for a lock."""

    async def until(number: int) -> None:
        connection = await connect(dsn)
        try:
            async with asyncio.timeout(PATIENCE):
                while await connection.fetchval(_WAITING) != number:
                    await asyncio.sleep(0.02)
        finally:
            await connection.close()

    return until


_WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@pytest.mark.parametrize("kind", ["clicks as NDJSON", "an advertiser's conversions"])
@pytest.mark.parametrize("has_begun", [False, True], ids=["before its answer", "in its midst"])
async def test_abandoned_export_ends_its_query_and_frees_its_connection(
    filled: Settings, kind: str, has_begun: bool
) -> None:
    assert filled.postgres_dsn
    path, owner = KINDS[kind]
    until_waiting = waiting(filled.postgres_dsn)
    blocker = await connect(filled.postgres_dsn)
    async with api(filled, f"{NO_TIMEOUT}\n{SMALL_CHUNKS}") as (port, _):
        tokens = [await token_of(filled, owner) for _ in range(2)]
        clients = [(Client(port), token) for token in tokens for _ in range(MOST_OF_A_TOKEN)]
        if has_begun:
            assert [await client.ask(path, token) for client, token in clients] == [200] * len(clients)
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE click, conversion IN ACCESS EXCLUSIVE MODE")
            going = [asyncio.create_task(client.read_all()) for client, _ in clients if has_begun]
            if not has_begun:
                for client, token in clients:
                    await client.send(path, token)
            await until_waiting(POOL)
            for read in going:
                read.cancel()
            await asyncio.gather(*going, return_exceptions=True)
            for client, _ in clients:
                client.leave()
            await until_waiting(0)
            last = Client(port)
            assert await last.ask("/health/ready", "") == 200
            last.leave()
    await blocker.close()


async def test_token_runs_a_limited_number_of_exports(filled: Settings) -> None:
    token, other = await token_of(filled, {}), await token_of(filled, {})
    async with api(filled, "") as (port, _):
        clients = [await begun(port, CLICKS, token) for _ in range(MOST_OF_A_TOKEN)]
        refused = Client(port)
        assert await refused.ask(CLICKS, token) == 429
        clients += [refused, await begun(port, CLICKS, other)]
        clients[0].leave()
        clients.append(await begun(port, CLICKS, token))
        for client in clients:
            client.leave()


async def test_export_that_is_not_read_is_cut_off(filled: Settings) -> None:
    token = await token_of(filled, {})
    async with api(filled, "from tracker.edge.http import bounds; bounds.SEND_SECONDS = 1.0") as (port, _):
        stalled = [await begun(port, CLICKS, token) for _ in range(MOST_OF_A_TOKEN)]
        in_their_places = [await begun(port, CLICKS, token) for _ in stalled]
        for client in stalled:
            rest = await client.read_all()
            assert rest.count(b'{"id":') < ROWS
            assert not rest.endswith(b"0\r\n\r\n")
        for client in (*stalled, *in_their_places):
            client.leave()
