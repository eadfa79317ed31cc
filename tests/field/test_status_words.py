"""Status words: the advertiser's table, then the network's, then the defaults."""

from __future__ import annotations

from typing import Any

import pytest

from tests.field.advertiser import Advertiser, advertiser_of
from tests.integration.api_client import api_of
from tests.integration.importing import Importer, importer
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.conversions.status_upload import UPLOADS
from tracker.settings import Settings

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

WORDS = "/backend/open-api/v1/users/status-words"

DEFAULTS: list[tuple[str, str, str]] = [
    ("chargeback", "rejected", "the bank took the money back"),
    ("Refunded", "rejected", "the shop gave it back"),
    ("reversed%20", "rejected", "trimmed"),
    ("VOID", "rejected", "in any case"),
    ("trash", "rejected", "Keitaro's, and Russian networks'"),
    ("sale", "approved", "Post Affiliate Pro's"),
    ("%C2%A0Paid", "approved", "with a no-break space"),
    ("cancelled", "rejected", "as before"),
    ("new", "pending", "as before"),
]
UNKNOWN = ["lead", "1", "0", "2", "completed!", "approve", "hold on", "true"]


async def put_word(advertiser: Advertiser, word: str, status: str, advertiser_id: int | None = None) -> None:
    """Save a word, and wait until the edge knows it."""
    async with api_of(advertiser.settings, scopes=("money:write",)) as client:
        body = {"word": word, "status": status, "advertiser_id": advertiser_id}
        assert (await client.post(WORDS, json=body)).status_code == 201


async def until_taken(advertiser: Advertiser, click: str, word: str) -> None:
    """Call until the edge knows a word, which takes less than a second."""
    while (await advertiser.calls(f"click_id={click}&status={word}")).status == 422:
        pass


async def test_synonyms_of_a_status_are_known(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        for word, status, why in DEFAULTS:
            click = await advertiser.click()
            assert (await advertiser.calls(f"click_id={click}&status={word}")).result == "stored", word
            assert await advertiser.conversions("status", click) == [(status,)], (word, why)


async def test_reversal_by_another_status_word_takes_the_money_back(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        click = await advertiser.click()
        await advertiser.calls(f"click_id={click}&order_id=A")
        assert (await advertiser.calls(f"click_id={click}&order_id=A&status=chargeback")).result == "updated"
        assert await advertiser.fetch("SELECT sum(payout), count(*) FROM conversion_entry") == [(0, 2)]


async def test_unknown_status_word_is_refused(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        for word in UNKNOWN:
            click = await advertiser.click()
            answer = await advertiser.edge.get(f"/postback?click_id={click}&status={word}")
            assert (answer.status_code, list(answer.json()["errors"])) == (422, ["status"]), word
            # a browser's status is never used
            assert (await advertiser.calls(f"/pixel?click_id={click}&status={word}")).result == "stored"
            assert await advertiser.conversions("status", click) == [("pending",)]


async def test_advertisers_status_word_goes_before_the_networks_and_the_defaults(
    database: Settings,
) -> None:
    async with advertiser_of(database) as advertiser:
        await put_word(advertiser, " Lead ", "pending")
        await put_word(advertiser, "LEAD", "approved", 1)
        await put_word(advertiser, "sale", "hold")
        await put_word(advertiser, "2", "rejected", 1)
        click = await advertiser.click()
        await until_taken(advertiser, click, "2")
        for word, status in (("lead", "approved"), ("Sale", "hold"), ("2", "rejected"), ("paid", "approved")):
            click = await advertiser.click()
            assert (await advertiser.calls(f"click_id={click}&status={word}")).result == "stored"
            assert await advertiser.conversions("status", click) == [(status,)], word
        async with api_of(database, scopes=("money:write", "offers:read")) as client:
            again = await client.post(WORDS, json={"word": "Lead", "status": "hold", "advertiser_id": 1})
            assert again.status_code == 409
            words = (await client.get(WORDS)).json()["data"]
            assert [row["word"] for row in words] == ["lead", "lead", "sale", "2"]


async def test_status_word_of_another_advertiser_is_held_until_it_is_known(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        await advertiser.connection.execute("UPDATE advertiser SET postback_check = 'none'")
        await put_word(advertiser, "lead", "approved", 2)
        click = await advertiser.click()
        while (await advertiser.edge.get(f"/postback?click_id={click}&status=lead")).status_code == 422:
            pass  # without a secret the edge does not know the advertiser
        told = await advertiser.calls("click_id=")
        assert told[1:3] == ("held", "unknown status")
        await put_word(advertiser, "lead", "pending", 1)
        await advertiser.calls("click_id=")
        assert await advertiser.conversions("status", click) == [("pending",)]


async def test_status_words_at_the_doors_of_the_network(database: Settings, importer: Importer) -> None:
    async with advertiser_of(database) as advertiser:
        await put_word(advertiser, "lead", "hold", 1)
        await put_word(advertiser, "approved", "pending", 1)  # an advertiser's word, not one of ours
        await put_word(advertiser, "nobody", "hold", 2)
        doors: list[tuple[str, Any, Any]] = [
            ("lead ", "hold", "hold"),
            ("Trash", "rejected", "rejected"),
            ("approved", "approved", "pending"),
            ("nobody", None, None),
            ("what", None, None),
        ]
        async with api_of(database, scopes=("conversions:write", "conversions:read")) as client:
            for word, told, uploaded in doors:
                click = await advertiser.click()
                answer = await client.post(CONVERSIONS, json={"click_id": click, "status": word})
                assert answer.status_code == (422 if word == "what" else 200)
                assert await advertiser.conversions("status", click) == ([(told,)] if told else []), word

                click = await advertiser.click()
                row = f"click_hash,status,created_at\n{click},{word},2026-01-02 03:04:05\n"
                done = await importer.run("conversions", importer.file("c.csv", row))
                assert done.code == (told is None), done.err
                assert await advertiser.conversions("status", click) == ([(told,)] if told else []), word

                click = await advertiser.click()
                await client.post(CONVERSIONS, json={"click_id": click, "status": "hold"})
                file = f"hash,status\n{click},{word}\n"
                answer = await client.post(UPLOADS, content=file, headers={"content-type": "text/csv"})
                assert answer.json()["refused"] == (uploaded is None), answer.text
                assert await advertiser.conversions("status", click) == [(uploaded or "hold",)], word


async def test_status_words_are_imported_once(database: Settings, importer: Importer) -> None:
    await importer.catalogue()
    file = importer.file(
        "words.yaml",
        "status_words:\n"
        "  - {word: Lead, status: approved}\n"
        "  - {word: ' LEAD ', status: pending, advertiser: PlayGames}\n",
    )
    assert "2 created, 0 changed" in (await importer.run("catalogue", file)).out
    assert "0 created, 0 changed, 2 left" in (await importer.run("catalogue", file)).out
    assert await importer.fetch("SELECT advertiser_id, word, status FROM status_word ORDER BY id") == [
        (None, "lead", "approved"),
        (1, "lead", "pending"),
    ]
    changed = importer.file("words.yaml", "status_words: [{word: LEAD, status: hold}]")
    assert "0 created, 1 changed" in (await importer.run("catalogue", changed)).out
