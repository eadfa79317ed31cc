"""The click of a create request: a new one, or the one of an earlier equal request."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from tracker.store import locks
from tracker.store.db import Connection, Pool


class Claim(NamedTuple):
    """A click to create, and the keys that identify a repeated request."""

    hash: str  # the hash of a new click
    digest: bytes  # of the whole request
    dedupe_key: str | None
    legacy_id: str | None

    @property
    def key(self) -> str | None:
        if self.dedupe_key is not None:
            return f"d{self.dedupe_key}"
        return None if self.legacy_id is None else f"l{self.legacy_id}"

    @property
    def key_field(self) -> str:
        return "legacy_id" if self.dedupe_key is None else "dedupe_key"


class Reservation(NamedTuple):
    """The click of a claim."""

    hash: str
    is_duplicate: bool  # another request had created it


class StoredClick(NamedTuple):
    """The facts about a created click."""

    id: int
    hash: str
    group_hash: str | None
    is_unique: bool
    status: str
    reason: int
    redirected_link: str


class Conflict(ValueError):  # noqa: N818 - the name is clear
    """A key is already used for something else. `place` is the click's key, None: the request's own key."""

    def __init__(self, place: int | None, field: str, why: str) -> None:
        super().__init__(why)
        self.place = place
        self.field = field


_LOCK = "SELECT pg_advisory_xact_lock($1, $2)"
_REQUEST = "SELECT digest, hashes, duplicates FROM create_request WHERE (token_id, key) = ($1, $2)"
_NOTE_REQUEST = """
INSERT INTO create_request (token_id, key, digest, hashes, duplicates) VALUES ($1, $2, $3, $4::uuid[], $5)
"""
_KNOWN = "SELECT key, digest, hash FROM created_click WHERE token_id = $1 AND key = ANY ($2)"
_NOTE = """
INSERT INTO created_click (token_id, key, digest, hash)
SELECT $1, key, digest, hash FROM unnest($2::text[], $3::bytea[], $4::uuid[]) AS new (key, digest, hash)
"""
# In order, so that two tokens with the same ids wait for each other instead of deadlocking. An
# imported id is not free.
_NOTE_LEGACY = """
INSERT INTO legacy_click (legacy_id, hash)
SELECT legacy_id, hash FROM unnest($1::text[], $2::uuid[]) AS new (legacy_id, hash)
WHERE NOT EXISTS (SELECT FROM legacy_click WHERE legacy_id = new.legacy_id)
ORDER BY legacy_id
ON CONFLICT DO NOTHING
"""
_LEGACY = "SELECT legacy_id, hash FROM legacy_click WHERE legacy_id = ANY ($1)"
# The bounds match the list. They let the planner skip partitions.
_STORED = """
SELECT id, encode(uuid_send(hash), 'hex'), encode(uuid_send(group_hash), 'hex'), is_unique, status, reason,
       redirected_link
FROM click WHERE hash = ANY ($1::uuid[]) AND hash BETWEEN $2 AND $3
"""


async def reserve(
    connection: Connection, token_id: int, request_key: str | None, digest: bytes, claims: Sequence[Claim]
) -> list[Reservation]:
    """Find or note the click of each claim. Other requests of the token wait for the end of the transaction.

    Raises:
        Conflict: a key was used for something else.
    """
    await connection.execute(_LOCK, locks.CREATED_CLICKS, token_id & 0x7FFF_FFFF)
    if request_key is not None and (row := await connection.fetchrow(_REQUEST, token_id, request_key)):
        if row["digest"] != digest:
            raise Conflict(None, "Idempotency-Key", "was used with another body")
        return [Reservation(*pair) for pair in zip(_hexes(row["hashes"]), row["duplicates"], strict=True)]
    reserved = await _reserve_keys(connection, token_id, claims)
    await _reserve_legacy_ids(connection, claims, reserved)
    if request_key is not None:
        hashes, duplicates = zip(*reserved, strict=True)
        await connection.execute(_NOTE_REQUEST, token_id, request_key, digest, hashes, duplicates)
    return reserved


async def stored(source: Connection | Pool, hashes: Collection[str]) -> dict[str, StoredClick]:
    """The clicks that are in the table, by hash."""
    if not hashes:
        return {}
    rows = await source.fetch(_STORED, list(hashes), min(hashes), max(hashes))
    return {click.hash: click for click in map(StoredClick._make, rows)}


async def _reserve_keys(connection: Connection, token_id: int, claims: Sequence[Claim]) -> list[Reservation]:
    keys = [claim.key for claim in claims if claim.key is not None]
    known = {row["key"]: row for row in await connection.fetch(_KNOWN, token_id, keys)}
    for place, claim in enumerate(claims):
        if claim.key in known and known[claim.key]["digest"] != claim.digest:
            raise Conflict(place, claim.key_field, "was used for another click")
    new = [claim for claim in claims if claim.key is not None and claim.key not in known]
    if new:
        columns = zip(*((claim.key, claim.digest, claim.hash) for claim in new), strict=True)
        await connection.execute(_NOTE, token_id, *columns)
    hashes = [known[claim.key]["hash"].hex if claim.key in known else claim.hash for claim in claims]
    there = await stored(connection, hashes)
    return [Reservation(hash_, hash_ in there) for hash_ in hashes]


async def _reserve_legacy_ids(
    connection: Connection, claims: Sequence[Claim], reserved: Sequence[Reservation]
) -> None:
    wanted = {
        claim.legacy_id: (place, click.hash)
        for place, (claim, click) in enumerate(zip(claims, reserved, strict=True))
        if claim.legacy_id is not None
    }
    if not wanted:
        return
    await connection.execute(_NOTE_LEGACY, list(wanted), [hash_ for _, hash_ in wanted.values()])
    noted = {(legacy_id, hash_.hex) for legacy_id, hash_ in await connection.fetch(_LEGACY, list(wanted))}
    for legacy_id, (place, own) in wanted.items():
        if (legacy_id, own) not in noted:
            raise Conflict(place, "legacy_id", "is the earlier id of another click")


def _hexes(hashes: Sequence[object]) -> list[str]:
    return [str(hash_).replace("-", "") for hash_ in hashes]
