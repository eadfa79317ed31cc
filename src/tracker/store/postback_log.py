"""The log of postbacks as workers keep it and commands show it; postback_list is the API's list of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from tracker.clickhash import first_hash_at
from tracker.conversion import Postback, Source, read_postback
from tracker.store.pool import Connection, Pool

_PARKED = """
SELECT hash, source, ip, advertiser_id, parameters FROM postback
WHERE result = 'parked' AND hash > $1 ORDER BY hash LIMIT $2
"""
_COUNT_PARKED = "SELECT count(*) FROM postback WHERE result = 'parked' AND hash < $1"
_LATEST = """
SELECT hash, source, ip, advertiser_id, parameters, result, reason, conversion_id FROM postback
WHERE hash >= $1 AND ($2::text IS NULL OR result = $2) ORDER BY hash DESC LIMIT $3
"""
_FORGET = """
DELETE FROM postback WHERE hash IN (
    SELECT hash FROM postback WHERE conversion_id IS NULL AND hash < $1 AND result <> 'parked' LIMIT $2)
"""
_FIRST = "0" * 32
_FORGOTTEN_AT_ONCE = 10_000


class Logged(NamedTuple):
    """A postback, and what became of it."""

    hash: str
    source: str
    ip: str
    advertiser_id: int | None
    parameters: dict[str, str]
    result: str
    reason: str
    conversion_id: int | None


async def parked(connection: Connection, after: str | None, count: int) -> list[Postback]:
    """Those that wait for their clicks, oldest first, after one of them."""
    return [_postback(row) for row in await connection.fetch(_PARKED, after or _FIRST, count)]


async def count_parked(source: Connection | Pool, before: int) -> int:
    """How many wait for their clicks that came before a time (Unix milliseconds)."""
    return int(await source.fetchval(_COUNT_PARKED, first_hash_at(before)))


async def latest(connection: Connection, since: int, result: str | None, count: int) -> list[Logged]:
    """The last so many since a time (Unix milliseconds), newest first."""
    return [_logged(row) for row in await connection.fetch(_LATEST, first_hash_at(since), result, count)]


async def forget(connection: Connection, before: int) -> None:
    """Delete those from before a time (Unix milliseconds) that came to nothing; those of conversions stay."""
    first_kept = first_hash_at(before)
    while await connection.execute(_FORGET, first_kept, _FORGOTTEN_AT_ONCE) == f"DELETE {_FORGOTTEN_AT_ONCE}":
        pass


def _postback(row: Any) -> Postback:
    hash_, source, ip, advertiser_id, parameters = row
    return read_postback(hash_.hex, Source(source), ip, advertiser_id, orjson.loads(parameters))


def _logged(row: Any) -> Logged:
    hash_, source, ip, advertiser_id, parameters, *rest = row
    return Logged(hash_.hex, source, ip, advertiser_id, orjson.loads(parameters), *rest)
