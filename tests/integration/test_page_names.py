"""Names on pages: fields take names where ids are wanted, and pages say names beside ids."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape

import pytest

from tests.integration.api_client import api_of, run_sql
from tests.integration.pages_client import Browser, Site, site_of
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

pytestmark = pytest.mark.anyio

ROOT = "/dashboard"
API = "/backend/open-api/v1/users"
_MORE = """
INSERT INTO affiliate (id, name) VALUES (701, 'Twin'), (702, 'twin'), (703, 'Doe, Sons & Co');
INSERT INTO affiliate (id, name) SELECT id, 'Ann ' || id FROM generate_series(1001, 1201) AS id;
INSERT INTO affiliate (id, name) VALUES (1300, 'Ann'), (1301, 'Ölberg');
INSERT INTO affiliate (id, name, is_archived) VALUES (1302, 'Gone', true);
UPDATE goal SET code = 'sale', name = 'Sale of ' || offer_id;
"""
DAYS = "group_by=offer&created_from=2024-10-01"


@pytest.fixture
async def site(database: Settings) -> AsyncIterator[Site]:
    await load_demo(database.postgres_dsn or "")
    await run_sql(database, _MORE)
    async with site_of(database) as site:
        yield site


async def signed_in(site: Site, role: str = "admin") -> Browser:
    email = f"{role}@pages.test"
    await site.add_user(email, role)
    browser = site.browser()
    await browser.sign_in(email)
    return browser


def fault_of(browser: Browser, field: str) -> str:
    """What stands beside a field."""
    found = re.search(rf'id="(?:f-)?{field}-fault"[^>]*>([^<]*)<', browser.text)
    return unescape(found[1]) if found else ""


# The address that a person gets by names, and the address with their ids.
FILTERED = [
    ("reports?{days}&offer_id=puzzle+quest", "reports?{days}&offer_id=1"),
    ("reports?{days}&exclude_offer_id=Puzzle+Quest", "reports?{days}&exclude_offer_id=1"),
    ("reports?{days}&requested_offer_id=Shoe+Sale", "reports?{days}&requested_offer_id=4"),
    ("reports?{days}&offer_id=Racing+Stars,3", "reports?{days}&offer_id=2%2C3"),
    (
        "reports?{days}&offer_id=Racing+Stars&offer_url_id=video+page",
        "reports?{days}&offer_id=2&offer_url_id=103",
    ),
    ("reports?{days}&affiliate_id=Doe,+Sons+%26+Co", "reports?{days}&affiliate_id=703"),
    (
        "reports?{days}&form=1&add=advertiser_id&how=not&value=ShopFast",
        "reports?{days}&exclude_advertiser_id=2",
    ),
    ("clicks?period=all&exclude_affiliate_id=John+Doe", "clicks?period=all&exclude_affiliate_id=513"),
    ("conversions?offer_id=3&goal_id=SALE", "conversions?offer_id=3&goal_id=3"),
    ("offers?advertiser_id=PlayGames", "offers?advertiser_id=1"),
    ("blocks?affiliate_id=John+Doe", "blocks?affiliate_id=513"),
    ("users?affiliate_id=John+Doe", "users?affiliate_id=513"),
    ("users?affiliate_id=ann", "users?affiliate_id=1300"),  # more names than a list has begin so
    ("users?affiliate_id=o%CC%88lberg", "users?affiliate_id=1301"),
    ("tokens?advertiser_id=ShopFast", "tokens?advertiser_id=2"),
    ("applications?status=all&affiliate_id=John+Doe", "applications?status=all&affiliate_id=513"),
]
# An address, its wrong field, and what stands beside it.
UNKNOWN = [
    ("reports?{days}&offer_id=Puzzle", "offer_id", "no offer has this name or id. There is Puzzle Quest (1)"),
    (
        "reports?{days}&affiliate_id=Twin",
        "affiliate_id",
        "2 affiliates have this name: write the id, 701 or 702",
    ),
    (
        "reports?{days}&offer_id=Shoe+Sale,Gard",
        "offer_id",
        "“Gard”: no offer has this name or id. There is Garden",
    ),
    ("conversions?goal_id=sale", "goal_id", "name the one offer too, or write the id of the goal"),
    ("conversions?offer_id=3&goal_id=Lead", "goal_id", "no goal has this name or id. There is Sale of 3 (3)"),
    ("offers?advertiser_id=Play", "advertiser_id", "There is PlayGames (1)"),
    (
        "clicks?affiliate_id=Gone",
        "affiliate_id",
        "the affiliate of this name is archived: write the id, 1302",
    ),
    ("clicks?affiliate_id=a%00b", "affiliate_id", "has control characters"),
    ("reports?{days}&affiliate_id=a%0Ab", "affiliate_id", "has control characters"),
    (f"clicks?affiliate_id=Ann,{'x' * 501}", "affiliate_id", f"“{'x' * 80}”: is longer than 500 characters"),
    (f"clicks?affiliate_id={'Ann,' * 101}", "affiliate_id", "are more than 100 names: write ids"),
]


async def test_filters_take_names_and_the_address_has_their_ids(site: Site) -> None:
    browser = await signed_in(site)
    for named, with_ids in FILTERED:
        await browser.get(f"{ROOT}/{named.format(days=DAYS)}")
        assert browser.location == f"{ROOT}/{with_ids.format(days=DAYS)}", named
        assert (await browser.follow()).status_code == 200, named
    for path, field, why in UNKNOWN:
        await browser.get(f"{ROOT}/{path.format(days=DAYS)}")
        assert browser.page.status_code == 422, path
        assert why in fault_of(browser, field), path
    await browser.get(f"{ROOT}/reports?{DAYS}&affiliate_id=513&exclude_affiliate_id=599")
    assert re.findall(r'class="hint">([^<]*)', browser.text) == ["John Doe", "Test affiliate"]
    await browser.get(f"{ROOT}/clicks?period=all&affiliate_id=513,1302&exclude_offer_id=1")
    for chip in ("Affiliate: John Doe, Gone (513,1302)", "Offer is not: Puzzle Quest (1)"):
        assert chip in browser.text


async def test_addresses_of_too_many_parameters_are_refused(site: Site) -> None:
    browser = await signed_in(site)
    many = "&".join(f"affiliate_id={number}" for number in range(101))
    for page in ("reports", "clicks", "conversions", "postbacks"):
        await browser.get(f"{ROOT}/{page}?{many}")
        assert browser.page.status_code == 400, page
        assert "more than 100 parameters" in browser.text, page


# A form, its fields, and the answer's status with what is in it.
FORMS: list[tuple[str, dict[str, str | list[str]], int, str]] = [
    ("users/new", {"email": "b@x.test", "role": "affiliate", "affiliate_ids": "john doe, 514"}, 200, ""),
    ("users/new", {"email": "c@x.test", "role": "affiliate", "affiliate_ids": "Twin"}, 422, "701 or 702"),
    (
        "tokens/new",
        {"name": "N", "scopes": "clicks:read", "advertiser_ids": "ShopFast"},
        200,
        "",
    ),
    (
        "tokens/new",
        {"name": "N", "scopes": "clicks:read", "affiliate_ids": "John"},
        422,
        "There is John Doe (513)",
    ),
    ("reports/share", {"query": DAYS, "name": "S", "days": "7", "affiliate_ids": "John Doe"}, 200, ""),
    (
        "reports/share",
        {"query": DAYS, "name": "S", "days": "7", "advertiser_ids": "Shop"},
        422,
        "ShopFast (2)",
    ),
    ("see-as", {"kind": "advertiser", "id": "John Doe"}, 422, "no advertiser has this name or id"),
    ("see-as", {"kind": "affiliate", "id": "John Doe"}, 303, ""),
]
# A page, and the names that it says beside ids.
SEEN = [
    ("users", ["John Doe", "Affiliate 514"]),
    ("users/2", ["John Doe"]),
    ("tokens", ["ShopFast"]),
    ("tokens/1", ["ShopFast"]),
    (f"reports/share?{DAYS}", ["John Doe"]),
]
_BOUND = """
SELECT (SELECT array_agg(u.affiliate_ids::text) FROM user_account u WHERE email = 'b@x.test'),
    (SELECT array_agg(t.advertiser_ids::text) FROM token t)
