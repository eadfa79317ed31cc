"""Reads and changes the catalogue's rows for the management API: the same few statements for every table.

Rows are JSON objects in both directions. PostgreSQL converts them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any, NamedTuple

import asyncpg
import orjson

from tracker.domain import money
from tracker.store.db import Connection, Pool
from tracker.store.locks import Lock
from tracker.store.paging import Page

_LONGEST_WAIT_SECONDS = 5

BUSY: type[Exception] = asyncpg.LockNotAvailableError
"""Another session, perhaps by SQL, holds the row for too long."""

Row = dict[str, Any]
Equals = Mapping[str, Any]
"""Columns and their values (a list for any of several) that select rows."""


class TakenError(Exception):
    """Another row has the unique values."""


class _TrialIsOverError(Exception):
    pass


class Reference(NamedTuple):
    """A column that names a row of another table."""

    column: str
    table: str
    other_than: str = ""  # column of the same row that must differ
    within: str = ""  # column that both rows must share, if this row has it
    is_chain: bool = False  # rows of one table that name each other, never in a circle


class Table(NamedTuple):
    """A table of the catalogue, its visible columns and its writable columns."""

    name: str
    columns: tuple[str, ...]  # columns that are written
    key: str = "id"  # the column that names a row within its parent, or "" if there is only one row
    parent: str = ""  # the column that names the parent: the parent's table and _id
    facts: tuple[str, ...] = ()  # columns that are shown, but not written like the others
    minted: tuple[str, ...] = ()  # columns that are written once at creation and never shown
    money: tuple[str, ...] = ()  # columns with amounts
    references: tuple[Reference, ...] = ()
    unique: tuple[str, ...] = ()  # columns that are unique together and identify a row
    exclusive: tuple[str, ...] = ()  # columns that are unique if they have a value
    uses: str = ""  # statement: the rows that use the row with the id $1, so that it cannot be archived
    is_log: bool = False  # only grows, newest first, without versions

    @property
    def parent_table(self) -> str:
        return self.parent.removesuffix("_id")

    @property
    def can_archive(self) -> bool:
        return "is_archived" in self.columns

    @property
    def fixed(self) -> tuple[str, ...]:
        """The columns that identify a row. They never change."""
        return tuple(filter(None, (self.parent, self.key)))

    @property
    def shown(self) -> tuple[str, ...]:
        version = () if self.is_log else ("version",)
        return tuple(dict.fromkeys((*self.fixed, *self.columns, *self.facts, *version)))


class Author(NamedTuple):
    """The author of a change: a token, or the command line without one."""

    token_id: int | None
    token_name: str


AUDIT = Table(
    "audit",
    ("at", "token_id", "token_name", "action", "resource", "path", "before", "after"),
    is_log=True,
)
_WRITE_AUDIT = """
INSERT INTO audit (token_id, token_name, action, resource, path, before, after)
VALUES ($1, $2, $3, $4, $5, $6::json, $7::json)
"""


@asynccontextmanager
async def changing(pool: Pool, *, is_trial: bool = False) -> AsyncIterator[Connection]:
    """A transaction that excludes other changes of the catalogue by this module.

    An exception undoes it. So does the end of a trial, which only shows the effects.
    """
    async with pool.acquire() as connection:
        with suppress(_TrialIsOverError):
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{_LONGEST_WAIT_SECONDS}s'")
                await connection.execute("SELECT pg_advisory_xact_lock($1)", Lock.CATALOGUE)
                yield connection
                if is_trial:
                    raise _TrialIsOverError


async def page(pool: Pool, table: Table, equals: Equals, number: int, per_page: int) -> Page:
    """A page of rows ordered by their key, and the number of all rows."""
    where, values = _where(equals)
    order = f"{table.key} {'DESC' if table.is_log else 'ASC'}"
    offset = (number - 1) * per_page
    statement = f"""
SELECT {as_object(table)} FROM {table.name} WHERE {where}
ORDER BY {order} LIMIT {int(per_page)} OFFSET {int(offset)}"""  # noqa: S608
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        total = await connection.fetchval(f"SELECT count(*) FROM {table.name} WHERE {where}", *values)  # noqa: S608
        rows = [read_object(table, text) for (text,) in await connection.fetch(statement, *values)]
    return Page(rows, total, offset + len(rows) < total)


async def one(source: Pool | Connection, table: Table, place: Equals) -> Row | None:
    """The row at a place, archived or not."""
    where, values = _where(place)
    text = await source.fetchval(f"SELECT {as_object(table)} FROM {table.name} WHERE {where}", *values)  # noqa: S608
    return None if text is None else read_object(table, text)


async def every(connection: Connection, table: Table) -> list[Row]:
    """All rows, archived or not."""
    rows = await connection.fetch(f"SELECT {as_object(table)} FROM {table.name}")  # noqa: S608
    return [read_object(table, text) for (text,) in rows]


async def last_id(connection: Connection, table: str) -> int:
    """The highest id that exists or existed."""
    sequence = "pg_sequence_last_value(pg_get_serial_sequence($1, 'id'))"
    statement = f"SELECT greatest((SELECT max(id) FROM {table}), {sequence}, 0)"  # noqa: S608
    return int(await connection.fetchval(statement, table))


async def pass_id(connection: Connection, table: str, id_: int) -> None:
    """Make later ids higher than this one."""
    await connection.execute("SELECT setval(pg_get_serial_sequence($1, 'id'), $2)", table, id_)


async def locked(connection: Connection, table: Table, place: Equals) -> Row | None:
    """The row at a place, locked until the end of the transaction."""
    where, values = _where(place)
    statement = f"SELECT {as_object(table)} FROM {table.name} WHERE {where} FOR UPDATE"  # noqa: S608
    text = await connection.fetchval(statement, *values)
    return None if text is None else read_object(table, text)


async def insert(connection: Connection, table: Table, row: Row) -> Row:
    """Add a row and return it as stored.

    Raises:
        TakenError: another row has the unique values.
    """
    given = [column for column in (table.key, table.parent) if column in row]
    written = (*given, *table.columns, *table.minted)
    columns = ", ".join(dict.fromkeys(written))
    statement = f"""
