"""Real workers killed at critical moments, and their successors."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import Furnish
from tests.integration.engines import PATIENCE, House, until
from workers import click_writer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def house(furnish: Furnish, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with House(furnish(tmp_path_factory.mktemp("house"))) as house:
        yield house


async def test_killed_in_its_transaction(house: House) -> None:
    with house.worker(1) as process:
        async with house.writer_blocked():
            process.kill()
            process.wait()
    await house.free(1)
    with house.worker(1):
        await house.settled()


@pytest.mark.parametrize("heir", [1, 2])
async def test_killed_between_commit_and_acknowledgement(house: House, heir: int) -> None:
    """Its restart and another writer both see that the entries are stored."""
    with house.worker(1) as process:
        async with house.writer_blocked():
            house.valkey.process.send_signal(signal.SIGSTOP)
        stored = "SELECT 1 FROM click HAVING count(*) = $1"
        await until(lambda: house.query(stored, len(house.appended)))
        process.kill()
        process.wait()
    house.valkey.process.kill()  # with the acknowledgement, if it was sent, unread
    await house.restart(house.valkey)
    await house.free(1)
    assert await house.waiting() == 50
    with house.worker(heir):
        await house.settled()


async def test_writers_share_the_work_while_some_are_killed(house: House) -> None:
    with house.worker(3), house.worker(4) as one, house.worker(5) as other:
        for slot in (3, 4, 5):
            await until(lambda slot=slot: house.is_held(slot))
        for victim in (one, other):
            for _ in range(5):
                await house.append(200)
            victim.kill()
        await house.append(200)
        await house.settled()
    assert "deadlock" not in house.log.read_text()


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Freeze an engine: first its children, then itself, so that it starts no others."""
    pids = [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()), pid]
    try:
        for each in pids:
            _tell(each, signal.SIGSTOP)
        yield
    finally:
        for each in pids:
            _tell(each, signal.SIGCONT)


def _tell(pid: int, what: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # a child may end by itself, as autovacuum does
        os.kill(pid, what)


@pytest.mark.parametrize("engine", ["postgres", "valkey"])
async def test_worker_ends_although_an_engine_is_frozen(house: House, engine: str) -> None:
    pid = getattr(house, engine).process.pid
    with house.worker(1, stop_seconds=0.5) as process:
        async with house.writer_blocked():
            with frozen(pid):
                process.terminate()
                assert await asyncio.to_thread(process.wait, PATIENCE) == 1
    assert await house.says("batches are not finished after")
    await house.free(1)
    with house.worker(1):
        await house.settled()


async def test_hanging_postgres_is_abandoned(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(click_writer, "STORE_SECONDS", 0.3)
    writing = asyncio.create_task(click_writer.run(house.settings, slot=7))
    await house.append()
    await house.settled()
    pid = await house.writer_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        await house.append()
        await house.settled()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "trying again" in caplog.text
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
