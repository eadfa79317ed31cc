"""Transactions that add deltas to counts. One process does so at a time, for clicks and for conversions.

Writers only insert deltas. Readers add deltas and counts in one snapshot. So the time of adding up changes no
number, and nobody waits for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tracker.store.db import Connection
from tracker.store.locks import Lock

MOST = 10_000
"""Deltas of a table that are added up together."""

FROZEN_SECONDS = 60.0
"""How long a transaction that adds up may be idle: a frozen one must not keep others from it."""

_END_IF_FROZEN = "SELECT set_config('idle_in_transaction_session_timeout', $1, true)"
# A crash undoes the whole transaction, and the next one does it again. So nobody needs to wait for the disk.
_DO_NOT_WAIT = "SET LOCAL synchronous_commit = off"
_TRY_TO_LOCK = "SELECT pg_try_advisory_xact_lock($1)"
_LOCK = "SELECT pg_advisory_xact_lock($1)"


@asynccontextmanager
async def turn(connection: Connection) -> AsyncIterator[bool]:
    """A transaction that may add up. False while another process does it."""
    async with _transaction(connection):
        await connection.execute(_DO_NOT_WAIT)
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
