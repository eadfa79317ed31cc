"""What happened in a span: changes of the audit trail, and notes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final, NamedTuple

import orjson

from tracker.store.catalogue.edit import Row
from tracker.store.db import Pool

MOST_MARKS: Final = 100
"""The most marks of one answer."""

_MOST_CHANGES = 5_000  # that are looked at
_MOST_OF_A_KIND = 3  # changes of one author in a minute that are told one by one

_READ = f"""
WITH recent AS (
    SELECT id, at, token_name, action, resource FROM audit
    WHERE at >= $1 AND at < $2 AND resource = ANY ($3::text[]) ORDER BY at DESC LIMIT {_MOST_CHANGES}
), counted AS (
    SELECT id, count(*) OVER kind AS number, row_number() OVER (kind ORDER BY id) AS place FROM recent
    WINDOW kind AS (PARTITION BY date_trunc('minute', at), token_name, action, resource)
), told AS (
    SELECT id, audit.at, token_name AS author, NULL::bigint AS note_id, action, resource, path, before, after,
        CASE WHEN number > {_MOST_OF_A_KIND} THEN number ELSE 1 END AS number
    FROM counted JOIN audit USING (id) WHERE number <= {_MOST_OF_A_KIND} OR place = 1
    UNION ALL
    SELECT id, at, author, id, 'note', 'note', text, NULL, NULL, 1 FROM note WHERE at >= $1 AND at < $2
)
SELECT at, author, note_id, action, resource, path, before::text, after::text, number FROM told
ORDER BY at DESC, id DESC LIMIT {MOST_MARKS} + 1"""  # noqa: S608


class Happened(NamedTuple):
    """A note, a change of an object, or several changes of one kind in the same minute."""

    at: datetime
    author: str
    note_id: int | None  # None: a change
    action: str
    resource: str  # the table
    path: str  # of the object. Of a note its text
    before: Row | None
    after: Row | None
    number: int  # more than 1: of so many changes this is the first


async def read(pool: Pool, start: datetime, end: datetime, tables: Collection[str]) -> list[Happened]:
    """What happened from one time up to another, the latest first: MOST_MARKS, and one if there is more."""
    rows = await pool.fetch(_READ, start, end, list(tables))
    found = [Happened(**row) for row in rows]
    return [one._replace(before=_row(one.before), after=_row(one.after)) for one in found]


def _row(text: object) -> Row | None:
    return None if text is None else orjson.loads(str(text))
