"""Postbacks in a form without a proof: at most conversions on hold, which a proof or the operator decides."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.field.advertiser import SECRET, Advertiser, Outcome, advertiser_of
from tests.integration.api_client import api_of
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.conversions.status_upload import UPLOADS
from tracker.ops.doctor import report
from tracker.settings import Settings
from tracker.store.conversions.affiliate_postbacks import POSTBACKS
from workers import conversion_writer

pytestmark = pytest.mark.anyio

FORM = """
INSERT INTO postback_form (name, path, parameters, "values") VALUES
    ('moved', '/aff_lsr', '{"tid": "order_id", "amount": "sale_amount"}', '{"status": {"0": "rejected"}}');
UPDATE goal SET takes_payout = true WHERE id = 30;
"""
NO_PROOF = "neither a secret nor an address of the advertiser"
CHANGES_NOTHING = "without a proof it changes nothing"
SHOWN = "status, is_unproven, order_id"


async def tells(advertiser: Advertiser, target: str) -> Outcome:
    """Call as a stranger."""
    answer = await advertiser.edge.get(target)
    await conversion_writer.run(advertiser.settings, burst=True)
    (row,) = await advertiser.fetch(
        "SELECT result, reason, conversion_id FROM postback ORDER BY hash DESC LIMIT 1"
    )
    return Outcome(answer.status_code, *row)


async def prepared(advertiser: Advertiser, accepts: bool = True) -> None:
    await advertiser.connection.execute(FORM)
    await advertiser.connection.execute("UPDATE advertiser SET accepts_unproven = $1", accepts)
    while (await advertiser.edge.head("/aff_lsr?hash=x")).status_code != 200:
        await asyncio.sleep(0.01)


async def test_postback_without_proof_is_rejected_unless_the_advertiser_accepts_it(
    database: Settings,
) -> None:
    async with advertiser_of(database) as advertiser:
        await prepared(advertiser, accepts=False)
        click = await advertiser.click()
        assert (await tells(advertiser, f"/aff_lsr?hash={click}"))[1:3] == ("rejected", NO_PROOF)
        await advertiser.connection.execute("UPDATE advertiser SET accepts_unproven = true")
        assert (await tells(advertiser, f"/postback?hash={click}"))[1:3] == ("rejected", NO_PROOF)
        assert await advertiser.conversions(SHOWN, click) == []


ALONE: list[tuple[str, str, str, list[tuple[Any, ...]]]] = [
    ("", "stored", "unproven", [("hold", True, None)]),
    ("&status=approved&tid=1", "stored", "unproven", [("hold", True, "1")]),
    ("&status=pending&payout=99&revenue=99", "stored", "unproven", [("hold", True, None)]),
    ("&status=0", "rejected", NO_PROOF, []),
    ("&goal=nonsense", "rejected", NO_PROOF, []),
    ("&refund_amount=5", "rejected", NO_PROOF, []),
    (
        *("&goal_id=33&amount=100&currency=EUR", "stored"),
        *("unproven; a percentage of a sale_amount that nobody has proven", [("hold", True, None)]),
    ),
]


async def test_postback_without_proof_makes_a_conversion_on_hold_at_most(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        await prepared(advertiser)
        cap = "INSERT INTO cap (offer_id, counts, period, amount) VALUES (3, 'conversions', 'day', 1)"
        await advertiser.connection.execute(cap)
        for query, result, reason, made in ALONE:
            click = await advertiser.click()
            assert (await tells(advertiser, f"/aff_lsr?hash={click}{query}"))[1:3] == (result, reason), query
            assert await advertiser.conversions(SHOWN, click) == made, query
        assert await advertiser.fetch("SELECT DISTINCT payout::text FROM conversion WHERE goal_id = 30") == [
            ("2.000000",)  # the goal's, and not a stranger's
        ]
        closed = await advertiser.fetch("SELECT closed_until FROM offer WHERE id = 3")
        assert closed == [(None,)]  # strangers close no offer
        proven = await advertiser.calls(f"click_id={await advertiser.click()}")
        assert (proven.result, proven.reason) == ("stored", "")
        assert await advertiser.fetch("SELECT closed_until FROM offer WHERE id = 3") != closed


async def test_postback_without_proof_changes_nothing_that_is_there(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        await prepared(advertiser)
        for first in ("&status=pending", "&status=approved", "&status=hold", "&status=rejected"):
            click = await advertiser.click()
            await advertiser.calls(f"click_id={click}&order_id={click}{first}")
            before = await advertiser.conversions("conversion::text", click)
            for query in ("&status=approved", "&status=0", f"&tid={click}&status=approved&amount=5"):
                told = await tells(advertiser, f"/aff_lsr?hash={click}{query}")
                assert told.result in ("unchanged", "rejected"), (first, query)
            other = await tells(advertiser, f"/aff_lsr?hash={await advertiser.click()}&tid={click}")
            assert (other.result, other.reason) == ("rejected", "the order id is of another click")
            assert await advertiser.conversions("conversion::text", click) == before, first
        click = await advertiser.click()
        for reason in ("unproven", CHANGES_NOTHING):
            assert (await tells(advertiser, f"/aff_lsr?hash={click}&status=approved")).reason == reason
        assert await advertiser.conversions(SHOWN, click) == [("hold", True, None)]


async def test_proof_takes_an_order_over_and_decides_it(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        await prepared(advertiser)
        for query, made in (
            ("&order_id=A", ("approved", False, "A")),
            ("&order_id=B", ("approved", False, "B")),  # as if it had been the first
            ("&order_id=A&status=pending", ("pending", False, "A")),
            ("&status=rejected", ("rejected", False, None)),
        ):
            click = await advertiser.click()
            claimed = await tells(advertiser, f"/aff_lsr?hash={click}&tid=A{click}")
            said = query.replace("=A", f"=A{click}").replace("=B", f"=B{click}")
            told = await advertiser.calls(f"click_id={click}{said}")
            assert (told.result, told.conversion_id) == ("updated", claimed.conversion_id), (query, told)
            status, is_unproven, order = made
            order_id = order and f"{order}{click}"
            assert await advertiser.conversions(SHOWN, click) == [(status, is_unproven, order_id)]
        mine, theirs = await advertiser.click(), await advertiser.click()
        await tells(advertiser, f"/aff_lsr?hash={theirs}&tid=squatted")
        assert (await advertiser.calls(f"/aff_lsr?hash={mine}&tid=squatted")).result == "stored"
        assert await advertiser.conversions(SHOWN, mine) == [("approved", False, "squatted")]
        assert await advertiser.conversions(SHOWN, theirs) == [("hold", True, None)]


async def test_nothing_that_a_stranger_said_outlives_the_proof(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        await prepared(advertiser)
        mine, theirs = await advertiser.click(), await advertiser.click()
        said = "&sale_status=x&adv_sub=x&external_id=x"
        await tells(advertiser, f"/aff_lsr?hash={theirs}&tid=next{said}")
        assert (await advertiser.calls(f"click_id={theirs}")).result == "updated"
        columns = "status, order_id, sale_status, adv_sub, advertiser_external_id"
        assert await advertiser.conversions(columns, theirs) == [("approved", None, "", "", "")]
        assert (await advertiser.calls(f"click_id={mine}&order_id=next")).result == "stored"


async def test_stranger_opens_no_window_of_a_goal(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        await prepared(advertiser)
        for change, why in (
            ("click_window = 1", "after the goal's window"),
            ("(click_window, status) = (NULL, 'paused')", "the goal is paused"),
        ):
            click, other = await advertiser.click(), await advertiser.click()
            for each in (click, other):
                assert (await tells(advertiser, f"/aff_lsr?hash={each}&tid={each}")).reason == "unproven"
            await advertiser.connection.execute(f"UPDATE goal SET {change} WHERE id = 30")
            await asyncio.sleep(1.1)
            late = await advertiser.calls(f"click_id={click}&order_id={click}")
            assert (late.result, late.reason) == ("rejected", why)
            assert await advertiser.conversions(SHOWN, click) == [("hold", True, click)]
            await advertiser.calls(f"click_id={other}&order_id={other}&status=rejected")
            assert await advertiser.conversions(SHOWN, other) == [("rejected", False, other)]


async def test_affiliate_hears_of_a_conversion_once_it_is_proven(database: Settings) -> None:
    url = """
    INSERT INTO affiliate_postback (affiliate_id, url, statuses)
    VALUES (513, 'https://p.test/?s={status}', '{hold,approved}')
    """
    async with advertiser_of(database) as advertiser:
        await prepared(advertiser)
        await advertiser.connection.execute(url)
        click = await advertiser.click()
        for tell, told in (
            (tells(advertiser, f"/aff_lsr?hash={click}"), []),
            (advertiser.calls(f"click_id={click}"), [("https://p.test/?s=approved",)]),
        ):
            await tell
            await POSTBACKS.announce(advertiser.connection, 100)
            assert await advertiser.fetch("SELECT url FROM sent_postback") == told


async def test_operator_finds_and_decides_what_nobody_has_proven(database: Settings) -> None:
    scopes = ("conversions:read", "conversions:write")
    async with advertiser_of(database) as advertiser, api_of(database, scopes=scopes) as client:
        await prepared(advertiser)
        ids = [
            (await tells(advertiser, f"/aff_lsr?hash={await advertiser.click()}")).conversion_id
            for _ in range(4)
        ]
        proven = await advertiser.calls(f"click_id={await advertiser.click()}")
        for is_unproven, found in (("true", ids), ("false", [proven.conversion_id])):
            rows = (await client.get(CONVERSIONS, params={"is_unproven": is_unproven})).json()["data"]
            assert {row["id"] for row in rows} == {*found}
            assert {str(row["is_unproven"]).lower() for row in rows} == {is_unproven}
        findings = [one.text for one in await report.examine(database, "postbacks")]
        assert any("without a proof: 4" in text for text in findings), findings
        noted = await client.patch(f"{CONVERSIONS}/{ids[0]}", json={"sale_status": "asked"})
        assert noted.json()["data"][0]["is_unproven"] is True
        for id_, status in zip(ids, ("approved", "rejected", "pending"), strict=False):
            done = await client.patch(f"{CONVERSIONS}/{id_}", json={"status": status})
            (row,) = done.json()["data"]
            assert (row["status"], row["is_unproven"]) == (status, False), done.text
        ((hash_,),) = await advertiser.fetch("SELECT hash::text FROM conversion WHERE id = $1", ids[3])
        file = f"hash,status\n{hash_},approved\n"
        assert (
            await client.post(UPLOADS, content=file, headers={"content-type": "text/csv"})
        ).status_code == 200
        assert await advertiser.fetch("SELECT status, is_unproven FROM conversion WHERE id = $1", ids[3]) == [
            ("approved", False)
        ]
        entries = "SELECT count(*) FROM conversion_entry WHERE kind = 'approval'"
        assert await advertiser.fetch(entries) == [(3,)]
        assert SECRET not in str(await advertiser.fetch("SELECT postback::text FROM postback"))
