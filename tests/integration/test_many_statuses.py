"""One status for many conversions: chosen by filter or ids, shown first, and done once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from httpx import AsyncClient

from tests.factories.clicks import a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import api_of, run_sql
from tests.integration.test_api_conversions import listed
from tests.integration.test_manual_conversions import OTHER_HASH, clicks
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.settings import Settings
from tracker.store.conversions import many

__all__ = ["clicks"]

pytestmark = pytest.mark.anyio

SCOPES = ("conversions:read", "conversions:write")
PATH = f"{CONVERSIONS}/status"


@pytest.fixture
async def ids(clicks: Settings) -> list[int]:
    """Six conversions: pending, pending with a browser's amount, approved, rejected, of goal 2, a test."""
    await run_sql(
        clicks,
        "UPDATE goal_price SET payout_type = 'percent', payout = 10, valid_from = '2024-01-01'"
        " WHERE goal_id = 30",
    )
    sold = {"sale_amount": "1000", "sale_currency": "EUR", "payout": "100"}
    other = a_row(hash=OTHER_HASH)
    return await store_conversions(
        clicks,
        [
            a_conversion(a_row(), status="pending", goal_id=30, order_id="1", **sold),
            a_conversion(a_row(), status="pending", goal_id=30, order_id="2", sale_by_browser=True, **sold),
            a_conversion(a_row(), status="approved", goal_id=30, order_id="3", payout="7"),
            a_conversion(a_row(), status="rejected", goal_id=30, order_id="4", payout="9"),
            a_conversion(other, status="pending", goal_id=2, payout="0.5", payout_currency="USD"),
            a_conversion(a_row(), status="pending", goal_id=30, order_id="6", is_test=True, **sold),
        ],
    )


async def changed(client: AsyncClient, body: dict[str, Any], code: int = 200, /, **query: Any) -> Any:
    answer = await client.post(PATH, json=body, params=query)
    assert answer.status_code == code, answer.text
    return answer.json()


async def test_conversions_of_a_filter_are_approved_as_the_dry_run_has_shown(
    clicks: Settings, ids: list[int]
) -> None:
    approving = {"status": "Approved", "sale_status": "paid"}
    async with api_of(clicks, scopes=(*SCOPES, "money:read")) as client:
        shown = await changed(client, {**approving, "dry_run": True}, goal_id=30)
        before = (await listed(client))["data"]
        assert {row["sale_status"] for row in before} == {""}, "a dry run changes nothing"
        done = await changed(client, {**approving, "expected": shown["matched"]}, goal_id=30)
        again = await changed(client, approving, goal_id=30)
        rows = {row["id"]: row for row in (await listed(client))["data"]}
        first = (await listed(client, f"{CONVERSIONS}/{ids[0]}"))["data"][0]
    assert done == {**shown, "dry_run": False}
    counts = {
        name: done[name] for name in ("matched", "changed", "on_hold", "unchanged", "refused", "missing")
    }
    assert counts == {
        "matched": 5,
        "changed": 3,
        "on_hold": 1,
        "unchanged": 1,
        "refused": 0,
        "missing": 0,
    }
    assert done["problems"] == [
        {
            "conversion_id": ids[1],
            "reason": "it is on hold: a percentage of a sale_amount that nobody has proven",
        }
    ]
    assert done["payouts"] == [{"currency": "USD", "amount": "209.00"}], (
        "of those that changed, without the test"
    )
    assert (again["changed"], again["unchanged"], again["refused"]) == (0, 4, 1)
    statuses = [rows[id_]["status"] for id_ in ids]
    assert statuses == ["approved", "hold", "approved", "approved", "pending", "approved"]
    assert [(each["source"], each["author"]) for each in first["changes"]] == [("api", "")]
    assert [entry["kind"] for entry in first["entries"]] == ["approval"]
    assert Counter(row["sale_status"] for row in rows.values()) == {"paid": 5, "": 1}


async def test_ids_are_those_within_the_filter_and_others_are_named(clicks: Settings, ids: list[int]) -> None:
    async with api_of(clicks, scopes=SCOPES) as client:
        done = await changed(client, {"status": "rejected", "ids": [ids[4], ids[4], ids[0], 999]}, goal_id=2)
        late = await changed(client, {"status": "pending", "ids": [ids[2], ids[3]]})
        rows = {row["id"]: row["status"] for row in (await listed(client))["data"]}
    assert done["changes"] == [
        {"conversion_id": ids[4], "status_before": "pending", "status_after": "rejected"}
    ]
    assert done["problems"] == [
        {"conversion_id": id_, "reason": "matches no conversion"} for id_ in sorted([ids[0], 999])
    ]
    assert (done["matched"], done["missing"]) == (1, 2)
    assert late["problems"] == [
        {"conversion_id": ids[2], "reason": "it stays approved"},
        {"conversion_id": ids[3], "reason": "it stays rejected"},
    ]
    assert late["refused"] == 2
    assert [rows[id_] for id_ in ids] == ["pending", "pending", "approved", "rejected", "rejected", "pending"]


async def test_change_of_many_is_refused_by_name(
    clicks: Settings, ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "MOST", 4)
    table: list[tuple[dict[str, Any], dict[str, Any], int, str]] = [
        ({"status": "approved"}, {}, 422, "ids"),
        ({"status": "approved"}, {"tz": "Europe/Berlin"}, 422, "ids"),
        ({"status": "approved"}, {"exclude_status": "rejected"}, 422, "created_from"),
        ({"status": "approved", "expected": 3}, {"status": "rejected"}, 409, "expected"),
        ({"status": "paid"}, {"goal_id": 2}, 422, "status"),
        ({}, {"goal_id": 2}, 422, "status"),
        ({"status": "approved", "ids": []}, {}, 422, "ids"),
        ({"status": "approved", "ids": ["x"]}, {}, 422, "ids.0"),
        ({"status": "approved", "id": [1]}, {"goal_id": 2}, 422, "id"),
        ({"status": "approved"}, {"goal_id": "two"}, 422, "goal_id"),
        ({"status": "approved"}, {"seconds_from_click_from": 2, "seconds_from_click_to": 1}, 422, ""),
    ]
    async with api_of(clicks, scopes=SCOPES) as client:
        for body, query, status, field in table:
            errors = (await changed(client, body, status, **query))["errors"]
            assert list(errors) == [field or "seconds_from_click_to"], (body, query)
        assert {row["sale_status"] for row in (await listed(client))["data"]} == {""}
    async with api_of(clicks, scopes=("conversions:write",)) as client:
        blind = await changed(client, {"status": "hold", "ids": [ids[0]], "dry_run": True})
    assert (blind["payouts"], blind["changes"][0]["status_before"]) == (None, None)
    async with api_of(clicks, scopes=("conversions:read",)) as client:
        await changed(client, {"status": "hold", "ids": [ids[0]]}, 403)
