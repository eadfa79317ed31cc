"""Stores imports: batches of a file, each committed together with the file's progress."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from functools import reduce
from hashlib import sha256
from types import MappingProxyType
from typing import NamedTuple

import asyncpg

from tracker.domain.click_id import millis_of
from tracker.store import locks
from tracker.store.clicks import insert as clicks
from tracker.store.db import Connection

MISSING = -1
"""Group of an unknown affiliate."""

LONGEST_WAIT = "15s"
"""Time for another import to end: PostgreSQL may still work for one that was just killed."""

_EPOCH = date(1970, 1, 1)
_DAY_MILLIS = 86_400_000

_OFFERS = "SELECT id, advertiser_id, brand_id FROM offer"
_AFFILIATES = "SELECT id, group_id FROM affiliate"

_BEGIN = """
INSERT INTO import_run (digest, kind, source, file) VALUES ($1, $2, $3, $4) ON CONFLICT (digest) DO NOTHING
"""
_RUN = "SELECT rows, stored, present, refused, replaced FROM import_run WHERE digest = $1"
_GO_ON = """
UPDATE import_run SET rows = rows + $2, stored = stored + $3, present = present + $4, refused = refused + $5,
    replaced = replaced + $6
WHERE digest = $1
"""
_FORGET = "DELETE FROM import_run WHERE digest = $1"
_FILES = "SELECT DISTINCT file FROM import_run WHERE source = $1 AND kind = $2 ORDER BY file"
_HAS_OTHER_CLICKS = """
WITH stored AS (SELECT hash FROM click)
SELECT EXISTS (
    SELECT FROM stored
    WHERE NOT EXISTS (SELECT FROM imported_click WHERE hash = stored.hash AND imported_click.source = $1)
)
"""


# The checked rows of a file. The first of several rows with the same hash is kept.
_CHECKED = """
CREATE TEMP TABLE IF NOT EXISTS checked_row (hash uuid PRIMARY KEY, marks bytea NOT NULL);
TRUNCATE checked_row
"""
_NOTE_CHECKED = """
INSERT INTO checked_row
SELECT hash, marks FROM unnest($1::uuid[], $2::bytea[]) WITH ORDINALITY AS new (hash, marks, place)
ORDER BY place
ON CONFLICT DO NOTHING
"""
_OTHERWISE = """
SELECT place, checked_row.marks
FROM unnest($1::uuid[], $2::bytea[]) WITH ORDINALITY AS new (hash, marks, place) JOIN checked_row USING (hash)
WHERE checked_row.marks <> new.marks
"""


class KnownOffer(NamedTuple):
    advertiser_id: int
    brand_id: int | None


class Known(NamedTuple):
    """The offers and affiliates that clicks may name, archived or not."""

    offers: dict[int, KnownOffer]
    affiliates: dict[int, int | None]  # their groups


class Run(NamedTuple):
    """The progress of a file."""

    rows: int
    stored: int
    present: int
    refused: int
    replaced: int


class Batch(NamedTuple):
    """The result of some rows of a file."""

    stored: int
    present: int
    refused: dict[int, str]  # reasons by position
    replaced: int = 0


class Sum(NamedTuple):
    """The number of some rows, and the sum of their digests."""

    rows: int
    checksum: int

    def plus(self, other: Sum) -> Sum:
        return Sum(self.rows + other.rows, (self.checksum + other.checksum) % 2**64)

    @property
    def shown(self) -> str:
        return f"{self.checksum:016x}"


NOTHING = Sum(0, 0)


Sums = dict[date, Sum]
"""By the day (UTC)."""


class Comparison(NamedTuple):
    """Some rows of a file, compared with the table."""

    expected: Sums
    found: Sums
    differing: dict[int, tuple[str, ...]]  # by position: the fields with other values in the table
    stay: Mapping[int, str] = MappingProxyType({})  # by position: why an import that replaces leaves it


async def begin(connection: Connection) -> bool:
    """Prepare a connection for an import. Returns False if another import runs."""
    await clicks.prepare(connection)
    await connection.execute(f"SET lock_timeout = '{LONGEST_WAIT}'")
    try:
        await locks.take(connection, locks.Lock.IMPORT)
    except asyncpg.LockNotAvailableError:
        return False
    await connection.execute("RESET lock_timeout")
    return True


async def known(connection: Connection) -> Known:
    offers = {
        row["id"]: KnownOffer(row["advertiser_id"], row["brand_id"])
        for row in await connection.fetch(_OFFERS)
    }
    return Known(offers, dict(await connection.fetch(_AFFILIATES)))


async def run_of(connection: Connection, digest: bytes) -> Run | None:
    row = await connection.fetchrow(_RUN, digest)
    return row and Run(*row)


async def start(connection: Connection, digest: bytes, kind: str, source: str, file: str) -> None:
    await connection.execute(_BEGIN, digest, kind, source, file)


async def go_on(connection: Connection, digest: bytes, batch: Batch, unread: int) -> None:
    """Note a batch and the number of its bad rows, in the batch's transaction."""
    refused = len(batch.refused) + unread
    rows = batch.stored + batch.present + batch.replaced + refused
    await connection.execute(_GO_ON, digest, rows, batch.stored, batch.present, refused, batch.replaced)


