"""Reading the offer catalogue for the edges' memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson

from tracker.store.pool import Connection

CHANNEL = "tracker_catalogue"
"""NOTIFY channel; the payload is "table:id" of the object to rebuild."""

Row = dict[str, Any]

_CHUNK = 500
"""Rows at a time: what an edge builds of them holds its loop for about a millisecond."""

_OFFERS = """
SELECT jsonb_build_object(
    'id', offer.id, 'name', name, 'advertiser_id', advertiser_id, 'brand_id', brand_id, 'status', status,
    'unique_window', unique_window, 'unique_scope', unique_scope,
    'redirect_status', redirect_status, 'referrer_policy', referrer_policy,
    'urls', coalesce((
        SELECT jsonb_agg(jsonb_build_object('id', id, 'name', name, 'url', url, 'weight', weight) ORDER BY id)
        FROM offer_url WHERE offer_id = offer.id AND status = 'active'), '[]'),
    'free', coalesce((
        SELECT jsonb_object_agg(affiliate_id, texts) FROM (
            SELECT affiliate_id, (
                SELECT jsonb_agg(coalesce(value, '') ORDER BY place.n)
                FROM generate_series(1, 10) AS place (n)
                LEFT JOIN offer_free_value AS own
                       ON own.offer_id = offer.id AND own.affiliate_id = owner.affiliate_id
                      AND own.n = place.n
            ) AS texts
            FROM (SELECT DISTINCT affiliate_id FROM offer_free_value WHERE offer_id = offer.id) AS owner
        ) AS listed), '{}')
)::text
FROM offer
WHERE $1::bigint IS NULL OR id = $1
"""

_AFFILIATES = """
SELECT jsonb_build_object(
    'id', id, 'name', name, 'group_id', group_id, 'status', status, 'is_test', is_test
)::text
FROM affiliate
WHERE $1::bigint IS NULL OR id = $1
"""

_TABLES = {"offer": _OFFERS, "affiliate": _AFFILIATES}


async def read_one(connection: Connection, table: str, id_: int) -> Row | None:
    """One offer with its active URLs, or one affiliate; None where there is none."""
    text = await connection.fetchval(_TABLES[table], id_)
    return None if text is None else orjson.loads(text)


async def read_all(connection: Connection) -> AsyncIterator[tuple[str, list[Row]]]:
    """Every offer and affiliate, as (table, some rows), in one snapshot."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for table, query in _TABLES.items():
            cursor = await connection.cursor(query, None)
            while rows := await cursor.fetch(_CHUNK):
                yield table, [orjson.loads(row[0]) for row in rows]


async def visitor_secret(connection: Connection) -> bytes:
    """The deployment's key for visitor keys."""
    return bytes(await connection.fetchval("SELECT visitor_key FROM deployment"))