INSERT INTO {table.name} ({columns})
SELECT {columns} FROM jsonb_populate_record(NULL::{table.name}, $1::jsonb)
RETURNING {as_object(table)}"""  # noqa: S608
    return await _written(connection, table, statement, _json(row))


async def update(connection: Connection, table: Table, place: Equals, row: Row) -> Row:
    """Write all columns of a row and return it as stored.

    Raises:
        TakenError: another row has the unique values.
    """
    where, values = _where(place)
    columns = ", ".join(table.columns)
    new = f"jsonb_populate_record(NULL::{table.name}, ${len(values) + 1}::jsonb)"
    statement = f"""
UPDATE {table.name} SET ({columns}) = (SELECT {columns} FROM {new})
WHERE {where} RETURNING {as_object(table)}"""  # noqa: S608
    return await _written(connection, table, statement, *values, _json(row))


async def delete(connection: Connection, table: Table, place: Equals) -> None:
    where, values = _where(place)
    await connection.execute(f"DELETE FROM {table.name} WHERE {where}", *values)  # noqa: S608


_ARCHIVED_WITH = {"goal": "AND EXISTS (SELECT FROM offer WHERE id = goal.offer_id AND NOT is_archived)"}


async def exists(
    source: Pool | Connection,
    table: str,
    id_: int,
    *,
    within: Equals | None = None,
    or_archived: bool = False,
) -> bool:
    """Whether an offer, affiliate, advertiser or goal with this id exists.

    Goals of an archived offer do not count.
    """
    where, values = _where({"id": id_, **(within or {})})
    unless = "" if or_archived else f"AND NOT is_archived {_ARCHIVED_WITH.get(table, '')}"
    return bool(await source.fetchval(f"SELECT EXISTS (SELECT FROM {table} WHERE {where} {unless})", *values))  # noqa: S608


async def leads_to(connection: Connection, reference: Reference, start: int, id_: int) -> bool:
    """Whether following a reference chain from one row reaches another row."""
    statement = f"""
WITH RECURSIVE way (id) AS (
    SELECT $1::bigint UNION SELECT {reference.column} FROM {reference.table} JOIN way USING (id))
SELECT EXISTS (SELECT FROM way WHERE id = $2)"""  # noqa: S608
    return bool(await connection.fetchval(statement, start, id_))


async def users(connection: Connection, table: Table, id_: int) -> list[str]:
    """API paths of the rows that use a row."""
    return [path for (path,) in await connection.fetch(table.uses, id_)] if table.uses else []


async def note(
    connection: Connection, author: Author, table: Table, path: str, before: Row | None, after: Row | None
) -> None:
    """Write a change to the audit trail, in the change's transaction."""
    action = "create" if before is None else "delete" if after is None else "update"
    both = (None if row is None else _json(row) for row in (before, after))
    await connection.execute(_WRITE_AUDIT, *author, action, table.name, path, *both)


def as_object(table: Table) -> str:
    """SQL: a row as JSON, for `read_object`."""
    # As text, because an amount would be read as a float.
    pairs = ", ".join(f"'{name}', {name}{'::text' if name in table.money else ''}" for name in table.shown)
    return f"json_build_object({pairs})::text"


def _where(equals: Equals) -> tuple[str, list[Any]]:
    conditions = [
        f"{column} = {f'ANY (${n})' if isinstance(value, list) else f'${n}'}"
        for n, (column, value) in enumerate(equals.items(), 1)
    ]
    return " AND ".join(conditions) or "true", list(equals.values())


async def _written(connection: Connection, table: Table, statement: str, *values: object) -> Row:
    try:
        return read_object(table, await connection.fetchval(statement, *values))
    except asyncpg.UniqueViolationError:
        raise TakenError from None


def read_object(table: Table, text: str) -> Row:
    """A row as it is shown."""
    row: Row = orjson.loads(text)
    for column in table.money:
        if row[column] is not None:
            row[column] = money.show(Decimal(row[column]))
    return row


def _json(row: Row) -> str:
    return orjson.dumps(row).decode()
