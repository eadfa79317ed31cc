"""The pages of clicks: the list, one click's story, the search."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import AsyncIterator
from html import escape, unescape
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from tests.factories.clicks import a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import hash_at, store
from tests.integration.pages_client import Browser, Site, site_of
from tests.integration.test_partner_access import NOON
from tracker.dashboard.reports.cell_links import CellLinks
from tracker.dashboard.traffic.click_words import COLUMNS, FILTERS
from tracker.dashboard.trail import MOST, Trail, read_trail
from tracker.reading.clicks import ListQuery
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.clicks.columns import KEYS
from tracker.store.db import connect

pytestmark = pytest.mark.anyio

CLICKS = "/dashboard/clicks"
HOSTILE = "<script>alert(1)</script>'\"&{{7*7}}"
_OF_VISITORS = (
    *("aff_sub", "aff_sub20", "adv_sub", "affiliate_source", "external_id", "user_agent", "referrer"),
    *("requested_link", "redirected_link", "city", "isp", "browser", "device_os", "language", "host"),
    *("bot_reason", "gaid", "client_hints", "device_model"),
)
TEXTS = dict.fromkeys(_OF_VISITORS, HOSTILE)
COUNTRIES = ("NL", "DE", None)
ROWS = [
    a_row(hash=hash_at(NOON + number * 1000), country_code=COUNTRIES[number % 3], aff_sub=f"s{number}")
    for number in range(60)
]
ODD = a_row(hash=hash_at(NOON - 60_000), status="rejected", reason=17, **TEXTS)
FOREIGN = a_row(hash=hash_at(NOON - 120_000), affiliate_id=514, advertiser_id=2, offer_id=4)


@pytest.fixture
async def site(database: Settings) -> AsyncIterator[Site]:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    await store(database, [*ROWS, ODD, FOREIGN])
    await store_conversions(database, [a_conversion(ROWS[0]), a_conversion(ODD, order_id="A-1")])
    async with site_of(database) as site:
        yield site


async def signed_in(site: Site, role: str = "admin", **fields: Any) -> Browser:
    await site.add_user(role=role, **fields)
    browser = site.browser()
    await browser.sign_in("anna@pages.test")
    return browser


async def shown(browser: Browser, address: str) -> str:
    """The page at an address, which may be tidied first."""
    await browser.get(address)
    if browser.page.status_code == 303:
        await browser.follow()
    assert browser.page.status_code == 200, browser.text
    assert HOSTILE not in browser.text
    return browser.text


def times_of(text: str) -> list[str]:
    return re.findall(r'class="time"><a href="/dashboard/clicks/([0-9a-f]{32})">', text)


def link(text: str, name: str) -> str:
    found = re.search(rf'<a href="([^"]*)"[^>]*>{re.escape(name)}</a>', text)
    return unescape(found[1]) if found else ""


async def test_list_leads_on_and_back(site: Site) -> None:
    browser = await signed_in(site)
    newest = [row.hash for row in (*reversed(ROWS), ODD, FOREIGN)]
    address = f"{CLICKS}?period=all&per_page=25"
    first = await shown(browser, address)
    assert "62 clicks, page 1 of 3" in first
    assert times_of(first) == newest[:25]
    second = await shown(browser, link(first, "More →"))
    assert times_of(second) == newest[25:50]
    third = await shown(browser, link(second, "More →"))
    assert times_of(third) == newest[50:]
    assert (link(third, "More →"), link(first, "← Back")) == ("", "")
    assert times_of(await shown(browser, link(third, "← Back"))) == newest[25:50]
    back = link(await shown(browser, link(third, "← Back")), "← Back")
    assert times_of(await shown(browser, back)) == newest[:25]
    assert times_of(await shown(browser, link(third, "First page"))) == newest[:25]
    oldest = await shown(browser, link(first, "Time ↓"))
    assert times_of(oldest) == newest[::-1][:25]


def test_trail_is_bounded() -> None:
    trail = Trail("")
    for number in range(MOST + 5):
        trail = read_trail(trail.after(f"c{number}"))
    assert (trail.cursor, len(trail.before)) == (f"c{MOST + 4}", MOST)
    steps = 0
    while (place := trail.back) is not None:
        trail, steps = read_trail(place), steps + 1
    assert steps == MOST


FILTERED: list[tuple[str, int, str]] = [
    ("country_code=NL", 22, "Country: NL"),
    ("exclude_country_code=NL,DE", 20, "Country is not: NL,DE"),
    ("without=country_code", 20, "Country: none"),
    ("without=exclude_country_code", 42, "Country is not: none"),
    ("status=rejected", 1, "Status: rejected"),
    ("is_invalid=true", 1, "Invalid: yes"),
    ("has_conversions=true", 2, "Converted: yes"),
    ("aff_sub=s1&aff_sub=s2", 2, "Sub id 1: s2"),
    (urlencode({"aff_sub": HOSTILE}), 1, "Sub id 1: &lt;script&gt;"),
    (urlencode({"city": HOSTILE}), 1, "City: &lt;script&gt;"),
    ("created_from=2024-10-10 12:00:10&created_to=2024-10-10 12:00:19", 10, ""),
]


async def test_filters_are_those_of_the_api(site: Site) -> None:
    browser = await signed_in(site)
    for query, total, chip in FILTERED:
        await check_filter(browser, query, total, chip)


async def check_filter(browser: Browser, query: str, total: int, chip: str) -> None:
    text = await shown(browser, f"{CLICKS}?{query}")
    assert f"{total} click{'s' if total > 1 else ''}, page 1" in text
    assert chip in text
    if chip:
        assert f"{CLICKS}?" in text
        (without,) = re.findall(rf'<li><a href="([^"]*)">{re.escape(chip)}', text)
        assert dict(parse_qsl(urlsplit(unescape(without)).query)) != dict(parse_qsl(query))
    file = await browser.get(unescape(link(text, "CSV")))
    assert len(list(csv.DictReader(io.StringIO(file.text)))) == total


async def test_address_is_tidied_and_defaults_to_today(site: Site) -> None:
    browser = await signed_in(site)
    await browser.get(f"{CLICKS}?period=&country_code=NL&aff_sub=&per_page=50&created_from=2024-10-10")
    assert browser.location == f"{CLICKS}?country_code=NL&per_page=50&created_from=2024-10-10"
    assert "62 clicks" in await shown(browser, f"{CLICKS}?period=all&created_from=2025-10-10")
    text = await shown(browser, CLICKS)
    assert '<option value="today" selected>' in text
    assert "No clicks match" in text
    assert link(text, "Look at all time") == f"{CLICKS}?period=all"


async def test_columns_are_chosen_for_the_page_and_its_files(site: Site) -> None:
    browser = await signed_in(site)
    query = "period=all&columns=hash&columns=offer_name&columns=ip&status=rejected"
    text = await shown(browser, f"{CLICKS}?{query}")
    heads = re.findall(r'<th scope="col"[^>]*>(?:<a [^>]*>)?([^<]*)', text)
    assert heads == ["Time ↓", "Click id (hash)", "Offer", "IP address"]
    assert "/dashboard//" not in await shown(browser, f"{CLICKS}?period=all&columns=external_id&columns=id")
    file = await browser.get(link(text, "CSV"))
    assert file.text.splitlines()[0] == "created_at,hash,offer_name,ip"
    assert file.headers["content-disposition"] == 'attachment; filename="clicks.csv"'
    assert file.headers["cache-control"] == "no-store"
    lines = (await browser.get(link(text, "NDJSON"))).text.splitlines()
    assert [line[:14] for line in lines] == ['{"created_at":']
    assert (await browser.get(link(text, "Excel"))).content.startswith(b"\xef\xbb\xbf")


WRONG: list[tuple[str, str, str]] = [
    ("offer_id=x", "f-offer_id", "Offer: no offer has this name or id"),
    ("created_from=yesterday&status=accepted", "f-created_from", "From: is neither"),
    ("tz=Mars", "f-tz", "Time zone: is not the name"),
    ("exclude_country_code=Atlantis", "f-exclude_country_code", "Country: "),
    ("nonsense=1", "", "Nonsense: is not known here"),
    ("cursor=abc", "", "Cursor: belongs to other filters"),
    ("sort=price", "", "Sort: is not one of"),
    ("without=nonsense", "", "Nonsense: is not known here"),
]


async def test_wrong_filter_is_told_beside_its_field(site: Site) -> None:
    browser = await signed_in(site)
    for query, field, said in WRONG:
        await browser.get(f"{CLICKS}?{query}")
        assert browser.page.status_code == 422
        assert said in browser.text, query
        assert not field or f'aria-describedby="{field}-fault"' in browser.text, query


async def test_filter_takes_a_name_and_the_address_has_its_id(site: Site) -> None:
    """Of a partner a name stays wrong: it does not search the network's catalogue."""
    await site.add_user("of513@pages.test", "affiliate", affiliate_ids=[513])
    partner, browser = site.browser(), await signed_in(site)
    await partner.sign_in("of513@pages.test")
    for path in (CLICKS, "/dashboard/conversions"):
        asked = f"{path}?columns=id&columns=country_code&period=all&affiliate_id=john+doe"
        await browser.get(asked)
        assert browser.location == asked.replace("john+doe", "513")
        assert (await browser.get(browser.location)).status_code == 200
        await browser.get(f"{path}?affiliate_id=Nobody")
        assert (browser.page.status_code, "no affiliate has this name or id" in browser.text) == (422, True)
        await partner.get(asked)
        assert (partner.page.status_code, "John" in partner.text) == (422, False)


