"""Pages, walks by cursor and chunks of a table. Some columns give each row's position.

A walk continues after a row by its hash, which is unique. A row's position never changes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import NamedTuple

import asyncpg

from tracker.store import standby
from tracker.store.db import Connection, Pool
from tracker.store.paging import MAX_OFFSET, TooDeepError, TooManyToSortError, reading

_CHUNK_ROWS = 1_000


class PagedTable(NamedTuple):
    """Rows of a table in order."""

    table: str
    select: str  # the shown columns of a row of `c`
    place: tuple[str, ...]  # columns, or terms of them, that give the order. They are unique
    newest_first: bool
    condition: str
    values: tuple[object, ...]  # parameters of the condition from $1 on
    joined: str = ""  # what is joined to each shown row of `c`
    most: int | None = None  # rows that are sorted. None: an index has the order


class PageQuery(NamedTuple):
    """A page of records."""

    records: list[asyncpg.Record]
    total: int
    has_more: bool


async def page(pool: Pool, walked: PagedTable, number: int, per_page: int) -> PageQuery:
    """Page `number`, from 1.

    Raises:
        TooDeepError: the page is more than MAX_OFFSET rows deep.
        TooManyToSortError: no index has the order, and the rows are too many.
    """
    offset = (number - 1) * per_page
    if offset > MAX_OFFSET:
        raise TooDeepError(f"pages lead only up to {MAX_OFFSET:,} rows deep")
    async with reading(pool, "repeatable_read") as connection:
        total = await count(connection, walked)
        _check_sorted(walked, total)
        records = await read(connection, walked, per_page, offset=offset)
    return PageQuery(records, total, offset + len(records) < total)


async def page_after(
    pool: Pool, walked: PagedTable, last_hash: str, per_page: int, total: int | None
) -> PageQuery:
    """The page after the row `last_hash`. Counts the rows unless their total is known.

    Raises:
        TooManyToSortError: no index has the order, and the rows are too many.
    """
    async with reading(pool, "repeatable_read") as connection:
        if total is None:
            total = await count(connection, walked)
        _check_sorted(walked, total)
        records = await read(connection, walked, per_page + 1, after=last_hash)
    return PageQuery(records[:per_page], total, len(records) > per_page)


def _check_sorted(walked: PagedTable, total: int) -> None:
    if walked.most is not None and total > walked.most:
        raise TooManyToSortError(f"is of at most {walked.most:,} rows, and {total:,} match")


async def chunks(pool: Pool, walked: PagedTable) -> AsyncGenerator[list[asyncpg.Record], None]:
    """All rows in chunks. Between chunks it holds no connection and no snapshot."""

    async def go_on(after: str | None, pool: Pool) -> list[asyncpg.Record]:
        async with reading(pool, "read_committed") as connection:
            return await read(connection, walked, _CHUNK_ROWS, after=after)

    last_hash: str | None = None
    while True:
        records = await standby.read(pool, partial(go_on, last_hash))
        if records:
            yield records
        if len(records) < _CHUNK_ROWS:
            return
        last_hash = records[-1]["hash"].hex


async def read(
    connection: Connection, walked: PagedTable, limit: int, *, offset: int = 0, after: str | None = None
) -> list[asyncpg.Record]:
    condition, values = walked.condition, walked.values
    if after is not None:
        values = (*values, after)
        last = ", ".join(
            f"(SELECT {column} FROM {walked.table} WHERE hash = ${len(values)})"  # noqa: S608
            for column in walked.place
        )
        condition += f" AND ({', '.join(walked.place)}) {'<' if walked.newest_first else '>'} ({last})"
    direction = "DESC" if walked.newest_first else "ASC"
    order = ", ".join(f"{column} {direction}" for column in walked.place)
    # LIMIT and OFFSET are in the text: they are whole numbers of ours, and the planner must know them.
    statement = f"""
SELECT {walked.select}
FROM (SELECT * FROM {walked.table} WHERE {condition}
      ORDER BY {order} LIMIT {int(limit)} OFFSET {int(offset)}) AS c {walked.joined}
ORDER BY {order}
"""  # noqa: S608
    records: list[asyncpg.Record] = await connection.fetch(statement, *values)
    return records


async def count(connection: Connection, walked: PagedTable) -> int:
    statement = f"SELECT count(*) FROM {walked.table} WHERE {walked.condition}"  # noqa: S608
    return int(await connection.fetchval(statement, *walked.values))
