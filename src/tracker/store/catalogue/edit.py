"""Reads and changes the catalogue's rows for the management API: the same few statements for every table.

Rows are JSON objects in both directions. PostgreSQL converts them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import asyncpg
import orjson

from tracker.domain import money, normalise
from tracker.store.db import Connection, Pool
from tracker.store.locks import Lock
from tracker.store.paging import Page
from tracker.store.time_span import Span

_LONGEST_WAIT_SECONDS = 5
_READ_AHEAD = 500  # rows
_BEGIN = """
SELECT set_config('lock_timeout', $1, true), set_config('tracker.currency', $2, true),
    set_config('tracker.editor', $3, true), set_config('tracker.author', $4, true)
"""

BUSY: type[Exception] = asyncpg.LockNotAvailableError
"""Another session, perhaps by SQL, holds the row for too long."""

Row = dict[str, Any]
Equals = Mapping[str, Any]
"""Columns and their values that select rows: a list for any of several, a Span for a range of time.

Of a list, a member, as in `tag`. `under`: a path, with all paths below it.
"""

_MEMBERS = {"tag": "tags", "affiliate": "affiliate_ids", "advertiser": "advertiser_ids"}
_ESCAPED = str.maketrans({character: f"\\{character}" for character in "\\%_"})  # of patterns for LIKE


class Wanted(NamedTuple):
    """Which rows of a list, and their order."""

    equals: Equals = MappingProxyType({})
    text: str = ""  # a part of one of Table.searched, in any case, or the id
    sort: str = ""  # name, -name, id or -id. Default: the key


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
    searched: tuple[str, ...] = ()  # columns that a search looks into. The table is sorted by name, too
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
    """The author of a change: a token, a user, or the command line."""

    token_id: int | None
    token_name: str  # or the user's e-mail address
    user_id: int | None = None
    address: str = ""  # the IP address of the request, "" for the command line


class Change(NamedTuple):
    """A change of the row at an API path."""

    path: str
    before: Row | None  # None: the row is new
    after: Row | None  # None: the row is deleted


AUDIT = Table(
    "audit",
    ("at", "token_id", "token_name", "user_id", "address", "action", "resource", "path", "before", "after"),
    is_log=True,
)
_WRITE_AUDIT = """
INSERT INTO audit (token_id, token_name, user_id, address, resource, action, path, before, after)
SELECT $1, $2, $3, $4, $5, action, path, before::json, after::json
FROM unnest($6::text[], $7::text[], $8::text[], $9::text[])
    WITH ORDINALITY AS change (action, path, before, after, place) ORDER BY place
"""


@asynccontextmanager
async def changing(
    pool: Pool, *, is_trial: bool = False, currency: str = "", editor: str = "", author: str = ""
) -> AsyncIterator[Connection]:
    """A transaction that excludes other changes of the catalogue by this module.

    An exception undoes it. So does the end of a trial, which only shows the effects. `currency`: of the base
    goals that new offers bring with them. Default: as the tables have it. `editor`: affiliate, or empty for
    the network. `author`: the name that new rows keep, if their table keeps one.
    """
    async with pool.acquire() as connection:
        with suppress(_TrialIsOverError):
            async with connection.transaction():
                await connection.execute(_BEGIN, f"{_LONGEST_WAIT_SECONDS}s", currency, editor, author)
                await connection.execute("SELECT pg_advisory_xact_lock($1)", Lock.CATALOGUE)
                yield connection
                if is_trial:
                    raise _TrialIsOverError


class _OneConnection:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def acquire(self) -> AbstractAsyncContextManager[Connection]:
        return nullcontext(self._connection)


def as_pool(connection: Connection) -> Pool:
    """A pool with this connection only, so that every change is part of its transaction."""
    return cast(Pool, _OneConnection(connection))


async def page(pool: Pool, table: Table, wanted: Wanted, number: int, per_page: int) -> Page:
    """A page of rows, and the number of all rows."""
    offset = (number - 1) * per_page
    part = f"LIMIT {int(per_page)} OFFSET {int(offset)}"
    read = _read_found if wanted.text else _read_part
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        total, texts = await read(connection, table, wanted, part)
    return Page([read_object(table, text) for (text,) in texts], total, offset + len(texts) < total)


async def _read_part(
    connection: Connection, table: Table, wanted: Wanted, part: str
) -> tuple[int, Sequence[tuple[str]]]:
    """The number of wanted rows, and a part of them."""
    where, values = _where(wanted.equals)
    total = await connection.fetchval(f"SELECT count(*) FROM {table.name} WHERE {where}", *values)  # noqa: S608
    order = _order(table, wanted)
    rows = f"SELECT * FROM {table.name} WHERE {where} ORDER BY {order} {part}"  # noqa: S608
    # Outside of the part, because PostgreSQL would make an object of each row that the offset skips.
    statement = f"SELECT {as_object(table)} FROM ({rows}) AS {table.name} ORDER BY {order}"  # noqa: S608
    return total, await connection.fetch(statement, *values)


async def _read_found(
    connection: Connection, table: Table, wanted: Wanted, part: str
) -> tuple[int, Sequence[tuple[str]]]:
    """The same of a search. It has no index, so it goes through the table once for both.

    What has the text as its id or whole name comes first: the first part has it, of however many.
    """
    where, values = _where(wanted.equals)
    id_ = normalise.id_(wanted.text)
    n = len(values)
    texts = " || E'\\n' || ".join(f"coalesce({column}, '')" for column in table.searched)
    statement = f"""
