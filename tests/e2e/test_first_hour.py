"""The first hour with the tracker, in a real Chromium: from the printed link to an affiliate's own figures."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.conftest import Furnish
from tests.e2e.browsing import base_of, become_first_admin, browser, join, needs_chromium, person, visiting
from tests.e2e.running import Up, up, wait_until

__all__ = ["browser"]
pytestmark = [pytest.mark.anyio, needs_chromium, pytest.mark.timeout(600)]

SHOP = "http://shop.pages.test"


@pytest.fixture(scope="module")
def tracker(furnish: Furnish, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(furnish(tmp_path_factory.mktemp("first-hour") / "var"), "--no-demo") as running:
        yield running


@pytest.fixture
async def admin(tracker: Up, browser: Browser) -> AsyncIterator[Page]:
    async with visiting(browser) as (page, _):
        await become_first_admin(page, tracker)
        yield page


@pytest.fixture
async def visitor(browser: Browser) -> AsyncIterator[Page]:
    """A person who follows links. The advertiser's shop is elsewhere, and answers with an empty page."""
    async with visiting(browser, user_agent=person(browser)) as (page, _):
        await page.context.route(f"{SHOP}/**", _welcome)
        yield page


async def _welcome(route: Route) -> None:
    await route.fulfill(body="<!doctype html><title>Shop</title><h1>Welcome</h1>", content_type="text/html")


async def go(page: Page, *names: str) -> None:
    """Follow links of the menu, or of the page."""
    for name in names:
        await page.get_by_role("link", name=name, exact=True).first.click()
        await page.wait_for_load_state()


async def create(page: Page, button: str = "Create", **texts: str) -> int:
    """Fill a form by its fields, send it, and tell the id of the object that is shown then."""
    for name, text in texts.items():
        field = page.locator(f"main [name={name}]")
        if await field.evaluate("field => field.localName") == "select":
            await field.select_option(text)
        else:
            await field.fill(text)
    await page.get_by_role("button", name=button, exact=True).click()
    await page.wait_for_url(re.compile(r"/\d+(\?|$)"))
    return int(urlsplit(page.url).path.rpartition("/")[2])


async def test_first_hour_needs_no_manual(tracker: Up, admin: Page, visitor: Page, browser: Browser) -> None:
    base = base_of(tracker)
    # An offer, and an affiliate for it. Another affiliate is there, too.
    await go(admin, "Advertisers", "New advertiser")
    advertiser = await create(admin, name="Shop", postback_check="none")
    await go(admin, "Offers", "New offer")
    offer = await create(admin, name="Summer sale", advertiser_id=str(advertiser))
    await admin.goto(f"{base}/dashboard/offers/{offer}/urls/new")
    await create(admin, name="Front page", url=f"{SHOP}/?click={{hash}}")
    affiliates = []
    for name in ("Blog", "Newsletter"):
        await go(admin, "Affiliates", "New affiliate")
        affiliates.append(await create(admin, name=name))
    # A link, and a click on it that arrives while somebody looks.
    links = [await link_for(admin, offer, affiliate) for affiliate in affiliates]
    wait_until(lambda: tracker.head_location(links[0].partition(str(tracker.port))[2]).startswith(SHOP))
    await go(admin, "Overview")
    for link in links:
        await visitor.goto(link)
        await expect(visitor.get_by_role("heading", name="Welcome")).to_be_visible()
        assert visitor.url.startswith(f"{SHOP}/?click=")
    await expect(admin.locator("[data-clicks] tr")).to_have_count(2)
    await expect(admin.locator("[data-clicks]")).to_contain_text("Summer sale")
    # The assistant: from the link to the conversion.
    await go(admin, "Test it")
    await create(admin, "Make the link", offer_id=str(offer), affiliate_id=str(affiliates[0]))
    await visitor.goto(await admin.locator("#link").input_value())
    await expect(admin.locator(".run")).to_contain_text("recorded")
