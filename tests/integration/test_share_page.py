"""Shared reports: a link opens one stored query, and nothing else, for as long as its maker may share it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.factories.clicks import a_row
from tests.integration.api_client import hash_at, run_sql, store
from tests.integration.pages_client import Browser, Site, site_of
from tests.integration.test_report_page import lines_of, signed_in
from tracker.dashboard import app
from tracker.dashboard.asking import MOST_AT_ONCE
from tracker.dashboard.reports import share
from tracker.domain.rates import Rate
from tracker.reading.reports.query import ReportQuery
from tracker.settings import Settings

pytestmark = pytest.mark.anyio

PAGE = "/dashboard/reports/share"
QUERY = "group_by=offer&created_from=2026-11-01&created_to=2026-11-30&measures=clicks"
_NOVEMBER = 1_795_000_000_000  # Unix milliseconds
_SETUP = """
INSERT INTO advertiser (id, name) VALUES (1, 'Shop');
INSERT INTO affiliate (id, name) VALUES (513, 'Mine'), (514, 'foreign');
INSERT INTO offer (id, name, advertiser_id) VALUES (3, 'Puzzle', 1), (4, 'Chess', 1);
"""


@pytest.fixture
async def site(database: Settings) -> AsyncIterator[Site]:
    await run_sql(database, _SETUP)
    rows = [
        a_row(hash=hash_at(_NOVEMBER + n), affiliate_id=affiliate, offer_id=3 + n % 2, advertiser_id=1)
        for n, affiliate in enumerate([513, 513, 513, 514, 514])
    ]
    await store(database, rows)
    async with site_of(replace(database, api_rate=Rate(100_000, "minute"))) as site:
        yield site


async def link_of(browser: Browser, query: str = QUERY, **fields: str) -> tuple[str, str]:
    """The path and the secret of a new share."""
    await browser.get(f"{PAGE}?{query}")
    body = {"query": query, "name": "November", "days": "7", "affiliate_ids": "513", **fields}
    await browser.post(PAGE, **body)
    assert browser.page.status_code == 200, browser.text
    link = unescape(re.search(r'id="link" value="([^"]+)"', browser.text)[1])  # type: ignore[index]
    path, _, secret = link.partition("#")
    return path[path.index("/dashboard") :], secret


async def opened(site: Site, path: str, secret: str, **options: str) -> Browser:
    """A browser of somebody with the link."""
    guest = site.browser(**options)
    await guest.get(path)
    await guest.post(path, secret=secret)
    if guest.page.status_code == 303:
        await guest.follow()
    return guest


async def test_link_opens_its_report_without_a_session(site: Site) -> None:
    path, secret = await link_of(await signed_in(site))
    guest = site.browser()
    await guest.get(path)
    assert lines_of(guest.text) == []
    assert "November" not in guest.text
    await guest.post(path, secret=secret)
    assert (guest.page.status_code, guest.location) == (303, path)
    cookie = guest.page.headers["set-cookie"]
    assert cookie.startswith(f"__Secure-tracker-share={secret};")
    for part in ("HttpOnly", "Secure", "SameSite=strict", f"Path={path}", "Max-Age=3600"):
        assert part in cookie
    await guest.follow()
    assert lines_of(guest.text) == [
        (["Puzzle 3"], [("2", "")]),
        (["Chess 4"], [("1", "")]),
        (["Total"], [("3", "")]),
    ]
    assert "network-wide" not in guest.text
    headers = guest.page.headers
    assert headers["x-robots-tag"] == "noindex, nofollow"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert secret not in guest.text


async def test_address_widens_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each parameter of the API, and of the page, changes nothing."""
    monkeypatch.setattr(share, "OPENINGS", Rate(1_000, "minute"))
    path, secret = await link_of(await signed_in(site))
    guest = await opened(site, path, secret)
    seen = re.sub(r"<time.*?</time>", "", guest.text)
    values = {"group_by": "affiliate", "measures": "gross,payout", "affiliate_id": "514", "format": "csv"}
    names = [*ReportQuery.model_fields, "rows", "open", "chart", "without", "form", "add", "secret", "id"]
    for name in names:
        await guest.get(f"{path}?{urlencode({name: values.get(name, '514')})}")
        assert re.sub(r"<time.*?</time>", "", guest.text) == seen, name
    await guest.get(f"{path}?{urlencode(dict.fromkeys(names, 'x'))}")
    assert re.sub(r"<time.*?</time>", "", guest.text) == seen