WITH found AS MATERIALIZED (
    SELECT id, name FROM {table.name}
    WHERE {where} AND (id = ${n + 1} OR {texts} ILIKE ANY (${n + 2}))
)
SELECT (SELECT count(*) FROM found), ARRAY(
    SELECT id FROM found
    ORDER BY coalesce(id = ${n + 1}, false) DESC, coalesce(name ILIKE ANY (${n + 3}), false) DESC,
        {_order(table, wanted)} {part})"""  # noqa: S608
    patterns = _patterns(wanted.text)
    within = [f"%{pattern}%" for pattern in patterns]
    total, ids = await connection.fetchrow(statement, *values, id_, within, patterns)
    rows = f"""
SELECT {as_object(table)}
FROM {table.name} JOIN unnest($1::bigint[]) WITH ORDINALITY AS found (id, place) USING (id) ORDER BY place"""  # noqa: S608
    return total, await connection.fetch(rows, ids)


def _patterns(text: str) -> list[str]:
    """Patterns of just a text. ILIKE knows the case of ASCII only in a database of the locale C."""
    spellings = (text.lower(), text.upper(), text.title())
    distinct = dict.fromkeys(spelling.encode().lower().decode() for spelling in spellings)
    return [spelling.translate(_ESCAPED) for spelling in distinct]


def _order(table: Table, wanted: Wanted) -> str:
    column = wanted.sort.removeprefix("-")
    direction = "DESC" if table.is_log or wanted.sort.startswith("-") else "ASC"
    first = f"lower(name) {direction}, " if column == "name" else ""
    return f"{first}{table.key} {direction}"


async def one(source: Pool | Connection, table: Table, place: Equals) -> Row | None:
    """The row at a place, archived or not."""
    where, values = _where(place)
    text = await source.fetchval(f"SELECT {as_object(table)} FROM {table.name} WHERE {where}", *values)  # noqa: S608
    return None if text is None else read_object(table, text)


async def every(connection: Connection, table: Table, place: Equals = MappingProxyType({})) -> list[Row]:
    """All rows of a place, archived or not."""
    where, values = _where(place)
    rows = await connection.fetch(f"SELECT {as_object(table)} FROM {table.name} WHERE {where}", *values)  # noqa: S608
    return [read_object(table, text) for (text,) in rows]


async def walk(connection: Connection, table: Table) -> AsyncIterator[Row]:
    """All rows, archived or not, in an order that is the same everywhere. It needs a transaction."""
    is_text = table.key and not table.key.endswith("id")
    places = [table.parent, f'{table.key} COLLATE "C"' if is_text else table.key]
    order = f"ORDER BY {', '.join(filter(None, places))}" if table.key else ""
    statement = f"SELECT {as_object(table)} FROM {table.name} {order}"  # noqa: S608
    async for (text,) in connection.cursor(statement, prefetch=_READ_AHEAD):
        yield read_object(table, text)


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
    await note_all(connection, author, table, [Change(path, before, after)])


async def note_all(connection: Connection, author: Author, table: Table, changes: Collection[Change]) -> None:
    """Write changes to the audit trail in their order, in their transaction."""
    rows = [
        (_action(before, after), path, *(None if row is None else _json(row) for row in (before, after)))
        for path, before, after in changes
    ]
    await connection.execute(_WRITE_AUDIT, *author, table.name, *map(list, zip(*rows, strict=True)))


def _action(before: Row | None, after: Row | None) -> str:
    return "create" if before is None else "delete" if after is None else "update"


def as_object(table: Table) -> str:
    """SQL: a row as JSON, for `read_object`."""
    # As text, because an amount would be read as a float.
    pairs = ", ".join(f"'{name}', {name}{'::text' if name in table.money else ''}" for name in table.shown)
    return f"json_build_object({pairs})::text"


def _where(equals: Equals) -> tuple[str, list[Any]]:
    conditions = [_condition(column, value, n) for n, (column, value) in enumerate(equals.items(), 1)]
    return " AND ".join(conditions) or "true", list(equals.values())


def _condition(column: str, value: object, n: int) -> str:
    if column == "under":
        return f"(path = ${n} OR starts_with(path, ${n} || '/'))"
    if isinstance(value, Span):
        low, high = (f"to_timestamp((${n}::bigint[])[{place}] / 1000.0)" for place in (1, 2))
        return f"({column} >= {low} AND {column} < {high})"
    if column in _MEMBERS:
        return f"${n} = ANY ({_MEMBERS[column]})"
    return f"{column} = ANY (${n})" if isinstance(value, list) else f"{column} = ${n}"


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
