"""Rows of clicks, conversions and goals from earlier versions that this version would not write.

All conversions are searched, but only a part of the clicks: there may be billions.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import NamedTuple

from tracker.domain.normalise import AT_ENDS, MACRO, NO_DEVICES, NOTHING
from tracker.store.clicks.counts import REPORT_COUNTS
from tracker.store.conversions.goal_prices import PRICE_OF
from tracker.store.db import Connection

MOST = 1_000
"""Most rows of a kind that are named."""
CLICKS = 1_000_000
"""Most clicks that are searched: the latest ones."""
IMPORTED_CLICKS = 100_000
"""Most clicks with an earlier id that are searched."""
BOOKED = 200_000
"""Most conversions at 0 that are compared with their prices: the latest ones."""

# A conversion whose order id has extra characters at its ends. Another conversion has the same id without
# them, or is older and has other ones.
_ORDER_ID_PAIRS = """
WITH spaced AS MATERIALIZED (
    SELECT id, advertiser_id, goal_id, order_id, btrim(order_id, $1) AS trimmed FROM conversion
    WHERE order_id <> btrim(order_id, $1)
), pair AS (
    SELECT spaced.*, plain.order_id AS plain, plain.id AS plain_id FROM spaced JOIN conversion AS plain
        ON (plain.advertiser_id, plain.goal_id, plain.order_id)
            = (spaced.advertiser_id, spaced.goal_id, spaced.trimmed)
    UNION ALL
    SELECT spaced.*, older.order_id, older.id FROM spaced JOIN spaced AS older
        ON (older.advertiser_id, older.goal_id, older.trimmed)
            = (spaced.advertiser_id, spaced.goal_id, spaced.trimmed) AND older.id < spaced.id
)
SELECT advertiser_id, goal_id, order_id, plain, id, plain_id FROM pair ORDER BY id, plain_id LIMIT $2
"""

_ABSENT_ORDER_IDS = """
SELECT order_id, min(id), count(*) FROM conversion
WHERE order_id IS NOT NULL
    AND (btrim(order_id, $1) ~ $2 OR lower(btrim(order_id, $1)) = ANY ($3) OR btrim(order_id, $1) = '')
GROUP BY order_id ORDER BY 3 DESC, 2 LIMIT $4
"""

# A value that somebody has set since this version's migration is intended.
_SET_SINCE = """
EXISTS (
    SELECT FROM audit WHERE path = 'offers/' || goal.offer_id || '/goals/' || goal.id
        AND at > (SELECT applied_at FROM migration WHERE name = '0032_money.sql')
        AND (before IS NULL OR (before->>'{field}') IS DISTINCT FROM (after->>'{field}'))
)
"""

# The migration decides about base goals. The price of other goals may be their creator's choice or the
# default.
_GOALS_AT_0 = f"""
SELECT goal.id, goal.name, offer.id, offer.name FROM goal JOIN offer ON offer.id = offer_id
WHERE is_priced AND NOT is_base AND (payout, revenue) = (0, 0) AND NOT takes_payout
    AND goal.status = 'active' AND NOT goal.is_archived AND offer.status = 'active' AND NOT offer.is_archived
    AND NOT EXISTS (
        SELECT FROM goal_price AS noted WHERE noted.goal_id = goal.id
            AND (noted.payout > 0 OR noted.revenue > 0))
    AND NOT {_SET_SINCE.format(field="is_priced")}
ORDER BY goal.id LIMIT $1
"""  # noqa: S608

_CHILD_WINDOWS = f"""
SELECT goal.id, goal.name, offer_id, parent_goal_id, click_window FROM goal
WHERE parent_goal_id IS NOT NULL AND click_window IS NOT NULL AND NOT is_archived
    AND NOT {_SET_SINCE.format(field="click_window")}
ORDER BY goal.id LIMIT $1
"""  # noqa: S608

# Approved at 0, but there is no price, or one was set later. Imported conversions stay, and percentages too,
# because without a sale they are 0.
_BOOKED_AT_0 = f"""
SELECT offer_id, goal_id, count(*), min(id), max(payout) FILTER (WHERE payout_type = 'fixed'),
    currency FROM (
    SELECT sold.id, sold.offer_id, sold.goal_id, price.payout, price.revenue, price.currency,
        price.payout_type, price.revenue_type
    FROM (
        SELECT * FROM conversion
        WHERE status = 'approved' AND (payout, revenue, refunded) = (0, 0, 0) AND NOT is_over_cap
            AND NOT is_test
        ORDER BY id DESC LIMIT $1
    ) AS sold LEFT JOIN LATERAL ({
    PRICE_OF.format(
        goal="sold.goal_id",
        affiliate="sold.affiliate_id",
        country="sold.country_code",
        at="to_timestamp(click_millis(sold.click_hash) / 1000.0)",
    )
}) AS price ON true
    WHERE NOT EXISTS (SELECT FROM conversion_change WHERE conversion_id = sold.id AND source = 'import')
) AS booked
WHERE payout_type IS NULL
    OR (payout_type = 'fixed' AND payout > 0) OR (revenue_type = 'fixed' AND revenue > 0)
