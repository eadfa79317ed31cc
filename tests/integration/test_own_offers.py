"""What affiliates see of offers: what they pay, links with sub ids, and tests of their postbacks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from httpx import AsyncClient

from tests.factories.clicks import a_row
from tests.integration.api_client import api_of, run_sql, store
from tests.integration.fake_affiliate import FakeAffiliate, status
from tests.integration.test_partner_requests import _MORE, APPLICATIONS, OWN, ROOT, URL, USERS, named, token
from tests.integration.test_postback_sender import converts, send
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

pytestmark = pytest.mark.anyio

OFFERS, SENT = f"{ROOT}/affiliates/offers", f"{ROOT}/affiliates/sent-postbacks"
_PRICES = """
UPDATE goal SET payout = 2.5, revenue = 4, currency = 'EUR', is_priced = true WHERE offer_id = 3;
UPDATE goal SET payout = 10, payout_type = 'percent', is_priced = true, currency = 'USD' WHERE offer_id = 65;
INSERT INTO goal_terms (goal_id, affiliate_id, country_code, payout) SELECT id, 513, NULL, 3 FROM goal
    WHERE offer_id = 3;
INSERT INTO goal_terms (goal_id, affiliate_id, country_code, payout) SELECT id, 513, 'DE', 3.5 FROM goal
    WHERE offer_id = 3;
INSERT INTO goal_terms (goal_id, affiliate_id, country_code, payout) SELECT id, 614, 'FR', 9 FROM goal
    WHERE offer_id = 3;
INSERT INTO goal_terms (goal_id, country_code, payout) SELECT id, 'US', 7 FROM goal WHERE offer_id = 3;
UPDATE offer SET deep_link_hosts = '{shop.test}' WHERE id = 3;
"""
_MOVED = "SET tracker.editor = 'affiliate'; UPDATE affiliate_postback SET url = '{}'"


@pytest.fixture
async def client(database: Settings) -> AsyncIterator[AsyncClient]:
    """The demo's catalogue with prices, and a client without a token."""
    await load_demo(database.postgres_dsn or "")
    await run_sql(database, _MORE)
    await run_sql(database, _PRICES)
    here = replace(database, postback_networks=(ip_network("127.0.0.0/8"),))
    async with api_of(here, scopes=()) as client:
        yield client


