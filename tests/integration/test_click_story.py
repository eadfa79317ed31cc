"""The story of a click: its reasons, and everything that came of it, as each party sees it."""

from __future__ import annotations

from typing import Any

import pytest
from httpx import AsyncClient

from tests.factories.clicks import HASH, a_click, a_row
from tests.integration.api_client import CLICKS, api_of, run_sql, store
from tests.integration.test_manual_conversions import clicks, told
from tests.integration.test_partner_access import client_of
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.domain import reasons
from tracker.domain.model import Reason
from tracker.reading.story import why
from tracker.settings import Settings
from tracker.store.conversions.affiliate_postbacks import POSTBACKS
from tracker.store.db import connect

__all__ = ["clicks"]
pytestmark = pytest.mark.anyio

SCOPES = (
    *("clicks:read", "conversions:read", "conversions:write", "offers:read", "offers:write"),
    *("money:read", "money:write"),
)
BOT = HASH[:-1] + "5"
HOSTILE = "<script>alert(1)</script>'\"&{{7*7}}"
_URL = "INSERT INTO affiliate_postback (affiliate_id, url) VALUES (513, 'https://p.test/?sum={payout}')"
_SENT = """
UPDATE sent_postback SET attempts = 2, state = 'sent', last_attempt_at = now(), last_status = 200
WHERE id = (SELECT min(id) FROM sent_postback)
"""


@pytest.fixture
async def happened(clicks: Settings) -> Settings:
    """A click with an approved, corrected and then rejected conversion, which its affiliate was told of."""
    await store(
        clicks,
        [
            a_row(
                hash=BOT,
                is_bot=True,
                bot_reason="crawler",
                status="forwarded",
                reason=10,
                offer_url_id=None,
                is_unique=False,
                group_hash=None,
                user_agent=HOSTILE,
                aff_sub=HOSTILE,
            )
        ],
    )
    await run_sql(clicks, _URL)
    async with api_of(clicks, scopes=SCOPES) as client:
        await told(client, {"click_id": HASH, "order_id": "A-1", "status": "pending", "sale_amount": "10"})
        await told(client, {"click_id": HASH, "order_id": "A-1", "status": "approved"})
        body = {"payout": "2.5", "reason": "agreed"}
        assert (await client.post(f"{CONVERSIONS}/1/corrections", json=body)).status_code == 201
        await told(client, {"click_id": HASH, "order_id": "A-1", "status": "rejected"})
        await told(client, {"click_id": HASH, "order_id": "A-1", "status": "rejected"})
    assert clicks.postgres_dsn
    connection = await connect(clicks.postgres_dsn)
    await POSTBACKS.announce(connection, 100)
    await connection.execute(_SENT)
    await connection.close()
    return clicks


