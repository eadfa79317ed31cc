"""A standby: a server that replays what the primary writes, and answers reads meanwhile.

Positions in the write-ahead log say what a standby shows. All that the primary showed before it was asked for
its position is on a standby that has replayed so far.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import asyncpg

from tracker.store.db import (
    REFUSED,
    UNREACHABLE,
    Connection,
    Pool,
    PoolIsBusyError,
    Role,
    connect,
    open_pool,
)

LONGEST_LAG_SECONDS = 2.0
"""How old an answer of the standby may be, and how long a write waits for the standby."""
AFTER_FAILURE_SECONDS = 2.0
"""How long a standby that cannot be used is left alone."""
_PATIENCE = 1.0  # seconds that it may take to say how far it is
_POLL_SECONDS = 0.005

_log = logging.getLogger(__name__)

# A commit is visible only after it was flushed, and a standby gets only what was flushed.
_WRITTEN = """
SELECT system_identifier, ('x' || left(pg_walfile_name(flushed), 8))::bit(32)::int, (flushed - '0/0')::bigint
FROM pg_control_system(), pg_current_wal_flush_lsn() AS flushed
"""
# A standby says its timeline as of its last restart point, or of the last page that it wrote.
_REPLAYED = """
SELECT system_identifier, greatest(timeline_id, min_recovery_end_timeline),
    CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_replay_lsn() - '0/0')::bigint END
FROM pg_control_system(), pg_control_checkpoint(), pg_control_recovery()
"""

CANCELLED: tuple[type[Exception], ...] = (
    asyncpg.SerializationError,  # conflict with recovery: a row that it needs is gone on the primary
    asyncpg.DeadlockDetectedError,  # of a read with recovery
    *UNREACHABLE,
)
"""The errors of a read that a standby breaks off, or that is under way when it goes away."""

_Result = TypeVar("_Result")
_CONNECTIONS = 5


_SERVER = """
SELECT system_identifier AS system, pg_is_in_recovery() AS is_standby,
    current_setting('synchronous_commit') AS commit_waits,
    current_setting('synchronous_standby_names') AS names,
    (SELECT count(*) FROM pg_stat_replication)::int AS followers,
    current_setting('hot_standby_feedback')::boolean AS gives_feedback,
    current_setting('max_standby_streaming_delay') AS longest_conflict
