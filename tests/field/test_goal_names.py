"""Goals named by id, code or name. Unknown ones are held."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.field.advertiser import Advertiser, advertiser_of
from tests.integration.api_client import api_of
from tests.integration.importing import Importer, importer
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.conversions.status_upload import UPLOADS
from tracker.settings import Settings

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

USERS = "/backend/open-api/v1/users"

NAMED: list[tuple[str, int, str]] = [
    ("goal=Deposit", 32, "by its name"),
    ("goal=DEPOSIT", 32, "in any case"),
    ("goal_name=%20deposit%C2%A0", 32, "trimmed"),
    ("event=deposit", 32, "what app networks call it"),
    ("event_name=Level%20up", 31, "so here"),
    ("event=LVL", 31, "by its code"),
    ("goal_code=lvl", 31, "so by its own name"),
    ("goal=32", 32, "by its id"),
    ("goal_id=Deposit", 32, "where an id is expected"),
    ("goal_id=%2032", 32, "an id, trimmed"),
    ("goal_id=32&goal=lvl", 32, "goal_id goes before goal"),
    ("goal_id=&event=lvl", 31, "an empty one is not said"),
    ("amp;goal=Deposit", 32, "as a page has it"),
    ("goal=Conversion", 30, "the base goal has a name, too"),
]

UNKNOWN = ["goal=Refill", "event=purchase", "goal_id=99", "goal_id=0", "goal=Depo", "/api/v3/goal/Refill?x="]


async def test_goal_is_named_by_id_code_or_name(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        for query, goal_id, why in NAMED:
            click = await advertiser.click()
            told = await advertiser.calls(f"click_id={click}&{query}")
            assert told.result == "stored", (query, told.reason)
            assert await advertiser.conversions("goal_id", click) == [(goal_id,)], (query, why)


async def test_unknown_goal_is_held_and_pays_nothing(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        for query in UNKNOWN:
            click = await advertiser.click()
            told = await advertiser.calls(f"{query}&click_id={click}")
            assert (told.status, told.result, told.reason) == (200, "held", "unknown goal"), query
            assert await advertiser.conversions("id", click) == []
            told = await advertiser.calls(f"click_id={click}")  # it does not delay others
            assert told.result == "stored"


async def test_stranger_holds_no_postback(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        click = await advertiser.click()
        await advertiser.edge.get(f"/postback?click_id={click}&goal=Refill")
        told = await advertiser.calls("click_id=")
        assert told[1:3] == ("rejected", "neither a secret nor an address of the advertiser")


async def rename(advertiser: Advertiser) -> None:
    await advertiser.connection.execute("UPDATE goal SET name = ' refill ' WHERE id = 34")


async def add_code(advertiser: Advertiser) -> None:
    async with api_of(advertiser.settings, scopes=("offers:write", "money:write")) as client:
        answer = await client.patch(f"{USERS}/offers/3/goals/32", json={"code": " Refill "})
        assert (answer.status_code, answer.json()["code"]) == (200, "Refill")


async def add_goal(advertiser: Advertiser) -> None:
    async with api_of(advertiser.settings, scopes=("offers:write", "money:write")) as client:
        assert (
            await client.post(f"{USERS}/offers/3/goals", json={"name": "REFILL", "payout": "0"})
        ).status_code == 201


async def put_one_away(advertiser: Advertiser) -> None:
    await advertiser.connection.execute("UPDATE goal SET is_archived = true WHERE id = 34")


LATER: list[tuple[str, Any, str]] = [
    ("", rename, "unknown goal"),
    ("", add_code, "unknown goal"),
    ("", add_goal, "unknown goal"),
    (
        "UPDATE goal SET name = 'Refill' WHERE id IN (33, 34)",
        put_one_away,
        "several goals of the offer have this code or name",
    ),
]


@pytest.mark.parametrize(("before", "change", "why"), LATER)
async def test_held_postback_is_done_once_its_goal_is_known(
    database: Settings, before: str, change: Any, why: str
) -> None:
    async with advertiser_of(database) as advertiser:
        await advertiser.connection.execute(before or "SELECT 1")
        click = await advertiser.click()
        for status in ("pending", "approved"):
            told = await advertiser.calls(f"click_id={click}&goal=Refill&status={status}&sale_amount=5")
            assert (told.result, told.reason) == ("held", why)
        await change(advertiser)
        await advertiser.calls("click_id=")
        assert await advertiser.conversions("status", click) == [("approved",)]
        results = await advertiser.fetch("SELECT result, held_at FROM postback ORDER BY hash")
        assert results == [("stored", None), ("updated", None)]


async def test_held_postback_is_tried_again_only_if_something_changed(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        click = await advertiser.click()
        await advertiser.calls(f"click_id={click}&goal=Refill")
        before = await advertiser.fetch("SELECT held_at, xmin::text FROM postback")
        await advertiser.calls("click_id=")
        assert await advertiser.fetch("SELECT held_at, xmin::text FROM postback") == before
        await advertiser.connection.execute("UPDATE goal SET payout = 3 WHERE id = 34")
        await advertiser.calls("click_id=")
        ((held_at, _),) = await advertiser.fetch("SELECT held_at, xmin::text FROM postback")
        assert held_at > before[0][0]


@pytest.mark.parametrize("code", ["null", " N/A ", "{goal}", "%%EVENT%%", "%7Bgoal%7D"])
async def test_unusable_goal_code_is_refused(database: Settings, code: str) -> None:
    async with (
        advertiser_of(database),
        api_of(database, scopes=("offers:read", "offers:write")) as client,
    ):
        answer = await client.patch(f"{USERS}/offers/3/goals/32", json={"code": code})
        assert answer.status_code == 422
        assert answer.json()["errors"]["code"][0].startswith("is read as a missing goal"), answer.text


async def test_code_that_is_the_id_of_another_goal_warns(database: Settings) -> None:
    async with (
        advertiser_of(database) as advertiser,
        api_of(database, scopes=("offers:read", "offers:write")) as client,
    ):
        for code, warnings in (
            ("33", ["a postback that says 33 means goal 33 (Share) by its id, not goal 32 by its code"]),
            ("32", []),
            ("033", []),
            (None, []),
        ):
            answer = await client.patch(f"{USERS}/offers/3/goals/32", json={"code": code})
            assert answer.json().get("warnings", []) == warnings, code
        assert (await advertiser.calls(f"click_id={await advertiser.click()}&event=33")).result == "stored"
        assert await advertiser.fetch("SELECT goal_id FROM conversion") == [(33,)]


async def test_goal_codes_are_unique_within_an_offer(database: Settings) -> None:
    async with (
        advertiser_of(database),
        api_of(database, scopes=("offers:write", "offers:read")) as client,
    ):
        answer = await client.patch(f"{USERS}/offers/3/goals/32", json={"code": "LVL"})
        assert (answer.status_code, answer.json()["errors"]) == (409, {"code": ["is taken"]})
        assert (
            await client.post(f"{USERS}/offers/4/goals", json={"name": "x", "code": "lvl"})
        ).status_code == 201
        listed = (await client.get(f"{USERS}/offers/3/goals", params={"code": "lvl"})).json()
        assert [goal["id"] for goal in listed["data"]] == [31]


async def test_api_takes_a_goal_by_its_name(database: Settings) -> None:
    async with (
        advertiser_of(database) as advertiser,
        api_of(database, scopes=("conversions:write",)) as client,
    ):
        for body, result, goals in (
            ({"goal": "deposit"}, "stored", [(32,)]),
            ({"goal": " LVL "}, "stored", [(31,)]),
            ({"goal": "{goal}"}, "stored", [(30,)]),
            ({"goal_id": 32, "goal": "lvl"}, "stored", [(32,)]),
            ({"goal": "Refill"}, "held", []),
        ):
            click = await advertiser.click()
            answer = await client.post(CONVERSIONS, json={"click_id": click, **body})
            assert answer.json()["result"] == result, body
            assert await advertiser.conversions("goal_id", click) == goals, body


async def test_import_takes_a_goal_by_its_name(database: Settings, importer: Importer) -> None:
    async with advertiser_of(database) as advertiser:
        for goal, goal_id in ((" deposit ", 32), ("LVL", 31), ("null", 30), ("", 30), ("Refill", None)):
            click = await advertiser.click()
            row = f"click_hash,status,created_at,goal_name\n{click},paid,2026-01-02 03:04:05,{goal}\n"
            done = await importer.run("conversions", importer.file("c.csv", row))
            assert done.code == (goal_id is None), done.err
            if goal_id is None:
                assert "goal Refill matches no goal of its click's offer, or of several" in done.err
            found = await advertiser.conversions("goal_id", click)
            assert found == ([] if goal_id is None else [(goal_id,)]), goal


# Goal in a line of a status file, and the changed conversion or the reason for none.
LINES: list[tuple[dict[str, str], int | str]] = [
    ({"goal": "Deposit"}, 32),
    ({"goal": "DEPOSIT"}, 32),
    ({"goal_name": " deposit\u00a0"}, 32),
    ({"event": "lvl"}, 31),
    ({"goal_code": "LVL"}, 31),
    ({"event_name": "level up"}, 31),
    ({"goal": "32"}, 32),
    ({"goal_id": "Deposit"}, 32),
    ({"goal_id": "32", "goal": "lvl"}, 32),
    ({"goal_id": "{goal}", "goal": "lvl"}, 31),
    ({"goal": "Refill"}, "goal 'Refill' is the code or name of no goal of its offer"),
    ({"goal": "Twin"}, "goal 'Twin' is the code or name of several: give its id"),
    ({"goal": "Conversion"}, "matches no conversion"),
    ({"goal": "99"}, "matches no conversion"),
    ({"goal": "null"}, "is of 2 conversions: give goal_id or advertiser_id too"),
]


async def test_upload_takes_a_goal_by_its_name(database: Settings) -> None:
    async with (
        advertiser_of(database) as advertiser,
        api_of(database, scopes=("conversions:write",)) as client,
    ):
        await advertiser.connection.execute("UPDATE goal SET name = 'twin' WHERE id IN (33, 34)")
        click = await advertiser.click()
        for goal_id in (31, 32):
            await advertiser.calls(f"click_id={click}&order_id=A&goal_id={goal_id}&status=pending")
        ids = dict(await advertiser.conversions("id, goal_id", click))
        for said, expected in LINES:
            line = {"order_id": "A", "status": "approved", **said}
            as_csv = f"{','.join(line)}\n{','.join(line.values())}\n".encode()
            for type_, body in (("text/csv", as_csv), ("application/x-ndjson", orjson.dumps(line))):
                headers = {"content-type": type_}
                answer = await client.post(f"{UPLOADS}?dry_run=true", content=body, headers=headers)
                changed = [ids[row["conversion_id"]] for row in answer.json()["changes"]]
                reasons = [row["reason"] for row in answer.json()["problems"]]
                assert [*changed, *reasons] == [expected], (said, type_, answer.text)
