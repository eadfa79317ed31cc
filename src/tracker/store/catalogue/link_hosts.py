"""What a new tracking link is made of: the host that it carries, and whether what it names is there."""

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
    """What is there of what a link names."""

    brand_id: int | None  # of its offer
    has_offer: bool
    has_affiliate: bool
    has_url: bool  # of that offer; True where the link names none


async def link_base(connection: Connection, brand_id: int | None, affiliate_id: int) -> str | None:
    """The start of a new link, as https://host: the affiliate's host, else the brand's, else everybody's.

    Of several the first in the alphabet; None where no active host fits. So one UPDATE of a host that was
    burned gives every new link the next one.
    """
    base: str | None = await connection.fetchval(_LINK_BASE, brand_id, affiliate_id)
    return base


async def read_named(
    connection: Connection, offer_id: int, affiliate_id: int, offer_url_id: int | None
) -> Named:
    """Look up what a link is about to name."""
    return Named(*await connection.fetchrow(_NAMED, offer_id, affiliate_id, offer_url_id))
