"""Prices of goals: the price at the time of the click, and goals without a price."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from tracker.domain.click_id import millis_of
from tracker.domain.conversion import Amounts, ConvertedClick, Goal, Price
from tracker.domain.money import too_fine
from tracker.store.db import Connection, Pool

_NAMES = tuple(name for name in Price._fields if name != "is_set")
_NOTHING = Decimal(0)

# The most specific terms with a price at the time of the click. A click before the first price gets the first
# price, not a later one.
PRICE_OF = f"""
SELECT {", ".join(_NAMES)} FROM (
    SELECT DISTINCT ON (affiliate_id, country_code) noted.*
    FROM goal_price AS noted, (
        SELECT greatest({{at}}, min(valid_from)) AS at FROM goal_price
        WHERE goal_id = {{goal}} AND (affiliate_id IS NULL OR affiliate_id = {{affiliate}})
            AND (country_code IS NULL OR country_code = {{country}}) AND payout IS NOT NULL
    ) AS followed
    WHERE goal_id = {{goal}} AND (affiliate_id IS NULL OR affiliate_id = {{affiliate}})
        AND (country_code IS NULL OR country_code = {{country}}) AND valid_from <= followed.at
    ORDER BY affiliate_id, country_code, valid_from DESC, id DESC
) AS held WHERE payout IS NOT NULL
ORDER BY affiliate_id IS NULL, country_code IS NULL LIMIT 1
"""  # noqa: S608
"""To be formatted with expressions for goal, affiliate, country and time (at)."""
_PRICE = PRICE_OF.format(goal="$1", affiliate="$2", country="$3", at="$4")

_SOLD = f"""
SELECT sold.id, sold.is_unpriced, sold.corrected, {", ".join(f"sold.{name}" for name in Amounts._fields)},
    {", ".join(f"price.{name}" for name in _NAMES)}
FROM conversion AS sold LEFT JOIN LATERAL ({
    PRICE_OF.format(
        goal="sold.goal_id",
        affiliate="sold.affiliate_id",
        country="sold.country_code",
        at="to_timestamp(click_millis(sold.click_hash) / 1000.0)",
    )
}) AS price ON true
WHERE sold.id = ANY ($1)
"""  # noqa: S608
# Only an approval of these changes an amount or leaves it in doubt.
_OPEN = f"""{_SOLD} AND sold.status IN ('pending', 'hold', 'rejected') AND (
    sold.is_unpriced OR sold.sale_by_browser OR EXISTS (
        SELECT FROM goal_price
        WHERE goal_id = sold.goal_id AND 'percent' IN (payout_type, revenue_type)
    ))
"""
_WITHOUT = """
SELECT goal.id, goal.name, offer.id, offer.name, (
    SELECT count(*) FROM conversion
    WHERE offer_id = offer.id AND goal_id = goal.id AND is_unpriced AND status IN ('pending', 'hold'))
FROM goal JOIN offer ON offer.id = goal.offer_id
WHERE NOT goal.is_priced AND NOT goal.is_archived AND goal.status = 'active'
    AND NOT offer.is_archived AND offer.status = 'active'
ORDER BY 5 DESC, offer.id, goal.id
"""


# Every unit divides 1, so whole amounts are never too fine.
_FIXED = """
SELECT offer_id, goal.id, NULL, side.name, side.amount, currency
FROM goal, LATERAL (VALUES
    ('payout', payout, payout_type), ('revenue', revenue, revenue_type)
) AS side (name, amount, kind)
WHERE kind = 'fixed' AND NOT is_archived AND amount <> trunc(amount) AND ($1::bigint IS NULL OR goal.id = $1)
UNION ALL
SELECT offer_id, goal.id, terms.id, side.name, side.amount, currency
FROM goal_terms AS terms JOIN goal ON goal.id = goal_id, LATERAL (VALUES
    ('payout', terms.payout, payout_type), ('revenue', terms.revenue, revenue_type)
) AS side (name, amount, kind)
WHERE kind = 'fixed' AND NOT is_archived AND amount <> trunc(amount) AND ($1::bigint IS NULL OR goal.id = $1)
ORDER BY 1, 2, 3 NULLS FIRST, 4
"""


class SoldAmounts(NamedTuple):
    """The money of a conversion, and its price."""

    id: int
    is_unpriced: bool
    corrected: Sequence[str]  # amounts that the operator set
    money: Amounts
    price: Price


class FineAmount(NamedTuple):
    """A fixed amount that has more decimals than its currency."""

    offer_id: int
    goal_id: int
    terms_id: int | None  # None: the goal's own
    side: str  # payout or revenue
    amount: Decimal
    currency: str

    @property
    def text(self) -> str:
        return too_fine(self.amount, self.currency)


class Unpriced(NamedTuple):
    """An active goal of an active offer without a price."""

    goal_id: int
    goal_name: str
    offer_id: int
    offer_name: str
    on_hold: int  # conversions that wait for a price


async def price_of(connection: Connection, click: ConvertedClick, goal: Goal) -> Price:
    """The price of a goal at the time of a click. Without one, a price of 0 that is not set."""
    at = datetime.fromtimestamp(millis_of(click.hash) / 1000, UTC)
    row = await connection.fetchrow(_PRICE, goal.id, click.affiliate_id, click.country_code, at)
    return _price(tuple(row) if row else (None,) * len(_NAMES), goal.currency)


async def open_amounts(connection: Connection, conversion_ids: Collection[int]) -> list[SoldAmounts]:
    """The conversions whose amounts do not follow from their status alone."""
    return [_sold(row) for row in await connection.fetch(_OPEN, list(conversion_ids))]


async def amounts_of(connection: Connection, conversion_ids: Collection[int]) -> dict[int, SoldAmounts]:
    """The money of conversions and their prices, by id."""
    return {row["id"]: _sold(row) for row in await connection.fetch(_SOLD, list(conversion_ids))}


def _sold(row: Iterable[Any]) -> SoldAmounts:
    id_, is_unpriced, corrected, *rest = row
    money, price = Amounts._make(rest[: len(Amounts._fields)]), rest[len(Amounts._fields) :]
    return SoldAmounts(id_, is_unpriced, corrected, money, _price(tuple(price), money.payout_currency))


async def without_price(source: Connection | Pool) -> list[Unpriced]:
    """Active goals of active offers without a price.

    Goals with the most conversions on hold come first.
    """
    return [Unpriced._make(row) for row in await source.fetch(_WITHOUT)]


async def finer_than_units(source: Connection | Pool, goal_id: int | None = None) -> list[FineAmount]:
    """Fixed amounts of a goal and its terms, or of all goals, that are too fine to pay out."""
    amounts = [FineAmount._make(row) for row in await source.fetch(_FIXED, goal_id)]
    return [fine for fine in amounts if fine.text]


def _price(row: tuple[object, ...], currency: str) -> Price:
    if row[0] is None:
        return Price("fixed", _NOTHING, "fixed", _NOTHING, currency, is_set=False)
    return Price._make((*row, True))
