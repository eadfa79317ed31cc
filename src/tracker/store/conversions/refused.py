"""The latest postbacks that edges refused, in the same log as the accepted ones."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from tracker.domain.click_id import is_click_hash
from tracker.domain.postback import RefusedPostback
from tracker.store.db import Connection

KEPT = 10_000
"""The most refused postbacks in the log."""

# The advertiser by the secret, or else by the click. Several clicks may have its id in an earlier tracker.
# GROUP BY: each click is looked up in its partition by its hash.
_LOG = """
WITH told AS (
    SELECT * FROM unnest(
        $1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::jsonb[], $8::text[],
        $9::uuid[], $10::text[]
    ) AS told (hash, source, ip, advertiser_id, named, request, parameters, reason, click_hash, form)
), meant AS (
    SELECT hash, click_hash FROM told WHERE click_hash IS NOT NULL
    UNION ALL
    SELECT told.hash, legacy_click.hash FROM told JOIN legacy_click ON legacy_id = named
    WHERE click_hash IS NULL
), owned AS (
    SELECT meant.hash, min(click.advertiser_id) AS advertiser_id FROM meant CROSS JOIN LATERAL (
        SELECT advertiser_id FROM click WHERE hash = meant.click_hash GROUP BY hash
    ) AS click
    GROUP BY meant.hash HAVING count(DISTINCT click.advertiser_id) = 1
)
INSERT INTO postback (hash, source, ip, advertiser_id, click, request, parameters, result, reason, form)
SELECT hash, source, ip, coalesce(told.advertiser_id, owned.advertiser_id),
    nullif(named, ''), request, parameters, 'refused', reason,
    CASE WHEN form <> '' THEN jsonb_build_object('name', form) END
FROM told LEFT JOIN owned USING (hash)
ON CONFLICT (hash) DO NOTHING
"""
_FORGET = f"""
DELETE FROM postback WHERE result = 'refused' AND hash <= (
    SELECT hash FROM postback WHERE result = 'refused' ORDER BY hash DESC OFFSET {KEPT} LIMIT 1)
"""  # noqa: S608


async def log(connection: Connection, refused: Sequence[RefusedPostback]) -> None:
    """Log more refused postbacks once. The oldest are deleted."""
    if not refused:
        return
    rows = [
        (
            *(one.hash, one.source, one.ip, one.advertiser_id, one.click_id, one.request),
            *(orjson.dumps(one.parameters).decode(), one.reason, _hash_of(one.click_id), one.form),
        )
        for one in refused
    ]
    await connection.execute(_LOG, *(list(column) for column in zip(*rows, strict=True)))
    await connection.execute(_FORGET)


def _hash_of(click_id: str) -> str | None:
    return click_id if is_click_hash(click_id) else None
