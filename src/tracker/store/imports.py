"""Storing what was imported: batches of a file, each committed together with how far the file is then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from functools import reduce
from hashlib import sha256
from typing import NamedTuple

from tracker.clickhash import millis_of
from tracker.model import ClickRow
from tracker.store import clicks, partitions
from tracker.store.pool import Connection

MISSING = -1
"""Group of an affiliate that there is none of."""

_ONE_AT_A_TIME = 0x7C1C_0012
_EPOCH = date(1970, 1, 1)
_DAY_MILLIS = 86_400_000

_OFFERS = "SELECT id, advertiser_id, brand_id FROM offer"
_AFFILIATES = "SELECT id, group_id FROM affiliate"

_ANNOUNCE = "SELECT pg_advisory_xact_lock_shared($1 | last_value) FROM click_id"
_INSERT_CLICKS = clicks.inserting("stored") + clicks.PASSED_OVER
# In order, so that others who note ids wait instead of deadlocking.
_NOTE_LEGACY = """
INSERT INTO legacy_click (legacy_id, hash)
SELECT legacy_id, hash FROM unnest($1::text[], $2::uuid[]) AS new (legacy_id, hash) ORDER BY legacy_id
ON CONFLICT DO NOTHING
"""
_LEGACY = "SELECT legacy_id, hash FROM legacy_click WHERE legacy_id = ANY ($1)"
# The bounds say what the list does; they rule partitions out.
_FOUND = """
SELECT hash, offer_id, affiliate_id FROM click WHERE hash = ANY ($1::uuid[]) AND hash BETWEEN $2 AND $3
"""

_BEGIN = """
INSERT INTO import_run (digest, kind, source, file) VALUES ($1, $2, $3, $4) ON CONFLICT (digest) DO NOTHING
"""
_RUN = """
SELECT rows, stored, present, refused, finished_at IS NOT NULL FROM import_run WHERE digest = $1
"""
_GO_ON = """
UPDATE import_run SET rows = rows + $2, stored = stored + $3, present = present + $4, refused = refused + $5
WHERE digest = $1
"""
_FINISH = "UPDATE import_run SET finished_at = clock_timestamp() WHERE digest = $1"
_FORGET = "DELETE FROM import_run WHERE digest = $1"


class KnownOffer(NamedTuple):
    advertiser_id: int
    brand_id: int | None


class Known(NamedTuple):
    """The catalogue, as far as clicks name it, archived or not."""

    offers: dict[int, KnownOffer]
    affiliates: dict[int, int | None]  # their groups


class ImportedClick(NamedTuple):
    row: ClickRow
    legacy_id: str | None


class Run(NamedTuple):
    """How far a file is."""

    rows: int
    stored: int
    present: int
    refused: int
    is_finished: bool


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


async def begin(connection: Connection) -> bool:
    """Prepare a connection to import; False: another one imports."""
    await clicks.prepare(connection)
    return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", _ONE_AT_A_TIME))


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


async def finish(connection: Connection, digest: bytes) -> None:
    await connection.execute(_FINISH, digest)


async def forget(connection: Connection, digest: bytes) -> None:
    """Have a file begin anew."""
    await connection.execute(_FORGET, digest)


class ClickStore:
    """Stores imported clicks over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._days: set[date] = set()

    async def prepare(self, items: Sequence[ImportedClick]) -> None:
        """Create the partitions of the clicks; before the transaction that stores them."""
        days = {_day(item.row.hash) for item in items} - self._days
        if days:
            await partitions.create(self._connection, days)
            self._days |= days

    async def store(self, items: Sequence[ImportedClick]) -> Batch:
        """Store clicks, in a transaction of the caller's; they stand as they were stored first."""
        refused = await self._note_legacy(items)
        taken = [item.row for place, item in enumerate(items) if place not in refused]
        await self._connection.copy_records_to_table("incoming", records=taken, columns=ClickRow._fields)
        await self._connection.execute(_ANNOUNCE, clicks.FEED_LOCK)
        passed_over = await self._connection.fetch(_INSERT_CLICKS)
        stored = len({row.hash for row in taken}) - len(passed_over)
        return Batch(stored, len(taken) - stored, refused)

    async def compare(self, items: Sequence[ImportedClick]) -> tuple[Sums, Sums]:
        """What the table should have of some clicks, and what it has."""
        refused = await self._of_others(items)
        rows: dict[str, ClickRow] = {}
        for place, item in enumerate(items):
            if place not in refused:
                rows.setdefault(item.row.hash, item.row)
        hashes = sorted(rows)
        found = await self._connection.fetch(_FOUND, hashes, hashes[0], hashes[-1]) if hashes else []
        expected = _summed((row.hash, row.offer_id, row.affiliate_id) for row in rows.values())
        return expected, _summed((row["hash"].hex, row["offer_id"], row["affiliate_id"]) for row in found)

    async def _note_legacy(self, items: Sequence[ImportedClick]) -> dict[int, str]:
        """Note earlier ids; refuses those that are of other clicks."""
        wanted = {item.legacy_id: item.row.hash for item in items if item.legacy_id is not None}
        if wanted:
            await self._connection.execute(_NOTE_LEGACY, list(wanted), list(wanted.values()))
        return await self._of_others(items)

    async def _of_others(self, items: Sequence[ImportedClick]) -> dict[int, str]:
        wanted = [item.legacy_id for item in items if item.legacy_id is not None]
        rows = await self._connection.fetch(_LEGACY, wanted) if wanted else []
        noted = {row["legacy_id"]: row["hash"].hex for row in rows}
        return {
            place: f"legacy_id {legacy_id} is the earlier id of another click"
            for place, (row, legacy_id) in enumerate(items)
            if legacy_id is not None and noted.get(legacy_id, row.hash) != row.hash
        }


def _day(hash_: str) -> date:
    return _EPOCH + timedelta(days=millis_of(hash_) // _DAY_MILLIS)


def _summed(rows: Iterable[tuple[str, int, int]]) -> Sums:
    """A row's share is 64 bits of a digest of what it says: no two defects cancel each other out."""
    shares: defaultdict[int, list[int]] = defaultdict(list)
    for hash_, *ids in rows:
        digest = sha256(f"{hash_} {ids}".encode()).digest()
        shares[millis_of(hash_) // _DAY_MILLIS].append(int.from_bytes(digest[:8]))
    return {_EPOCH + timedelta(days=day): Sum(len(own), sum(own) % 2**64) for day, own in shares.items()}


def added(sums: Sums, others: Sums) -> Sums:
    return {day: sums.get(day, NOTHING).plus(others.get(day, NOTHING)) for day in sums.keys() | others.keys()}


def total(sums: Sums) -> Sum:
    return reduce(Sum.plus, sums.values(), NOTHING)
