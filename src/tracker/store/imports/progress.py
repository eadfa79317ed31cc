"""Storing what was imported: batches of a file, each committed together with how far the file is then."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from datetime import date, timedelta
from functools import reduce
from hashlib import sha256
from typing import NamedTuple

import asyncpg

from tracker.domain.click_id import millis_of
from tracker.store import locks
from tracker.store.clicks import insert as clicks
from tracker.store.db import Connection

MISSING = -1
"""Group of an affiliate that there is none of."""

LONGEST_WAIT = "15s"
"""For another import to end: what PostgreSQL still does for one that was killed a moment ago."""

_MASK = 2**32 - 1
_EPOCH = date(1970, 1, 1)
_DAY_MILLIS = 86_400_000

_OFFERS = "SELECT id, advertiser_id, brand_id FROM offer"
_AFFILIATES = "SELECT id, group_id FROM affiliate"

_BEGIN = """
INSERT INTO import_run (digest, kind, source, file) VALUES ($1, $2, $3, $4) ON CONFLICT (digest) DO NOTHING
"""
_RUN = "SELECT rows, stored, present, refused FROM import_run WHERE digest = $1"
_GO_ON = """
UPDATE import_run SET rows = rows + $2, stored = stored + $3, present = present + $4, refused = refused + $5
WHERE digest = $1
"""
_FORGET = "DELETE FROM import_run WHERE digest = $1"


# What was checked of a file so far. Of rows with one hash the first is stored.
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
    """The catalogue, as far as clicks name it, archived or not."""

    offers: dict[int, KnownOffer]
    affiliates: dict[int, int | None]  # their groups


class Run(NamedTuple):
    """How far a file is."""

    rows: int
    stored: int
    present: int
    refused: int


class Batch(NamedTuple):
    """What became of some rows of a file."""

    stored: int
    present: int
    refused: dict[int, str]  # by their place: why


class Sum(NamedTuple):
    """Of some rows: how many they are, and what their contents add up to."""

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
    """Some rows of a file, held against the table."""

    expected: Sums
    found: Sums
    differing: dict[int, tuple[str, ...]]  # by their place: the fields that the table has otherwise


async def begin(connection: Connection) -> bool:
    """Prepare a connection to import; False: another one imports."""
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
    """Note, in its transaction, a batch and how many rows could not be read beside it."""
    refused = len(batch.refused) + unread
    rows = batch.stored + batch.present + refused
    await connection.execute(_GO_ON, digest, rows, batch.stored, batch.present, refused)


async def forget(connection: Connection, digest: bytes) -> None:
    """Have a file begin anew."""
    await connection.execute(_FORGET, digest)


async def begin_check(connection: Connection) -> None:
    """Forget the rows that were checked of another file."""
    await connection.execute(_CHECKED)


async def check_again(
    connection: Connection,
    names: Sequence[str],
    rows: Sequence[tuple[int, str, Sequence[str], Sequence[Hashable]]],
) -> dict[int, str]:
    """Which rows say otherwise than an earlier one of the file with the same hash, by their place: why.

    Each is its place, its hash, the columns that the file has, and the values of `names`, which are all that
    are compared. What a row does not name it does not deny. Only a hash of each value is kept, so a file of
    any size is checked in the memory of its batches.
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
    """A few bytes for each value, the same in one process for values that are equal."""
    return array("I", [hash(value) & _MASK for value in values]).tobytes()


def day_of(hash_: str) -> date:
    return _EPOCH + timedelta(days=millis_of(hash_) // _DAY_MILLIS)


def summed(rows: Iterable[tuple[object, ...]]) -> Sums:
    """A row's share is 64 bits of a digest of what it says: no two defects cancel each other out."""
    shares: defaultdict[int, list[int]] = defaultdict(list)
    for hash_, *rest in rows:
        digest = sha256(f"{hash_} {rest}".encode()).digest()
        shares[millis_of(str(hash_)) // _DAY_MILLIS].append(int.from_bytes(digest[:8]))
    return {_EPOCH + timedelta(days=day): Sum(len(own), sum(own) % 2**64) for day, own in shares.items()}


def added(sums: Sums, others: Sums) -> Sums:
    return {day: sums.get(day, NOTHING).plus(others.get(day, NOTHING)) for day in sums.keys() | others.keys()}


def total(sums: Sums) -> Sum:
    return reduce(Sum.plus, sums.values(), NOTHING)