async def test_cookie_opens_no_other_page(site: Site) -> None:
    admin = await signed_in(site)
    path, secret = await link_of(admin)
    other, _ = await link_of(admin, name="Other")
    guest = site.browser()
    guest.client.headers["Cookie"] = f"__Secure-tracker-share={secret}; __Host-tracker-session={secret}"
    for page in app.PAGES:
        if page.who != "signed in" or not page.show or "{" in page.path:
            continue
        await guest.get(page.path)
        assert guest.page.status_code == 303, page.path
        assert guest.location.startswith("/dashboard/sign-in"), page.path
    for wrong in (other, path.replace("share/", "share/0"), f"{path}0", "/dashboard/share/x"):
        await guest.get(wrong)
        assert lines_of(guest.text) == []
    guest.client.headers["Authorization"] = f"Bearer {secret}"
    for api in ("reports?group_by=offer", "clicks", "shares", "views"):
        answer = await guest.get(f"/backend/open-api/v1/users/{api}")
        assert answer.status_code == 401, api
    await guest.get(path)
    assert lines_of(guest.text) != []


@pytest.mark.parametrize("wrong", ["", "x", "x" * 200, "ü\N{SNOWMAN}"])
async def test_wrong_secret_opens_nothing(site: Site, wrong: str) -> None:
    path, _ = await link_of(await signed_in(site))
    guest = await opened(site, path, wrong)
    assert guest.page.status_code == 422
    assert "opens nothing" in guest.text
    assert "set-cookie" not in guest.page.headers


_ENDINGS = {
    "revoked": "UPDATE report_share SET ended_at = now()",
    "expired": "UPDATE report_share SET expires_at = now()",
    "maker is disabled": "UPDATE user_account SET is_disabled = true",
    "maker has another role": "UPDATE user_account SET role = 'analyst'",
    "maker has other owners": "UPDATE user_account SET role = 'manager', affiliate_ids = '{514}'",
    "maker is deleted": "DELETE FROM user_account",
    "owner is blocked": "UPDATE affiliate SET status = 'blocked' WHERE id = 513",
}


@pytest.mark.parametrize("statement", _ENDINGS.values(), ids=_ENDINGS)
async def test_open_share_ends_at_once(site: Site, statement: str) -> None:
    path, secret = await link_of(await signed_in(site))
    guest = await opened(site, path, secret)
    assert lines_of(guest.text) != []
    await site.sql(statement)
    await guest.get(path)
    assert lines_of(guest.text) == []
    await guest.post(path, secret=secret)
    assert guest.page.status_code == 422


async def test_maker_revokes_a_share_on_the_page(site: Site) -> None:
    admin = await signed_in(site)
    path, secret = await link_of(admin)
    guest = await opened(site, path, secret)
    await admin.get(f"{PAGE}?{QUERY}")
    (id_,) = re.findall(r'name="revoke" value="(\d+)"', admin.text)
    await admin.post(PAGE, query=QUERY, revoke=id_)
    await admin.follow()
    assert 'name="revoke"' not in admin.text
    await guest.get(path)
    assert lines_of(guest.text) == []


async def test_share_of_the_network_needs_an_admin_and_says_so(site: Site) -> None:
    path, secret = await link_of(await signed_in(site), affiliate_ids="")
    guest = await opened(site, path, secret)
    assert "network-wide" in guest.text
    assert lines_of(guest.text)[-1] == (["Total"], [("5", "")])
    analyst = await signed_in(site, "analyst")
    await analyst.get(f"{PAGE}?{QUERY}")
    await analyst.post(PAGE, query=QUERY, name="All", days="7")
    assert analyst.page.status_code == 403
    assert 'id="link"' not in analyst.text


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"days": "31"}, "days"),
        ({"days": "x"}, "days"),
        ({"affiliate_ids": "513 x"}, "affiliate_ids"),
        ({"affiliate_ids": "999"}, "affiliate_ids"),
        ({"advertiser_ids": "1"}, "advertiser_ids"),
        ({"name": ""}, "name"),
    ],
)
async def test_wrong_field_is_named(site: Site, fields: dict[str, str], field: str) -> None:
    admin = await signed_in(site)
    await admin.get(f"{PAGE}?{QUERY}")
    await admin.post(PAGE, **{"query": QUERY, "name": "N", "days": "7", "affiliate_ids": "513", **fields})
    assert admin.page.status_code == 422
    assert f'id="{field}-fault"' in admin.text


