"""Runs `tracker import` on a test's own database."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest

from tests.integration.engines import until
from tracker import cli
from tracker.settings import Settings
from tracker.store import db
from tracker.store.clicks import deltas
from tracker.store.json_chunks import Block

CATALOGUE = """
advertisers:
  - name: PlayGames
affiliates:
  - {id: 513, name: John Doe, group_id: 7}
  - {id: 514, name: Jane Roe}
offers:
  - id: 3
    name: Puzzle Quest
    advertiser: PlayGames
    brand_id: 9
    urls:
      - {id: 132, url: "https://ad.test/?c={hash}"}
  - id: 4
    name: Farm
    advertiser: PlayGames
"""


_IN_SMALL_BATCHES = """
import sys
from tracker import cli
from tracker.importing import run
from tracker.store.imports import undo

run.BATCH = undo.BATCH = 100
sys.exit(cli.main())
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Importer:
    """The command, and the tables that it fills."""

    def __init__(self, settings: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        self.settings = settings
        self.tmp_path = tmp_path
        self._capsys = capsys

    async def run(self, *words: str | Path) -> Done:
        return await self.command("import", *words)

    async def kill(self, sql: str, *words: str | Path) -> None:
        """Run the command with small batches in a process, and kill it once a query has a row."""
        program = (sys.executable, "-c", _IN_SMALL_BATCHES, *words)
        process = await asyncio.create_subprocess_exec(*program)
        await until(lambda: self.fetch(sql))
        process.kill()
        assert await process.wait() == -signal.SIGKILL

    async def command(self, *words: str | Path) -> Done:
        code = await asyncio.to_thread(cli.main, [*map(str, words)])
        return Done(code, *self._capsys.readouterr())

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    async def catalogue(self) -> None:
        done = await self.run("catalogue", self.file("catalogue.yaml", CATALOGUE))
        assert done.code == 0, done.err

    async def check_sums(self) -> None:
        """Check that counts and sums agree with the rows, before deltas are added up and after."""
        for _ in range(2):
            assert (await self.command("rebuild-stats", "--check")).code == 0
            connection = await db.connect(str(self.settings.postgres_dsn))
            await deltas.add_up(connection)
            await connection.close()

    async def fetch(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self.settings.postgres_dsn)
        try:
            return [tuple(row) for row in await connection.fetch(sql, *arguments)]
        finally:
            await connection.close()


async def answered(words: Sequence[str], answer: bytes) -> tuple[int, str]:
    """The exit code and the output of a command on a terminal, whose user answers its question."""
    ours, its = pty.openpty()
    command = (sys.executable, "-m", "tracker", *words)
    process = await asyncio.create_subprocess_exec(*command, stdin=its, stdout=its, stderr=its)
    os.close(its)
    os.write(ours, answer)
    shown = b""
    with suppress(OSError):  # Linux says EIO when the other side has gone
        while part := await asyncio.to_thread(os.read, ours, 4096):
            shown += part
    os.close(ours)
    return await process.wait(), shown.decode()


async def rows_of(chunks: AsyncIterator[Iterable[Block]], keys: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of an export."""
    values = [json.loads(value) async for chunk in chunks for block in chunk for value in block]
    return [
        dict(zip(keys, values[at : at + len(keys)], strict=True)) for at in range(0, len(values), len(keys))
    ]


@pytest.fixture
def importer(
    database: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Importer:
    monkeypatch.setenv("TRACKER_POSTGRES_DSN", str(database.postgres_dsn))
    monkeypatch.setenv("TRACKER_REDIS_URL", str(database.redis_url))
    monkeypatch.setenv("TRACKER_DATA_DIR", str(tmp_path / "var"))
    return Importer(database, capsys, tmp_path)
