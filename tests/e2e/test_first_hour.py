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
from tests.e2e.browsing import base_of, become_first_admin, browser, needs_chromium, person, visiting
from tests.e2e.hands import Hand, Keyboard, Mouse
from tests.e2e.running import Up, up, wait_until
from tests.integration.people import PASSWORD

__all__ = ["browser"]
pytestmark = [pytest.mark.anyio, needs_chromium, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def tracker(furnish: Furnish, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(furnish(tmp_path_factory.mktemp("first-hour") / "var"), "--no-demo") as running:
        yield running


@pytest.fixture(scope="module")
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


async def go(hand: Hand, *names: str) -> None:
    """Follow links of the menu, or of the page."""
    for name in names:
        await hand.press(hand.page.get_by_role("link", name=name, exact=True).first)


async def fill(hand: Hand, texts: dict[str, str]) -> None:
    """Fill the fields of the page's form by their names."""
    for name, text in texts.items():
        await hand.fill(hand.page.locator(f"main [name={name}]").first, text)


async def press(hand: Hand, button: str) -> None:
    await hand.press(hand.page.get_by_role("button", name=button, exact=True))


async def send(hand: Hand, button: str, **texts: str) -> int:
    """Fill a form and send it. Returns the id of the object that is shown then."""
    await fill(hand, texts)
    await press(hand, button)
    to_it = hand.page.get_by_role("link", name=re.compile("^To "))  # beside what it warns about
    if await to_it.count():
        await hand.press(to_it)
    await hand.page.wait_for_url(re.compile(r"/\d+(\?.*)?$"))
    return int(urlsplit(hand.page.url).path.rpartition("/")[2])


async def copied(page: Page, name: str) -> str:
    """The text beside a button that copies it."""
    field = page.locator(f"#{name}")
    return await field.evaluate("field => field.value ?? field.textContent")


async def an_offer(hand: Hand, shop: str, name: str) -> int:
    """An offer with a page of the shop and a price, made by its advertiser's name and id alone."""
    await go(hand, "Advertisers", "New advertiser")
    advertiser = await send(hand, "Create", name=f"Shop by {hand.name}", postback_check="none")
    await go(hand, "Offers", "New offer")
    offer = await send(hand, "Create", name=name, advertiser_id=str(advertiser))
    await go(hand, "New offer URL")
    await send(hand, "Create", name="Front page", url=f"{shop}/?click={{hash}}")
    await go(hand, name)
    await hand.press(hand.page.locator("main a[href*='/goals/'][href$='/edit']").first)
    await send(hand, "Save", payout="2.50", revenue="4", currency="EUR")
    return offer


async def an_affiliate(hand: Hand, name: str) -> int:
    await go(hand, "Affiliates", "New affiliate")
    return await send(hand, "Create", name=name)


async def a_link(hand: Hand, offer: int, affiliate: int) -> str:
    await go(hand, "Links")
    await fill(hand, {"offer_id": str(offer), "affiliate_id": str(affiliate)})
    await press(hand, "Make and explain")
    await expect(hand.page.get_by_role("heading", name="Your link")).to_be_visible()
    return await copied(hand.page, "link")


@pytest.mark.parametrize(
    "by", [Mouse, pytest.param(Keyboard, marks=pytest.mark.long)], ids=lambda by: by.name
)
async def test_first_hour_needs_no_manual(
    tracker: Up, admin: Page, visitor: Page, shop: str, browser: Browser, by: type[Hand]
) -> None:
    hand, name = by(admin), f"Summer sale by {by.name}"
    offer = await an_offer(hand, shop, name)
    blog, letter = [await an_affiliate(hand, f"{word} by {by.name}") for word in ("Blog", "Newsletter")]
    links = [await a_link(hand, offer, affiliate) for affiliate in (blog, letter)]
    wait_until(lambda: tracker.head_location(path_of(links[0])).startswith(shop))

    # Clicks arrive while somebody looks.
    await go(hand, "Overview")
    for link in links:
        await visitor.goto(link)
        assert visitor.url.startswith(f"{shop}/?click=")
    await expect(admin.locator("[data-clicks] tr").filter(has_text=name)).to_have_count(2)

    # The assistant: each step turns green, up to the conversion.
    await go(hand, "Test it")
    await send(hand, "Make the link", offer_id=str(offer), affiliate_id=str(blog))
    run = admin.url
    await visitor.goto(await copied(admin, "link"))
    steps = admin.locator(".run li")
    await expect(steps.first).to_contain_text("done")
    await press(hand, "Fire it")
    await expect(admin.locator("main")).to_contain_text("The postback was taken")
    await admin.goto(run)
    await expect(steps.filter(has_text="waiting").or_(steps.filter(has_text="failed"))).to_have_count(0)
    await hand.press(admin.locator("a[href^='/dashboard/conversions/']").first)
    await expect(admin.locator("main")).to_contain_text("2.50 EUR")

    # The day by country and device, beside the day before.
    await go(hand, "Reports")
    await fill(hand, {"period": "today", "compare": "previous", "add": "offer_id", "value": str(offer)})
    await hand.fill(admin.locator("#group-0"), "country")
    await hand.fill(admin.locator("#group-1"), "device_type")
    await press(hand, "Show")
    await admin.wait_for_url(re.compile("device_type"))
    await expect(admin.locator("#group-1")).to_have_value("device_type")
    await expect(admin.locator("select[name=compare]")).to_have_value("previous")
    await expect(admin.locator("main tfoot")).to_contain_text("+2")
    # Visitors of this machine have no country.
    await hand.press(admin.get_by_role("link", name=re.compile("^Open ")).first)
    await expect(admin.locator("main tbody")).to_contain_text("desktop")

    # The affiliate's own sign-in shows it its own.
    await go(hand, "Affiliates")
    await hand.press(admin.locator(f"main a[href$='/affiliates/{blog}']").first)
    await go(hand, "Invite a user")
    await fill(hand, {"email": f"blog-{by.name}@pages.test"})
    await press(hand, "Make the invitation")
    await expect(admin.get_by_text("The link is shown only now.")).to_be_visible()
    invitation = await copied(admin, "link")
    async with visiting(browser) as (partner, watch):
        own = by(partner)
        await partner.goto(base_of(tracker) + path_of(invitation))
        for label in ("Password", "Password again"):
            await own.fill(partner.get_by_label(label, exact=True), PASSWORD)
        await press(own, "Create the account")
        await go(own, "Clicks")
        await expect(partner.locator("main tbody tr")).to_have_count(2)  # its click, and that of the test
        await partner.goto(f"{base_of(tracker)}/dashboard/clicks?affiliate_id={letter}")
        await expect(partner.locator("body")).not_to_contain_text("Newsletter")
        await partner.goto(f"{base_of(tracker)}/dashboard/affiliates/{letter}")
        assert watch.statuses[-1] in (403, 404)


async def test_escape_closes_what_lies_over_the_page(tracker: Up, admin: Page) -> None:
    hand = Keyboard(admin)
    await go(hand, "Reports")
    opener = admin.locator("summary", has_text="Saved views")
    await hand.reach(opener)
    await admin.keyboard.press("Enter")
    await expect(admin.locator("details.drop[open]")).to_have_count(1)
    await admin.keyboard.press("Tab")
    await expect(admin.locator("#view-name")).to_be_focused()
    await admin.keyboard.press("Escape")
    await expect(admin.locator("details.drop[open]")).to_have_count(0)
    await expect(opener).to_be_focused()


def path_of(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.path}?{parts.query}"
