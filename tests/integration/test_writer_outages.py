"""A real worker whose engines fail in many ways. It waits and then goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import asyncpg
import pytest

from tests.conftest import Furnish
from tests.integration.engines import House, until

pytestmark = pytest.mark.anyio

_TRIGGER = """
CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'made to fail' USING ERRCODE = '{state}';
END $$;
CREATE TRIGGER failing BEFORE INSERT ON minute_delta FOR EACH ROW EXECUTE FUNCTION fail()
"""


@pytest.fixture(scope="module")
async def working(furnish: Furnish, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """With one worker that goes through all of it."""
    async with House(furnish(tmp_path_factory.mktemp("house"))) as house:
        with house.worker() as process:
            yield house
            assert process.poll() is None, house.log.read_text()
            assert "Traceback" not in house.log.read_text()


async def terminated(house: House) -> None:
    await house.query("SELECT pg_terminate_backend($1)", await house.writer_pid())


async def cancelled(house: House) -> None:
    """Cancelled while it waits for a lock, as by an impatient administrator."""
    async with house.writer_blocked():
        await house.query("SELECT pg_cancel_backend($1)", await house.writer_pid())


async def backend_killed(house: House) -> None:
    """PostgreSQL then restarts itself, and everybody is cut off."""
    os.kill(await house.writer_pid(), signal.SIGKILL)
    await until(lambda: answers(house))


async def answers(house: House) -> bool:
    with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        await house.query("SELECT 1")
        return True
    return False


async def postgres_killed(house: House) -> None:
    house.postgres.process.kill()
    await house.append()
    await house.postgres.process.wait()
    await house.restart(house.postgres)


async def postgres_restarted(house: House) -> None:
    await house.restart(house.postgres)


async def backend_stopped(house: House) -> None:
    pid = await house.writer_pid()
    os.kill(pid, signal.SIGSTOP)
    await house.append()
    await asyncio.sleep(0.3)
    assert await house.waiting() > 0
    os.kill(pid, signal.SIGCONT)


async def read_only(house: House) -> None:
    await house.execute("ALTER DATABASE tracker SET default_transaction_read_only = on")
    await terminated(house)
    await house.append()
    await until(lambda: house.says("ReadOnlySQLTransactionError"))
    await house.execute(
        "BEGIN READ WRITE; ALTER DATABASE tracker RESET default_transaction_read_only; COMMIT"
    )
    await house.append()


async def valkey_killed(house: House) -> None:
    house.valkey.process.kill()
    await house.valkey.process.wait()
    await house.restart(house.valkey)


async def valkey_restarted(house: House) -> None:
    await house.restart(house.valkey)


async def valkey_stopped(house: House) -> None:
    house.valkey.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.3)
    house.valkey.process.send_signal(signal.SIGCONT)


async def group_lost(house: House) -> None:
    async with house.redis as client:
        await client.xgroup_destroy("clicks:{0}", "writers")


async def scripts_lost(house: House) -> None:
    async with house.redis as client:
        await client.script_flush()


OUTAGES = [
    terminated,
    cancelled,
    backend_killed,
    postgres_killed,
    postgres_restarted,
    backend_stopped,
    read_only,
    valkey_killed,
    valkey_restarted,
    valkey_stopped,
    group_lost,
    scripts_lost,
]


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.__name__)
async def test_writer_goes_on_after_an_outage(
    working: House, outage: Callable[[House], Awaitable[None]]
) -> None:
    await working.append()
    await outage(working)
    await working.append()
    await working.settled()


STATES = {
    "53100": "DiskFullError",
    "53200": "OutOfMemoryError",
    "40P01": "DeadlockDetectedError",
    "40001": "SerializationError",
    "57014": "QueryCanceledError",
    "58030": "PostgresIOError",
    "XX000": "InternalServerError",
}


@pytest.mark.parametrize(("state", "name"), STATES.items(), ids=STATES.values())
async def test_starting_postgres_is_waited_for(working: House, state: str, name: str) -> None:
    await working.settled()
    await working.execute(_TRIGGER.format(state=state))
    await working.append()
    await until(lambda: working.says(name))
    assert await working.waiting() == 50, "nothing is acknowledged that is not stored"
    await working.execute("DROP TRIGGER failing ON minute_delta")
    await working.settled()
