"""Unfilled macros and words such as `null` count as absent. They are never paid twice."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.factories.clicks import a_click, a_row
from tests.field.advertiser import Advertiser, advertiser_of
from tests.integration.api_client import api_of, store
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.domain.click_id import Mint
from tracker.ops.doctor import report
from tracker.settings import Settings

pytestmark = pytest.mark.anyio

ABSENT = [
    ("{order_id}", "the macro of most trackers"),
    ("{{transaction.id}}", "Shopify and Jinja"),
    ("${ORDER_ID}", "a shell's or Java's"),
    ("[ORDER_ID]", "video and mobile ads"),
    ("%%ORDER%%", "Google Ad Manager"),
    ("#order_id#", "some DSPs"),
    ("__ORDER_ID__", "some Asian DSPs"),
    ("<ORDER_ID>", "documentation that was copied"),
    (" {order_id} ", "trimmed first"),
    ("%7Border_id%7D", "encoded twice, by the template's form and by the sender"),
    ("%24%7Border.id%7D", "so here"),
    ("%5BORDER_ID%5D", "so here"),
    ("null", "JavaScript and JSON"),
    ("undefined", "JavaScript"),
    ("None", "Python"),
    ("nil", "Go and Ruby"),
    ("N/A", "spreadsheets"),
    ("(null)", "C and Objective-C"),
    ("unknown", "data layers"),
    (" \u200b", "nothing that can be seen"),
]
GIVEN = [
    ("{123}", "digits alone are an id that somebody uses"),
    ("[12]", "so here"),
    ("%7B123%7D", "so here"),
    ("50%", "a percent sign encodes nothing here"),
    ("nullable", "no word for nothing"),
    ("a{order_id}", "a macro is the whole value"),
    ("None-1", "so here"),
    ("0", "a number is an id"),
]


async def test_absent_order_id_makes_one_conversion_a_click(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        for order_id, why in ABSENT:
            sent = quote(order_id, safe="")
            clicks = [await advertiser.click() for _ in range(2)]
            for click in clicks:
                assert (await advertiser.calls(f"click_id={click}&order_id={sent}")).result == "stored", why
            for result in ("stored", "unchanged"):  # with a goal that takes several conversions a click
                told = await advertiser.calls(f"click_id={click}&goal_id=31&order_id={sent}")
                assert told.result == result, why
            assert await advertiser.conversions("goal_id, order_id", click) == [(30, None), (31, None)], why


async def test_order_id_belongs_to_one_click(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        for order_id, why in GIVEN:
            sent = quote(order_id, safe="")
            first, second = await advertiser.click(), await advertiser.click()
            assert (await advertiser.calls(f"click_id={first}&order_id={sent}")).result == "stored"
            told = await advertiser.calls(f"click_id={second}&order_id={sent}")
            assert (told.result, told.reason) == ("rejected", "the order id is of another click"), why
            assert await advertiser.conversions("order_id", first) == [(order_id,)]


# Postbacks of one click for a goal that takes several conversions, and their results.
MIXED: list[tuple[list[str], list[str], str]] = [
    (["order_id={o}", "order_id=null"], ["stored", "unchanged"], "one absent one, however it is written"),
    (["order_id={o}", "tid={t}"], ["stored", "unchanged"], "so by another name"),
    (["order_id={o}", "order_id=A"], ["stored", "stored"], "another order"),
    (["order_id=A", "order_id={o}", "order_id=A"], ["stored", "stored", "unchanged"], "so here"),
    (["order_id={o}&tid=A", "tid=A"], ["stored", "unchanged"], "the first that is given counts"),
    (["order_id={o}&transaction_id=A", "order_id=A"], ["stored", "unchanged"], "so here"),
    (["", ""], ["stored", "stored"], "none was sent: each makes one"),
    (["order_id=", "order_id="], ["stored", "unchanged"], "an empty one was sent, and is absent"),
    (["order_id", "tid=&transaction_id="], ["stored", "unchanged"], "so by its bare name, and by others"),
    (["order_id=&tid=A", "tid=A"], ["stored", "unchanged"], "the first that is given counts"),
    (["order_id=", "", "order_id={o}"], ["stored", "stored", "unchanged"], "none was sent: another one"),
    (["", "order_id={o}", "order_id={o}"], ["stored", "stored", "unchanged"], "so many"),
    (
        ["order_id={o}&status=pending", "order_id={o}&status=approved", "order_id={o}&status=rejected"],
        ["stored", "updated", "updated"],
        "it goes on being the same one",
    ),
]


async def test_absent_and_present_order_ids_of_one_click(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        for said, results, why in MIXED:
            click = await advertiser.click()
            own = [one.replace("=A", f"=A-{click}") for one in said]
            told = [(await advertiser.calls(f"click_id={click}&goal_id=31&{one}")).result for one in own]
            assert told == results, why


async def test_macro_stored_as_an_order_id_before_is_still_its_clicks(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        click, other = await advertiser.click(), await advertiser.click()
        await advertiser.calls(f"click_id={click}&goal_id=31&order_id=A")
        await advertiser.connection.execute("UPDATE conversion SET order_id = '{order_id}'")
        assert (await advertiser.calls(f"click_id={click}&goal_id=31&order_id={{order_id}}")).result == (
            "unchanged"
        )
        assert (await advertiser.calls(f"click_id={other}&goal_id=31&order_id={{order_id}}")).result == (
            "stored"
        )


async def by_get(advertiser: Advertiser, click: str, text: str) -> None:
    await advertiser.calls(f"click_id={click}&goal_id=31&order_id={text}")


async def by_form(advertiser: Advertiser, click: str, text: str) -> None:
    await advertiser.calls("", data={"click_id": click, "goal_id": "31", "order_id": text})


async def by_json(advertiser: Advertiser, click: str, text: str) -> None:
    await advertiser.calls("", json={"click_id": click, "goal_id": 31, "order_id": text or None})


async def by_json_text(advertiser: Advertiser, click: str, text: str) -> None:
    await advertiser.calls("", json={"click_id": click, "goal_id": 31, "order_id": text})


async def by_multipart(advertiser: Advertiser, click: str, text: str) -> None:
    parts = {"click_id": (None, click), "goal_id": (None, "31"), "tid": (None, text)}
    await advertiser.calls("", files=parts)


async def by_pixel(advertiser: Advertiser, click: str, text: str) -> None:
    await advertiser.calls(f"/pixel?click_id={click}&goal_id=31&order_id={text}")


async def by_api(advertiser: Advertiser, click: str, text: str) -> None:
    async with api_of(advertiser.settings, scopes=("conversions:write",)) as client:
        body = {"click_id": click, "goal_id": 31, "order_id": text}
        assert (await client.post(CONVERSIONS, json=body)).json()["result"] in ("stored", "unchanged")


DOORS = (by_get, by_form, by_json, by_json_text, by_multipart, by_pixel, by_api)


async def test_absent_order_id_at_every_door(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        for door in DOORS:
            for text in ("{order_id}", "null", ""):
                click = await advertiser.click()
                for _ in range(2):
                    await door(advertiser, click, text)
                found = await advertiser.conversions("order_id, order_absent", click)
                assert found == [(None, True)], (door, text)


async def test_null_over_the_api_is_left_out(database: Settings) -> None:
    async with advertiser_of(database) as advertiser, api_of(database, scopes=("conversions:write",)) as api:
        click = await advertiser.click()
        body = {"click_id": click, "goal_id": 31, "order_id": None}
        assert [(await api.post(CONVERSIONS, json=body)).json()["result"] for _ in range(2)] == ["stored"] * 2


# Other identifying values: sent and stored.
OTHERS: list[tuple[str, str, Any, str]] = [
    ("hash={{hash}}&click_id=CLICK", "status", "approved", "the first click id that is given counts"),
    ("click_id=null&transaction_id=CLICK", "status", "approved", "else transaction_id"),
    ("click_id=CLICK&status={status}", "status", "approved", "what the goal says"),
    ("click_id=CLICK&status=unknown", "status", "approved", "a word for nothing"),
    ("click_id=CLICK&goal_id={goal_id}", "goal_id", 30, "the base goal"),
    ("/api/v3/goal/{goal_id}?click_id=CLICK", "goal_id", 30, "so in the path"),
    ("click_id=CLICK&goal_id=null&goal=Deposit", "goal_id", 32, "the first goal that is given counts"),
    ("click_id=CLICK&sale_amount={sum}&currency={cur}", "sale_amount", None, "not said"),
    ("click_id=CLICK&currency=N/A&sale_amount=5", "sale_currency", "EUR", "the goal's currency"),
    ("click_id=CLICK&revenue=%25%25REVENUE%25%25", "revenue", 3, "the goal's revenue"),
    ("click_id=CLICK&goal_id=34&payout=undefined", "payout", 2, "the goal's payout"),
    ("click_id=CLICK&adv_sub={sub}", "adv_sub", "{sub}", "what is opaque stays as it came"),
    ("click_id=CLICK&sale_status=null", "sale_status", "null", "so does the advertiser's text"),
    ("click_id=CLICK&external_id=[ID]", "advertiser_external_id", "[ID]", "so here"),
]


async def test_absent_value_counts_as_not_sent(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        for query, column, value, why in OTHERS:
            click = await advertiser.click()
            told = await advertiser.calls(query.replace("CLICK", click))
            assert (told.status, told.result) == (200, "stored"), (why, told.reason)
            assert await advertiser.conversions(column, click) == [(value,)], why


async def test_call_without_a_click_is_refused(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        for query in ("click_id={click_id}", "hash=null&click_id=&transaction_id=undefined", "order_id=5"):
            assert (await advertiser.edge.get(f"/postback?{query}")).status_code == 422, query


async def test_macro_in_an_opaque_value_is_named_by_the_doctor(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        for n in range(3):
            sub = "{aff_sub}" if n else " [SUB] "
            hash_ = Mint().hash()
            await store(database, [a_row(a_click(hash=hash_), aff_sub=sub, aff_sub7="{not one")])
            await advertiser.calls(f"click_id={hash_}&adv_sub2={{sub}}&external_id=%5B1%5D")
    told = [
        one.text for topic in ("affiliates", "postbacks") for one in await report.examine(database, topic)
    ]
    assert [text for text in told if "macro" in text] == [
        "affiliate 513 sends a macro that nobody fills: aff_sub={aff_sub}, in 2 of the last 20,000 rows",
        "affiliate 513 sends a macro that nobody fills: aff_sub=[SUB], in 1 of the last 20,000 rows",
        "advertiser 1 sends a macro that nobody fills: adv_sub2={sub}, in 3 of the last 20,000 rows",
    ]
