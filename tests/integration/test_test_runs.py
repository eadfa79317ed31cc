"""Tests of an offer with an affiliate, step by step: from the link to what the affiliate would be told."""

from __future__ import annotations

from typing import Any

import pytest
from httpx import AsyncClient

from tests.factories.clicks import a_click, a_row
from tests.integration.api_client import api_of, run_sql, store
from tests.integration.test_api_conversions import listed
from tracker.api.conversions.affiliate_postbacks import PATH as SENT
from tracker.api.conversions.postbacks import PATH as POSTBACKS
from tracker.api.test_runs import PATH
from tracker.domain.click_id import Mint
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from workers import conversion_writer, postback_sender

pytestmark = pytest.mark.anyio

STEPS = ("link_opened", "click_id_handed_on", "postback_received", "conversion_made", "affiliate_told")
mint = Mint()


@pytest.fixture
async def demo(database: Settings) -> Settings:
    """The demo's catalogue. Offer 3 has a price, and affiliate 513 wants to be told."""
    assert database.postgres_dsn is not None
    await load_demo(database.postgres_dsn)
    await run_sql(
        database,
        "UPDATE goal SET (id, payout, revenue, currency, code) = (30, 2, 3, 'EUR', 'sale')"
        " WHERE offer_id = 3",
    )
    await run_sql(database, "UPDATE goal_price SET valid_from = '2024-01-01'")
    await run_sql(
        database,
        "INSERT INTO affiliate_postback (id, affiliate_id, url)"
        " VALUES (7, 513, 'https://p.example/?c={aff_sub}&sum={payout}')",
    )
    return database


async def opened(settings: Settings, link: str, hash_: str, **changes: Any) -> None:
    """A click of a link is stored, as a worker stores it."""
    seen = {"redirected_link": f"https://shop.example/?click_id={hash_}", "requested_link": link, **changes}
    click = a_click(hash=hash_, is_test=True)
    await store(settings, [a_row(click, is_test=True, **seen)])


async def state(client: AsyncClient, id_: int) -> tuple[dict[str, Any], dict[str, str]]:
    answer = await client.get(f"{PATH}/{id_}")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert tuple(step["name"] for step in body["steps"]) == STEPS
    return body, {step["name"]: step["state"] for step in body["steps"]}


