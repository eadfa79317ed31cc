"""Pages in a real Chromium, driven by Playwright, and what the browser says about them."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    async_playwright,
    expect,
)

from tests.e2e.running import PATIENCE, Up, command
from tests.integration.people import PASSWORD
from tracker.people.one_time_links import PARAMETER, PATH

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine: the browser tests are skipped"
)

ADMIN = "admin@pages.test"
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
"""Windows in CSS pixels."""

# Names of tests are this machine, and no other machine has a name.
_FLAGS = [
    "--disable-quic",
    "--host-resolver-rules=MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
_OF_STATUS = re.compile(r"Failed to load resource: the server responded with a status of (\d+)")
_KNOWN = (
    "Autofocus processing was blocked",  # the address has a fragment, which the browser focuses
    "The Cross-Origin-Opener-Policy header has been ignored",  # without encryption it has no effect
)
_AXE = Axe()
_MILLIS = PATIENCE * 1000

expect.set_options(timeout=_MILLIS)


class Watch:
    """What happens in a context that nobody sees."""

    def __init__(self, context: BrowserContext) -> None:
        self.statuses: list[int] = []
        """The statuses of the documents that were shown."""
        self.complaints: list[str] = []
        """Errors of scripts, broken policies, requests that failed or left this machine, and dialogs."""
        context.on("response", self._note_response)
        context.on("request", self._note_request)
        context.on("requestfailed", self._note_failure)
        context.on("console", self._note_message)
        context.on("weberror", lambda error: self.complaints.append(f"script: {error.error}"))
        context.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))

    def _note_response(self, response: Response) -> None:
        if response.request.is_navigation_request():
            self.statuses.append(response.status)
        if response.status >= (500 if response.request.is_navigation_request() else 400):
            self.complaints.append(f"{response.status}: {response.url}")

    def _note_request(self, request: Request) -> None:
        address = urlsplit(request.url)
        host = address.hostname or ""
        if (
            address.scheme in ("http", "https", "ws", "wss")
            and host != "127.0.0.1"
            and not host.endswith(".test")
        ):
            self.complaints.append(f"asks another machine: {request.url}")

    def _note_failure(self, request: Request) -> None:
        # A page that is left stops what it was loading.
        if request.failure and "ERR_ABORTED" not in request.failure:
            self.complaints.append(f"{request.failure}: {request.url}")

    def _note_message(self, message: ConsoleMessage) -> None:
        # The statuses of documents are noted above: tests say which they expect.
        is_known = _OF_STATUS.match(message.text) or message.text.startswith(_KNOWN)
        if message.type in ("error", "warning") and not is_known:
            self.complaints.append(f"console: {message.text}")


@pytest.fixture(scope="module")
async def browser(anyio_backend: str) -> AsyncIterator[Browser]:
    """One Chromium for the tests of a module."""
    async with launched() as browser:
        yield browser


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    assert CHROMIUM
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield browser
        await browser.close()


@asynccontextmanager
async def visiting(browser: Browser, **options: Any) -> AsyncIterator[tuple[Page, Watch]]:
    """A window of somebody who has no cookies. The browser must have nothing to say about its pages.

    `options`: of Playwright's new_context.
    """
    context = await browser.new_context(**{"viewport": WIDE} | options)
    context.set_default_timeout(_MILLIS)
    watch = Watch(context)
    yield await context.new_page(), watch
    await context.close()
    assert not watch.complaints, watch.complaints


async def join(page: Page, address: str, **texts: str) -> None:
    """Make an account by an invitation or the first admin's link, and be signed in.

    `texts`: of further fields by their labels, such as the e-mail address.
    """
    await page.goto(address)
    for label, text in {**texts, "Password": PASSWORD, "Password again": PASSWORD}.items():
        await page.get_by_label(label, exact=True).fill(text)
    await page.get_by_role("button", name="Create the account").click()
    await expect(page.get_by_role("button", name="Sign out")).to_be_attached()


async def become_first_admin(page: Page, tracker: Up) -> None:
    """Sign up by the link that the tracker printed."""
    await join(
        page, f"{base_of(tracker)}{PATH}?{PARAMETER}={tracker.admin_link}", **{"E-mail address": ADMIN}
    )


def base_of(tracker: Up) -> str:
    return f"http://127.0.0.1:{tracker.api_port}"


def invitation(tracker: Up, *words: str, base: str = "") -> str:
    """The address that a new user gets. The command does not know the port."""
    link = command(tracker, "users", "invite", *words, may_warn=True)
    return (base or base_of(tracker)) + link[link.index(PATH) :].strip()


def person(browser: Browser) -> str:
    """The User-Agent of this Chromium with a window: reduced as Chrome's is, without the word Headless."""
    system = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
    return f"{system} Chrome/{browser.version.partition('.')[0]}.0.0.0 Safari/537.36"


async def sticking_out(page: Page) -> list[str]:
    """What makes a phone scroll the page sideways. [] if it fits.

    The page is looked at once: when it has loaded and has its fonts. With scripts it has also drawn two
    frames of the size of a phone, because the first one folds the menu.
    """
    window = page.viewport_size
    assert window
    await page.wait_for_load_state()
    await page.set_viewport_size(PHONE)
    await page.evaluate(_SETTLED)
    found: list[str] = await page.evaluate(_STICKING_OUT)
    await page.set_viewport_size(window)
    return found


_SETTLED = """async () => {
    await document.fonts.ready;
    if (matchMedia("(scripting: none)").matches) return;
    for (let frame = 0; frame < 2; frame++) await new Promise(drawn => requestAnimationFrame(drawn));
}"""
_STICKING_OUT = """() => {
    const root = document.documentElement, end = one => Math.ceil(one.getBoundingClientRect().right);
    if (root.scrollWidth <= root.clientWidth) return [];
    const wide = [...document.querySelectorAll("body *")].filter(one => end(one) > root.clientWidth);
    const named = wide.slice(0, 10).map(one => `${one.outerHTML.slice(0, 100)} ends at ${end(one)} px`);
    return [`${root.scrollWidth} px`, ...named];
}"""


async def faults_of(page: Page, rules: Sequence[str] = ()) -> list[str]:
    """What axe finds wrong with the page for people who hear it or cannot tell its colours apart.

    `rules`: only these of axe's rules.
    """
    only = {"runOnly": rules} if rules else {}
    found = await _AXE.run(page, options={"resultTypes": ["violations"], **only})
    return [
        f"{rule['id']}: {rule['help']}: {node['html'][:200]} {node.get('failureSummary', '')}"
        for rule in found.response["violations"]
        for node in rule["nodes"][:3]
    ]