async def test_share_shows_its_owners_what_they_may_see(site: Site) -> None:
    """The columns and the order that an affiliate does not see are left out."""
    query = "group_by=offer&created_from=2026-11-01&measures=clicks,payout,revenue,profit&sort=-revenue_EUR"
    path, secret = await link_of(await signed_in(site), query)
    guest = await opened(site, path, secret)
    assert "Payout" in guest.text
    for hidden in ("Revenue", "Profit", "foreign"):
        assert hidden not in guest.text
    path, secret = await link_of(await signed_in(site, "finance"), query, hides_money="true")
    guest = await opened(site, path, secret)
    assert lines_of(guest.text)[-1] == (["Total"], [("3", "")])


async def test_partner_shares_own_rows_only(site: Site) -> None:
    partner = await signed_in(site, "affiliate", affiliate_ids=[513])
    path, secret = await link_of(partner, affiliate_ids="")
    guest = await opened(site, path, secret)
    assert lines_of(guest.text)[-1] == (["Total"], [("3", "")])


async def test_uses_are_noted_once_an_hour_and_client(site: Site) -> None:
    path, secret = await link_of(await signed_in(site))
    guest = await opened(site, path, secret)
    await guest.get(path)
    await opened(site, path, secret, address="198.51.100.9")
    found = await site.sql(
        "SELECT token_name, address FROM audit "
        "WHERE resource = 'report_share' AND action = 'update' ORDER BY id"
    )
    number = path.rpartition("/")[2]
    assert [tuple(row) for row in found] == [
        (f"share {number}", "203.0.113.5"),
        (f"share {number}", "198.51.100.9"),
    ]


async def test_openings_and_attempts_have_a_rate(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "OPENINGS", Rate(2, "minute"))
    monkeypatch.setattr(share, "ATTEMPTS", Rate(3, "minute"))
    path, secret = await link_of(await signed_in(site))
    guest = await opened(site, path, secret)
    statuses = [(await guest.get(path)).status_code for _ in range(2)]
    assert statuses == [200, 429]
    assert int(guest.page.headers["retry-after"]) > 0
    answers = await asyncio.gather(*(site.browser().post(path, secret="x") for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [422, 422, 429, 429, 429]
    elsewhere = await site.browser(address="198.51.100.9").post(path, secret=secret)
    assert elsewhere.status_code == 303


async def test_share_leaves_connections_for_others(site: Site) -> None:
    anna = await signed_in(site)
    path, secret = await link_of(anna)
    guests = [await opened(site, path, secret) for _ in range(2 * MOST_AT_ONCE)]
    async with site.people.pool.acquire() as connection, asyncio.TaskGroup() as asking:
        locking = connection.transaction()
        await locking.start()
        await connection.execute("LOCK TABLE click, offer IN ACCESS EXCLUSIVE MODE")
        waiting = [asking.create_task(guest.get(path)) for guest in guests]
        for _ in range(3):
            assert (await anna.get("/dashboard/account")).status_code == 200
        assert not any(task.done() for task in waiting)
        await locking.rollback()
    assert [task.result().status_code for task in waiting] == [200] * len(waiting)


@pytest.mark.parametrize("space", ["%0A", "%20", "%09", "%C2%A0"])
async def test_cookie_has_the_path_of_the_share(site: Site, space: str) -> None:
    path, secret = await link_of(await signed_in(site))
    guest = site.browser()
    await guest.post(path.replace("/share/", f"/share/{space}"), secret=secret)
    assert guest.location == path
    assert f"Path={path};" in guest.page.headers["set-cookie"]


async def test_form_of_another_site_opens_nothing(site: Site) -> None:
    path, secret = await link_of(await signed_in(site))
    guest = site.browser()
    headers: dict[str, Any] = {"Origin": "https://evil.test"}
    await guest.post(path, headers, secret=secret)
    assert guest.page.status_code == 403
