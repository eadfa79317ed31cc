"""Rows of clicks, conversions and goals that an earlier version wrote, and this one would not."""

from __future__ import annotations

from typing import NamedTuple

from tracker.domain.normalise import AT_ENDS, NO_DEVICES
from tracker.store.pool import Connection

MOST = 1_000
"""Rows of each kind that are named at most."""

# A conversion whose order id has something at its ends, and another with the same id without it.
_ORDER_ID_PAIRS = """
SELECT spaced.advertiser_id, spaced.goal_id, spaced.order_id AS spaced, plain.order_id AS plain,
    spaced.id AS spaced_id, plain.id AS plain_id
FROM conversion AS spaced JOIN conversion AS plain
    ON plain.advertiser_id = spaced.advertiser_id AND plain.goal_id = spaced.goal_id AND plain.id <> spaced.id
    AND btrim(plain.order_id, $1) = btrim(spaced.order_id, $1)
    AND (plain.order_id = btrim(plain.order_id, $1) OR plain.id < spaced.id)
WHERE spaced.order_id <> btrim(spaced.order_id, $1)
ORDER BY spaced.id LIMIT $2
"""

_GOALS_WITHOUT_PRICE = """
SELECT goal.id, goal.name, offer.id AS offer_id, offer.name AS offer_name
FROM goal JOIN offer ON offer.id = offer_id
WHERE goal.status = 'active' AND NOT goal.is_archived AND NOT offer.is_archived AND NOT EXISTS (
    SELECT FROM goal_price AS noted WHERE noted.goal_id = goal.id AND (payout > 0 OR revenue > 0))
ORDER BY goal.id LIMIT $1
"""

# A UUID with hyphens or without them: the form of an advertising id.
_DEVICE_ID = "^([0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$"
_DEVICE_IDS = """
SELECT affiliate_id, name, value, count(*) AS clicks
FROM click CROSS JOIN LATERAL (VALUES ('gaid', gaid), ('idfa', idfa)) AS sent (name, value)
WHERE hash >= $1::uuid AND value <> ''
    AND (btrim(value, $2) !~* $3 OR translate(lower(btrim(value, $2)), '-', '') = ANY ($4))
GROUP BY affiliate_id, name, value ORDER BY clicks DESC, affiliate_id, value LIMIT $5
"""

_WORDS = """
SELECT key, sum(gross)::bigint AS clicks FROM report_count
WHERE quarters = 96 AND dimension = $1 AND key <> '' GROUP BY key ORDER BY clicks DESC
"""


class OrderPair(NamedTuple):
    """Two conversions of an advertiser's goal whose order ids differ at their ends alone."""

    advertiser_id: int
    goal_id: int
    spaced: str
    plain: str
    spaced_id: int
    plain_id: int


class UnpricedGoal(NamedTuple):
    """A goal for which nobody has set a price above 0."""

    id: int
    name: str
    offer_id: int
    offer_name: str


class DeviceId(NamedTuple):
    """What an affiliate sends in place of a device's id."""

    affiliate_id: int
    parameter: str
    value: str
    clicks: int


async def order_id_pairs(connection: Connection) -> list[OrderPair]:
    return [OrderPair(*row) for row in await connection.fetch(_ORDER_ID_PAIRS, _AT_ENDS, MOST)]


async def goals_without_price(connection: Connection) -> list[UnpricedGoal]:
    return [UnpricedGoal(*row) for row in await connection.fetch(_GOALS_WITHOUT_PRICE, MOST)]


async def device_ids(connection: Connection, first_hash: str) -> list[DeviceId]:
    """Of clicks from a hash on."""
    none = [id_.replace("-", "") for id_ in NO_DEVICES]
    rows = await connection.fetch(_DEVICE_IDS, first_hash, _AT_ENDS, _DEVICE_ID, none, MOST)
    return [DeviceId(*row) for row in rows]


async def words(connection: Connection, dimension: str) -> list[tuple[str, int]]:
    """The words that clicks have in a dimension of reports, and how many clicks."""
    return [tuple(row) for row in await connection.fetch(_WORDS, dimension)]


_AT_ENDS = AT_ENDS.replace("\0", "")  # which PostgreSQL stores in no text