async def rows(client: AsyncClient, path: str, headers: dict[str, str], **query: Any) -> list[dict[str, Any]]:
    answer = await client.get(path, params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def paid(row: dict[str, Any]) -> list[tuple[object, ...]]:
    return [
        tuple(payout[name] for name in ("country_code", "payout_type", "payout", "currency"))
        for payout in row["payouts"]
    ]


async def test_offers_show_what_they_pay_this_affiliate(database: Settings, client: AsyncClient) -> None:
    """An affiliate's own terms come before those of a country, as conversions are priced."""
    of = {id_: await token(database, "offers:read", affiliate_id=id_) for id_ in (513, 614, 615)}
    expected: dict[int, list[tuple[object, ...]]] = {
        513: [(None, "fixed", "3.00", "EUR"), ("DE", "fixed", "3.50", "EUR")],
        614: [(None, "fixed", "2.50", "EUR"), ("FR", "fixed", "9.00", "EUR"), ("US", "fixed", "7.00", "EUR")],
        615: [(None, "fixed", "2.50", "EUR"), ("US", "fixed", "7.00", "EUR")],
    }
    for id_, payouts in expected.items():
        (row,) = await rows(client, OFFERS, of[id_], q="3")
        assert paid(row) == payouts, id_
    (asked,) = await rows(client, APPLICATIONS, of[513])
    assert (asked["offer_id"], asked["status"], paid(asked)) == (
        65,
        None,
        [(None, "percent", "10.00", "USD")],
    )
    for text, ids in (("appr", [68]), ("APPROVED", [68]), ("Private", []), ("%", [])):
        assert [row["id"] for row in await rows(client, OFFERS, of[513], q=text)] == ids, text
    hides = await token(database, "offers:read", affiliate_id=513, hides_money=True)
    for path in (OFFERS, APPLICATIONS):
        assert all("payouts" not in row for row in await rows(client, path, hides))


LINKS: list[tuple[dict[str, str], str]] = [
    ({}, ""),
    ({"aff_sub": "a b&c", "source": "ä", "aff_sub20": "x"}, "&source=%C3%A4&aff_sub=a+b%26c&aff_sub20=x"),
    ({"url": "https://shop.test/p?a=1"}, "&url=https%3A%2F%2Fshop.test%2Fp%3Fa%3D1"),
]
NO_LINKS: list[tuple[int, dict[str, str], int, str]] = [
    (3, {"url": "https://evil.test/"}, 422, "url"),
    (3, {"url": "http://shop.test/"}, 422, "url"),
    (3, {"offer_url_id": "999"}, 422, "offer_url_id"),
    (3, {"affiliate_id": "614"}, 422, "affiliate_id"),
    (65, {}, 404, ""),
    (66, {}, 404, ""),
    (999, {}, 404, ""),
]


async def test_link_carries_what_its_clicks_are_to_say(database: Settings, client: AsyncClient) -> None:
    mine = await token(database, "offers:read", affiliate_id=513)
    (offer,) = await rows(client, OFFERS, mine, q="3")
    for query, more in LINKS:
        answer = await client.get(f"{OFFERS}/3/link", params=query, headers=mine)
        assert answer.json()["link"] == offer["link"] + more
    for offer_id, query, code, field in NO_LINKS:
        answer = await client.get(f"{OFFERS}/{offer_id}/link", params=query, headers=mine)
        assert list(named(answer, code)) == ([field] if field else []), query


async def test_log_shows_own_postbacks_only(database: Settings, client: AsyncClient) -> None:
    mine = await token(database, "own-postbacks:write", affiliate_id=513)
    foreign = await token(database, "conversions:read", affiliate_id=614)
    made = (await client.post(OWN, json={"url": URL}, headers=mine)).json()
    await store(database, [a_row(affiliate_id=513)])
    conversion = await converts(database)
    await send(database)  # its worker makes the request, which no public address takes
    (row,) = await rows(client, SENT, mine, affiliate_postback_id=made["id"])
    assert (row["conversion_id"], row["affiliate_id"], row["state"]) == (conversion, 513, "waiting")
    assert "not a public address" in row["last_error"]
    assert await rows(client, SENT, foreign) == []
    assert await rows(client, SENT, mine, affiliate_id=614) == []
    hides = await token(database, "conversions:read", affiliate_id=513, hides_money=True)
    assert all("url" not in shown for shown in await rows(client, SENT, hides))


ANSWERS = [(200, True), (204, True), (302, False), (404, False), (500, False)]


async def test_test_says_what_came_back(database: Settings, client: AsyncClient) -> None:
    """The network saved this URL, so the operator's own networks are allowed."""
    mine = await token(database, "own-postbacks:write", affiliate_id=513)
    admin = await token(database, "admin")
    async with FakeAffiliate().listening() as partner:
        url = f"http://127.0.0.1:{partner.port}/in?c={{aff_sub}}&s={{status}}&p={{payout}}{{currency}}"
        place = f"{USERS}/affiliates/513/postbacks"
        made = (await client.post(place, json={"url": url}, headers=admin)).json()
        test = f"{OWN}/{made['id']}/test"
        for code, is_taken in ANSWERS:
            partner.answers.append(status(code))
            answer = await client.post(test, json={"aff_sub": "x y"}, headers=mine)
            assert answer.status_code == 200, answer.text
            told = answer.json()
            assert (told["status"], told["error"], told["is_taken"]) == (code, "", is_taken)
            assert told["url"].endswith("/in?c=x%20y&s=approved&p=0.00USD")
        assert [asked.target for asked in partner.asked] == ["/in?c=x%20y&s=approved&p=0.00USD"] * len(
            ANSWERS
        )
        hides = await token(database, "own-postbacks:write", affiliate_id=513, hides_money=True)
        assert (await client.post(test, json={}, headers=hides)).json()["url"] is None
        await run_sql(database, "UPDATE deployment SET copy_of = now()")
        assert "id" in named(await client.post(test, json={}, headers=mine), 409)
        assert len(partner.asked) == len(ANSWERS) + 1, "a copy sends nothing"
    trail = (
        await client.get(f"{USERS}/audit?path=affiliates/513/postbacks/{made['id']}/test", headers=admin)
    ).json()
    assert [change["after"]["status"] for change in trail["data"]] == [
        200,
        *(code for code, _ in ANSWERS[::-1]),
    ]


async def test_test_of_an_own_url_goes_to_public_addresses_only(
    database: Settings, client: AsyncClient
) -> None:
    mine = await token(database, "own-postbacks:write", affiliate_id=513)
    foreign = await token(database, "own-postbacks:write", affiliate_id=614)
    made = (await client.post(OWN, json={"url": URL}, headers=mine)).json()
    async with FakeAffiliate().listening() as partner:
        # As if the name led here: what was saved as public is checked again when it is called.
        here = f"http://127.0.0.1:{partner.port}/in"
        await run_sql(database, _MOVED.format(here))
        told = (await client.post(f"{OWN}/{made['id']}/test", json={}, headers=mine)).json()
        assert (told["status"], told["error"], told["is_taken"]) == (
            *(None, "127.0.0.1 is not a public address"),
            False,
        )
        assert partner.asked == []
    assert (await client.post(f"{OWN}/{made['id']}/test", json={}, headers=foreign)).status_code == 404
    assert list(named(await client.post(f"{OWN}/{made['id']}/test", json={"sum": "1"}, headers=mine))) == [
        "sum"
    ]


async def test_tests_have_a_rate(database: Settings, client: AsyncClient) -> None:
    mine = await token(database, "own-postbacks:write", affiliate_id=513)
    made = (await client.post(OWN, json={"url": URL}, headers=mine)).json()
    await run_sql(database, _MOVED.format("http://127.0.0.1/in"))
    codes = [
        (await client.post(f"{OWN}/{made['id']}/test", json={}, headers=mine)).status_code for _ in range(12)
    ]
    assert set(codes[:10]) == {200}
    assert 429 in codes[10:]
