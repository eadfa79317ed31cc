"""Demo data: a small network, loaded once into a database without other data."""

from __future__ import annotations

from collections.abc import Callable

from tracker.store import tokens
from tracker.store.catalogue.edit import Author
from tracker.store.db import connect
from tracker.store.tokens import NewToken

_AUTHOR = Author(None, "demo")
_TOKEN = NewToken(("clicks:read", "conversions:read", "offers:read", "reports:read"), "demo")

_OWN = (
    *("advertiser", "affiliate", "offer", "block", "bot_rule", "tracking_host", "link_form"),
    *("link_code", "postback_form", "status_word"),
    "click",
    "deployment WHERE fallback_url IS NOT NULL OR fallback_offer_id IS NOT NULL",
)
"""Tables and rows that show that somebody uses the database."""
_HAS_OWN = f"SELECT {' OR '.join(f'EXISTS (SELECT FROM {rows})' for rows in _OWN)}"  # noqa: S608
_HAS_TOKEN = "SELECT EXISTS (SELECT FROM token)"  # noqa: S105
_IS_THERE = """
SELECT EXISTS (SELECT FROM offer WHERE id = 3 AND name = 'Test Offer' AND NOT is_archived)
    AND EXISTS (SELECT FROM affiliate WHERE id = 513 AND NOT is_archived)
"""

_DEMO = """
INSERT INTO advertiser (id, name) VALUES (1, 'PlayGames'), (2, 'ShopFast');

INSERT INTO offer (id, name, advertiser_id, brand_id) VALUES
    (1, 'Puzzle Quest', 1, 1), (2, 'Racing Stars', 1, 1), (3, 'Test Offer', 1, 1),
    (4, 'Shoe Sale', 2, NULL), (5, 'Garden Deals', 2, NULL);

INSERT INTO offer_url (id, offer_id, name, url, weight) VALUES
    (101, 1, 'Landing page', 'https://ad.example/puzzle?click={hash}&aff={affiliate_id}&sub={aff_sub}', 1),
    (102, 2, 'Landing page', 'https://ad.example/racing?click={hash}&country={country_code}', 3),
    (103, 2, 'Video page', 'https://ad.example/racing/video?click={hash}&os={device_os}', 1),
    (132, 3, 'Default', 'https://ad.example/land?click_id={hash}&aff_id={affiliate_id}&sub={aff_sub}', 1),
    (133, 3, 'Second page', 'https://ad.example/second/{free_1}?click_id={hash}&s={affiliate_source}', 0),
    (104, 4, 'Shop', 'https://shop.example/shoes?utm_source={affiliate_source}&tid={transaction_id}', 1),
    (105, 5, 'Shop', 'https://shop.example/garden?tid={click_id}&t={timestamp}&b={browser}', 1);

INSERT INTO offer_free_value (offer_id, n, value) VALUES (3, 1, 'spring');

INSERT INTO affiliate (id, name, group_id)
SELECT id, CASE id WHEN 513 THEN 'John Doe' ELSE 'Affiliate ' || id END, CASE WHEN id > 515 THEN 7 END
FROM generate_series(501, 520) AS id;

INSERT INTO affiliate (id, name, is_test) VALUES (599, 'Test affiliate', true);
INSERT INTO affiliate (id, name, status) VALUES (598, 'Blocked affiliate', 'blocked');

UPDATE goal SET is_priced = true;  -- they pay nothing, until somebody sets what

SELECT setval(pg_get_serial_sequence(name, 'id'), 1000)
FROM unnest(ARRAY['advertiser', 'offer', 'offer_url', 'affiliate']) AS name;
"""


async def load_demo(
    dsn: str,
    keep_token: Callable[[str], None] | None = None,
    *,
    currency: str = "USD",
    time_zone: str = "UTC",
) -> bool:
    """Load the demo data. Returns False if the database has other data, or the demo data already.

    `currency` and `time_zone`: of the offers. The time zone is of IANA.
    `keep_token` gets the demo's read token before the commit. It is not called if a token has ever been
    created here. So the demo's token is created once, and a revoked one does not come back.
    """
    connection = await connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE advertiser, affiliate, offer IN SHARE ROW EXCLUSIVE MODE")
            if await connection.fetchval(_HAS_OWN):
                return False
            await connection.execute("SELECT set_config('tracker.currency', $1, true)", currency)
            await connection.execute(_DEMO)
            await connection.execute("UPDATE offer SET time_zone = $1", time_zone)
            if keep_token is not None and not await connection.fetchval(_HAS_TOKEN):
                keep_token((await tokens.issue(connection, _AUTHOR, _TOKEN)).secret)
            return True
    finally:
        await connection.close()


async def has_demo(dsn: str) -> bool:
    """Whether the demo's link works."""
    connection = await connect(dsn)
    try:
        return bool(await connection.fetchval(_IS_THERE))
    finally:
        await connection.close()
