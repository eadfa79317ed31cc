"""A history of clicks for benchmarks: made by PostgreSQL itself, counted as the writer would have done."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import asyncpg

from tracker.domain.model import ClickRow
from tracker.store.books import months
from tracker.store.clicks import partitions, recount
from tracker.store.db import connect
from tracker.store.migrate import migrate
from tracker.store.reports import conversion_counts, rollups, sub_id_pieces

DAYS = 90
CONVERTED_OF = 100
"""One click in so many has a conversion."""
OFFERS, AFFILIATES = 50, 500
BIG_AFFILIATE = 1
"""It has a third of the clicks."""

_CATALOGUE = f"""
INSERT INTO advertiser (id, name) SELECT id, 'Advertiser ' || id FROM generate_series(1, 10) AS id;
INSERT INTO offer (id, name, advertiser_id)
SELECT id, 'Offer ' || id, 1 + id % 10 FROM generate_series(1, {OFFERS}) AS id;
INSERT INTO offer_url (id, offer_id, url)
SELECT id, id, 'https://ad.example/?c={{hash}}' FROM generate_series(1, {OFFERS}) AS id;
INSERT INTO affiliate (id, name) SELECT id, 'Affiliate ' || id FROM generate_series(1, {AFFILIATES}) AS id
"""  # noqa: S608

# What clicks have differs by a hash of their number, so that nothing is in step with anything else.
_AFFILIATE = f"CASE WHEN draw / 7 % 3 = 0 THEN {BIG_AFFILIATE} ELSE 1 + draw / 7 % {AFFILIATES} END"
_VALUES = {
    "hash": "hash",
    "group_hash": "hash",
    "is_unique": "draw % 10 < 8",
    "status": "CASE WHEN draw % 50 = 0 THEN 'rejected' ELSE 'accepted' END",
    "reason": "CASE WHEN draw % 50 = 0 THEN 10 ELSE 0 END",
    "is_bot": "draw % 33 = 0",
    "bot_reason": "CASE WHEN draw % 33 = 0 THEN 'crawler: X' END",
    "is_test": "false",
    "verdict_late": "false",
    "requested_offer_id": "offer",
    "offer_id": "offer",
    "offer_url_id": "offer",
    "advertiser_id": "1 + offer % 10",
    "affiliate_id": _AFFILIATE,
    "aff_sub": "'s' || draw % 1000",
    "aff_sub2": "'t' || draw % 37",
    "affiliate_source": "'source-' || draw % 20",
    "visitor_key": "draw",
    "ip": "'24.' || draw % 250 || '.' || draw / 250 % 250 || '.9'",
    "user_agent": "'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/14' || draw % 9",
    "language": "'en-GB,en;q=0.9'",
    "referrer": "'https://blog.example/' || draw % 5000",
    "device_os": "(ARRAY['Windows', 'Android', 'iOS', 'Mac OS X', 'Linux'])[1 + draw % 5]",
    "device_type": "(ARRAY['desktop', 'phone', 'phone', 'tablet'])[1 + draw % 4]",
    "browser": "(ARRAY['Chrome', 'Safari', 'Firefox', 'Edge'])[1 + draw / 3 % 4]",
    "country_code": "(ARRAY['US', 'DE', 'GB', 'FR', 'IT', 'ES', 'NL', 'PL', 'BR', 'IN'])[1 + draw % 10]",
    "city": "'City ' || draw % 300",
    "isp": "'ISP ' || draw % 90",
    "mobile_carrier": "'UNK'",
    "requested_link": f"'https://links.example/offer/' || offer || '?affiliate_id=' || {_AFFILIATE}",
    "redirected_link": "'https://ad.example/?c=' || hash",
}
_NULL = ("requested_url_id", "brand_id", "aff_group_id", "region_code")
_BLANK = [name for name in ClickRow._fields if name not in _VALUES and name not in _NULL]
_CLICKS = f"""
INSERT INTO click ({", ".join((*_VALUES, *_BLANK))})
SELECT {", ".join((*_VALUES.values(), *("''" for _ in _BLANK)))}
FROM (
    SELECT (lpad(to_hex($1::bigint + n * 86400000 / $2), 12, '0')
            || '7' || lpad(to_hex(n % 4096), 3, '0')
            || '8' || left(md5(n::text || $1::text), 15))::uuid AS hash,
        hashint8(n + $1)::bigint & 2147483647 AS draw,
        1 + (hashint8(n * 7 + $1)::bigint & 2147483647) % {OFFERS} AS offer
    FROM generate_series(0::bigint, $2::bigint - 1) AS n
) AS each
"""  # noqa: S608
_CONVERSIONS = """
INSERT INTO conversion (hash, click_hash, click_id, goal_id, is_repeatable, status, created_at, updated_at,
    payout, payout_currency, revenue, revenue_currency, offer_id, offer_url_id, advertiser_id, affiliate_id,
    country_code, device_type, device_os, browser, affiliate_source, is_test, requested_offer_id,
    aff_sub, aff_sub2, click_status, is_unique, is_bot)
SELECT hash, hash, id, offer_id, true,
    CASE WHEN id / $1 % 20 < 15 THEN 'approved' WHEN id / $1 % 20 < 18 THEN 'pending' ELSE 'rejected' END,
    click_time(hash) + interval '1 hour', click_time(hash) + interval '1 hour',
    1.5, 'USD', 2, 'USD', offer_id, offer_url_id, advertiser_id, affiliate_id,
    country_code, device_type, device_os, browser, affiliate_source, false, requested_offer_id,
    aff_sub, aff_sub2, status, is_unique, is_bot
FROM click WHERE id % $1 = 0 AND status = 'accepted'
"""

_BOOKED = """
INSERT INTO conversion_entry (conversion_id, booked_at, kind, is_adjustment, offer_id, advertiser_id,
    affiliate_id, payout, payout_currency, revenue, revenue_currency)
SELECT id, created_at, 'approval', false, offer_id, advertiser_id,
    affiliate_id, payout, payout_currency, revenue, revenue_currency
FROM conversion WHERE status = 'approved'
"""


async def fill(dsn: str, clicks: int, days: int = DAYS) -> None:
    """Make so many clicks, spread over the days before today, their counts and conversions."""
    await migrate(dsn)
    connection = await connect(dsn)
    try:
        await connection.execute(_CATALOGUE)
        today = datetime.now(UTC).date()
        for number in range(days):
            day = today - timedelta(days=days - number)
            await partitions.create_ahead(connection, day)
            await _fill_day(connection, day, clicks * (number + 1) // days - clicks * number // days)
        await connection.execute(_CONVERSIONS, CONVERTED_OF)
        await connection.execute(_BOOKED)
        while await connection.fetchval("SELECT EXISTS (SELECT FROM conversion_delta)"):
            await conversion_counts.add_up(connection)
        await months.carry(connection)
        await rollups.build_missing(connection, today)
        for day in await sub_id_pieces.days(connection):
            for due in await sub_id_pieces.due(connection, day):
                await sub_id_pieces.make(connection, due)
    finally:
        await connection.close()
    await _vacuum(dsn)


async def bring_up_to_date(dsn: str) -> None:
    """Give a history of an earlier version what this one has."""
    if not await migrate(dsn):
        return
    connection = await connect(dsn)
    try:
        await months.carry(connection)
    finally:
        await connection.close()
    await _vacuum(dsn)


async def _fill_day(connection: asyncpg.Connection, day: date, clicks: int) -> None:
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
    await connection.execute(_CLICKS, start, clicks)
    await recount.correct(connection, day)


async def _vacuum(dsn: str) -> None:
    """What autovacuum does in time."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
