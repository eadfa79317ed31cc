"""`make screenshots`: pictures of the menu's pages over a made-up history, and the two of the README.

Each page is taken light and dark, on a wide screen and on a phone.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from itertools import chain, product
from pathlib import Path

from playwright.async_api import Page

from tests.e2e.browsing import PHONE, WIDE, base_of, become_first_admin, launched, visiting
from tests.e2e.running import Up, command, up
from tracker.dashboard.html import ROOT
from tracker.dashboard.navigation import MENU

IMAGES = Path(__file__).parents[1] / "docs" / "images"
OF_README = {
    "overview.png": f"{ROOT}/?period=last_7_days",
    "report.png": f"{ROOT}/reports?group_by=affiliate,offer&period=last_7_days&compare=previous",
}
"""The pictures of the README in docs/images, and the addresses of their pages."""
MOST_BYTES = 200_000
"""Of a picture in the README."""

_SCHEMES = ("light", "dark")
_WINDOWS = {"wide": WIDE, "phone": PHONE}


def main(directory: Path) -> None:
    for each in (directory, IMAGES):
        each.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="screenshots-") as place,
        up(Path(place) / "var", "--no-demo") as tracker,
    ):
        command(tracker, "demo", "--clicks", "40000", may_warn=True)
        asyncio.run(_take(tracker, directory))


async def _take(tracker: Up, directory: Path) -> None:
    async with launched() as browser, visiting(browser) as (page, _):
        await become_first_admin(page, tracker)
        for path in chain.from_iterable(MENU.values()):
            answer = await page.goto(base_of(tracker) + path)
            if answer and answer.status == 200:
                for name in await _pictures(page, directory, _name(path)):
                    print(name)
        for name, address in OF_README.items():
            await page.goto(base_of(tracker) + address)
            picture = await page.screenshot(path=IMAGES / name)
            assert len(picture) <= MOST_BYTES, f"{name} has {len(picture):,} bytes: show less of it"


async def _pictures(page: Page, directory: Path, name: str) -> list[Path]:
    """The page as it is open, in all its looks."""
    taken = []
    for scheme, (width, window) in product(_SCHEMES, _WINDOWS.items()):
        taken.append(directory / f"{name}-{scheme}-{width}.png")
        await page.emulate_media(color_scheme=scheme)
        await page.set_viewport_size(window)
        await page.screenshot(path=taken[-1], full_page=True)
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size(WIDE)
    return taken


def _name(path: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", path.removeprefix(ROOT)).strip("-") or "overview"


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "var/screenshots"))