async def test_every_cell_address_opens_the_page_with_its_total(site: Site) -> None:
    browser = await signed_in(site)
    links = CellLinks([], "UTC")
    for groups, measure, total in (
        ({"country": None}, "gross", 20),
        ({"country": "NL", "day": "2024-10-10"}, "clicks", 21),
        ({"aff_sub": HOSTILE}, "invalid", 1),
        ({"status": "rejected"}, "gross", 1),
        ({}, "gross", 62),
    ):
        cell = links.cell(groups, measure)
        assert cell is not None
        text = await shown(browser, cell.address)
        assert f"{total} click{'s' if total > 1 else ''}, page 1" in text, cell


async def test_story_is_told_and_hostile_values_stay_text(site: Site) -> None:
    browser = await signed_in(site)
    text = await shown(browser, f"{CLICKS}/{ODD.hash}")
    for told in (
        "It was rejected, because a cap was full (reason 17).",
        "A visitor clicked in NL.",
        "Conversion 2 of goal",
        "Nothing was changed since this click",
        "Rules, as they are today",
        "All clicks of this visitor",
    ):
        assert told in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;&#39;&#34;&amp;{{7*7}}") >= len(TEXTS)
    assert "49" not in re.findall(r"&amp;(\d+)", text)
    assert len(browser.page.content) < 100_000
    for path in (f"{CLICKS}/{'0' * 32}", f"{CLICKS}/nonsense", f"{CLICKS}/{FOREIGN.hash}x"):
        assert (await browser.get(path)).status_code == 404


