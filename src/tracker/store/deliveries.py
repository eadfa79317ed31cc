"""Requests to other people's servers: each is sent at least once, by the worker that takes it first.

A taken request is not due again for a while, as a lease. If its worker is killed, the next worker sends it,
perhaps a second time with the same key. A request may have to wait for an earlier one of its subject.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import timedelta, tzinfo
from typing import Any, NamedTuple

from tracker.store.conversions.list import shown
from tracker.store.db import Connection, Pool
from tracker.store.paging import MAX_OFFSET, Page, Row, TooDeepError, reading
from tracker.store.time_span import ALL_TIME, Span

LEASE = timedelta(seconds=30)
"""How long other workers leave a request that is being sent."""
LONGEST_PAUSE = timedelta(hours=2)
"""Longest delay of the next attempt."""
_FORGOTTEN_AT_ONCE = 10_000

# The index leads from host to host, however many requests wait for each.
_DUE_HOSTS = """
WITH RECURSIVE waiting (host) AS (
    SELECT min(host) FROM {table} WHERE state = 'waiting'
    UNION ALL
    SELECT (SELECT min(host) FROM {table} WHERE state = 'waiting' AND host > waiting.host)
    FROM waiting WHERE waiting.host IS NOT NULL
)
SELECT host FROM waiting WHERE host IS NOT NULL AND EXISTS (
    SELECT FROM {table}
    WHERE state = 'waiting' AND {table}.host = waiting.host AND next_attempt_at <= now()
        AND NOT {is_behind})
"""
# A copy of a database takes none. A request that had to wait gets the full time for attempts.
_TAKE = """
UPDATE {table}
SET attempts = attempts + 1, last_attempt_at = now(), next_attempt_at = now() + $3::interval,
    give_up_at = CASE attempts WHEN 0 THEN now() + interval '24 hours' ELSE give_up_at END
