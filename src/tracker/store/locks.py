"""Every advisory lock on the database. Numbers never change: processes of two versions may run at once."""

from __future__ import annotations

from enum import IntEnum, unique

from tracker.store.db import Connection


@unique
class Lock(IntEnum):
    """A lock of one bigint."""

    MIGRATION = 0x7C1C_0001
    """One process migrates at a time."""
    PARTITIONS = 0x7C1C_0002
    """One process creates partitions at a time."""
    BACKUP_GATE = 0x7C1C_0003
    """Writers share it from before their commit until the stream has acknowledged.
    A backup takes it alone, and then every stored click has left the stream."""
    RECOUNT = 0x7C1C_0004
    """One process corrects counts at a time."""
    CATALOGUE = 0x7C1C_0005
    """One change of the catalogue at a time. Changes are few, so they wait, and cannot deadlock."""
    CONVERSIONS = 0x7C1C_0006
    """Held by the transaction that changes conversions, or closes their periods."""
    POSTBACK_WRITER = 0x7C1C_0007
    """Held by the worker that applies postbacks of the stream."""
    ADDING_UP = 0x7C1C_0008
    """Held by the transaction that adds up deltas, or corrects counts."""
    ROLLUPS = 0x7C1C_0009
    """One process builds the rollups of reports at a time."""
    ALERTS = 0x7C1C_0014
    """One process compares alerts at a time."""
    IMPORT = 0x7C1C_0012
    """One import at a time."""
    SUB_IDS = 0x7C1C_0013
    """Held by the process that makes pieces of sub ids."""


FEED = 0x7C1C << 48
"""Namespace of bigints for the after_id feed. A transaction that may still commit ids above n holds FEED | n,
shared. No other transaction holds it."""

CONVERSION_FEED = 0x7C1D << 48
"""The same for versions of conversions. Their triggers take it."""

CATALOGUE_FEED = 0x7C1E << 48
"""The same for versions of the catalogue's rows."""

CREATED_CLICKS = 0x7C1C
"""First of two integers. The second is a token's id. Requests of a token that create clicks run one by one,
so that two equal ones see each other. Locks of two integers never clash with those of one bigint."""

_TAKE = "SELECT pg_advisory_lock($1)"
_TRY_TO_TAKE = "SELECT pg_try_advisory_lock($1)"
_RELEASE = "SELECT pg_advisory_unlock($1)"


async def take(connection: Connection, lock: Lock) -> None:
    """Wait for a lock, and hold it until `release` or the end of the connection."""
    await connection.execute(_TAKE, lock)


async def try_to_take(connection: Connection, lock: Lock) -> bool:
    """The same without waiting. False if another connection holds the lock."""
    return bool(await connection.fetchval(_TRY_TO_TAKE, lock))


async def release(connection: Connection, lock: Lock) -> None:
    await connection.execute(_RELEASE, lock)
