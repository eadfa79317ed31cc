"""Operations through the API and the pages: findings, unmatched hits, imports, dead letters."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape

import pytest

from tests.integration.pages_client import Browser, Site, site_of
from tracker.settings import Settings
from tracker.stream import keys
from tracker.stream.client import open_client
from tracker.stream.unmatched import Orphan, OrphanStream

pytestmark = pytest.mark.anyio

EVIL = "<img src=x onerror=alert(1)>\"'"
PAGES = ("/operations", "/operations/dead-letters", "/operations/imports")


@pytest.fixture
async def site(database: Settings) -> AsyncIterator[Site]:
    async with site_of(database) as site:
        yield site


@pytest.fixture
async def admin(site: Site) -> Browser:
    await site.add_user()
    browser = site.browser()
    await browser.sign_in("anna@pages.test")
    return browser


def is_text(value: str, page: str) -> bool:
    """Whether a page shows a value, and shows it as text."""
    return value in unescape(page) and value not in page


async def add_dead_letters(settings: Settings, *reasons: str) -> None:
    """Put dead letters with unreadable records onto the stream server."""
    assert settings.redis_url
    async with open_client(settings.redis_url) as client:
        for reason in reasons:
            await client.xadd(keys.dead(0), {"r": b"\x09{}", "id": "1-0", "reason": reason.encode()})


async def test_state_page_shows_findings_the_ledger_and_unmatched_hits(site: Site, admin: Browser) -> None:
    assert site.settings.redis_url
    async with OrphanStream(site.settings.redis_url) as stream:
        await stream.append(
            [Orphan(1_764_000_000_000, "unknown offer", f"/offer/9?a={EVIL}", "", "192.0.2.1", "x")]
        )
    page = await admin.get("/dashboard/operations")
    assert page.status_code == 200
    assert "Every minute balances" in page.text
    assert is_text(EVIL, page.text)
    for topic in ("ledger", "catalogue", "durability", "disk"):
        assert f'<th scope="row">{topic}</th>' in page.text


async def test_dead_letters_are_shown_replayed_and_dropped(site: Site, admin: Browser) -> None:
    await add_dead_letters(site.settings, "first", EVIL, "third")
    page = await admin.get("/dashboard/operations/dead-letters")
    assert is_text(EVIL, page.text)
    ids = re.findall(r'name="ids" value="([^"]+)"', page.text)
    assert len(ids) == 3
    assert "version" in (await admin.get(f"/dashboard/operations/dead-letters/{ids[1]}")).text
    await admin.get("/dashboard/operations/dead-letters")
    asked = await admin.post("/dashboard/operations/dead-letters", do="drop", ids=ids[0])
    assert "Give up 1 click for good?" in asked.text
    await admin.post("/dashboard/operations/dead-letters", do="drop", ids=ids[0], confirmed="yes")
    assert admin.location.endswith("?dropped=1")
    await admin.follow()
    await admin.post("/dashboard/operations/dead-letters", do="replay", ids=ids[1])
    assert admin.location.endswith("?replayed=1")
    await admin.follow()
    assert re.findall(r'name="ids" value="([^"]+)"', admin.text) == ids[2:]
    gone = await admin.post("/dashboard/operations/dead-letters", do="replay", ids=ids[0])
    assert (gone.status_code, "there is no dead letter" in gone.text) == (422, True)
    trail = [
        (row["path"], row["after"]["state"])
        for row in await site.people.audit()
        if row["resource"] == "dead_letter"
    ]
    assert trail == [(f"dead-letters/{ids[0]}", "dropped"), (f"dead-letters/{ids[1]}", "replayed")]
    none = await admin.post("/dashboard/operations/dead-letters", do="replay")
    assert "Choose one or more clicks first" in none.text


async def test_imports_are_listed(site: Site, admin: Browser) -> None:
    assert "Nothing was imported" in (await admin.get("/dashboard/operations/imports")).text
    new = "INSERT INTO import_run (digest, kind, source, file, rows) VALUES ('x', 'clicks', 'keitaro', $1, 5)"
    await site.sql(new, EVIL)
    page = await admin.get("/dashboard/operations/imports")
    assert is_text(EVIL, page.text)
    assert "1 import<" in page.text


async def test_operations_are_for_administrators_of_the_network(site: Site) -> None:
    for role in ("manager", "finance", "analyst"):
        await site.add_user(f"{role}@pages.test", role)
        browser = site.browser()
        await browser.sign_in(f"{role}@pages.test")
        for path in PAGES:
            assert (await browser.get(f"/dashboard{path}")).status_code == 403, (role, path)
        assert "/dashboard/operations" not in (await browser.get("/dashboard/account")).text
