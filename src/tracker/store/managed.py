"""The catalogue's rows as the management API reads and changes them: the same few statements for every table.

Rows are JSON objects in both directions, and PostgreSQL turns them into columns and back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
import orjson

from tracker.store.click_list import Page
from tracker.store.pool import Connection, Pool

_ONE_AT_A_TIME = 0x7C1C_0005
"""Advisory lock of a change: changes are few, and in a row none waits for another's rows in a circle."""

_LONGEST_WAIT_SECONDS = 5

BUSY: type[Exception] = asyncpg.LockNotAvailableError
"""Somebody, by SQL perhaps, holds what is to be changed for too long."""

Row = dict[str, Any]
Equals = Mapping[str, Any]
"""Columns and their values: which rows are meant."""


class TakenError(Exception):
    """There is another row with the values that must be unique."""


class Reference(NamedTuple):
    """A column that names a row of another table."""

    column: str
    table: str
    other_than: str = ""  # column of the same row that must not say the same


class Table(NamedTuple):
    """A table of the catalogue, and what of it is shown and may be written."""

    name: str
    columns: tuple[str, ...]  # those that are written
    key: str = "id"  # what names a row, within its offer where it is an offer's; "": there is one row only
    parent: str = ""  # the column that says whose row it is
    references: tuple[Reference, ...] = ()
    unique: tuple[str, ...] = ()  # columns that no two rows have alike
    uses: str = ""  # statement: who still needs the row with the id $1, so that it cannot be archived
    is_log: bool = False  # only grows, newest first, no versions
    read_only: tuple[str, ...] = ()  # columns that are shown, and not written like the others

    @property
    def can_archive(self) -> bool:
        return "is_archived" in self.columns

    @property
    def fixed(self) -> tuple[str, ...]:
        """What names a row: never changed."""
        return tuple(filter(None, (self.parent, self.key)))

    @property
    def shown(self) -> tuple[str, ...]:
        version = () if self.is_log else ("version",)
        return tuple(dict.fromkeys((*self.fixed, *self.columns, *self.read_only, *version)))


class Author(NamedTuple):
    """Who changes something: a token."""

    token_id: int
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
async def changing(pool: Pool) -> AsyncIterator[Connection]:
    """A transaction in which nobody else changes the catalogue through here; an exception undoes it."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{_LONGEST_WAIT_SECONDS}s'")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _ONE_AT_A_TIME)
        yield connection


async def page(pool: Pool, table: Table, equals: Equals, number: int, per_page: int) -> Page:
    """A page of rows by their key, and how many there are in all."""
    where, values = _where(equals)
    order = f"{table.key} {'DESC' if table.is_log else 'ASC'}"
    offset = (number - 1) * per_page
    statement = f"""
SELECT {_object(table)} FROM {table.name} WHERE {where}
ORDER BY {order} LIMIT {int(per_page)} OFFSET {int(offset)}"""  # noqa: S608
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        total = await connection.fetchval(f"SELECT count(*) FROM {table.name} WHERE {where}", *values)  # noqa: S608
        rows = [orjson.loads(text) for (text,) in await connection.fetch(statement, *values)]
    return Page(rows, total, offset + len(rows) < total)


async def one(source: Pool | Connection, table: Table, place: Equals) -> Row | None:
    """The row of a place, archived or not."""
    where, values = _where(place)
    return _row(await source.fetchval(f"SELECT {_object(table)} FROM {table.name} WHERE {where}", *values))  # noqa: S608


async def locked(connection: Connection, table: Table, place: Equals) -> Row | None:
    """The row of a place, which nobody changes from now on until the transaction ends, not even by SQL."""
    where, values = _where(place)
    statement = f"SELECT {_object(table)} FROM {table.name} WHERE {where} FOR UPDATE"  # noqa: S608
    return _row(await connection.fetchval(statement, *values))


async def insert(connection: Connection, table: Table, row: Row) -> Row:
    """Add a row and return it as it is stored.

    Raises:
        TakenError: another has what must be unique.
    """
    columns = ", ".join(dict.fromkeys((*filter(None, [table.parent]), *table.columns)))
    statement = f"""
INSERT INTO {table.name} ({columns})
SELECT {columns} FROM jsonb_populate_record(NULL::{table.name}, $1::jsonb)
RETURNING {_object(table)}"""  # noqa: S608
    return await _written(connection, statement, _json(row))


async def update(connection: Connection, table: Table, place: Equals, row: Row) -> Row:
    """Write all columns of a row and return it as it is stored.

    Raises:
        TakenError: another has what must be unique.
    """
    where, values = _where(place)
    columns = ", ".join(table.columns)
    new = f"jsonb_populate_record(NULL::{table.name}, ${len(values) + 1}::jsonb)"
    statement = f"""
UPDATE {table.name} SET ({columns}) = (SELECT {columns} FROM {new})
WHERE {where} RETURNING {_object(table)}"""  # noqa: S608
    return await _written(connection, statement, *values, _json(row))


async def delete(connection: Connection, table: Table, place: Equals) -> None:
    where, values = _where(place)
    await connection.execute(f"DELETE FROM {table.name} WHERE {where}", *values)  # noqa: S608


async def exists(source: Pool | Connection, table: str, id_: int, *, or_archived: bool = False) -> bool:
    """Whether there is an offer, affiliate or advertiser of this id."""
    statement = f"SELECT EXISTS (SELECT FROM {table} WHERE id = $1 AND (NOT is_archived OR $2))"  # noqa: S608
    return bool(await source.fetchval(statement, id_, or_archived))


async def users(connection: Connection, table: Table, id_: int) -> list[str]:
    """Who still needs a row: paths of the API."""
    return [path for (path,) in await connection.fetch(table.uses, id_)] if table.uses else []


async def note(
    connection: Connection, author: Author, table: Table, path: str, before: Row | None, after: Row | None
) -> None:
    """Write a change down, in its own transaction."""
    action = "create" if before is None else "delete" if after is None else "update"
    both = (None if row is None else _json(row) for row in (before, after))
    await connection.execute(_WRITE_AUDIT, *author, action, table.name, path, *both)


def _object(table: Table) -> str:
    pairs = ", ".join(f"'{column}', {column}" for column in table.shown)
    return f"json_build_object({pairs})::text"


def _where(equals: Equals) -> tuple[str, list[Any]]:
    conditions = [f"{column} = ${n}" for n, column in enumerate(equals, 1)]
    return " AND ".join(conditions) or "true", list(equals.values())


async def _written(connection: Connection, statement: str, *values: object) -> Row:
    try:
        row: Row = orjson.loads(await connection.fetchval(statement, *values))
    except asyncpg.UniqueViolationError:
        raise TakenError from None
    return row


def _row(text: str | None) -> Row | None:
    return None if text is None else orjson.loads(text)


def _json(row: Row) -> str:
    return orjson.dumps(row).decode()
