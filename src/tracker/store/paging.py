"""Pages of lists: their order, and the time limit of a read."""

from __future__ import annotations

from asyncio import timeout
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import tzinfo
from typing import Literal, NamedTuple

import asyncpg

from tracker.store.db import STATEMENT_TIMEOUT_SECONDS, Connection, Pool

TOO_SLOW = asyncpg.QueryCanceledError
"""The error of a read that exceeded its connection's statement timeout."""

MAX_OFFSET = 10_000
"""Rows that a page may skip if click_count cannot find its start."""

Value = int | str | bool

_READ_DEADLINE = STATEMENT_TIMEOUT_SECONDS + 5
"""Seconds. It ends reads that the statement timeout cannot: of a frozen server or an exhausted pool."""


class Order(NamedTuple):
    """The direction of a list, the zone of its created_at, and what it is sorted by."""

    newest_first: bool  # or the largest first
    zone: tzinfo
    by: Literal["created_at", "seconds_from_click"] = "created_at"


class TooManyToSortError(ValueError):
    """No index has the order, and too many rows would have to be read for it."""


class TooDeepError(ValueError):
    """The page can only be reached by reading all rows before it."""


class Page(NamedTuple):
    rows: list[Row]
    total: int
    has_more: bool


@asynccontextmanager
async def reading(
    pool: Pool, isolation: Literal["repeatable_read", "read_committed"]
) -> AsyncIterator[Connection]:
    """A read-only transaction with a time limit."""
    level = isolation.replace("_", " ").upper()
    async with timeout(_READ_DEADLINE), pool.acquire() as connection:
        try:
            # A generic plan knows neither the offer nor the partitions that a span excludes.
            await connection.execute(
                f"BEGIN ISOLATION LEVEL {level} READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan"
            )
            yield connection
            await connection.execute("COMMIT")
        except Exception:
            if not connection.is_closed():
                await connection.execute("ROLLBACK")
            raise
        except BaseException:  # the caller has given up, so we do not wait for a server that may be frozen
            connection.terminate()
            raise


Row = dict[str, object]