FROM pg_control_system()
"""


class Server(NamedTuple):
    """What a server says of itself."""

    system: int
    is_standby: bool
    commit_waits: str  # synchronous_commit
    names: str  # synchronous_standby_names
    followers: int  # standbys that receive from it
    gives_feedback: bool
    longest_conflict: str  # "30s", or "-1" for ever


class Log(NamedTuple):
    """A write-ahead log. Each promotion begins another one, because the old primary may have gone on."""

    system: int  # the identifier that a primary and its standbys share
    timeline: int


class Position(NamedTuple):
    """A place in a log."""

    log: Log
    lsn: int  # bytes


class _UnusableError(Exception):
    """The standby answers, but not as a standby of this primary. The message says why."""


_AWAY = (*UNREACHABLE, REFUSED, _UnusableError)


class Standby:
    """The connections to a standby. While it cannot be used, the primary answers in its place."""

    def __init__(self, primary: Pool, pool: Pool, asking: Pool) -> None:
        self.primary = primary
        self._pool = pool
        self._asking = asking  # slow reads may have all connections of the other one
        self._next_try = 0.0  # monotonic seconds
        self._why = ""  # it cannot be used

    @classmethod
    async def open(cls, dsn: str, primary: Pool, *, longest_wait: float | None = None) -> Standby:
        """Nothing is connected yet. `longest_wait`: as in open_pool."""

        async def opened(size: int) -> Pool:
            return await open_pool(
                dsn, size=size, longest_wait=longest_wait, role="any", connect_seconds=_PATIENCE
            )

        return cls(primary, await opened(_CONNECTIONS), await opened(1))

    async def close(self) -> None:
        await asyncio.gather(self._pool.close(), self._asking.close())

    async def written(self) -> Position:
        """The primary's position now.

        Raises:
            UNREACHABLE, REFUSED: the primary is away, or has become a standby.
        """
        system, timeline, lsn = await self.primary.fetchrow(_WRITTEN)
        return Position(Log(system, timeline), lsn)

    async def replayed(self, log: Log) -> int | None:
        """How far the standby has replayed a log, in bytes. None: it cannot be used now."""
        taken = await self._take(self._asking, log)
        if taken is None:
            return None
        connection, lsn = taken
        await self._asking.release(connection)
        return lsn

    async def behind(self) -> int | None:
        """Bytes that the standby has not replayed. None: it cannot be used now.

        Raises:
            UNREACHABLE, REFUSED: the primary is away.
        """
        written = await self.written()
        lsn = await self.replayed(written.log)
        return None if lsn is None else max(written.lsn - lsn, 0)

    async def wait(self, position: Position, seconds: float) -> int | None:
        """Wait until the standby has replayed a position, but no longer than so. Returns how far it is then.

        None: it cannot be used now.
        """
        until = monotonic() + seconds
        while (lsn := await self.replayed(position.log)) is not None:
            if lsn >= position.lsn or monotonic() >= until:
                break
            await asyncio.sleep(_POLL_SECONDS)
        return lsn

    def at(self, position: Position) -> Pool:
        """A pool of connections to servers that have at least this position."""
        return _PoolAt(self, position)

    async def connection_at(self, position: Position) -> tuple[Pool, Connection]:
        """A connection to a server with a position, and its pool: the standby's if possible.

        Each connection is asked, because an address may stand for several standbys.

        Raises:
            UNREACHABLE, REFUSED: all connections to the standby are in use, or the primary is away, too.
        """
        taken = await self._take(self._pool, position.log)
        if taken is not None:
            connection, lsn = taken
            if lsn >= position.lsn:
                return self._pool, connection
            await self._pool.release(connection)
        return self.primary, await self.primary.acquire()

    async def _take(self, pool: Pool, log: Log) -> tuple[Connection, int] | None:
        """A connection of a pool to the standby, and how far that is. None: it cannot be used now."""
        if monotonic() < self._next_try:
            return None
        connection = None
        try:
            connection = await pool.acquire()
            async with asyncio.timeout(_PATIENCE):
                lsn = _checked(log, *await connection.fetchrow(_REPLAYED))
        except BaseException as error:
            if connection is not None:
                connection.terminate()  # a frozen server would not confirm that a query is cancelled
                await pool.release(connection)
            if isinstance(error, PoolIsBusyError) or not isinstance(error, _AWAY):
                raise
            self._fails(error)
            return None
        self._works()
        return connection, lsn

    @property
    def why_unusable(self) -> str:
        """Why it could not be used when it was last asked. Empty: it could."""
        return self._why

    def _fails(self, error: BaseException) -> None:
        self._next_try = monotonic() + AFTER_FAILURE_SECONDS
        why = str(error) or type(error).__name__
        if why != self._why:
            _log.warning(
                "standby: it cannot be used, and reads go to the primary: %(cause)s",
                {"event": "standby_away", "cause": why},
            )
        self._why = why

    def _works(self) -> None:
        if self._why:
            _log.warning("standby: it can be used again", {"event": "standby_back"})
        self._why = ""


def _checked(wanted: Log, system: int, timeline: int, lsn: int | None) -> int:
    """How far a server is.

    Raises:
        _UnusableError: it is no standby with the wanted log.
    """
    if system != wanted.system:
        raise _UnusableError("the server of TRACKER_READ_DSN belongs to another cluster than the primary")
    if lsn is None:
        raise _UnusableError("the server of TRACKER_READ_DSN is not a standby")
    if timeline != wanted.timeline:
        raise _UnusableError(
            f"the server of TRACKER_READ_DSN has timeline {timeline}, and the primary {wanted.timeline}. Run "
            "CHECKPOINT on both, or make the standby again"
        )
    return lsn


class _PoolAt:
    """The part of a pool that reads use. Its connections show at least what was there at a position."""

    def __init__(self, standby: Standby, position: Position) -> None:
        self._standby = standby
        self._position = position

    @property
    def primary(self) -> Pool:
        return self._standby.primary

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        pool, connection = await self._standby.connection_at(self._position)
        try:
            yield connection
        finally:
            await pool.release(connection)

    async def fetch(self, statement: str, *values: object) -> Any:
        async with self.acquire() as connection:
            return await connection.fetch(statement, *values)

    async def fetchrow(self, statement: str, *values: object) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchrow(statement, *values)

    async def fetchval(self, statement: str, *values: object) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchval(statement, *values)


async def ask_server(dsn: str, role: Role = "any") -> Server:
    """What the first server of a DSN that has a role says of itself.

    Raises:
        UNREACHABLE, REFUSED: no such server answers.
    """
    connection = await connect(dsn, role)
    try:
        return Server(*await connection.fetchrow(_SERVER))
    finally:
        await connection.close()


async def read(pool: Pool, work: Callable[[Pool], Awaitable[_Result]]) -> _Result:
    """Read from a pool, and once more from the primary if a standby breaks it off.

    Raises:
        UNREACHABLE, REFUSED: the primary does not answer either.
    """
    if isinstance(pool, _PoolAt):
        try:
            return await work(pool)
        except PoolIsBusyError:
            raise  # more readers than the standby serves would only slow the primary down
        except CANCELLED:
            pool = pool.primary
    return await work(pool)
