"""The pages in a real Chromium: from the invitation to signing out."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator

import pyotp
import pytest
from playwright.async_api import Browser, Page, expect

from tests.conftest import Furnish
from tests.e2e.browsing import Watch, browser, faults_of, invitation, needs_chromium, sticking_out, visiting
from tests.e2e.running import Up, up
from tests.integration.people import PASSWORD

__all__ = ["browser"]

EMAIL = "anna@pages.test"

pytestmark = [pytest.mark.anyio, needs_chromium]


@pytest.fixture(scope="module")
def tracker(furnish: Furnish, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(furnish(tmp_path_factory.mktemp("pages") / "var"), "--no-demo") as running:
        yield running


@pytest.fixture
async def plain(browser: Browser) -> AsyncIterator[tuple[Page, Watch]]:
    """A window whose scripts are off."""
    async with visiting(browser, java_script_enabled=False) as window:
        yield window


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    async with visiting(browser) as (page, _):
        yield page


async def press(page: Page, words: str) -> None:
    """Press a button, or follow a link, of the page itself."""
    button = page.get_by_role("button", name=words, exact=True)
    await button.or_(page.get_by_role("link", name=words, exact=True)).click()


async def fill(page: Page, **texts: str) -> None:
    for label, text in texts.items():
        await page.get_by_label(label.replace("_", " "), exact=True).fill(text)


async def sees(page: Page, text: str) -> None:
    await expect(page.get_by_text(text).first).to_be_visible()


async def test_invited_user_sets_a_second_factor_and_signs_in_with_it(
    tracker: Up, plain: tuple[Page, Watch]
) -> None:
    page, watch = plain
    base = f"http://127.0.0.1:{tracker.api_port}"
    link = invitation(tracker, EMAIL, "--role", "analyst", "--name", "Anna")
    await page.goto(link)
    await sees(page, "You are invited as analyst")
    assert not await sticking_out(page)
    await fill(page, Password="short", Password_again="short")
    await press(page, "Create the account")
    await sees(page, "Password: needs at least 12 characters")
    await expect(page.get_by_label("Password", exact=True)).to_be_focused()
    assert not await sticking_out(page)
    await fill(page, Password=PASSWORD, Password_again=PASSWORD)
    await press(page, "Create the account")
    await sees(page, "Welcome, Anna")
    assert page.url == f"{base}/dashboard/"
    assert not await sticking_out(page)

    await press(page, "Account")
    await fill(page, Your_password=PASSWORD)
    await press(page, "Set up")
    assert not await sticking_out(page)
    picture = page.get_by_role("img", name=re.compile("^QR"))
    assert await picture.evaluate("picture => picture.naturalWidth") > 100, "the picture is shown"
    secret = (await page.locator("#key").inner_text()).replace(" ", "")
    await fill(page, Code=pyotp.TOTP(secret).now())
    await press(page, "Turn on")
    await sees(page, "I have kept them")
    codes = re.findall(r"\b(?:\w{4}-){3}\w{4}\b", await page.inner_text("body"))
    assert len(set(codes)) == 10
    assert not await sticking_out(page)
    await press(page, "I have kept them")
    await press(page, "Sessions")
    await sees(page, "Chrome on Linux")
    assert not await sticking_out(page)
    await press(page, "Sign out")

    await page.get_by_label("E-mail address").fill(EMAIL)
    await fill(page, Password=PASSWORD)
    await page.keyboard.press("Enter")
    await sees(page, "Second factor")
    await fill(page, Code=codes[0])
    await press(page, "Continue")
    await sees(page, "Welcome, Anna")
    await press(page, "Sign out")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await page.goto(f"{base}/dashboard/")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert [status for status in watch.statuses if status not in (200, 303)] == [422]
    assert link.partition("s=")[2] not in tracker.output, "a secret is in the log"
    assert PASSWORD not in tracker.output


async def test_pages_work_without_encryption_and_warn(tracker: Up, plain: tuple[Page, Watch]) -> None:
    """A name that is not this machine's: browsers send no Sec-Fetch-Site there, and warn of nothing."""
    page, watch = plain
    base = f"http://tracker.test:{tracker.api_port}"
    await page.goto(invitation(tracker, "ben@pages.test", "--role", "analyst", base=base))
    await sees(page, "This connection is not encrypted.")
    await fill(page, Password=PASSWORD, Password_again=PASSWORD)
    await press(page, "Create the account")
    await sees(page, "ben@pages.test")
    await press(page, "Sign out")
    await page.get_by_label("E-mail address").fill("ben@pages.test")
    await fill(page, Password=PASSWORD)
    await press(page, "Sign in")
    await sees(page, "ben@pages.test")
    assert {*watch.statuses} <= {200, 303}


async def test_pages_are_used_by_keyboard_alone(tracker: Up, page: Page) -> None:
    await page.goto(f"http://127.0.0.1:{tracker.api_port}/dashboard/sign-in")
    await expect(page.get_by_label("E-mail address")).to_be_focused()
    await page.keyboard.type("nobody@pages.test")
    await page.keyboard.press("Tab")
    await expect(page.get_by_label("Password")).to_be_focused()
    await expect(page.get_by_label("Password")).to_have_css("outline-style", "solid")
    await page.keyboard.type("wrong")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Sign in")).to_be_focused()
    await page.keyboard.press("Enter")
    await sees(page, "The e-mail address or the password is wrong.")
    await expect(page.get_by_label("Password")).to_be_focused()


async def test_colours_follow_the_wish_and_can_be_read(tracker: Up, page: Page) -> None:
    colours = set()
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        await page.goto(f"http://127.0.0.1:{tracker.api_port}/dashboard/sign-in")
        assert await faults_of(page) == []
        colours.add(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2
