"""The pages in a real Chromium whose scripts are off: from the invitation to signing out."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pyotp
import pytest

from tests.conftest import Furnish
from tests.e2e.chromium import Tab, tab_of
from tests.e2e.running import Up, command, up

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
EMAIL, PASSWORD = "anna@pages.test", "a calm and long pass phrase"

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the browser tests are skipped"),
]


@pytest.fixture(scope="module")
def tracker(furnish: Furnish, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(furnish(tmp_path_factory.mktemp("pages") / "var"), "--no-demo") as running:
        yield running


@pytest.fixture
async def tab(tmp_path: Path) -> AsyncIterator[Tab]:
    assert CHROMIUM
    async with tab_of(CHROMIUM, tmp_path) as tab:
        yield tab


def code_of(secret: str) -> str:
    return pyotp.TOTP(secret).now()


async def fits(tab: Tab) -> bool:
    """Whether a phone of 360 pixels shows the page without scrolling sideways."""
    await tab.size(360, 740)
    width = await tab.ask("document.documentElement.scrollWidth")
    await tab.size(1000, 800)
    return int(width) <= 360


async def test_invited_user_sets_a_second_factor_and_signs_in_with_it(tracker: Up, tab: Tab) -> None:
    base = f"http://127.0.0.1:{tracker.api_port}"
    link = command(tracker, "users", "invite", EMAIL, "--role", "analyst", "--name", "Anna", may_warn=True)
    await tab.open(base + link[link.index("/dashboard/") :].strip())  # the command does not know the port
    assert "You are invited as analyst" in await tab.text()
    assert await fits(tab)
    await tab.fill("Password", "short")
    await tab.fill("Password again", "short")
    await tab.press("Create the account")
    assert "Password: needs at least 12 characters" in await tab.text()
    assert await tab.ask("document.activeElement.id") == "password"
    assert await fits(tab)
    await tab.fill("Password", PASSWORD)
    await tab.fill("Password again", PASSWORD)
    await tab.press("Create the account")
    assert "Welcome, Anna" in await tab.text()
    assert await tab.ask("document.documentURI") == f"{base}/dashboard/"
    assert await fits(tab)

    await tab.press("Account")
    await tab.press("Set up")
    assert await fits(tab)
    assert await tab.ask("document.querySelector('img[alt^=QR]').naturalWidth") > 100, "the picture is shown"
    secret = (await tab.ask("document.querySelector('#key').innerText")).replace(" ", "")
    await tab.fill("Code", code_of(secret))
    await tab.press("Turn on")
    codes = re.findall(r"\b(?:\w{4}-){3}\w{4}\b", await tab.text())
    assert len(set(codes)) == 10
    assert await fits(tab)
    await tab.press("I have kept them")
    await tab.press("Sessions")
    assert "Chrome on Linux" in await tab.text()
    assert await fits(tab)
    await tab.press("Sign out")

    await tab.fill("E-mail address", EMAIL)
    await tab.fill("Password", PASSWORD)
    await tab.key("Enter", leads_on=True)
    assert "Second factor" in await tab.text()
    await tab.fill("Code", codes[0])
    await tab.press("Continue")
    assert "Welcome, Anna" in await tab.text()
    await tab.press("Sign out")
    assert "Sign in" in await tab.text()
    await tab.open(f"{base}/dashboard/")
    assert "Sign in" in await tab.text()
    assert [status for status in tab.statuses if status != 200] == [422]
    assert "s=" in link
    assert link.partition("s=")[2].strip() not in tracker.output, "a secret is in the log"
    assert PASSWORD not in tracker.output
    expected = ("Failed to load resource: the server responded with a status of 422", "Autofocus ")
    assert [said for said in tab.complaints if not said.startswith(expected)] == [], "the policy let all pass"


async def test_pages_are_used_by_keyboard_alone(tracker: Up, tab: Tab) -> None:
    await tab.open(f"http://127.0.0.1:{tracker.api_port}/dashboard/sign-in")
    assert await tab.ask("document.activeElement.id") == "email"
    await tab.send("Input.insertText", text="nobody@pages.test")
    await tab.key("Tab")
    assert await tab.ask("document.activeElement.id") == "password"
    assert await tab.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    await tab.send("Input.insertText", text="wrong")
    await tab.key("Tab")
    assert await tab.ask("document.activeElement.innerText") == "Sign in"
    await tab.key("Enter", leads_on=True)
    assert "The e-mail address or the password is wrong." in await tab.text()
    assert await tab.ask("document.activeElement.id") == "password"


async def test_colours_follow_the_wish_and_can_be_read(tracker: Up, tab: Tab) -> None:
    colours = set()
    for dark in (False, True):
        await tab.size(1000, 800, dark=dark)
        await tab.open(f"http://127.0.0.1:{tracker.api_port}/dashboard/sign-in")
        for element in ("h1", ".quiet", "button", "label"):
            assert await contrast(tab, element) >= 4.5, (element, dark)  # WCAG 2.2, 1.4.3
        colours.add(await tab.ask("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2


async def contrast(tab: Tab, element: str) -> float:
    """The contrast of an element's text and the first ground below it (WCAG 2.2, contrast ratio)."""
    text, ground = await tab.ask(
        f"(() => {{ let one = document.querySelector('{element}'); const text = getComputedStyle(one).color;"
        " let ground; do { ground = getComputedStyle(one).backgroundColor; one = one.parentElement }"
        " while (one && ground == 'rgba(0, 0, 0, 0)'); return [text, ground] })()"
    )
    low, high = sorted(luminance(colour) for colour in (text, ground))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
