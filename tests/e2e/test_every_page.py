"""Every page that is declared, in a real Chromium, over a history and hostile values.

A page is used by people who cannot see it, on a phone, in the dark, and with the values that strangers send.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import pytest
from playwright.async_api import Browser, Page, expect

from tests.conftest import Furnish
from tests.e2e import hostile
from tests.e2e.browsing import (
    base_of,
    become_first_admin,
    browser,
    faults_of,
    invitation,
    join,
    needs_chromium,
    sticking_out,
    visiting,
)
from tests.e2e.running import Up, command, up
from tests.e2e.walk import Stop, declared, walk
from tracker.domain.access import rights_of

__all__ = ["browser"]
pytestmark = [pytest.mark.anyio, needs_chromium, pytest.mark.long, pytest.mark.timeout(900)]
# A test is a hundred pages.

MOST_BYTES = 150_000
"""Of the HTML, CSS and JavaScript of one page, unpacked."""

NOT_REACHED: dict[str, dict[str, str]] = {
    "admin": {
        "/dashboard/audit/{id}/back": "the newest change was none of an object",
        "/dashboard/test/{id}": "nobody has made a test: the first hour does",
    },
    "affiliate": {},
    "advertiser": {},
}
"""Pages that no page leads to here, by the role of the session, and why."""


class Person(NamedTuple):
    """Somebody who is signed in."""

    role: str
    page: Page


@pytest.fixture(scope="module")
def tracker(furnish: Furnish, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A tracker with a history, and then with what strangers sent."""
    place = tmp_path_factory.mktemp("every-page")
    with up(furnish(place / "var"), "--no-demo", TRACKER_API_RATE="100000/second") as running:
        command(running, "demo", "--days", "3", "--clicks", "1000", may_warn=True)
        hostile.fill(running, place)
        yield running


@pytest.fixture(scope="module")
async def admin(tracker: Up, browser: Browser) -> AsyncIterator[Person]:
    async with visiting(browser) as (page, _):
        await become_first_admin(page, tracker)
        await page.goto(f"{base_of(tracker)}/dashboard/test")
        await page.locator("#offer_id").fill("7003")
        await page.locator("#affiliate_id").fill("7002")
        await page.get_by_role("button", name="Make the link").click()
        yield Person("admin", page)


@pytest.fixture(scope="module", params=["affiliate", "advertiser"])
async def partner(request: pytest.FixtureRequest, tracker: Up, browser: Browser) -> AsyncIterator[Person]:
    id_ = {"affiliate": hostile.AFFILIATE, "advertiser": hostile.ADVERTISER}[request.param]
    words = (f"{request.param}@pages.test", "--role", request.param, f"--{request.param}", str(id_))
    async with visiting(browser) as (page, _):
        await join(page, invitation(tracker, *words))
        yield Person(request.param, page)


async def faults_at(page: Page, stop: Stop, seen_in_the_dark: set[str]) -> list[str]:
    """What is wrong with a page.

    `seen_in_the_dark`: the looks of elements that were judged there, and now those of this page.
    """
    found = [f"axe: {fault}" for fault in await faults_of(page)]
    if not (looks := {*await page.evaluate(_LOOKS)}) <= seen_in_the_dark:
        seen_in_the_dark |= looks
        await page.emulate_media(color_scheme="dark")
        found += [f"axe in the dark: {fault}" for fault in await faults_of(page, rules=["color-contrast"])]
        await page.emulate_media(color_scheme="light")
    if wide := await sticking_out(page):
        found.append(f"a phone scrolls it sideways: {wide}")
    if (size := await page.evaluate(_SIZE)) > MOST_BYTES:
        found.append(f"it has {size:,} bytes")
    if await page.locator("[data-hostile]").count():
        found.append("a hostile text became an element")
    if await page.locator("a[href^='javascript:' i], form[action^='javascript:' i]").count():
        found.append("a hostile text became an address")
    return [f"{stop.address}: {fault}" for fault in found]


# Colours come from elements and classes.
_LOOKS = """
[...document.querySelectorAll("body *")].map(each => `${each.localName} ${each.getAttribute("class")}`)
"""
_SIZE = """
[...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .filter(entry => entry.entryType === "navigation" || /\\.(css|js)(\\?|$)/.test(entry.name))
    .reduce((sum, entry) => sum + entry.decodedBodySize, 0)
"""


async def judge(tracker: Up, person: Person) -> None:
    found: list[str] = []
    reached: set[str] = set()
    seen_in_the_dark: set[str] = set()
    async for stop in walk(person.page, base_of(tracker)):
        reached.add(stop.path)
        found += await faults_at(person.page, stop, seen_in_the_dark)
    assert found == [], "\n".join(found)
    rights = rights_of(person.role, None if person.role == "admin" else person.role)  # type: ignore[arg-type]
    assert reached | NOT_REACHED[person.role].keys() == declared(rights)


async def test_pages_of_the_network_are_for_everybody(tracker: Up, admin: Person) -> None:
    await judge(tracker, admin)


async def test_pages_of_partners_are_for_everybody(tracker: Up, partner: Person) -> None:
    await judge(tracker, partner)


@pytest.mark.parametrize(
    "path",
    [
        *("offers", "affiliates", "advertisers", "clicks", "conversions", "postbacks", "audit"),
        "reports?group_by=affiliate_source",
    ],
)
async def test_hostile_texts_are_read_as_they_were_sent(tracker: Up, admin: Person, path: str) -> None:
    await admin.page.goto(f"{base_of(tracker)}/dashboard/{path}")
    await expect(admin.page.locator("main")).to_contain_text(hostile.MARK)


async def test_forms_are_filled_by_keyboard_alone(tracker: Up, admin: Person) -> None:
    page = admin.page
    await page.goto(f"{base_of(tracker)}/dashboard/affiliates/new")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    name = page.get_by_label("Name", exact=True)
    for _ in range(5):  # past the menu, few things stand before the form
        await page.keyboard.press("Tab")
        if await name.evaluate("field => field === document.activeElement"):
            break
    await expect(name).to_be_focused()
    await expect(name).to_have_css("outline-style", "solid")
    await page.keyboard.type("Typed by hand")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Typed by hand")).to_be_visible()
