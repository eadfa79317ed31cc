"""The host for a new tracking link, and whether the objects that the link names exist."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tracker.store.db import Connection, Pool

_LINK_BASE = """
SELECT scheme || '://' || host
FROM tracking_host
WHERE status = 'active'
  AND (affiliate_id IS NULL OR affiliate_id = $2)
  AND (brand_id IS NULL OR brand_id = $1)
ORDER BY affiliate_id IS NULL, brand_id IS NULL, host COLLATE "C"
LIMIT 1
"""

_CHOSEN = """
SELECT scheme || '://' || host, status, affiliate_id IS NULL OR affiliate_id = $2,
    brand_id IS NULL OR brand_id = (SELECT brand_id FROM offer WHERE id = $3)
FROM tracking_host WHERE host = $1
"""
_DEEP_LINK_HOSTS = "SELECT deep_link_hosts FROM offer WHERE id = $1"
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


async def chosen_base(connection: Connection, host: str, offer_id: int, affiliate_id: int) -> tuple[str, str]:
    """The start of a link of a host, or why an affiliate's links of an offer cannot have it."""
    row = await connection.fetchrow(_CHOSEN, host, affiliate_id, offer_id)
    if row is None:
        return "", "matches no tracking host"
    base, status, is_own, is_of_brand = row
    if status != "active":
        return "", f"is {status}"
    return (
        (base, "") if is_own and is_of_brand else ("", f"is of another {'brand' if is_own else 'affiliate'}")
    )


async def deep_link_hosts(source: Pool | Connection, offer_id: int) -> Sequence[str]:
    """The hosts that deep links of an offer may lead to."""
    return await source.fetchval(_DEEP_LINK_HOSTS, offer_id) or ()


async def read_named(
    connection: Connection, offer_id: int, affiliate_id: int, offer_url_id: int | None
) -> Named:
    """Look up the objects that a link is about to name."""
    return Named(*await connection.fetchrow(_NAMED, offer_id, affiliate_id, offer_url_id))
