"""Transactions that book money, and the answers of repeated requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tracker.store.clicks.idempotency import Conflict
from tracker.store.conversions.lock import lock
from tracker.store.db import Connection, Pool

_PATIENCE = "10s"  # longest wait for other changes of conversions
_LONGEST = "120s"  # longest statement of a file
_ANSWER = "SELECT digest, answer FROM money_request WHERE (token_id, key) = ($1, $2)"
_NOTE = "INSERT INTO money_request (token_id, key, digest, answer) VALUES ($1, $2, $3, $4)"


class _TrialIsOverError(Exception):
    pass


@asynccontextmanager
async def booking(pool: Pool, *, is_trial: bool = False) -> AsyncIterator[Connection]:
    """A transaction that excludes other changes of conversions, and closes of periods.

    An exception undoes it. So does the end of a trial, which only shows the effects.
    """
    with suppress(_TrialIsOverError):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(
                f"SET LOCAL lock_timeout = '{_PATIENCE}'; SET LOCAL statement_timeout = '{_LONGEST}'"
            )
            await lock(connection)
            yield connection
            if is_trial:
                raise _TrialIsOverError


async def answer_of(connection: Connection, token_id: int, key: str, digest: bytes) -> str | None:
    """The answer that an equal request got before, as JSON.

    Raises:
        Conflict: the key was used for another request.
    """
    row = await connection.fetchrow(_ANSWER, token_id, key)
    if row is not None and row["digest"] != digest:
        raise Conflict(None, "Idempotency-Key", "was used for another request")
    return None if row is None else str(row["answer"])


async def note(connection: Connection, token_id: int, key: str, digest: bytes, answer: str) -> None:
    """Note the answer of a request, in the transaction of its bookings."""
    await connection.execute(_NOTE, token_id, key, digest, answer)
