"""Pages of one conversion, of postbacks in and out, and of the test of an offer."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from tests.factories.clicks import HASH, a_click, a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import run_sql, store
from tests.integration.pages_client import Site, inputs_of, site_of
from tests.integration.test_conversion_pages import HOSTILE, LIST, signed_in
from tests.integration.test_manual_conversions import clicks
from tests.integration.test_postback_repeats import sent
from tracker.domain.click_id import Mint
from tracker.settings import Settings
from workers import conversion_writer

__all__ = ["clicks", "sent"]

pytestmark = pytest.mark.anyio

IN, OUT, URLS = "/dashboard/postbacks", "/dashboard/postbacks/out", "/dashboard/postbacks/urls"
_POSTBACK = """
INSERT INTO postback (hash, source, ip, parameters, result, reason, click, request, click_hash, held_at)
VALUES ($1, 'postback', '192.0.2.9', $2, $3, $4, $5, $6, $7, 0)
"""


@pytest.fixture
async def site(clicks: Settings) -> AsyncIterator[Site]:
    async with site_of(clicks) as site:
        yield site


async def log(site: Site) -> None:
    """A rejected, a held and a refused postback, each with a hostile value."""
    parameters = (
        f'{{"click_id": "{HASH}", "order_id": "O-1", "goal": "GOAL", "sale_status": "<script>x</script>"}}'
    )
    await run_sql(site.settings, "UPDATE advertiser SET postback_check = 'none'")
    rows = [
        (
            f"0190000000007000800000000000010{n}",
            parameters.replace("GOAL", "nope" if n else ""),
            result,
            reason,
            HASH,
            request,
            HASH,
        )
        for n, (result, reason, request) in enumerate(
            [
                ("rejected", "after the goal's window", ""),
                ("held", "unknown goal", ""),
                ("refused", "403: token is not an advertiser's, or has expired", "GET /postback"),
            ]
        )
    ]
    for row in rows:
        await run_sql(site.settings, _POSTBACK, *row)


async def test_conversion_is_shown_and_changed(site: Site) -> None:
    (id_,) = await store_conversions(
        site.settings, [a_conversion(a_row(), status="pending", order_id=HOSTILE, goal_id=30)]
    )
    browser = await signed_in(site)
    await browser.get(f"{LIST}/{id_}")
    assert (browser.page.status_code, HOSTILE in browser.text) == (200, False)
    assert "1 h 0 m" in browser.text
    await browser.post(f"{LIST}/{id_}", sale_amount="ten")
    assert 'id="sale_amount-fault"' in browser.text
    await browser.post(f"{LIST}/{id_}", status="approved")
    assert browser.location == f"{LIST}/{id_}?told=changed"
    await browser.follow()
    assert "approval" in browser.text, "the booking is there"
    assert "anna@pages.test" in browser.text
    await browser.post(f"{LIST}/{id_}", status="hold")
    assert (browser.page.status_code, "cannot be hold any more" in browser.text) == (409, True)
    await browser.post(f"{LIST}/{id_}", sale_amount="ten")
    assert ('id="sale_amount"' in browser.text, "Sale amount: " in browser.text) == (False, True)
    await browser.get(f"{LIST}/999")
    assert browser.page.status_code == 404


async def test_postbacks_are_listed_and_replayed_after_a_look(site: Site) -> None:
    await log(site)
    browser = await signed_in(site)
    for query, number in (
        ("", 0),
        ("?period=all", 3),
        ("?result=held", 1),
        (f"?click_id={HASH}&source=postback", 3),
        ("?form=x", 0),
    ):
        await browser.get(f"{IN}{query}")
        assert browser.text.count('<th scope="row" class="time">') == number, query
        assert "<script>x" not in browser.text
    await browser.get(f"{IN}?period=all")
    assert f"/dashboard/conversions/new?click_id={HASH}&amp;order_id=O-1" in browser.text, "a refused one"
    await browser.get(f"{IN}?result=rejected")
    await browser.post(IN, filters="result=rejected")
    assert "Apply 1 postback once more?" in browser.text
    assert "1 stored" in browser.text
    assert not await site.sql("SELECT FROM conversion"), "nothing was done yet"
    await browser.post(IN, filters="result=rejected", confirmed="yes")
    await browser.follow()
    assert "1 were applied once more" in browser.text
    assert len(await site.sql("SELECT FROM conversion")) == 1
    await browser.post(IN, filters="", one="01900000000070008000000000000101")
    assert "1 held" in browser.text
    await browser.post(IN, filters="result=stored")
    assert browser.page.status_code == 422
    await browser.get(f"{IN}?advertiser_id=one")
    assert (browser.page.status_code, 'id="advertiser_id-fault"' in browser.text) == (422, True)


async def test_failed_postbacks_are_sent_again_and_urls_are_paused(site: Site, sent: list[int]) -> None:
    browser = await signed_in(site)
    await browser.get(f"{OUT}?affiliate_id=513")
    assert browser.text.count('<th scope="row" class="time">') == 5
    await browser.post(OUT, filters="affiliate_id=513")
    assert "Send 2 postbacks once more?" in browser.text
    assert "2: a later status has been sent since" in browser.text
    await browser.post(OUT, filters="affiliate_id=513", confirmed="yes")
    assert browser.location == f"{OUT}?affiliate_id=513&done=2"
    await browser.get(OUT)
    await browser.post(OUT, filters="", one="3")
    assert browser.location == f"{OUT}?done=1"
    states = {row["id"]: row["state"] for row in await site.sql("SELECT id, state FROM sent_postback")}
    assert [id_ for id_, state in sorted(states.items()) if state == "waiting"] == [1, 3, 5, 6]
    await browser.get(URLS)
    assert browser.text.count('<th scope="row"') == 3
    fields = {name: browser.hidden(name) for name in ("affiliate_id", "id", "version")}
    await browser.post(URLS, status="paused", **fields)
    await browser.follow()
    assert ">Resume<" in browser.text
    await browser.post(URLS, status="active", **fields)
    assert browser.page.status_code == 412, "somebody has changed it"


async def test_reader_of_postbacks_changes_none(site: Site, sent: list[int]) -> None:
    await log(site)
    browser = await signed_in(site, "analyst", hides_money=True)
    for path in (IN, OUT, URLS):
        await browser.get(path)
        assert browser.page.status_code == 200
        assert not re.search(r">(Replay|Send again|Pause)", browser.text), path
    assert "https://p.example/?c=" in browser.text
    await browser.get(OUT)
    assert "https://p.example/" not in browser.text, "a filled address may carry an amount"
    await browser.post(IN, filters="result=rejected")
    assert browser.page.status_code == 403


async def test_assistant_follows_a_test_to_its_end(site: Site) -> None:
    browser = await signed_in(site)
    await browser.get("/dashboard/test?offer_id=3&affiliate_id=513")
    assert [one["value"] for one in inputs_of(browser.text) if one.get("name") == "offer_id"] == ["3"]
    await browser.post("/dashboard/test", offer_id="three", affiliate_id="513")
    assert (browser.page.status_code, 'id="offer_id-fault"' in browser.text) == (422, True)
    goal = {"goal_id": "30", "aff_sub": HOSTILE}
    await browser.post("/dashboard/test", offer_id="Test Offer", affiliate_id="513", **goal)
    here = browser.location
    await browser.follow()
    assert re.search(r"goal \w[^<(]*\(30\)\.", browser.text)
    assert HOSTILE not in browser.text
    assert 'src="/dashboard/static/test_run.js' in browser.text
    assert (await browser.get(f"{here}/states")).json() == {"states": ["waiting"] * 5, "postbacks": 0}
    await browser.get(here)
    link = next(one["value"] for one in inputs_of(browser.text) if one.get("id") == "link")
    assert (">Fire it<" in browser.text, "Open the link first" in browser.text) == (False, True)
    await browser.post(here, order_id="1")
    assert (browser.page.status_code, "open its link first" in browser.text) == (409, True)

    hash_ = Mint().hash()
    seen = {"redirected_link": f"https://shop.example/?c={hash_}", "requested_link": link, "is_test": True}
    await store(site.settings, [a_row(a_click(hash=hash_, is_test=True), **seen)])
    await browser.post(here, order_id="1", secret="no-such-secret-0123456789")
    assert "An edge would answer 403" in browser.text
    assert "no-such-secret" not in browser.text
    await browser.post(here, order_id="1", status="approved")
    assert "The postback was taken" in browser.text
    await conversion_writer.run(site.settings, burst=True)
    assert (await browser.get(f"{here}/states")).json() == {"states": ["done"] * 5, "postbacks": 1}
    await browser.get(here)
    assert "all done" in browser.text
    assert "test_run.js" not in browser.text
    await browser.get("/dashboard/test")
    assert f'href="{here}"' in browser.text
    await browser.get("/dashboard/test/999")
    assert browser.page.status_code == 404
