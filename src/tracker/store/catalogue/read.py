"""Reads the catalogue for the edges' memory.

An object is identified by its table and key: "offer", "3", or "terms", "3:513". The triggers send the same to
the edges as "offer:3" and "terms:3:513".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson

from tracker.store.db import Connection, NotMigratedError

CHANNEL = "tracker_catalogue"
"""NOTIFY channel. The payload is "table:key" of the object to rebuild."""

Row = dict[str, Any]
Rows = list[tuple[str, Row]]
"""Objects by their keys."""

_CHUNK = 200  # rows per fetch


class _Query(NamedTuple):
    every: str
    some: str  # rows with the keys $1 (text[])


def _by_id(select: str, table: str) -> _Query:
    """A table with an id whose rows affect no other object."""
    every = f"SELECT id::text, {select} FROM {table}"  # noqa: S608
    return _Query(every, f"{every} WHERE id = ANY ($1::text[]::bigint[])")


def _unarchived(select: str, table: str) -> _Query:
    """The same for a table with archived rows, which edges leave out."""
    every = f"SELECT id::text, {select} FROM {table} WHERE NOT is_archived"  # noqa: S608
    return _Query(every, f"{every} AND id = ANY ($1::text[]::bigint[])")


_FAR = 253_402_300_799_999  # the end of the year 9999
_MILLIS = f"""CASE {{0}} WHEN 'infinity' THEN {_FAR} WHEN '-infinity' THEN 0
        ELSE (extract(epoch FROM {{0}}) * 1000)::bigint END"""

_CAPS = """coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'affiliate_id', affiliate_id, 'counts', counts, 'period', period, 'amount', amount,
            'series', series) ORDER BY id)
        FROM cap WHERE counts IN ('clicks', 'uniques') AND {}), '[]')"""

_FREE = """(SELECT jsonb_agg(coalesce(value, '') ORDER BY place.n)
        FROM generate_series(1, 10) AS place (n)
        LEFT JOIN offer_free_value AS own ON {} AND own.n = place.n)"""

# A visitor remembered by a former setting counts for the present window at most. The hour is for late clicks.
_FORMER_UNIQUENESS = f"""coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'window', unique_window, 'scope', unique_scope, 'until', {_MILLIS.format("matters_until")})
            ORDER BY matters_until DESC)
        FROM (
            SELECT *, least(until, changed_at + make_interval(hours => 1, secs => offer.unique_window))
                AS matters_until
            FROM former_uniqueness WHERE offer_id = offer.id
        ) AS former
        WHERE matters_until > now()), '[]')"""  # noqa: S608

_OFFER = f"""jsonb_build_object(
    'id', id, 'name', name, 'advertiser_id', advertiser_id, 'brand_id', brand_id, 'status', status,
    'starts', {_MILLIS.format("starts_at")}, 'ends', {_MILLIS.format("ends_at")},
    'closed_until', {_MILLIS.format("closed_until")}, 'visibility', visibility, 'time_zone', time_zone,
    'targeting', targeting, 'fallback_url', fallback_url, 'fallback_offer_id', fallback_offer_id,
    'unique_window', unique_window, 'unique_scope', unique_scope, 'visitor_cookie', visitor_cookie,
    'duplicates', duplicates, 'duplicates_forced', duplicates_forced,
    'redirect_status', redirect_status, 'referrer_policy', referrer_policy,
    'deep_link_hosts', deep_link_hosts, 'pass_through', pass_through,
    'former_uniqueness', {_FORMER_UNIQUENESS},
    'urls', coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'id', id, 'name', name, 'url', url, 'weight', weight, 'targeting', targeting,
            'fallback_url', fallback_url, 'fallback_offer_id', fallback_offer_id) ORDER BY id)
        FROM offer_url WHERE offer_id = offer.id AND status = 'active' AND NOT is_archived), '[]'),
    'caps', {_CAPS.format("offer_id = offer.id AND coalesce(affiliate_id, 0) = 0")},
    'free', {_FREE.format("own.offer_id = offer.id AND own.affiliate_id = 0")}
)::text"""  # noqa: S608

_AFFILIATE = """jsonb_build_object(
    'id', id, 'name', name, 'group_id', group_id, 'status', status, 'is_test', is_test
)::text"""

_TERMS = f"""
SELECT pair.offer_id || ':' || pair.affiliate_id, jsonb_build_object(
    'status', agreed.status, 'closed_until', {_MILLIS.format("agreed.closed_until")},
    'caps', {_CAPS.format("offer_id = pair.offer_id AND affiliate_id = pair.affiliate_id")},
    'free', {_FREE.format("own.offer_id = pair.offer_id AND own.affiliate_id = pair.affiliate_id")}
)::text
FROM {{}} AS pair (offer_id, affiliate_id)
LEFT JOIN offer_affiliate AS agreed USING (offer_id, affiliate_id)
"""  # noqa: S608
_EVERY_PAIR = """(
    SELECT offer_id, affiliate_id FROM offer_affiliate
    UNION SELECT offer_id, affiliate_id FROM cap WHERE affiliate_id > 0
    UNION SELECT offer_id, affiliate_id FROM offer_free_value WHERE affiliate_id > 0)"""
_SOME_PAIRS = """(
    SELECT split_part(key, ':', 1)::bigint, split_part(key, ':', 2)::bigint FROM unnest($1::text[]) AS key)"""

_HOST = """SELECT host, jsonb_build_object(
    'host', host, 'status', status, 'brand_id', brand_id, 'affiliate_id', affiliate_id, 'scheme', scheme
)::text FROM tracking_host"""

_SECRET = f"""jsonb_build_object(
    'advertiser_id', advertiser_id, 'digest', encode(secret_hash, 'hex'),
    'expires', {_MILLIS.format("expires_at")}
)::text"""

_LINK_CODE = """jsonb_build_object(
    'kind', kind, 'code', code, 'host', host, 'offer_id', offer_id, 'offer_url_id', offer_url_id,
    'affiliate_id', affiliate_id
)::text"""

_STATUS_WORD = "jsonb_build_object('advertiser_id', advertiser_id, 'word', word)::text"

_NETWORK = """SELECT 'true', jsonb_build_object(
    'fallback_url', fallback_url, 'fallback_offer_id', fallback_offer_id)::text FROM deployment"""

_QUERIES: Mapping[str, _Query] = {
    "offer": _unarchived(_OFFER, "offer"),
    "affiliate": _unarchived(_AFFILIATE, "affiliate"),
    "terms": _Query(_TERMS.format(_EVERY_PAIR), _TERMS.format(_SOME_PAIRS)),
    "block": _by_id("to_jsonb(block)::text", "block"),
    "link_form": _by_id("to_jsonb(link_form)::text", "link_form"),
    "postback_form": _by_id("to_jsonb(postback_form)::text", "postback_form"),
    "link_code": _by_id(_LINK_CODE, "link_code"),
    "bot_rule": _by_id("to_jsonb(bot_rule)::text", "bot_rule"),
    "network": _Query(_NETWORK, f"{_NETWORK} WHERE $1::text[] IS NOT NULL"),
    "secret": _by_id(_SECRET, "advertiser_secret"),
    "status_word": _by_id(_STATUS_WORD, "status_word"),
    "tracking_host": _Query(_HOST, f"{_HOST} WHERE host = ANY ($1)"),
}

TABLES = tuple(_QUERIES)
"""In the order of reading."""


async def read_some(connection: Connection, table: str, keys: Sequence[str]) -> Rows:
    """The objects with these keys. Objects that do not exist any more are missing."""
    return _parsed(await connection.fetch(_QUERIES[table].some, list(keys)))


async def read_all(connection: Connection) -> AsyncIterator[tuple[str, Rows]]:
    """Every object in one snapshot, as (table, some of its rows)."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for table, query in _QUERIES.items():
            cursor = await connection.cursor(query.every)
            while rows := await cursor.fetch(_CHUNK):
                yield table, _parsed(rows)