async def test_list_that_takes_too_long_says_how_to_narrow_it(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.store.db.STATEMENT_TIMEOUT_SECONDS", 1)
    async with site_of(database) as site:
        browser = await signed_in(site)
        assert database.postgres_dsn
        blocker = await connect(database.postgres_dsn)
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE click IN ACCESS EXCLUSIVE MODE")
            await browser.get(f"{CLICKS}?aff_sub=x")
        await blocker.close()
    assert browser.page.status_code == 503
    assert "choose a shorter period" in browser.text


async def test_columns_and_filters_have_words() -> None:
    assert set(COLUMNS) == set(KEYS)
    own = {"tz", "sort", "per_page", "page", "cursor", "after_id"}
    assert {name for name in ListQuery.model_fields if not name.startswith("exclude_")} - own <= set(FILTERS)


@pytest.mark.parametrize(
    ("role", "owner", "hidden"),
    [
        ("affiliate", {"affiliate_ids": [513]}, ("f-ip", "f-bot_reason", "f-advertiser_id", "Rules, as")),
        ("advertiser", {"advertiser_ids": [1]}, ("f-ip", "f-aff_sub", "f-reason", "Rules, as")),
        ("analyst", {"hides_money": True}, ("USD", "payout")),
    ],
)
async def test_partners_see_their_own_keys(
    site: Site, role: str, owner: dict[str, Any], hidden: tuple[str, ...]
) -> None:
    browser = await signed_in(site, role, **owner)
    text = await shown(
        browser, f"{CLICKS}?period=all&per_page=100&columns=ip&columns=hash&columns=country_code"
    )
    is_partner = role != "analyst"
    assert (FOREIGN.hash in text) != is_partner
    story = await shown(browser, f"{CLICKS}/{ODD.hash}")
    for word in hidden:
        assert word not in text
        assert word not in story
    assert "Conversion 2" in story
    assert ((await browser.get(f"{CLICKS}/{FOREIGN.hash}")).status_code == 404) == is_partner


SEARCHES: list[tuple[str, str, str]] = [
    (ODD.hash, f"{CLICKS}/{ODD.hash}", ""),
    (f" {ODD.hash.upper()} ", f"{CLICKS}/{ODD.hash}", ""),
    ("Affiliate 50", "", "Affiliate 501: Affiliate 501"),
    ("nothing like it", "", "Nothing has this id or name"),
    (HOSTILE, "", "Nothing has this id or name"),
    ("", "", "Any id or name"),
]


async def test_search_leads_to_an_exact_result(site: Site) -> None:
    browser = await signed_in(site)
    for q, location, said in SEARCHES:
        await browser.get(f"/dashboard/search?{urlencode({'q': q})}")
        assert (browser.location, said in browser.text) == (location, True), q
        assert HOSTILE not in browser.text


async def test_search_leads_to_the_clicks_with_a_sub_id(site: Site) -> None:
    millis = int(time.time() * 1000) - 3_600_000
    await store(site.settings, [a_row(hash=hash_at(millis, 1), aff_sub="a&b", affiliate_source="a&b")])
    browser = await signed_in(site)
    await browser.get("/dashboard/search?q=%20a%26b%20")
    for label, field in (("sub id 1", "aff_sub"), ("source", "affiliate_source")):
        name = f"1 click with the {label} a&amp;b"
        address = f"{CLICKS}?{urlencode([('period', 'last_30_days'), (field, 'a&b')])}"
        assert f'<a href="{escape(address)}">{name}</a>' in browser.text
        assert len(times_of(await shown(browser, address))) == 1
        await browser.get("/dashboard/search?q=%20a%26b%20")
    assert "of the latest 100,000 clicks within 30 days" in browser.text
    assert "Clicks of the last 7 days" not in browser.text
    await browser.get("/dashboard/search?q=a%26c")
    assert "Clicks of the last 7 days" in browser.text


async def test_search_box_is_on_every_page(site: Site) -> None:
    browser = await signed_in(site)
    for page in ("/dashboard/", CLICKS + "?period=all", f"{CLICKS}/{ODD.hash}"):
        assert 'action="/dashboard/search"' in await shown(browser, page)
    await browser.get("/dashboard/search?" + urlencode({"q": "x" * 600}))
    assert browser.page.status_code == 422
    assert "is longer than 500 characters" in browser.text
