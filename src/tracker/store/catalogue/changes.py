"""The change feed of the catalogue: rows of all its tables in the order of versions, and deleted ones.

Also how often some objects were changed, by the audit trail.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import orjson

from tracker.store import feeds
from tracker.store.catalogue.edit import Row, Table, as_object, read_object
from tracker.store.db import Connection, Pool
from tracker.store.paging import reading

_LATER = "version > $1 AND version <= $2"
_DELETED = f"""
SELECT resource, version, NULL AS object, place::text FROM catalogue_deletion
WHERE {_LATER} AND resource = ANY ($4::text[])"""  # noqa: S608

_SINCE = """
SELECT count(*), max(at) FROM audit WHERE path = ANY ($1) AND at > to_timestamp($2::bigint / 1000.0)
"""


class Change(NamedTuple):
    """A row as it is now, or a deleted row."""

    table: Table
    version: int
    row: Row  # of a deleted row only the columns that named it
    is_deleted: bool


class Changes(NamedTuple):
    changes: list[Change]
    upto: int  # the version to go on from


async def changes(pool: Pool, tables: Sequence[Table], after: int, limit: int) -> Changes:
    """Rows of some tables that are new, changed or deleted after a version.

    Raises:
        AheadError: there has been no such version.
    """
    by_name = {table.name: table for table in tables}
    parts = [*map(_rows_of, tables), _DELETED]
    union = " UNION ALL ".join(f"({part} ORDER BY version LIMIT $3)" for part in parts)
    async with reading(pool, "read_committed") as connection:
        upto = await feeds.upto(connection, feeds.CATALOGUE, after)
        statement = f"{union} ORDER BY version LIMIT $3"
        records = await connection.fetch(statement, after, upto, limit, list(by_name))
    found = [_change(by_name[resource], *rest) for resource, *rest in records]
    # Not from `upto`, which may be of no row (store.feeds). To look again for later rows costs nothing.
    return Changes(found, found[-1].version if found else after)


def _rows_of(table: Table) -> str:
    return f"""
SELECT '{table.name}' AS resource, version, {as_object(table)} AS object, NULL AS place
FROM {table.name} WHERE {_LATER}"""  # noqa: S608


def _change(table: Table, version: int, text: str | None, place: str | None) -> Change:
    row = orjson.loads(place or "{}") if text is None else read_object(table, text)
    return Change(table, version, row, is_deleted=text is None)


async def changes_since(
    connection: Connection, paths: Sequence[str], millis: int
) -> tuple[int, datetime | None]:
    """How often the objects with some paths were changed after a time (Unix milliseconds), and when last."""
    number, last = await connection.fetchrow(_SINCE, list(paths), millis)
    return number, last