"""


async def test_forms_take_names(site: Site) -> None:
    browser = await signed_in(site)
    for path, fields, status, said in FORMS:
        await browser.get(f"{ROOT}/{path}")
        await browser.post(f"{ROOT}/{path}", **fields)
        assert browser.page.status_code == status, (path, fields)
        assert said in unescape(browser.text), (path, fields)
    await browser.get(f"{ROOT}/account")
    await browser.post(f"{ROOT}/see-as/end")
    for path, names in SEEN:
        await browser.get(f"{ROOT}/{path}")
        assert all(f">{name}</a>" in browser.text for name in names), path
    ((users, tokens),) = await site.sql(_BOUND)
    assert (users, tokens) == (["{513,514}"], ["{2}"])


_CHANGES = """
UPDATE goal SET currency = 'EUR', payout = 1 WHERE id = 3
"""
# A change by the API, what the list says of it, and what the page of the change links to.
CHANGED = [
    ("offers/3/goals/3", {"payout": "1.20"}, "Payout: 1.00 EUR → 1.20 EUR", ""),
    ("offers/3/goals/3", {"payout_type": "percent", "payout": "15"}, "Payout: 1.20 EUR → 15.00 %", ""),
    ("offers/3", {"unique_window": 7200}, "Unique window: 24 hours → 2 hours", ""),
    ("offers/3", {"advertiser_id": 2}, "Advertiser: PlayGames → ShopFast", f"{ROOT}/advertisers/2"),
    ("offers/3", {"visitor_cookie": True}, "Visitor cookie: no → yes", ""),
    ("affiliates/513", {"status": "pending"}, "Status: active → pending", ""),
]


async def test_audit_trail_says_kinds_and_fields_in_words(site: Site) -> None:
    await site.sql(_CHANGES)
    browser = await signed_in(site)
    async with api_of(site.settings, scopes=("admin",)) as client:
        for path, fields, said, link in CHANGED:
            answer = await client.patch(f"{API}/{path}", json=fields)
            assert answer.status_code == 200, answer.text
            await browser.get(f"{ROOT}/audit?per_page=1")
            assert said in unescape(browser.text), path
            ((id_,),) = await site.sql("SELECT max(id) FROM audit")
            await browser.get(f"{ROOT}/audit/{id_}")
            assert f'<a href="{link}">' in browser.text or not link, path
            for name in fields:
                assert f'<th scope="row"><code>{name}</code>' in browser.text, path
    await browser.get(f"{ROOT}/audit?resource=goal")
    assert re.findall(r"<bdi>(Goal[^<]*)<", browser.text)[0] == "Goal 3 (Sale of 3) of offer 3"
    await browser.get(f"{ROOT}/offers/3")
    assert "2 hours" in browser.text
    assert ">ShopFast</a>" in browser.text