async def created(client: AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post(PATH, json={"offer_id": 3, "affiliate_id": 513, **fields})
    assert answer.status_code == 201, answer.text
    run: dict[str, Any] = answer.json()
    return run


async def fired(client: AsyncClient, id_: int, code: int = 200, **fields: Any) -> dict[str, Any]:
    answer = await client.post(f"{PATH}/{id_}/postback", json=fields)
    assert answer.status_code == code, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_steps_of_a_test_turn_green_one_by_one(demo: Settings) -> None:
    async with api_of(demo, scopes=("admin",)) as client:
        run = await created(client, aff_sub="my click")
        assert run["link"].startswith("http://127.0.0.1:8000/offer/3?affiliate_id=513&test=")
        assert run["link"].endswith("&aff_sub=my+click")
        assert run["advertiser_url"] == (
            "http://127.0.0.1:8000/postback?click_id={click_id}&order_id={order_id}&token={secret}"
        )
        body, states = await state(client, run["id"])
        assert (set(states.values()), body["is_done"], body["click_hash"]) == ({"waiting"}, False, None)
        assert body["steps"][0]["advice"].startswith("Open the link in a browser.")
        assert list((await fired(client, run["id"], 409))["errors"]) == ["id"]

        hash_ = mint.hash()
        await opened(demo, run["link"], hash_, aff_sub="my click")
        body, states = await state(client, run["id"])
        assert (list(states.values()), body["click_hash"]) == (["done"] * 2 + ["waiting"] * 3, hash_)

        sent = await fired(client, run["id"], order_id="T-1", status="approved")
        assert sent["http_status"] == 200
        assert sent["url"] == (
            f"http://127.0.0.1:8000/postback?click_id={hash_}&status=approved&order_id=T-1"
        )
        await conversion_writer.run(demo, burst=True)
        body, states = await state(client, run["id"])
        assert (set(states.values()), body["is_done"]) == ({"done"}, True), body
        (postback,) = body["postbacks"]
        assert (postback["hash"], postback["result"], postback["source"]) == (
            sent["hash"],
            "stored",
            "postback",
        )
        assert body["affiliate_postbacks"] == [
            {
                "affiliate_postback_id": 7,
                "status": "approved",
                "url": "https://p.example/?c=my%20click&sum=2.00",
                "state": "waiting",
                "error": "",
            }
        ]
        await postback_sender.run(demo, burst=True)
        assert (await listed(client, SENT))["total"] == 0, "a test tells no affiliate"
        (conversion,) = body["conversion_ids"]
        whole = (await listed(client, f"/backend/open-api/v1/users/conversions/{conversion}"))["data"][0]
        assert (whole["is_test"], whole["entries"]) == (True, []), "a test is in no book"
        assert [one["id"] for one in (await listed(client, PATH))["data"]] == [run["id"]]


async def test_what_went_wrong_is_said_with_advice(demo: Settings) -> None:
    refused = {"status": "rejected", "reason": 20, "redirected_link": ""}
    table: list[tuple[dict[str, Any], str, str, str]] = [
        (refused, "link_opened", "refused with reason 20", "The affiliate is blocked"),
        ({"redirected_link": "https://shop.example/"}, "click_id_handed_on", "no click id", "{click_id}"),
    ]
    async with api_of(demo, scopes=("admin",)) as client:
        for changes, name, text, advice in table:
            run = await created(client)
            await opened(demo, run["link"], mint.hash(), **changes)
            body, states = await state(client, run["id"])
            step = body["steps"][STEPS.index(name)]
            assert (states[name], text in step["text"], advice in step["advice"]) == ("failed", True, True)
            await opened(demo, run["link"], later := mint.hash())
            body, states = await state(client, run["id"])
            assert (body["click_hash"], states[name]) == (later, "done"), "the next click counts"

        sent = await fired(client, run["id"], goal="depositt")
        assert sent["hash"]
        await conversion_writer.run(demo, burst=True)
        body, states = await state(client, run["id"])
        assert (states["postback_received"], states["conversion_made"]) == ("failed", "waiting")
        assert body["steps"][2]["text"] == "held: unknown goal"
        assert body["steps"][2]["advice"].startswith("Add a goal with this code or name")

        wrong = await fired(client, run["id"], token="no-such-secret-at-all-0123456789")
        assert (wrong["http_status"], wrong["hash"]) == (403, None)
        assert wrong["reason"] == "token is not an advertiser's, or has expired"
        assert "no-such-secret" not in str(wrong)
        await run_sql(demo, "UPDATE affiliate_postback SET url = 'https://p.example/{nonsense}'")
        await fired(client, run["id"], goal="sale")
        await conversion_writer.run(demo, burst=True)
        body, states = await state(client, run["id"])
        assert (states["conversion_made"], states["affiliate_told"]) == ("done", "failed")
        assert (await listed(client, POSTBACKS, click_id=later))["total"] == 2
        await run_sql(
            demo,
            "UPDATE test_run SET click_hash = NULL, expires_at = now() - interval '2 days',"
            " created_at = now() - interval '3 days' WHERE id = $1",
            run["id"],
        )
        body, states = await state(client, run["id"])
        assert (states["link_opened"], body["steps"][0]["advice"]) == ("failed", "Make another test.")


async def test_tests_have_links_of_their_own_and_name_wrong_fields(demo: Settings) -> None:
    async with api_of(demo, scopes=("conversions:write", "conversions:read")) as client:
        links = {(await created(client))["link"] for _ in range(3)}
        assert len(links) == 3, "the signature tells them apart"
        named = await created(client, goal_id=30)
        assert "goal_id=30" in named["advertiser_url"]
        table: list[tuple[dict[str, Any], str]] = [
            ({"offer_id": 999}, "offer_id"),
            ({"affiliate_id": 999}, "affiliate_id"),
            ({"offer_url_id": 999}, "offer_url_id"),
            ({"goal_id": 999}, "goal_id"),
            ({"offer_id": "x"}, "offer_id"),
            ({"nonsense": 1}, "nonsense"),
        ]
        for fields, field in table:
            answer = await client.post(PATH, json={"offer_id": 3, "affiliate_id": 513, **fields})
            assert (answer.status_code, list(answer.json()["errors"])) == (422, [field]), fields
        for path in ("999", "x", "0"):
            assert (await client.get(f"{PATH}/{path}")).status_code == 404
            await fired(client, path, 404)  # type: ignore[arg-type]
    async with api_of(demo, scopes=("conversions:read",)) as client:
        assert (await client.post(PATH, json={"offer_id": 3, "affiliate_id": 513})).status_code == 403
