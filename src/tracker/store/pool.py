"""Connections to Postgres."""

from __future__ import annotations

from typing import TypeAlias

import asyncpg

BACKUP_GATE = 0x7C1C_0003
"""Advisory lock that a writer holds, shared, from before its commit until the stream has its acknowledgement;
a backup takes it alone, and then nothing is stored that still waits on the stream."""

STATEMENT_TIMEOUT_SECONDS = 30
"""Longest statement of a pool's connections, so that one bad query cannot hold the readers up."""

UNREACHABLE: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # of a connection that was cut off in the midst of something
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)
"""What asyncpg raises while Postgres is down, starting or stopping: worth waiting for."""

REFUSED: type[Exception] = asyncpg.PostgresError
"""What Postgres answers to what it does not do: a wrong password, no such database or table, no disk."""

Pool: TypeAlias = asyncpg.Pool
Connection: TypeAlias = asyncpg.Connection


async def open_pool(dsn: str, *, size: int = 5) -> Pool:
    """A pool of at most `size` connections; the first is opened when it is asked for."""
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        timeout=5,
        server_settings={
            "application_name": "tracker",
            "timezone": "UTC",
            "statement_timeout": str(STATEMENT_TIMEOUT_SECONDS * 1000),
            # A statement ends with its connection, also while it waits for a lock or has no row to send yet.
            "client_connection_check_interval": "1s",
        },
        reset=_leave_as_it_is,
    )


async def _leave_as_it_is(_connection: Connection) -> None:
    """What is set or locked over a pool ends with its transaction: no round trip need undo it."""


async def connect(dsn: str) -> Connection:
    """One connection of one's own, without a statement timeout."""
    return await asyncpg.connect(
        dsn, timeout=5, server_settings={"application_name": "tracker", "timezone": "UTC"}
    )


async def version(dsn: str) -> str:
    """The server's version, as "18.6"."""
    connection = await connect(dsn)
    try:
        return str(await connection.fetchval("SELECT split_part(current_setting('server_version'), ' ', 1)"))
    finally:
        await connection.close()
