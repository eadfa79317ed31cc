"""Connections to Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

import asyncpg

STATEMENT_TIMEOUT_SECONDS = 30
"""Longest statement of a pool's connections, so that one bad query cannot block the readers."""

POOL_SIZE: Final = 5
"""Most connections of a process, unless it asks for others."""

TOO_MANY_CONNECTIONS: type[Exception] = asyncpg.TooManyConnectionsError
"""The server has no connection left."""

UNREACHABLE: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # of a connection that was cut off during its start
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.ReadOnlySQLTransactionError,
    TOO_MANY_CONNECTIONS,
)
"""The errors of asyncpg while Postgres is down, starting, stopping or no longer the primary: worth a retry.
"""

REFUSED: type[Exception] = asyncpg.PostgresError
"""The errors of Postgres for a refused request: wrong password, missing database or table, full disk."""


class NotMigratedError(asyncpg.UndefinedObjectError):  # type: ignore[misc]
    """The database lacks migrations, or one has made its tables and not filled them yet."""


class NotPrimaryError(ConnectionError):
    """A server answers, but it is a standby."""


Pool: TypeAlias = asyncpg.Pool
Connection: TypeAlias = asyncpg.Connection
Role = Literal["primary", "any"]
"""The server that a connection needs. Everything writes but the reads of a standby."""

_CONNECT_SECONDS = 5.0  # for all servers of a DSN together
_answered: dict[str, str] = {}  # by a DSN of several servers: the one that was last the right one

_COMMIT_ANEW = "SELECT pg_logical_emit_message(true, 'tracker', '')"


class PoolIsBusyError(TimeoutError):
    """All connections of a pool were in use for too long. Postgres itself may work."""


class _PoolWithLimit(asyncpg.Pool):  # type: ignore[misc]
    """A pool that waits for a connection only for a limited time."""

    def __init__(self, dsn: str, *, size: int, longest_wait: float | None, **options: object) -> None:
        super().__init__(
            dsn,
            min_size=0,
            max_size=size,
            max_queries=50_000,
            max_inactive_connection_lifetime=300.0,
            loop=None,
            connection_class=asyncpg.Connection,
            record_class=asyncpg.Record,
            **options,
        )
        self._longest_wait = longest_wait

    async def _acquire(self, timeout: float | None) -> Connection:  # noqa: ASYNC109 - asyncpg's own
        """Every way to take a connection uses this method."""
        if self._longest_wait is None or self.get_idle_size() or self.get_size() < self.get_max_size():
            return await super()._acquire(timeout)
        try:
            async with asyncio.timeout(self._longest_wait):
                return await super()._acquire(timeout)
        except TimeoutError:
            size, seconds = self.get_max_size(), self._longest_wait
            raise PoolIsBusyError(
                f"all {size} connections to Postgres were in use for {seconds:g} s"
            ) from None


async def open_pool(
    dsn: str,
    *,
    size: int = POOL_SIZE,
    longest_wait: float | None = None,
    role: Role = "primary",
    connect_seconds: float = _CONNECT_SECONDS,
) -> Pool:
    """A pool of at most `size` connections. The first one is opened on demand.

    `longest_wait`: seconds before PoolIsBusyError is raised if all of them are in use. `connect_seconds`: how
    long all servers of the DSN together may take to let a connection in.
    """
    return await _PoolWithLimit(
        dsn,
        size=size,
        longest_wait=longest_wait,
        connect=_connect,
        role=role,
        seconds=connect_seconds,
        server_settings={
            "application_name": "tracker",
            "timezone": "UTC",
            "statement_timeout": str(STATEMENT_TIMEOUT_SECONDS * 1000),
            # A statement ends with its connection, even if it waits for a lock or has no row to send yet.
            "client_connection_check_interval": "1s",
        },
        reset=_leave_as_it_is,
    )


async def drop_read_only(pool: Pool, error: Exception) -> None:
    """Let a pool replace its connections after an error that says that they lead to no primary any more.

    That is so behind a proxy that keeps connections open while the servers change their roles.
    """
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        await pool.expire_connections()


async def _leave_as_it_is(_connection: Connection) -> None:
    """Settings and locks on a pool's connection end with its transaction: no round trip resets them."""


async def connect(dsn: str, role: Role = "primary") -> Connection:
    """A single connection without a statement timeout."""
    return await _connect(dsn, role=role, server_settings={"application_name": "tracker", "timezone": "UTC"})


async def _connect(
    dsn: str, *, role: Role = "primary", seconds: float = _CONNECT_SECONDS, **options: object
) -> Connection:
    """A connection to the first server of a DSN that has the role. The one that had it last comes first.

    asyncpg tries several servers, too. But it waits all of its time for a host that does not answer, and it
    gives up at one that is just starting.

    Raises:
        UNREACHABLE: no server answers, or none is the primary.
        REFUSED: a server refuses the user or the database.
    """
    servers = servers_of(dsn)

    async def opened(server: str) -> Connection:
        try:
            connection = await asyncpg.connect(
                server, timeout=seconds / len(servers), target_session_attrs=role, **options
            )
        except asyncpg.TargetServerAttributeNotMatched:
            raise NotPrimaryError("the server is a standby, and the primary is needed") from None
        _answered[dsn] = server
        return connection

    *others, last = sorted(servers, key=lambda server: server != _answered.get(dsn))
    for server in others:
        with suppress(*UNREACHABLE):
            return await opened(server)
    return await opened(last)


def servers_of(dsn: str) -> list[str]:
    """A DSN for each server that a DSN names by host and port."""
    parts = urlsplit(dsn)
    user, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [dsn]
    return [parts._replace(netloc=f"{user}{at}{host}").geturl() for host in hosts.split(",")]


async def commit_anew(connection: Connection) -> None:
    """Write something, because a commit waits for disks only if it has written.

    A repeated call finds its rows stored. If the primary crashed while the first commit waited for a
    synchronous standby, its rows are visible, but on one disk. A later commit waits for all before it.
    """
    await connection.execute(_COMMIT_ANEW)


async def copy_rows(
    connection: Connection, table: str, rows: Iterable[Sequence[object]], columns: Sequence[str]
) -> None:
    """COPY rows to a table.

    asyncpg waits for ever if the connection is lost while its buffer is full: nobody tells it that it may
    write again. So the loss of the connection ends the COPY here.

    Raises:
        UNREACHABLE: the connection was lost.
    """
    copying = asyncio.create_task(connection.copy_records_to_table(table, records=rows, columns=columns))

    def end(_: Connection) -> None:
        copying.cancel()

    connection.add_termination_listener(end)
    try:
        await copying
    except (asyncio.CancelledError, AttributeError):  # asyncpg writes to a transport that is gone
        task = asyncio.current_task()
        if connection.is_closed() and not (task and task.cancelling()):
            raise ConnectionError("the connection to PostgreSQL was lost in a COPY") from None
        raise
    finally:
        connection.remove_termination_listener(end)


async def version(dsn: str) -> str:
    """The server's version, as "18.6"."""
    connection = await connect(dsn)
    try:
        return str(await connection.fetchval("SELECT split_part(current_setting('server_version'), ' ', 1)"))
    finally:
        await connection.close()