async def forget(connection: Connection, digest: bytes) -> None:
    """Make a file start from its beginning again."""
    await connection.execute(_FORGET, digest)


async def files_of(connection: Connection, source: str, kind: str) -> list[str]:
    """The names of the files of a source whose import has begun."""
    return [row["file"] for row in await connection.fetch(_FILES, source, kind)]


async def has_other_clicks(connection: Connection, source: str) -> bool:
    """Whether any click is stored that no import of the source has brought."""
    return bool(await connection.fetchval(_HAS_OTHER_CLICKS, source))


async def begin_check(connection: Connection) -> None:
    """Forget the checked rows of another file."""
    await connection.execute(_CHECKED)


async def check_again(
    connection: Connection,
    names: Sequence[str],
    rows: Sequence[tuple[int, str, Sequence[str], Sequence[Hashable]]],
) -> dict[int, str]:
    """The rows that contradict an earlier row of the file with the same hash: the reasons by place.

    A row is its place, its hash, its columns in the file, and the values of `names`. Only these values are
    compared, and only the columns of the later row. Only a hash of each value is kept, so files of any size
    can be checked in constant memory.
    """
    columns = [hash_ for _, hash_, _, _ in rows], [_marks(values) for *_, values in rows]
    await connection.execute(_NOTE_CHECKED, *columns)
    why = {}
    for number, first in await connection.fetch(_OTHERWISE, *columns):
        place, _, named, _ = rows[number - 1]
        marks = zip(names, array("I", first), array("I", columns[1][number - 1]), strict=True)
        others = [name for name, one, other in marks if one != other and name in named]
        if others:
            why[place] = f"is in the file before, with another {', '.join(others)}"
    return why


def _marks(values: Iterable[Hashable]) -> bytes:
    """Four bytes for each value. Equal values have equal bytes within a process."""
    hashes = array("q", map(hash, values)).tobytes()
    return array("I", hashes)[::2].tobytes()  # half of each


def day_of(hash_: str) -> date:
    return _EPOCH + timedelta(days=millis_of(hash_) // _DAY_MILLIS)


def summed(rows: Iterable[tuple[object, ...]]) -> Sums:
    """A row's digest has 64 bits of its content, so that two errors do not cancel each other out."""
    shares: defaultdict[int, list[int]] = defaultdict(list)
    for hash_, *rest in rows:
        digest = sha256(f"{hash_} {rest}".encode()).digest()
        shares[millis_of(str(hash_)) // _DAY_MILLIS].append(int.from_bytes(digest[:8]))
    return {_EPOCH + timedelta(days=day): Sum(len(own), sum(own) % 2**64) for day, own in shares.items()}


def compared(
    wanted: Sequence[tuple[object, ...]],
    there: Sequence[tuple[object, ...]],
    differing: dict[int, tuple[str, ...]],
    stay: Mapping[int, str],
) -> Comparison:
    """The comparison of rows of a file with those of the table. Equal rows are summed up once."""
    expected = summed(wanted)
    return Comparison(expected, expected if wanted == there else summed(there), differing, stay)


def added(sums: Sums, others: Sums) -> Sums:
    return {day: sums.get(day, NOTHING).plus(others.get(day, NOTHING)) for day in sums.keys() | others.keys()}


def total(sums: Sums) -> Sum:
    return reduce(Sum.plus, sums.values(), NOTHING)
