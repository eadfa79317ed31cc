"""Pages of lists: their order, and how long a read may take."""

from __future__ import annotations

from asyncio import timeout
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import tzinfo
from typing import Literal, NamedTuple

import asyncpg

from tracker.store.db import STATEMENT_TIMEOUT_SECONDS, Connection, Pool

TOO_SLOW = asyncpg.QueryCanceledError
"""What a read raises that ran into its connection's statement timeout."""

MAX_OFFSET = 10_000
"""Rows that a page may skip where click_count cannot tell its place."""

Value = int | str | bool

_READ_DEADLINE = STATEMENT_TIMEOUT_SECONDS + 5
"""Seconds; ends what the statement timeout cannot: a server that is frozen, a pool that is exhausted."""


class Order(NamedTuple):
    """How a list is shown: its direction, and the zone of its created_at."""

    newest_first: bool
    zone: tzinfo


class TooDeepError(ValueError):
    """A page that could only be reached by reading what lies before it."""


class Page(NamedTuple):
    rows: list[Row]
    total: int
    has_more: bool


@asynccontextmanager
async def reading(
    pool: Pool, isolation: Literal["repeatable_read", "read_committed"]
) -> AsyncIterator[Connection]:
    """A transaction that reads, for a limited time."""
    level = isolation.replace("_", " ").upper()
    async with timeout(_READ_DEADLINE), pool.acquire() as connection:
        try:
            # A generic plan knows neither the offer nor the partitions that a span rules out.
            await connection.execute(
                f"BEGIN ISOLATION LEVEL {level} READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan"
            )
            yield connection
            await connection.execute("COMMIT")
        except Exception:
            if not connection.is_closed():
                await connection.execute("ROLLBACK")
            raise
        except BaseException:  # nobody waits any more: for a server that may be frozen, neither do we
            connection.terminate()
            raise


Row = dict[str, object]
