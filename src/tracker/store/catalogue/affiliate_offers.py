"""The offers that affiliates may promote."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tracker.domain.money import in_unit, show
from tracker.store.conversions.goal_prices import PRICE_OF
from tracker.store.db import Pool
from tracker.store.paging import Page, Row, reading
from tracker.store.token_owner import offers_of

_COLUMNS = """
id, name, status, visibility, to_jsonb(starts_at) #>> '{}' AS starts_at,
to_jsonb(ends_at) #>> '{}' AS ends_at, brand_id, affiliate_id"""
_OFFERS = f"""
FROM offer CROSS JOIN unnest($1::bigint[]) AS own (affiliate_id)
WHERE NOT is_archived AND {offers_of("affiliate", "own.affiliate_id")}
    AND ($2::text IS NULL OR id::text = $2 OR position(lower($2) IN lower(name)) > 0)"""

_SEES = f"""
SELECT ($2::bigint IS NULL OR EXISTS (
        SELECT FROM offer WHERE id = $2 AND NOT is_archived AND {offers_of("affiliate", "$1::bigint")})),
    ($3::bigint IS NULL OR EXISTS (
        SELECT FROM goal JOIN offer ON offer.id = goal.offer_id
        WHERE goal.id = $3 AND NOT offer.is_archived AND {offers_of("affiliate", "$1::bigint")}))"""  # noqa: S608

# What each goal pays an affiliate now, in general and in each country that has terms of its own.
_PAYOUTS = f"""
SELECT own.offer_id, own.affiliate_id, goal.id AS goal_id, goal.name AS goal_name, place.country_code,
    price.payout_type, price.payout, price.currency
FROM unnest($1::bigint[], $2::bigint[]) AS own (offer_id, affiliate_id)
JOIN goal ON goal.offer_id = own.offer_id AND goal.status = 'active' AND NOT goal.is_archived
CROSS JOIN LATERAL (
    SELECT NULL::text AS country_code UNION SELECT country_code FROM goal_terms
    WHERE goal_id = goal.id AND (affiliate_id IS NULL OR affiliate_id = own.affiliate_id)
) AS place
CROSS JOIN LATERAL ({
    PRICE_OF.format(goal="goal.id", affiliate="own.affiliate_id", country="place.country_code", at="now()")
}) AS price
ORDER BY 1, 2, goal.id, place.country_code NULLS FIRST
"""  # noqa: S608
_PAID = ("goal_id", "goal_name", "country_code", "payout_type", "payout", "currency")


async def unseen(pool: Pool, affiliate_id: int, offer_id: int | None, goal_id: int | None) -> list[str]:
    """Which of an offer and a goal an affiliate may not see, or does not exist: offer, goal."""
    seen = await pool.fetchrow(_SEES, affiliate_id, offer_id, goal_id)
    return [noun for noun, is_seen in zip(("offer", "goal"), seen, strict=True) if not is_seen]


async def page(
    pool: Pool, affiliate_ids: Sequence[int], text: str | None, number: int, per_page: int
) -> Page:
    """Page `number`, from 1: a row for each offer and affiliate, ordered by their ids.

    `text`: an offer's id, or a part of its name.
    """
    offset = (number - 1) * per_page
    async with reading(pool, "repeatable_read") as connection:
        total = await connection.fetchval(f"SELECT count(*) {_OFFERS}", affiliate_ids, text)
        statement = f"SELECT {_COLUMNS} {_OFFERS} ORDER BY id, affiliate_id LIMIT $3 OFFSET $4"
        records = await connection.fetch(statement, affiliate_ids, text, per_page, offset)
    return Page([dict(record) for record in records], total, offset + len(records) < total)


async def payouts(pool: Pool, offers: Iterable[tuple[int, int]]) -> Mapping[tuple[int, int], Sequence[Row]]:
    """What goals pay affiliates now, by offer and affiliate. A country that pays as all others is left out.

    `offers`: ids of offers, each with that of an affiliate.
    """
    found: defaultdict[tuple[int, int], list[Row]] = defaultdict(list)
    general: dict[tuple[int, int, int], Row] = {}
    pairs = [*offers]
    ids = [[pair[place] for pair in pairs] for place in (0, 1)]
    for offer_id, affiliate_id, *record in map(tuple, await pool.fetch(_PAYOUTS, *ids)):
        row = dict(zip(_PAID, record, strict=True))
        is_fixed = row["payout_type"] == "fixed"
        row["payout"] = in_unit(row["payout"], row["currency"]) if is_fixed else show(row["payout"])
        usual = general.setdefault((offer_id, affiliate_id, row["goal_id"]), row)
        if row is usual or _price(row) != _price(usual):
            found[offer_id, affiliate_id].append(row)
    return found


def _price(row: Row) -> tuple[object, ...]:
    return row["payout_type"], row["payout"], row["currency"]