async def story_of(
    client: AsyncClient, hash_: str = HASH, root: str = CLICKS, **query: str
) -> dict[str, Any]:
    answer = await client.get(f"{root}/{hash_}/story", params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_story_tells_everything_in_order(happened: Settings) -> None:
    async with api_of(happened, scopes=SCOPES) as client:
        story = await story_of(client)
        click = (await client.get(f"{CLICKS}/{HASH}")).json()["data"][0]
        conversion = (await client.get(f"{CONVERSIONS}/1")).json()["data"][0]
    assert story["click"] == click
    assert story["conversions"] == [conversion]
    assert story["totals"] == {"conversions": 1, "postbacks": 4, "sent_postbacks": 1}
    seconds = [event["second"] for event in story["events"]]
    assert seconds == sorted(seconds)
    texts = [event["text"] for event in story["events"]]
    assert texts[:2] == ["A visitor clicked in NL.", "It was accepted and sent to offer 3, URL 132."]
    for text in (
        "A request to the API arrived from 127.0.0.1: stored.",
        "Conversion 1 of goal 30 (Conversion) arrived as pending, payout 2.50 EUR, revenue 3.00 EUR.",
        "Conversion 1: approval booked, payout 2.00 EUR, revenue 3.00 EUR.",
        "Conversion 1: correction booked, payout 0.50 EUR, revenue 0.00 EUR.",
        "Conversion 1: reversal booked, payout -2.50 EUR, revenue -3.00 EUR.",
        "The postback to affiliate 513 is sent after attempt 2: HTTP 200.",
    ):
        assert text in texts
    kinds = {event["kind"] for event in story["events"]}
    everything = {"click", "redirect", "postback", "conversion", "change", "booking", "correction"}
    assert kinds == everything | {"sent_postback", "attempt"}


async def test_rules_are_todays_and_say_how_often_they_changed(happened: Settings) -> None:
    targeting = {"country": ["DE"], "os": ["Windows"]}
    async with api_of(happened, scopes=SCOPES) as client:
        before = (await story_of(client))["today"]
        offer = "/backend/open-api/v1/users/offers/3"
        answer = await client.patch(f"{offer}/urls/132", json={"targeting": targeting})
        assert answer.status_code == 200, answer.text
        after = (await story_of(client))["today"]
    assert (before["changes"], before["choice"]) == (0, {"offer_url_id": 132, "reason_name": "none"})
    assert (after["changes"], after["choice"]) == (1, {"offer_url_id": None, "reason_name": "off_target"})
    (url,) = (url for url in after["urls"] if url["id"] == 132)
    holds = {rule["rule"]: rule["holds"] for rule in url["rules"]}
    assert holds == {"country in DE": False, "os in Windows": True}


@pytest.mark.parametrize(
    ("scopes", "seen"),
    [
        (("clicks:read",), set()),
        (("clicks:read", "offers:read"), {"today"}),
        (("clicks:read", "conversions:read"), {"conversions", "postbacks", "sent_postbacks"}),
    ],
)
async def test_scopes_say_what_is_seen(happened: Settings, scopes: tuple[str, ...], seen: set[str]) -> None:
    async with api_of(happened, scopes=scopes) as client:
        story = await story_of(client)
    parts = {"today", "conversions", "postbacks", "sent_postbacks"}
    assert {name for name in parts if story[name] is not None} == seen
    assert {name for name, total in story["totals"].items() if total is not None} == seen - {"today"}
    for conversion in story["conversions"] or ():
        assert (conversion["entries"], conversion["corrections"]) == (None, None)


async def test_affiliate_sees_its_side(happened: Settings) -> None:
    await run_sql(happened, "UPDATE conversion SET created_at = created_at - interval '1 hour'")
    async with client_of(happened, "affiliate") as client:
        root = "/backend/open-api/v1/affiliates/clicks"
        story = await story_of(client, root=root)
        others = await client.get(f"{root}/{HASH[:-1]}9/story")
    assert others.status_code == 404
    assert story.keys() == {"click", "why", "events", "totals", "conversions", "sent_postbacks"}
    assert [row["payout"] for row in story["conversions"]] == ["2.50"]
    assert story["sent_postbacks"][0]["url"] == "https://p.test/?sum=2.50"
    assert "revenue" not in str(story)
    kinds = {event["kind"] for event in story["events"]}
    assert kinds == {"click", "redirect", "conversion", "change", "sent_postback", "attempt"}


async def test_advertiser_sees_its_side(happened: Settings) -> None:
    async with client_of(happened, "advertiser") as client:
        root = "/backend/open-api/v1/advertisers/clicks"
        story = await story_of(client, root=root)
        await run_sql(happened, f"UPDATE click SET advertiser_id = 2 WHERE hash = '{HASH}'")
        foreign = await client.get(f"{root}/{HASH}/story")
    assert story.keys() == {"click", "why", "events", "totals", "conversions"}
    assert [row["revenue"] for row in story["conversions"]] == ["3.00"]
    assert "payout" not in str(story)
    assert foreign.status_code == 404


async def test_times_are_in_the_zone_and_values_stay_texts(happened: Settings) -> None:
    async with api_of(happened, scopes=SCOPES) as client:
        story = await story_of(client, BOT, tz="Asia/Kathmandu")
        utc = await story_of(client, BOT)
    assert story["click"]["aff_sub"] == story["click"]["user_agent"] == HOSTILE
    assert story["events"][0]["at"] == story["click"]["created_at"] != utc["events"][0]["at"]
    assert story["events"][0]["second"] == utc["events"][0]["second"]
    assert story["why"] == [
        "The link asked for offer 3.",
        "The visitor was a bot by the rule crawler. No cap counts bots.",
        "It does not count as unique.",
        "It was forwarded to a fallback URL, because the offer was paused (reason 10).",
    ]


async def test_offer_that_is_gone_has_no_rules(happened: Settings) -> None:
    other = a_row(a_click(hash=HASH[:-1] + "6"), requested_offer_id=999)
    await store(happened, [other])
    async with api_of(happened, scopes=SCOPES) as client:
        assert (await story_of(client, other.hash))["today"] is None


def test_every_reason_has_a_meaning() -> None:
    assert set(reasons.MEANINGS) == set(Reason)
    assert reasons.meaning(17) == "a cap was full"
    assert reasons.meaning(999) == "reason 999"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"is_unique": True}, "It was the visitor's first click in the offer's window: unique."),
        (
            {"is_unique": False, "group_hash": "f" * 32},
            f"The visitor's first click in the offer's window was {'f' * 32}: not unique.",
        ),
        (
            {"verdict_late": True},
            "That was decided after the redirect, because the stream server was away.",
        ),
        ({"is_test": True}, "It was a test click. Rules do not refuse these, and no report counts them."),
        (
            {"status": "rejected", "reason": 52},
            "It was rejected, because a block list has the address (reason 52).",
        ),
        ({"status": "rejected", "reason": None}, "It was rejected."),
        ({"requested_url_id": 133}, "The link asked for offer 3 and its URL 133."),
        (
            {"reason": 41},
            "It was accepted and sent to offer 3, URL 132 (accepted, but there was no room to remember the "
            "visitor).",
        ),
    ],
)
def test_reasons_are_sentences(changes: dict[str, Any], sentence: str) -> None:
    click: dict[str, Any] = {**a_row()._asdict(), **changes}
    assert sentence in why(click)
