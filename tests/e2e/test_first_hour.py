"""The first hour, in a real Chromium: from the printed link to an affiliate's own figures."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, expect

from tests.conftest import Furnish
from tests.e2e.browsing import base_of, become_first_admin, browser, join, needs_chromium, person, visiting
from tests.e2e.running import Up, up, wait_until

__all__ = ["browser"]
pytestmark = [pytest.mark.anyio, needs_chromium, pytest.mark.timeout(600)]


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
    """A person who follows links."""
    async with visiting(browser, user_agent=person(browser)) as (page, _):
        yield page


class _Shop(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        page = b"<!doctype html><html lang=en><link rel=icon href=data:><title>Shop</title><h1>Welcome</h1>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def shop() -> Iterator[str]:
    """The address of an advertiser's pages."""
    with selling() as address:
        yield address


@contextmanager
def selling() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Shop) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://shop.pages.test:{server.server_port}"
        server.shutdown()
        thread.join()


async def go(page: Page, *names: str) -> None:
    """Follow links of the menu, or of the page."""
    for name in names:
        await page.get_by_role("link", name=name, exact=True).first.click()
        await page.wait_for_load_state()


async def fill(page: Page, texts: dict[str, str]) -> None:
    """Fill the fields of the page's form by their names."""
    for name, text in texts.items():
        field = page.locator(f"main [name={name}]").first
        if await field.evaluate("field => field.localName") == "select":
            await field.select_option(text)
        else:
            await field.fill(text)


async def send(page: Page, button: str, **texts: str) -> int:
    """Fill a form and send it. Returns the id of the object that is shown then."""
    await fill(page, texts)
    before = page.url
    await page.get_by_role("button", name=button, exact=True).click()
    await page.wait_for_function(
        "before => location.href !== before || document.querySelector('a.button[href]')", arg=before
    )
    to_it = page.get_by_role("link", name=re.compile("^To "))  # beside what it warns about
    if await to_it.count():
        await to_it.click()
    await page.wait_for_url(re.compile(r"/\d+(\?.*)?$"))
    return int(urlsplit(page.url).path.rpartition("/")[2])


async def copied(page: Page, name: str) -> str:
    """The text beside a button that copies it."""
    field = page.locator(f"#{name}")
    return await field.evaluate("field => field.value ?? field.textContent")


async def an_offer(page: Page, shop: str) -> int:
    """An offer with a page of the shop and a price, made by its advertiser's name and id alone."""
    await go(page, "Advertisers", "New advertiser")
    advertiser = await send(page, "Create", name="Shop", postback_check="none")
    await go(page, "Offers", "New offer")
    offer = await send(page, "Create", name="Summer sale", advertiser_id=str(advertiser))
    await go(page, "New offer URL")
    await send(page, "Create", name="Front page", url=f"{shop}/?click={{hash}}")
    await go(page, "Summer sale")
    await page.locator("main a[href*='/goals/'][href$='/edit']").first.click()
    await send(page, "Save", payout="2.50", revenue="4", currency="EUR")
    return offer


async def an_affiliate(page: Page, name: str) -> int:
    await go(page, "Affiliates", "New affiliate")
    return await send(page, "Create", name=name)


async def a_link(page: Page, offer: int, affiliate: int) -> str:
    await go(page, "Links")
    await fill(page, {"offer_id": str(offer), "affiliate_id": str(affiliate)})
    await page.get_by_role("button", name="Make and explain").click()
    await expect(page.get_by_role("heading", name="Your link")).to_be_visible()
    return await copied(page, "link")


async def test_first_hour_needs_no_manual(
    tracker: Up, admin: Page, visitor: Page, shop: str, browser: Browser
) -> None:
    offer = await an_offer(admin, shop)
    blog, letter = [await an_affiliate(admin, name) for name in ("Blog", "Newsletter")]
    links = [await a_link(admin, offer, affiliate) for affiliate in (blog, letter)]
    wait_until(lambda: tracker.head_location(path_of(links[0])).startswith(shop))

    # Clicks arrive while somebody looks.
    await go(admin, "Overview")
    for link in links:
        await visitor.goto(link)
        assert visitor.url.startswith(f"{shop}/?click=")
    await expect(admin.locator("[data-clicks] tr")).to_have_count(2)
    await expect(admin.locator("[data-clicks]")).to_contain_text("Summer sale")

    # The assistant: each step turns green, up to the conversion.
    await go(admin, "Test it")
    await send(admin, "Make the link", offer_id=str(offer), affiliate_id=str(blog))
    run = admin.url
    await visitor.goto(await copied(admin, "link"))
    steps = admin.locator(".run li")
    await expect(steps.first).to_contain_text("done")
    await admin.get_by_role("button", name="Fire it").click()
    await expect(admin.locator("main")).to_contain_text("The postback was taken")
    await admin.goto(run)
    await expect(steps.filter(has_text="waiting").or_(steps.filter(has_text="failed"))).to_have_count(0)
    await admin.locator("a[href^='/dashboard/conversions/']").first.click()
    await expect(admin.locator("main")).to_contain_text("2.50 EUR")

    # The day by country and device, beside the day before.
    await go(admin, "Reports")
    await fill(admin, {"period": "today", "compare": "previous"})
    await admin.locator("#group-0").select_option("country")
    await admin.locator("#group-1").select_option("device_type")
    await admin.get_by_role("button", name="Show", exact=True).click()
    await admin.wait_for_url(re.compile("device_type"))
    await expect(admin.locator("#group-1")).to_have_value("device_type")
    await expect(admin.locator("select[name=compare]")).to_have_value("previous")
    await expect(admin.locator("main tfoot")).to_contain_text("+2")
    await admin.get_by_role(
        "link", name=re.compile("^Open ")
    ).first.click()  # visitors of this machine have no country
    await expect(admin.locator("main tbody")).to_contain_text("desktop")

    # The affiliate's own sign-in shows it its own.
    await go(admin, "Affiliates")
    await admin.locator(f"main a[href$='/affiliates/{blog}']").first.click()
    await go(admin, "Invite a user")
    await fill(admin, {"email": "blog@pages.test"})
    await admin.get_by_role("button", name="Make the invitation").click()
    await expect(admin.get_by_text("The link is shown only now.")).to_be_visible()
    invitation = await copied(admin, "link")
    async with visiting(browser) as (partner, watch):
        await join(partner, base_of(tracker) + path_of(invitation))
        await go(partner, "Clicks")
        await expect(partner.locator("main tbody tr")).to_have_count(2)  # its click, and that of the test
        await partner.goto(f"{base_of(tracker)}/dashboard/clicks?affiliate_id={letter}")
        await expect(partner.locator("body")).not_to_contain_text("Newsletter")
        await partner.goto(f"{base_of(tracker)}/dashboard/affiliates/{letter}")
        assert watch.statuses[-1] in (403, 404)


def path_of(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.path}?{parts.query}"
