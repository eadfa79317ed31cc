"""Pages of conversions: they show what the API answers, and change only what was shown before."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import quote, urlencode

import pytest

from tests.factories.clicks import HASH, a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import run_sql
from tests.integration.pages_client import Browser, Site, site_of
from tests.integration.test_manual_conversions import clicks
from tracker.settings import Settings

__all__ = ["clicks"]

pytestmark = pytest.mark.anyio

LIST = "/dashboard/conversions"
SALE = {"sale_amount", "currency", "sale_status"}
HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture
async def site(clicks: Settings) -> AsyncIterator[Site]:
    """Four conversions, one with a hostile order id and one a test."""
    rows = [
        a_conversion(a_row(), status="pending", order_id="A-1", goal_id=30, millis=1_800_000_000_000),
        a_conversion(a_row(), status="pending", order_id=HOSTILE, goal_id=30),
        a_conversion(a_row(), status="rejected", goal_id=30, sale_status="returned", affiliate_id=514),
        a_conversion(a_row(), status="approved", goal_id=30, is_test=True),
    ]
    await store_conversions(clicks, rows)
    async with site_of(clicks) as site:
        yield site


async def signed_in(site: Site, role: str = "admin", **fields: object) -> Browser:
    await site.add_user("anna@pages.test", role, **fields)
    browser = site.browser()
    await browser.sign_in("anna@pages.test")
    return browser


def ids_of(browser: Browser) -> list[int]:
    return [
        int(id_) for id_ in re.findall(r'<th scope="row"><a href="/dashboard/conversions/(\d+)', browser.text)
    ]


async def test_list_shows_what_its_address_asks(site: Site) -> None:
    browser = await signed_in(site)
    table = [
        ("?period=all", [1, 2, 3, 4]),
        ("", []),
        ("?status=pending", [1, 2]),
        ("?status=&affiliate_id=514", [3]),
        ("?without=sale_status", [1, 2, 4]),
        ("?sort=created_at&is_test=false&exclude_affiliate_id=514", [1, 2]),
        ("?sort=-seconds_from_click&period=all", [1, 2, 3, 4]),
        ("?per_page=2&period=all", None),
    ]
    for query, expected in table:
        await browser.get(f"{LIST}{query}")
        assert browser.page.status_code == 200, (query, browser.text)
        found = ids_of(browser)
        assert len(found) == 2 if expected is None else sorted(found) == expected, query
        assert HOSTILE not in browser.text
    first = ids_of(browser)
    await browser.get(way(browser, "next"))
    assert len({*first, *ids_of(browser)}) == 4
    await browser.get(way(browser, "prev"))
    assert ids_of(browser) == first
    await browser.get(f"{LIST}?columns=id&columns=order_id&status=pending")
    assert re.findall(r'<th scope="col"(?: class="number")?>([^<]+)</th>', browser.text) == ["Id", "Order id"]
    for sort, next_sort in (("", "-{}"), ("-{}", "{}"), ("{}", "-{}")):
        name = "seconds_from_click"
        await browser.get(f"{LIST}?period=all&sort={sort.format(name)}")
        assert f'?period=all&amp;sort={next_sort.format(name)}">From click' in browser.text, sort
        is_ascending = re.search(r'aria-sort="ascending"><a [^>]*>From click ↑', browser.text) is not None
        assert is_ascending == (sort == "{}")
    await browser.get(f"{LIST}?times=1&period=all")
    assert "Conversions by the time from their click" in browser.text
    assert "seconds_from_click_from=3600" in browser.text
    await browser.get(f"{LIST}?offer_id=three")
    assert browser.page.status_code == 422
    assert 'id="offer_id-fault"' in browser.text
    await browser.get(f"{LIST}/export?status=pending&format=csv")
    assert browser.page.text.count("\n") == 3
    await browser.get(f"{LIST}?status=hold")
    assert "No conversion matches" in browser.text


def way(browser: Browser, rel: str) -> str:
    """The address of the next page, or of the page before."""
    found = re.search(rf'<a href="([^"]+)" rel="{rel}">', browser.text)
    assert found
    return found[1].replace("&amp;", "&")


async def test_status_is_set_after_its_outcome_was_shown(site: Site) -> None:
    browser = await signed_in(site)
    await browser.get(f"{LIST}?goal_id=30")
    await browser.post(f"{LIST}/status", status="approved")
    assert (browser.page.status_code, "Choose one or more" in browser.text) == (422, True)
    await browser.get(f"{LIST}?goal_id=30")
    await browser.post(f"{LIST}/status", status="approved", choose="all", filters="goal_id=30")
    assert "Set 3 now" in browser.text
    assert (await site.sql("SELECT status FROM conversion WHERE id = 1"))[0]["status"] == "pending"
    sent = {name: browser.hidden(name) for name in ("confirmed", "expected", "status", "choose", "filters")}
    await browser.post(f"{LIST}/status", **sent)
    assert browser.location == f"{LIST}?goal_id=30&done=3"
    await browser.follow()
    assert "3 changed." in browser.text
    assert {row["status"] for row in await site.sql("SELECT status FROM conversion")} == {"approved"}
    (change, *_) = await site.sql("SELECT author, source FROM conversion_change ORDER BY id")
    assert tuple(change) == ("anna@pages.test", "api")
    await browser.post(f"{LIST}/status", **(sent | {"expected": "9"}))
    assert "look again" in browser.text
    await browser.get(f"{LIST}?goal_id=30")
    await browser.post(f"{LIST}/status", status="pending", choose="ids", ids="1")
    assert "it stays approved" in browser.text
    assert "now</button>" not in browser.text


@pytest.mark.parametrize(
    "number", ["\N{SUPERSCRIPT TWO}", "\N{ARABIC-INDIC DIGIT THREE}", "9" * 5_000, "9" * 19]
)
async def test_number_that_is_none_is_named(site: Site, number: str) -> None:
    browser = await signed_in(site)
    await browser.get(f"{LIST}/new")
    await browser.post(f"{LIST}/new", click_id=HASH, goal_id=number)
    assert (browser.page.status_code, 'id="goal_id-fault"' in browser.text) == (422, True)
    chosen = {"status": "approved", "confirmed": "yes"}
    await browser.post(f"{LIST}/status", ids=number, **chosen)
    assert browser.page.status_code == 422
    await browser.post(f"{LIST}/status", choose="all", filters="goal_id=30", expected=number, **chosen)
    assert (browser.page.status_code, "Expected: " in browser.text) == (422, True)
    assert not await site.sql("SELECT FROM conversion_change WHERE author <> ''")
    await browser.get("/dashboard/test")
    await browser.post("/dashboard/test", offer_id=number, affiliate_id="513")
    assert browser.page.status_code == 422
    opened = urlencode({"group_by": "offer,affiliate", "open": f"offer={quote(number)}"})
    await browser.get(f"/dashboard/reports?{opened}")
    assert browser.page.status_code == 200


async def test_filters_of_a_change_lead_back_whatever_they_are(site: Site) -> None:
    browser = await signed_in(site)
    await browser.get(LIST)
    filters = "order_id=\N{SNOWMAN}\r\nSet-Cookie: a=b"
    await browser.post(f"{LIST}/status", status="approved", confirmed="yes", ids="1", filters=filters)
    assert browser.location == f"{LIST}?order_id=%E2%98%83%0D%0ASet-Cookie:%20a=b&done=1"


async def test_conversion_offers_what_its_status_allows(site: Site) -> None:
    browser = await signed_in(site)
    table = [
        (1, "pending", {"sale_amount", "currency", "sale_status"}, {"approved", "rejected", "hold"}),
        (3, "rejected", {"sale_status"}, {"approved"}),
        (4, "approved", {"sale_status"}, {"rejected"}),
    ]
    for id_, status, fields, statuses in table:
        await browser.get(f"{LIST}/{id_}")
        assert f">{status}</span></h1>" in browser.text.replace(' <span class="mark">test</span>', "")
        assert set(re.findall(r'<input id="([a-z_]+)"', browser.text)) & SALE == fields, status
        assert set(re.findall(r'name="status" value="(\w+)"', browser.text)) == statuses
        is_decided = "Correct the amounts</a></div>\n</form>" in browser.text
        assert is_decided == (status != "pending")
    await browser.post(f"{LIST}/4", sale_status="shipped")
    assert browser.location == f"{LIST}/4?told=changed"
    await browser.follow()
    await browser.post(f"{LIST}/4", sale_amount="5", currency="EUR")
    assert browser.page.status_code == 409


async def test_conversion_by_hand_is_made_once(site: Site) -> None:
    browser = await signed_in(site)
    await browser.get(f"{LIST}/new?click_id={HASH}")
    assert f'value="{HASH}"' in browser.text
    fields = {"click_id": HASH, "order_id": "N-1", "status": "approved", "key": browser.hidden("key")}
    await run_sql(site.settings, "UPDATE goal SET multiple = true")
    for _ in range(2):
        await browser.post(f"{LIST}/new", token=browser.token or browser.hidden("token"), **fields)
        assert browser.location == f"{LIST}/5?told=stored", browser.text
        await browser.get(f"{LIST}/new")
    await browser.post(f"{LIST}/new", click_id="", payout="ten", key="k")
    assert browser.page.status_code == 422
    assert 'id="click_id-fault"' in browser.text
    await browser.get(f"{LIST}/new")
    await browser.post(f"{LIST}/new", click_id="nonsense")
    assert browser.location.startswith("/dashboard/postbacks?hash=")


async def test_file_of_statuses_is_applied_after_its_outcome_was_shown(site: Site) -> None:
    browser = await signed_in(site)
    lines = "order_id,status\r\nA-1,approved\r\ngone,approved\r\n"
    for file in (lines.encode(), lines.encode("utf-16"), b""):
        await browser.get(f"{LIST}/upload")
        data = {"token": browser.token, "text": "" if file else lines}
        browser.page = await browser.client.post(
            f"{LIST}/upload",
            data=data,
            files={"file": ("october.csv", file, "text/csv")},
            headers={"Origin": browser.base},
        )
        assert browser.page.status_code == 200, browser.text
        assert "Set 1 now" in browser.text
        assert "matches no conversion" in browser.text
    assert (await site.sql("SELECT status FROM conversion WHERE order_id = 'A-1'"))[0]["status"] == "pending"
    await browser.post(f"{LIST}/upload", confirmed="yes", text=lines)
    assert "1 changed." in browser.text
    assert (await site.sql("SELECT status FROM conversion WHERE order_id = 'A-1'"))[0]["status"] == "approved"
    await browser.get(f"{LIST}/upload")
    for text, code in (("", 422), ("nonsense", 422), ("x" * (1 << 20), 413)):
        await browser.get(f"{LIST}/upload")
        await browser.post(f"{LIST}/upload", text=text)
        assert browser.page.status_code == code, text[:20]
    token = {"token": browser.token or "x"}
    plain = await browser.client.post(
        f"{LIST}/new", data=token, files={"file": b"x"}, headers={"Origin": browser.base}
    )
    assert plain.status_code == 415, "only pages that take files do"


async def test_partner_sees_its_own_and_changes_nothing(site: Site) -> None:
    browser = await signed_in(site, "affiliate", affiliate_ids=[514])
    await browser.get(f"{LIST}?period=all")
    assert ids_of(browser) == [3]
    assert "Advertiser" not in browser.text
    assert 'name="ids"' not in browser.text
    await browser.get(f"{LIST}/3")
    assert (browser.page.status_code, "Approve" in browser.text) == (200, False)
    assert not re.search(r"Revenue|Advertiser|Order id|Postbacks", browser.text), "of others"
    await browser.get(f"{LIST}/1")
    assert browser.page.status_code == 404
    for path in ("/new", "/upload", "/status"):
        await browser.get(f"{LIST}{path}")
        assert browser.page.status_code == 403, path
    await browser.get(f"{LIST}?order_id=A-1")
    assert browser.page.status_code == 422, "a hidden column is no filter"
