"""Transactions that add deltas to counts. One process does so at a time, for clicks and for conversions.

Writers only insert deltas. Readers add deltas and counts in one snapshot. So the time of adding up changes no
number, and nobody waits for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from tracker.store.db import Connection, Pool
from tracker.store.locks import Lock

MOST = 10_000
"""Deltas of a table that are added up together."""

FROZEN_SECONDS = 60.0
"""How long a transaction that adds up may be idle: a frozen one must not keep others from it."""

BLOCKED_SECONDS = 5.0
"""How long adding up waits for a lock on counts. Then it fails, because others have deltas to add up, too."""

_FAIL_IF_BLOCKED = "SELECT set_config('lock_timeout', $1, true)"
_END_IF_FROZEN = "SELECT set_config('idle_in_transaction_session_timeout', $1, true)"
# A crash undoes the whole transaction, and the next one does it again. So nobody needs to wait for the disk.
_DO_NOT_WAIT = "SET LOCAL synchronous_commit = off"
_TRY_TO_LOCK = "SELECT pg_try_advisory_xact_lock($1)"
_LOCK = "SELECT pg_advisory_xact_lock($1)"
_WAITING = """
SELECT count(*)::integer, coalesce(extract(epoch FROM clock_timestamp() - min(made_at)), 0)::float8 FROM {}
"""


class Waiting(NamedTuple):
    """The deltas of a table that wait to be added up."""

    rows: int
    seconds: float  # since the oldest one was made


@asynccontextmanager
async def turn(connection: Connection) -> AsyncIterator[bool]:
    """A transaction that may add up. False while another process does it.

    Raises: LockNotAvailableError within it: somebody holds a lock on counts for longer than BLOCKED_SECONDS.
    """
    async with _transaction(connection):
        await connection.execute(_DO_NOT_WAIT)
        await connection.execute(_FAIL_IF_BLOCKED, f"{BLOCKED_SECONDS * 1000:.0f}ms")
        yield bool(await connection.fetchval(_TRY_TO_LOCK, Lock.ADDING_UP))


@asynccontextmanager
async def correcting(connection: Connection) -> AsyncIterator[None]:
    """A transaction that corrects counts. It waits until nobody adds up, and nobody does until it ends."""
    async with _transaction(connection):
        await connection.execute(_LOCK, Lock.ADDING_UP)
        yield


@asynccontextmanager
async def _transaction(connection: Connection) -> AsyncIterator[None]:
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(_END_IF_FROZEN, f"{FROZEN_SECONDS * 1000:.0f}ms")
        yield


async def waiting(source: Connection | Pool, deltas: str) -> Waiting:
    """How many deltas of a table wait, and how long: seconds to hours if no worker runs. Reads get slower."""
    return Waiting(*await source.fetchrow(_WAITING.format(deltas)))