def _parsed(rows: Sequence[Any]) -> Rows:
    return [(key, _row(text)) for key, text in rows]


def _row(text: str) -> Row:
    """An object. If PostgreSQL accepts it but no reader does (1e400, a thousand brackets), only the error."""
    try:
        row: Row = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return {"unreadable": str(error)}
    return row


async def visitor_secret(connection: Connection) -> bytes:
    """The deployment's secret for visitor keys.

    Raises:
        NotMigratedError: the first migration is still under way.
    """
    key = await connection.fetchval("SELECT visitor_key FROM deployment")
    if key is None:
        raise NotMigratedError("the deployment has no visitor key yet")
    return bytes(key)


async def read_table(connection: Connection, table: str) -> Rows:
    """All objects of one of the small tables."""
    return _parsed(await connection.fetch(_QUERIES[table].every))


async def read_link_forms(connection: Connection, path: str) -> Rows:
    """The link forms that may match a path: of this path, and with placeholders or percent-encoded."""
    places = "rtrim(path, '/') = ANY ($1) OR strpos(path, '{') > 0 OR strpos(path, '%') > 0"
    paths = [path.rstrip("/"), unquote(path).rstrip("/")]
    return _parsed(await connection.fetch(f"{_QUERIES['link_form'].every} WHERE {places}", paths))


async def read_link_codes(connection: Connection, codes: Sequence[str]) -> Rows:
    """The meanings of some codes, for every host."""
    wanted = f"{_QUERIES['link_code'].every} WHERE code = ANY ($1)"
    return _parsed(await connection.fetch(wanted, list(codes)))


async def read_blocks(connection: Connection, offer_ids: Sequence[int], affiliate_ids: Sequence[int]) -> Rows:
    """The block list of some offers and affiliates, and the blocks for all."""
    wanted = f"{_QUERIES['block'].every} WHERE (offer_id IS NULL OR offer_id = ANY ($1))"
    return _parsed(
        await connection.fetch(
            f"{wanted} AND (affiliate_id IS NULL OR affiliate_id = ANY ($2))",
            list(offer_ids),
            list(affiliate_ids),
        )
    )
