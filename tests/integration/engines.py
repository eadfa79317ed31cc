"""Engines of a test's own, so that they can be killed, and real workers on them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import asyncpg
import redis.asyncio

from tests.environ import clean_environ
from tests.factories.clicks import a_click, outcomes_of
from tracker.domain.click_id import Mint
from tracker.processes.children import Claim
from tracker.processes.engines.engine import Engine, resolve
from tracker.processes.engines.postgres import start_postgres
from tracker.processes.engines.valkey import start_valkey
from tracker.settings import Settings
from tracker.store.migrate import migrate
from tracker.stream.appender import Appender, Lane
from tracker.stream.record import encode

PATIENCE = 30.0
"""Seconds to wait for an event before the test fails."""

_WRITERS = """
SELECT pid FROM pg_stat_activity
WHERE application_name = 'tracker'
    AND (query LIKE '%INSERT INTO quarter_delta%' OR query LIKE '%pg_advisory_unlock_all%')
"""
_BLOCKED = """
SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%INSERT INTO quarter_delta%'
"""

_WORKER = """
import sys
from tracker import cli
from workers import worker

worker.STOP_SECONDS = {}
sys.exit(cli.main())
"""


class House:
    """Valkey, Postgres, the appended clicks and the logs of workers."""

    def __init__(self, data_dir: Path) -> None:
        self.settings = resolve(Settings(data_dir=data_dir))
        self.appended: set[str] = set()
        self.log = data_dir / "worker.log"
        self._mint = Mint()
        self._lane = Lane()

    async def __aenter__(self) -> Self:
        self._claim = await Claim.take(self.settings.data_dir)
        self.valkey = await start_valkey(self.settings, self._claim)
        self.postgres = await start_postgres(self.settings, self._claim)
        await migrate(self.postgres.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(self.valkey.stop(), self.postgres.stop())
        await self._claim.release()

    async def restart(self, *engines: Engine) -> None:
        """Restart stopped or killed engines."""
        for engine in engines:
            with suppress(ProcessLookupError):
                await engine.stop()
            if engine is self.valkey:
                self.valkey = await start_valkey(self.settings, self._claim)
            else:
                self.postgres = await start_postgres(self.settings, self._claim)

    @contextmanager
    def worker(self, slot: int = 0, stop_seconds: float = 30.0) -> Iterator[subprocess.Popen[bytes]]:
        clean = clean_environ()
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _WORKER.format(stop_seconds), "worker", "--slot", str(slot)],
                env=clean | {"TRACKER_DATA_DIR": str(self.settings.data_dir), "TRACKER_BATCH_AGE_MS": "0"},
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(PATIENCE)

    @property
    def redis(self) -> Any:
        return redis.asyncio.Redis.from_url(self.valkey.url, decode_responses=True)

    async def append(self, number: int = 50) -> None:
        clicks = [a_click(hash=self._mint.hash(), visitor_key=n) for n in range(number)]
        appender = Appender(self.valkey.url)
        await appender.append(self._lane, [encode(click, outcomes_of(click)) for click in clicks], PATIENCE)
        self._lane.next()
        await appender.close()
        self.appended |= {click.hash for click in clicks}

    async def query(self, sql: str, *arguments: object) -> Any:
        connection = await asyncpg.connect(self.postgres.url)
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            await connection.close()

    async def execute(self, sql: str) -> None:
        connection = await asyncpg.connect(self.postgres.url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    async def writer_pid(self) -> int:
        """The backend of a worker."""
        return (await until(lambda: self.query(_WRITERS)))[0]["pid"]  # type: ignore[no-any-return]

    async def is_held(self, slot: int) -> bool:
        async with self.redis as client:
            return bool(await client.exists(f"writer:{{0}}:{slot}"))

    async def free(self, slot: int) -> None:
        """Let a killed worker's slot expire now."""
        async with self.redis as client:
            await client.delete(f"writer:{{0}}:{slot}")

    async def says(self, text: str) -> bool:
        return text in self.log.read_text()

    @asynccontextmanager
    async def writer_blocked(self) -> AsyncIterator[None]:
        """Keep a worker in the middle of its transaction."""
        connection = await asyncpg.connect(self.postgres.url)
        async with connection.transaction():
            await connection.execute("LOCK TABLE quarter_delta IN EXCLUSIVE MODE")
            await self.append()
            await until(lambda: self.query(_BLOCKED))
            yield
        await connection.close()

    async def waiting(self) -> int:
        async with self.redis as client:
            return int(await client.xlen("clicks:{0}"))

    async def settled(self) -> None:
        """Check that each appended click is stored once, counted and off the stream."""
        await until(self._is_drained)
        assert {row["hash"].hex for row in await self.query("SELECT hash FROM click")} == self.appended
        async with self.redis as client:
            assert await client.xlen("dead:{0}") == 0
            hours = [await client.hgetall(key) async for key in client.scan_iter("ledger:{0}:*")]
        counts = [(field[-1], int(count)) for hour in hours for field, count in hour.items()]
        assert sum(count for kind, count in counts if kind == "x") == len(self.appended)
        assert [count for kind, count in counts if kind in "ud" and count] == []
        ((minutes,),) = await self.query("SELECT coalesce(sum(stored), 0)::int FROM click_minute_part")
        assert minutes == len(self.appended)

    async def _is_drained(self) -> bool:
        with suppress(OSError, redis.exceptions.RedisError):
            return await self.waiting() == 0
        return False


async def until(happened: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(PATIENCE):
        while not (result := await happened()):
            await asyncio.sleep(0.02)
        return result
