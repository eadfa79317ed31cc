"""The overview: its numbers are the API's for everybody, and its first tile says whether all is well."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from datetime import datetime
from html import unescape
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from httpx import AsyncClient

from tests.integration.api_client import api_of, hash_at, store
from tests.integration.engines import until
from tests.integration.ledger_entries import set_stored, streams_of
from tests.integration.pages_client import Browser, Site, site_of
from tests.integration.test_partner_access import FOREIGN_CLICK, HIDDEN, OWN_CLICK, partners
from tracker.dashboard.overview import tops
from tracker.domain.access import OwnerKind, rights_of
from tracker.domain.periods import PERIODS
from tracker.settings import Settings
from tracker.store.tokens import create_token

__all__ = ["partners"]

pytestmark = pytest.mark.anyio

NOTHING = "\N{EN DASH}"
DAYS = {"created_from": "2024-10-10", "created_to": "2024-10-10"}
THAT_DAY = "/dashboard/?created_from=2024-10-10&created_to=2024-10-10"
VIEWERS: list[tuple[str, dict[str, Any]]] = [
    ("admin", {}),
    ("analyst", {}),
    ("analyst", {"hides_money": True}),
    ("manager", {"affiliate_ids": [513]}),
    ("manager", {"affiliate_ids": [513, 514]}),
    ("manager", {"affiliate_ids": [513, 514], "hides_money": True}),
    ("affiliate", {"affiliate_ids": [513]}),
    ("advertiser", {"advertiser_ids": [1]}),
]
OWNERS: tuple[OwnerKind, ...] = ("affiliate", "advertiser")
NAMES = {
    "Gross": "gross",
    "Clicks": "clicks",
    "Uniques": "uniques",
    "Invalid": "invalid",
    "Approved": "conversions_approved",
    "Pending": "conversions_pending",
    "On hold": "conversions_hold",
    "Rejected": "conversions_rejected",
    "Payout": "payout",
    "Revenue": "revenue",
    "Profit": "profit",
    "EPC": "epc",
    "CR": "cr",
    "Margin": "margin",
}


@pytest.fixture
async def site(database: Settings) -> AsyncIterator[Site]:
    async with site_of(database) as site:
        yield site


async def signed_in(
    site: Site, role: str = "admin", email: str = "anna@pages.test", **fields: Any
) -> Browser:
    await site.add_user(email, role, **fields)
    browser = site.browser()
    await browser.sign_in(email)
    return browser


def text_of(markup: str) -> str:
    return " ".join(unescape(re.sub(r"<svg.*?</svg>|<[^>]+>", " ", markup, flags=re.DOTALL)).split())


def cards_of(page: str) -> dict[str, list[str]]:
    """The large numbers of each card."""
    cards = re.findall(r'<article class="card[^>]*>(.*?)</article>', page, re.DOTALL)
    return {
        text_of(re.search(r"<h3>.*?</h3>", card)[0]): [  # type: ignore[index]
            text_of(number) for number in re.findall(r'<p class="big[^"]*">.*?</p>', card, re.DOTALL)
        ]
        for card in cards
    }


def shown(measure: str, value: Any) -> list[str]:
    """A measure of the API as the page writes it."""
    if measure in ("cr", "margin"):
        rates = value.items() if isinstance(value, dict) else [("", value)]
        return [f"{float(rate) * 100:,.2f} % {code}".strip() if rate else NOTHING for code, rate in rates]
    if isinstance(value, dict):
        return [f"{amount} {code}" for code, amount in value.items()] or [NOTHING]
    return [f"{value:,}"]


async def test_numbers_are_those_of_the_api(site: Site, database: Settings) -> None:
    assert database.postgres_dsn
    async with api_of(database, scopes=()) as api:
        for number, (role, fields) in enumerate(VIEWERS):
            browser = await signed_in(site, role, f"viewer{number}@pages.test", **fields)
            await browser.get(THAT_DAY)
            assert browser.page.status_code == 200
            owner: OwnerKind | None = next((kind for kind in OWNERS if f"{kind}_ids" in fields), None)
            scopes = rights_of(role, owner, hides_money=fields.get("hides_money", False)).scopes
            token = await create_token(database.postgres_dsn, scopes, **fields)
            api.headers["Authorization"] = f"Bearer {token}"
            totals = await _totals(api, f"{owner}s" if owner else "users")
            expected = {
                name: shown(measure, totals[measure]) for name, measure in NAMES.items() if measure in totals
            }
            assert cards_of(browser.text) == expected, (role, fields)
            sees_payout = role != "advertiser" and "hides_money" not in fields
            assert ("Payout" in expected) == sees_payout, (role, fields)
            if role in HIDDEN:
                assert not re.search(rf"{HIDDEN[role]}|foreign", text_of(browser.text)), role


async def _totals(api: AsyncClient, whose: str) -> dict[str, Any]:
    query = {"group_by": "day", **DAYS}
    answer = await api.get(f"/backend/open-api/v1/{whose}/reports", params=query)
    assert answer.status_code == 200, answer.text
    totals: dict[str, Any] = answer.json()["totals"]
    assert totals["gross"] in (1, 2)
    return totals


async def test_page_leads_to_the_reports_behind_it(site: Site) -> None:
    browser = await signed_in(site)
    await browser.get(f"{THAT_DAY}&tz=Europe/Berlin")
    links = [unescape(link) for link in re.findall(r'href="(/dashboard/reports\?[^"]+)"', browser.text)]
    assert len(links) > len(NAMES)
    span = "created_from=2024-10-10&created_to=2024-10-10&tz=Europe%2FBerlin"
    assert all(span in link for link in links)
    assert any(link.endswith("offer_id=3") for link in links)
    assert any("measures=uniques" in link and "compare=custom" in link for link in links)
    assert "Times: Europe/Berlin" in text_of(browser.text)
    for link in links[:1] + links[-1:]:
        assert (await browser.get(link)).status_code == 200, link


async def test_list_that_would_read_too_many_clicks_is_left_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tops, "MOST_READ", 1)
    browser = await signed_in(site)
    await browser.get(THAT_DAY)
    assert browser.text.count("too many clicks to list them here") == 1  # sources of the network
    assert "hidden-affiliate" in browser.text, "affiliates are counted all the same"


async def test_times_that_would_read_too_many_clicks_are_left_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await signed_in(site, "advertiser", advertiser_ids=[1])
    await browser.get(THAT_DAY)
    numbers = cards_of(browser.text)
    assert browser.text.count('class="plot"') == 3
    monkeypatch.setattr(tops, "MOST_READ", 0)
    await browser.get(THAT_DAY)
    assert cards_of(browser.text) == numbers
    assert 'class="plot"' not in browser.text
    assert "cannot be drawn by hour" in browser.text


async def test_advertisers_charts_of_many_clicks_are_by_days_of_utc(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await signed_in(site, "advertiser", advertiser_ids=[1])
    days = "/dashboard/?created_from=2024-10-01&created_to=2024-10-20&tz=Pacific/Chatham"
    clicks = r"<caption[^>]*>Clicks by day( of UTC)?</caption>.*?<th[^>]*>(2024-10-1\d)</th><td>1</td>"
    await browser.get(days)
    numbers = cards_of(browser.text)
    assert re.findall(clicks, browser.text, re.DOTALL) == [("", "2024-10-11")]
    monkeypatch.setattr(tops, "MOST_READ", 0)
    await browser.get(days)
    assert cards_of(browser.text) == numbers
    assert re.findall(clicks, browser.text, re.DOTALL) == [(" of UTC", "2024-10-10")]
    assert "These charts show days of UTC" in browser.text
    await browser.get("/dashboard/?period=this_month&tz=Pacific/Chatham")
    assert browser.page.status_code == 200


FAULTS = [
    ("tz=Nowhere", "Time zone: is not the name of an IANA time zone"),
    ("period=decade", "There is no period decade. Choose one of: today"),
    ("created_from=2024-10-11&created_to=2024-10-10", "Last day: is before the first day"),
    ("created_from=2024-10-11", "Last day: is neither a day"),
    ("created_from=x&created_to=2024-10-11", "First day: is neither a day"),
    ("created_from=0001-01-01&created_to=9999-12-31", "First day: "),
    ("created_from=1980-01-01&created_to=2026-01-01", "First day: "),
]


async def test_wrong_address_names_its_part(site: Site) -> None:
    browser = await signed_in(site)
    for query, said in FAULTS:
        await browser.get(f"/dashboard/?{query}")
        assert browser.page.status_code == 422, query
        assert said in text_of(browser.text), query


async def test_every_period_is_shown(site: Site) -> None:
    browser = await signed_in(site)
    zone = ZoneInfo("Pacific/Chatham")
    for period in PERIODS:
        days = {PERIODS[period](datetime.now(zone).date())}
        await browser.get(f"/dashboard/?period={period}&tz=Pacific/Chatham")
        assert browser.page.status_code == 200, period
        assert f'period={period}&amp;tz=Pacific/Chatham" aria-current="true"' in browser.text
        days.add(PERIODS[period](datetime.now(zone).date()))  # midnight may have passed
        told = {str(first) if first == last else f"{first} to {last}" for first, last in days}
        assert any(f"{span}, compared with" in text_of(browser.text) for span in told), period


async def test_first_tile_says_whether_all_is_well(site: Site, database: Settings) -> None:
    browser = await signed_in(site)
    now = int(time.time() * 1000)
    async with streams_of(database) as streams:
        await streams.say("1", now)
        assert "balanced Every click of the last 24 hours" in await tile(browser)
        await streams.record(hash_at(now))
        assert "settling 1 click is on the way into the table" in await tile(browser)
        await streams.dead_letter(b"1[")
        assert (
            "dead letters (clicks that cannot be stored): 1. What to do: see tracker dead-letters"
            in await tile(browser)
        )
        await set_stored(database, (now - 600_000) // 60_000, 1)
        await streams.count(now - 600_000, "l")
        told = await tile(browser)
        assert "does not balance 1 minute of the last 24 hours" in told
        assert "What to do: keep the logs of edges and workers" in told


async def tile(browser: Browser) -> str:
    await browser.get("/dashboard/")
    sections = re.findall(r"<section .*?</section>", browser.text, re.DOTALL)
    assert 'class="card compact ledger"' in sections[0], "it is the first one"
    return text_of(sections[0])


async def test_partners_are_told_how_complete_the_numbers_are(site: Site, database: Settings) -> None:
    async with streams_of(database) as streams:
        await streams.say("1", int(time.time() * 1000))
    browser = await signed_in(site, "affiliate", affiliate_ids=[513])

    async def told() -> bool:
        text = await tile(browser)
        assert "24 hours" not in text
        return "Complete until 20" in text

    await until(told)  # a page waits only a moment for the stream server


async def test_many_marks_lead_to_the_audit_trail(site: Site) -> None:
    browser = await signed_in(site)
    statement = """
        INSERT INTO note (at, text)
        SELECT '2024-10-10'::timestamptz + n * interval '1 minute', 'note ' || n
        FROM generate_series(1, 101) AS n"""
    await site.sql(statement)
    await browser.get(THAT_DAY)
    assert "Only the last changes are marked" in browser.text
    assert "00:02 note 2" in browser.text


async def test_note_is_added_shown_and_deleted(site: Site) -> None:
    browser = await signed_in(site)
    await browser.get(THAT_DAY)
    fields = {"at": "2024-10-10T09:30", "text": "Sale <b>begins</b>"}
    await browser.post(f"{THAT_DAY}&tz=Europe/Berlin", **fields)
    assert browser.location == (f"{THAT_DAY}&tz=Europe%2FBerlin")
    await browser.follow()
    assert "09:30 Sale &lt;b&gt;begins&lt;/b&gt; (anna@pages.test)" in browser.text
    assert "<b>begins" not in browser.text
    (row,) = await site.sql("SELECT at::text, author FROM note")
    assert tuple(row) == ("2024-10-10 07:30:00+00", "anna@pages.test")
    await browser.post(THAT_DAY, do="delete", id=browser.hidden("id"))
    await browser.follow()
    assert await site.sql("SELECT FROM note") == []
    assert "Sale" not in browser.text


async def test_wrong_note_is_named_and_kept(site: Site) -> None:
    browser = await signed_in(site)
    for at, text, said in (
        ("2024-10-10T09:30", " ", "What happened: "),
        ("soon", "x", "When: is not a time"),
    ):
        await browser.get(THAT_DAY)
        await browser.post(THAT_DAY, at=at, text=text)
        assert browser.page.status_code == 422
        assert said in text_of(browser.text)
        assert f'value="{at}"' in browser.text
        assert "Gross" in cards_of(browser.text)


@pytest.mark.parametrize(
    ("role", "fields", "status"), [("analyst", {}, 403), ("affiliate", {"affiliate_ids": [513]}, 404)]
)
async def test_readers_add_no_note(site: Site, role: str, fields: dict[str, Any], status: int) -> None:
    browser = await signed_in(site, role, **fields)
    await browser.get(THAT_DAY)
    assert "Add the note" not in browser.text
    await browser.post(THAT_DAY, at="2024-10-10T09:30", text="x")
    assert browser.page.status_code == status
    assert await site.sql("SELECT FROM note") == []


async def test_strip_follows_the_clicks(site: Site, database: Settings) -> None:
    browser = await signed_in(site)
    first = (await browser.get("/dashboard/live?tz=UTC")).json()
    assert [click["cells"][1] for click in first["clicks"]] == ["foreign-offer", "Own"]
    after = max(click["id"] for click in first["clicks"])
    assert (await browser.get(f"/dashboard/live?after_id={after}")).json() == {"clicks": [], "skipped": False}
    now = int(time.time() * 1000)
    await store(database, [OWN_CLICK._replace(hash=hash_at(now, n)) for n in range(3)])
    later = (await browser.get(f"/dashboard/live?after_id={after}")).json()
    ids = [click["id"] for click in later["clicks"]]
    assert (len(ids), ids, later["skipped"]) == (3, sorted(ids, reverse=True), False)
    assert later["clicks"][0]["href"] == f"/dashboard/clicks/{ids[0]}"
    await store(database, [OWN_CLICK._replace(hash=hash_at(now + 1, n)) for n in range(30)])
    skipped = (await browser.get(f"/dashboard/live?after_id={after}")).json()
    assert (len(skipped["clicks"]), skipped["skipped"]) == (10, True)
    assert min(click["id"] for click in skipped["clicks"]) > max(ids), "the last ones, not the next ones"


async def test_strip_shows_partners_their_own_clicks(site: Site, database: Settings) -> None:
    now = int(time.time() * 1000)
    own, foreign = (
        click._replace(hash=hash_at(now, n)) for n, click in enumerate((OWN_CLICK, FOREIGN_CLICK))
    )
    await store(database, [own, foreign])
    browser = await signed_in(site, "advertiser", advertiser_ids=[1])
    for address in ("/dashboard/live", "/dashboard/live?after_id=1"):
        answer = await browser.get(address)
        assert [click["cells"][1] for click in answer.json()["clicks"]] == ["Own"], address
        assert not re.search(rf"{HIDDEN['advertiser']}|foreign", answer.text)


async def test_strip_refuses_a_wrong_address(site: Site) -> None:
    browser = await signed_in(site)
    for query in ("after_id=x", "tz=Nowhere"):
        assert (await browser.get(f"/dashboard/live?{query}")).status_code == 422
        assert (await site.browser().get(f"/dashboard/live?{query}")).status_code == 303
