"""A COPY ends with an error if its server dies, even while its rows wait to be sent."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Furnish
from tests.integration.engines import PATIENCE, House
from tracker.store import db

pytestmark = pytest.mark.anyio

_ROWS = [("x" * 800,)] * 2_755
_KILLS = 16
"""Without the remedy every fourth kill left a COPY waiting for ever."""


async def test_copy_ends_when_its_server_is_killed(furnish: Furnish, tmp_path: Path) -> None:
    lot = random.Random(7)
    async with House(furnish(tmp_path / "house")) as house:
        for _ in range(_KILLS):
            connection = await _connected(house.postgres.url)
            copying = asyncio.create_task(db.copy_rows(connection, "target", _ROWS, ("text",)))
            await asyncio.sleep(lot.uniform(0, 0.01))
            with suppress(ProcessLookupError):  # the server may still end what it had before the last kill
                os.kill(connection.get_server_pid(), signal.SIGKILL)
            async with asyncio.timeout(PATIENCE):
                with suppress(*db.UNREACHABLE):  # it may be done already
                    await copying
            connection.terminate()


async def _connected(dsn: str) -> db.Connection:
    """A connection with the table. The server may still take some before it notices the last kill."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(*db.UNREACHABLE, db.REFUSED):
                connection = await db.connect(dsn)
                await connection.execute("CREATE TEMP TABLE target (text text)")
                return connection
            await asyncio.sleep(0.05)
