"""The host for a new tracking link, and whether the objects that the link names exist."""

from __future__ import annotations

from typing import NamedTuple

from tracker.store.db import Connection

_LINK_BASE = """
SELECT scheme || '://' || host
FROM tracking_host
WHERE status = 'active'
  AND (affiliate_id IS NULL OR affiliate_id = $2)
  AND (brand_id IS NULL OR brand_id = $1)
ORDER BY affiliate_id IS NULL, brand_id IS NULL, host COLLATE "C"
LIMIT 1
"""

_NAMED = """
SELECT (SELECT brand_id FROM offer WHERE id = $1),
       EXISTS (SELECT FROM offer WHERE id = $1 AND NOT is_archived),
       EXISTS (SELECT FROM affiliate WHERE id = $2 AND NOT is_archived),
       $3::bigint IS NULL
           OR EXISTS (SELECT FROM offer_url WHERE id = $3 AND offer_id = $1 AND NOT is_archived)
"""


class Named(NamedTuple):
    """The existence of the objects that a link names."""

    brand_id: int | None  # a URL of its offer
    has_offer: bool
    has_affiliate: bool
    has_url: bool  # an URL of that offer, True if the link names none


async def link_base(connection: Connection, brand_id: int | None, affiliate_id: int) -> str | None:
    """The start of a new link, such as https://host: the affiliate's host, the brand's, or a common one.

    Of several hosts the first in the alphabet. None if no active host matches. So one UPDATE of a burned host
    gives every new link the next host.
    """
    base: str | None = await connection.fetchval(_LINK_BASE, brand_id, affiliate_id)
    return base


async def read_named(
    connection: Connection, offer_id: int, affiliate_id: int, offer_url_id: int | None
) -> Named:
    """Look up the objects that a link is about to name."""
    return Named(*await connection.fetchrow(_NAMED, offer_id, affiliate_id, offer_url_id))