GROUP BY offer_id, goal_id, currency ORDER BY 3 DESC, 2 LIMIT $2
"""  # noqa: S608

# A UUID with or without hyphens: the form of an advertising id.
_DEVICE_ID = "^([0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$"
_DEVICE_IDS = """
SELECT affiliate_id, name, value, count(*) AS clicks
FROM (
    SELECT affiliate_id, gaid, idfa FROM click WHERE hash >= $1::uuid ORDER BY hash DESC LIMIT $6
) AS latest CROSS JOIN LATERAL (VALUES ('gaid', gaid), ('idfa', idfa)) AS sent (name, value)
WHERE value <> ''
    AND (btrim(value, $2) !~* $3 OR translate(lower(btrim(value, $2)), '-', '') = ANY ($4))
GROUP BY affiliate_id, name, value ORDER BY clicks DESC, affiliate_id, value LIMIT $5
"""

# IPv4 addresses are filtered here, because most are. The inner GROUP BY makes each click a look-up: a join
# may read the whole table.
_IPV4 = "^((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\\.|$)){4}$"
_IMPORTED_IPS = """
SELECT ip, count(*) FROM (SELECT hash FROM legacy_click LIMIT $1) AS imported
CROSS JOIN LATERAL (SELECT ip FROM click WHERE hash = imported.hash GROUP BY hash) AS found
WHERE ip <> '' AND ip !~ $2 GROUP BY ip ORDER BY 2 DESC, 1
"""

_WORDS = f"""
SELECT key, sum(gross)::bigint AS clicks FROM {REPORT_COUNTS}
WHERE quarters = 96 AND dimension = $1 AND key <> '' GROUP BY key HAVING sum(gross) > 0
ORDER BY clicks DESC
"""  # noqa: S608
_GOAL_NAMES = """
SELECT goal.id, goal.offer_id, goal.name, goal.code, goal.is_archived
FROM goal JOIN offer ON offer.id = offer_id WHERE NOT goal.is_archived AND NOT offer.is_archived
ORDER BY offer_id, goal.id
"""


class OrderPair(NamedTuple):
    """Two conversions of an advertiser's goal whose order ids differ only at their ends."""

    advertiser_id: int
    goal_id: int
    spaced: str
    plain: str
    spaced_id: int
    plain_id: int


class AbsentOrderId(NamedTuple):
    """An order id that is read as absent."""

    order_id: str
    first_id: int  # of a conversion with it
    conversions: int


class GoalAt0(NamedTuple):
    """A goal with the price 0 that may be a choice or the default."""

    id: int
    name: str
    offer_id: int
    offer_name: str


class ChildWindow(NamedTuple):
    """A goal with a parent and a window of its own."""

    id: int
    name: str
    offer_id: int
    parent_goal_id: int
    click_window: int  # seconds


class BookedAt0(NamedTuple):
    """Conversions of a goal that were approved at 0."""

    offer_id: int
    goal_id: int
    conversions: int
    first_id: int
    payout: Decimal | None  # the highest fixed payout for one of them
    currency: str | None  # None: there is no price yet


class DeviceId(NamedTuple):
    """A text that an affiliate sends instead of a device id."""

    affiliate_id: int
    parameter: str
    value: str
    clicks: int


class NamedGoal(NamedTuple):
    """A goal, and its names in postbacks."""

    id: int
    offer_id: int
    name: str
    code: str | None
    is_archived: bool


async def order_id_pairs(connection: Connection) -> list[OrderPair]:
    return [OrderPair(*row) for row in await connection.fetch(_ORDER_ID_PAIRS, _AT_ENDS, MOST)]


async def absent_order_ids(connection: Connection) -> list[AbsentOrderId]:
    rows = await connection.fetch(_ABSENT_ORDER_IDS, _AT_ENDS, f"^({MACRO})$", list(NOTHING), MOST)
    return [AbsentOrderId(*row) for row in rows]


async def goals_at_0(connection: Connection) -> list[GoalAt0]:
    return [GoalAt0(*row) for row in await connection.fetch(_GOALS_AT_0, MOST)]


async def child_windows(connection: Connection) -> list[ChildWindow]:
    return [ChildWindow(*row) for row in await connection.fetch(_CHILD_WINDOWS, MOST)]


async def booked_at_0(connection: Connection) -> list[BookedAt0]:
    """Of the latest conversions at 0, at most BOOKED."""
    return [BookedAt0(*row) for row in await connection.fetch(_BOOKED_AT_0, BOOKED, MOST)]


async def device_ids(connection: Connection, first_hash: str) -> list[DeviceId]:
    """Of clicks from a hash on, at most the latest CLICKS."""
    none = [id_.replace("-", "") for id_ in NO_DEVICES]
    rows = await connection.fetch(_DEVICE_IDS, first_hash, _AT_ENDS, _DEVICE_ID, none, MOST, CLICKS)
    return [DeviceId(*row) for row in rows]


async def imported_ips(connection: Connection) -> Counter[str]:
    """Addresses of clicks with an earlier id that are not IPv4."""
    return Counter(dict(await connection.fetch(_IMPORTED_IPS, IMPORTED_CLICKS, _IPV4)))


async def words(connection: Connection, dimension: str) -> list[tuple[str, int]]:
    """The words of clicks in a dimension of reports, with the number of clicks."""
    return [tuple(row) for row in await connection.fetch(_WORDS, dimension)]


async def named_goals(connection: Connection) -> list[NamedGoal]:
    """Goals that postbacks may name. Goals of the same offer are adjacent."""
    return [NamedGoal(*row) for row in await connection.fetch(_GOAL_NAMES)]


_AT_ENDS = AT_ENDS.replace("\0", "")  # which PostgreSQL cannot store in a text