WHERE NOT EXISTS (SELECT FROM deployment WHERE copy_of IS NOT NULL) AND id IN (
    SELECT id FROM {table}
    WHERE state = 'waiting' AND host = $1 AND next_attempt_at <= now() AND NOT {is_behind}
    ORDER BY next_attempt_at, id LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING id, key, url, attempts, give_up_at - now(), {is_strict}
"""
# The result of another attempt stays.
_SETTLE = """
UPDATE {table}
SET state = $2, next_attempt_at = now() + $3::interval, last_status = $4, last_error = $5
WHERE id = $1 AND state = 'waiting'
"""
_BRING_FORWARD = """
UPDATE {table} SET next_attempt_at = now()
WHERE state = 'waiting' AND next_attempt_at > now() + $1::interval
"""
_SEND_AGAIN = """
UPDATE {table}
SET state = 'waiting', attempts = 0, next_attempt_at = now(), give_up_at = now() + interval '24 hours'
WHERE id = ANY ($1)
"""
# As if they were created now, because nothing was tried while they were held.
_RENEW = """
UPDATE {table} SET next_attempt_at = now(), give_up_at = now() + interval '24 hours'
WHERE state = 'waiting'
"""
_FORGET = """
DELETE FROM {table} WHERE id IN (
    SELECT id FROM {table} WHERE created_at < now() - $1::interval AND state <> 'waiting' LIMIT $2)
"""
_COUNT = """
SELECT count(*) FILTER (WHERE state = 'waiting') AS waiting,
    count(*) FILTER (
        WHERE state = 'waiting' AND next_attempt_at < now() - interval '1 minute' AND NOT {is_behind}
    ) AS overdue,
    count(*) FILTER (WHERE state = 'failed') AS failed
FROM {table}
WHERE state = 'waiting'
    OR (state = 'failed' AND coalesce(last_attempt_at, created_at) > now() - interval '1 day')
"""


PATIENCE = timedelta(hours=24)
"""How long attempts go on after the first one."""


class Due(NamedTuple):
    """A request to send now."""

    id: int
    key: str
    url: str
    attempts: int  # including this one
    patience: timedelta  # the remaining time for attempts
    is_strict: bool = False  # it may only go to public addresses, and the settings do not matter


class Counts(NamedTuple):
    """Numbers of unsent requests."""

    waiting: int
    overdue: int  # waiting ones that have been due for a minute
    failed: int  # failed within a day


class Deliveries(ABC):
    """A table of requests, and its log.

    `is_behind`: SQL condition of a row that must wait for an earlier one.
    `columns`: the columns that the log shows.
    `kept`: how long the log remembers requests that were sent or have failed.
    `is_strict`: SQL condition of a row that may only go to public addresses.
    """

    def __init__(
        self,
        table: str,
        is_behind: str,
        columns: Sequence[str],
        kept: timedelta,
        is_strict: str = "false",
    ) -> None:
        self._table = table
        self._is_behind = is_behind
        self._is_strict = is_strict
        self._kept = kept
        self._select = f"SELECT {', '.join(columns)} FROM {table}"  # noqa: S608

    @abstractmethod
    async def announce(self, connection: Connection, most: int) -> int:
        """Create the requests of new changes, at most of so many. Returns the number of these changes."""

    async def due_hosts(self, pool: Pool) -> set[str]:
        """The hosts with requests that are due."""
        return {host for (host,) in await pool.fetch(self._sql(_DUE_HOSTS))}

    async def take(self, pool: Pool, host: str, most: int) -> list[Due]:
        """Take the due requests to a host. They are due again after LEASE unless they are settled."""
        rows = await pool.fetch(self._sql(_TAKE), host, most, LEASE)
        return [Due(id_, key.hex, *rest) for id_, key, *rest in rows]

    async def settle(
        self, pool: Pool, id_: int, state: str, pause: timedelta | None, status: int | None, error: str
    ) -> None:
        """Note the result of an attempt, and the delay of the next one if there is one."""
        await pool.execute(self._sql(_SETTLE), id_, state, pause, status, error)

    async def bring_forward(self, connection: Connection) -> None:
        """Limit waiting times that were set by a clock which has gone back since."""
        await connection.execute(self._sql(_BRING_FORWARD), LONGEST_PAUSE)

    async def send_again(self, connection: Connection, ids: Sequence[int]) -> None:
        """Send some once more, in any state."""
        await connection.execute(self._sql(_SEND_AGAIN), ids)

    async def renew(self, connection: Connection) -> None:
        """Give all waiting ones the full time again, from now on."""
        await connection.execute(self._sql(_RENEW))

    async def forget(self, connection: Connection) -> None:
        """Delete old ones that were sent or have failed."""
        statement = self._sql(_FORGET)
        while await connection.execute(statement, self._kept, _FORGOTTEN_AT_ONCE) == (
            f"DELETE {_FORGOTTEN_AT_ONCE}"
        ):
            pass

    async def counts(self, source: Pool | Connection) -> Counts:
        return Counts(*await source.fetchrow(self._sql(_COUNT)))

    async def page(
        self,
        pool: Pool,
        filters: Mapping[str, Any],
        span: Span,
        zone: tzinfo,
        number: int,
        per_page: int,
    ) -> Page:
        """A page of the log, newest first. Filters are values by column, or lists of them.

        Raises:
            TooDeepError: the page is more than MAX_OFFSET rows deep.
        """
        offset = (number - 1) * per_page
        if offset > MAX_OFFSET:
            raise TooDeepError(f"pages lead only up to {MAX_OFFSET:,} rows deep")
        condition, values = where(filters, span)
        count = f"SELECT count(*) FROM {self._table} WHERE {condition}"  # noqa: S608
        statement = (
            f"{self._select} WHERE {condition} ORDER BY id DESC LIMIT {int(per_page)} OFFSET {int(offset)}"
        )
        async with reading(pool, "repeatable_read") as connection:
            total = await connection.fetchval(count, *values)
            rows = [shown(record, zone) for record in await connection.fetch(statement, *values)]
        return Page(rows, total, offset + len(rows) < total)

    async def one(self, pool: Pool, id_: int, zone: tzinfo) -> Row | None:
        record = await pool.fetchrow(f"{self._select} WHERE id = $1", id_)
        return None if record is None else shown(record, zone)

    def _sql(self, statement: str) -> str:
        names = {"table": self._table, "is_behind": self._is_behind, "is_strict": self._is_strict}
        return statement.format(**names)


def where(filters: Mapping[str, Any], span: Span) -> tuple[str, list[Any]]:
    """The condition of a log's filters, and its parameters from $1 on."""
    conditions = [
        f"{column} = ANY (${n})" if isinstance(value, list) else f"{column} = ${n}"
        for n, (column, value) in enumerate(filters.items(), 1)
    ]
    values = list(filters.values())
    for operator, millis, everything in zip((">=", "<"), span, ALL_TIME, strict=True):
        if millis != everything:
            values.append(millis)
            conditions.append(f"created_at {operator} to_timestamp(${len(values)}::bigint / 1000.0)")
    return " AND ".join(conditions) or "true", values
