"""Corrections: amounts that the operator sets, the differences in the book, and later postbacks."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from httpx import AsyncClient, Response

from tests.factories.clicks import HASH, a_click, a_row
from tests.integration.api_client import api_of, run_sql, store
from tests.integration.test_api_conversions import listed
from tests.integration.test_manual_conversions import OTHER_HASH, clicks, told
from tracker.api.conversions.corrections import UPLOADS
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.conversions.period_closes import PATH as CLOSES
from tracker.settings import Settings
from tracker.store.db import connect

__all__ = ["clicks"]
pytestmark = pytest.mark.anyio

SCOPES = ("conversions:read", "conversions:write", "money:read", "money:write", "admin")
AUDIT = "/backend/open-api/v1/users/audit"
PERCENT = (
    "UPDATE goal_price SET (payout_type, payout, revenue_type, revenue) = ('percent', 10, 'percent', 20)"
)


async def correct(client: AsyncClient, body: dict[str, Any], id_: object = 1, **headers: str) -> Response:
    return await client.post(
        f"{CONVERSIONS}/{id_}/corrections", json={"reason": "r", **body}, headers=headers
    )


async def one(client: AsyncClient, id_: int = 1) -> dict[str, Any]:
    row: dict[str, Any] = (await listed(client, f"{CONVERSIONS}/{id_}"))["data"][0]
    return row


def booked(row: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(entry["kind"], entry["payout"], entry["revenue"]) for entry in row["entries"]]


SALE = {"click_id": HASH, "order_id": "o", "sale_amount": "100", "currency": "EUR"}

STORIES: dict[
    str, tuple[list[dict[str, Any]], dict[str, str], tuple[str, str], list[tuple[str, str, str]]]
] = {
    "of an approved conversion": (
        [SALE],
        {"payout": "7.5", "revenue": "19"},
        ("7.50", "19.00"),
        [("approval", "10.00", "20.00"), ("correction", "-2.50", "-1.00")],
    ),
    "of one side": (
        [SALE],
        {"payout": "0"},
        ("0.00", "20.00"),
        [("approval", "10.00", "20.00"), ("correction", "-10.00", "0.00")],
    ),
    "of the sale": (
        [SALE],
        {"sale_amount": "55.55"},
        ("5.56", "11.11"),
        [("approval", "10.00", "20.00"), ("correction", "-4.44", "-8.89")],
    ),
    "of the sale and one side": (
        [SALE],
        {"sale_amount": "50", "revenue": "20"},
        ("5.00", "20.00"),
        [("approval", "10.00", "20.00"), ("correction", "-5.00", "0.00")],
    ),
    "of the sale after a partial refund": (
        [SALE, SALE | {"refund_amount": "40"}],
        {"sale_amount": "90"},
        ("5.00", "10.00"),
        [("approval", "10.00", "20.00"), ("correction", "-4.00", "-8.00"), ("correction", "-1.00", "-2.00")],
    ),
    "without a difference": ([SALE], {"payout": "10"}, ("10.00", "20.00"), [("approval", "10.00", "20.00")]),
    "of a pending conversion": ([SALE | {"status": "pending"}], {"payout": "7"}, ("7.00", "20.00"), []),
    "of a pending conversion, then approved": (
        [SALE | {"status": "pending"}],
        {"payout": "7", "then": "approved"},
        ("7.00", "20.00"),
        [("approval", "7.00", "20.00")],
    ),
    "of a rejected conversion": ([SALE | {"status": "rejected"}], {"payout": "7"}, ("7.00", "20.00"), []),
    "of a rejected conversion, then approved": (
        [SALE | {"status": "rejected"}],
        {"payout": "7", "then": "approved"},
        ("7.00", "20.00"),
        [("approval", "7.00", "20.00")],
    ),
    "then rejected": (
        [SALE],
        {"payout": "7.123456", "then": "rejected"},
        ("7.123456", "20.00"),
        [
            ("approval", "10.00", "20.00"),
            ("correction", "-2.876544", "0.00"),
            ("reversal", "-7.123456", "-20.00"),
        ],
    ),
}


@pytest.mark.parametrize("story", STORIES)
async def test_correction_books_the_difference(clicks: Settings, story: str) -> None:
    said, correction, amounts, entries = STORIES[story]
    await run_sql(clicks, PERCENT)
    then = correction.get("then")
    async with api_of(clicks, scopes=SCOPES) as client:
        for postback in said:
            await told(client, postback)
        answer = await correct(client, {name: text for name, text in correction.items() if name != "then"})
        assert answer.status_code == 201, answer.text
        if then:
            await client.patch(f"{CONVERSIONS}/1", json={"status": then})
        row = await one(client)
    assert ((row["payout"], row["revenue"]), booked(row)) == (amounts, entries)
    assert (answer.json()["payout"], answer.json()["revenue"]) == amounts


async def test_correction_has_its_author_and_reason(clicks: Settings) -> None:
    async with api_of(clicks, scopes=(*SCOPES, "offers:read")) as client:
        await told(client, {"click_id": HASH})
        answer = await correct(client, {"payout": "1.5", "reason": " wrong price "})
        row = await one(client)
        (change,) = (await listed(client, AUDIT))["data"]
    author = answer.json()["author"]
    (correction,) = row["corrections"]
    assert (
        correction["payout_before"],
        correction["payout"],
        correction["reason"],
        correction["author"],
    ) == (
        *("2.00", "1.50", "wrong price"),
        author,
    )
    assert [(entry["reason"], entry["author"]) for entry in row["entries"]] == [
        ("", ""),
        ("wrong price", author),
    ]
    assert (change["path"], change["before"]["payout"], change["after"]["payout"]) == (
        *("conversions/1/corrections/1", "2.00"),
        "1.50",
    )
    assert len(row["changes"]) == 1, "an affiliate is told statuses"


async def test_correction_after_the_close_is_an_adjustment(clicks: Settings) -> None:
    async with api_of(clicks, scopes=SCOPES) as client:
        await told(client, {"click_id": HASH})
        await run_sql(clicks, "UPDATE conversion SET created_at = '2024-06-15'")
        await client.post(CLOSES, json={"until": "2024-07-01T00:00:00+00:00"})
        await correct(client, {"revenue": "1"})
        entries = (await one(client))["entries"]
    assert [(entry["is_adjustment"], entry["revenue"]) for entry in entries] == [
        (False, "3.00"),
        (True, "-2.00"),
    ]


LATER: dict[str, tuple[dict[str, str], tuple[str, str, str], str]] = {
    "a status": ({"status": "approved"}, ("approved", "7.00", "100.00"), ""),
    "a payout": (
        {"payout": "9"},
        ("pending", "7.00", "100.00"),
        "payout 9.00 EUR changes nothing: it is pending with 7.00 EUR",
    ),
    "another sale": (
        {"sale_amount": "200", "status": "approved"},
        ("approved", "7.00", "100.00"),
        "sale_amount 200.00 EUR changes nothing: it is pending with 100.00 EUR",
    ),
}


@pytest.mark.parametrize("story", LATER)
async def test_postback_does_not_undo_a_correction(clicks: Settings, story: str) -> None:
    said, expected, reason = LATER[story]
    await run_sql(clicks, PERCENT)
    async with api_of(clicks, scopes=SCOPES) as client:
        await told(client, SALE | {"status": "pending"})
        await correct(client, {"payout": "7"})
        result = await told(client, {"click_id": HASH, "order_id": "o", **said})
        row = await one(client)
    assert (row["status"], row["payout"], row["sale_amount"]) == expected
    assert result["reason"] == reason


REFUNDS: dict[str, tuple[dict[str, str], dict[str, str], tuple[str, str, str], str]] = {
    "in part, of a percentage that follows": (
        {"payout": "7"},
        {"refund_amount": "40"},
        ("approved", "7.00", "12.00"),
        "updated",
    ),
    "in part, of an amount near the percentage": (
        {"payout": "10.01"},
        {"refund_amount": "40"},
        ("approved", "10.01", "12.00"),
        "updated",
    ),
    "of all": ({"payout": "7"}, {"refund_amount": "100"}, ("rejected", "7.00", "20.00"), "updated"),
    "of all, without an amount": (
        {"payout": "7"},
        {"status": "refunded"},
        ("rejected", "7.00", "20.00"),
        "updated",
    ),
    "of more than the corrected sale": (
        {"sale_amount": "80"},
        {"refund_amount": "100"},
        ("approved", "8.00", "16.00"),
        "held",
    ),
    "of all of the corrected sale": (
        {"sale_amount": "80"},
        {"refund_amount": "80"},
        ("rejected", "8.00", "16.00"),
        "updated",
    ),
}


@pytest.mark.parametrize("story", REFUNDS)
async def test_refund_after_a_correction(clicks: Settings, story: str) -> None:
    correction, said, expected, result = REFUNDS[story]
    await run_sql(clicks, PERCENT)
    async with api_of(clicks, scopes=SCOPES) as client:
        await told(client, SALE)
        await correct(client, correction)
        assert (await told(client, {"click_id": HASH, "order_id": "o", **said}))["result"] == result
        row = await one(client)
    assert (row["status"], row["payout"], row["revenue"]) == expected
    owed = (row["payout"], row["revenue"]) if row["status"] == "approved" else ("0", "0")
    sums = [sum(Decimal(entry[side]) for entry in row["entries"]) for side in ("payout", "revenue")]
    assert sums == list(map(Decimal, owed))


async def test_conversion_without_a_price_is_approved_with_corrected_amounts(clicks: Settings) -> None:
    await run_sql(clicks, "DELETE FROM goal_price")
    async with api_of(clicks, scopes=SCOPES) as client:
        assert (await told(client, {"click_id": HASH}))["reason"] == "no price"
        assert (await client.patch(f"{CONVERSIONS}/1", json={"status": "approved"})).status_code == 409
        await correct(client, {"payout": "1", "revenue": "2"})
        assert (await client.patch(f"{CONVERSIONS}/1", json={"status": "approved"})).status_code == 200
        assert booked(await one(client)) == [("approval", "1.00", "2.00")]


async def test_correction_counts_for_caps_of_money(clicks: Settings) -> None:
    await run_sql(
        clicks,
        "INSERT INTO cap (offer_id, counts, period, amount, currency)"
        " VALUES (3, 'payout', 'total', 10, 'EUR')",
    )
    async with api_of(clicks, scopes=SCOPES) as client:
        await told(client, {"click_id": HASH})
        for payout, is_closed in (("9", False), ("1", False), ("10", True)):
            await correct(client, {"payout": payout})
            assert await closed(clicks) is is_closed, payout


async def closed(settings: Settings) -> bool:
    connection = await connect(settings.postgres_dsn or "")
    try:
        return bool(await connection.fetchval("SELECT closed_until > now() FROM offer WHERE id = 3"))
    finally:
        await connection.close()


async def test_test_conversion_books_nothing(clicks: Settings) -> None:
    test = HASH[:-1] + "9"
    await store(clicks, [a_row(a_click(hash=test, is_test=True))])
    async with api_of(clicks, scopes=SCOPES) as client:
        await told(client, {"click_id": test})
        await correct(client, {"payout": "1"})
        row = await one(client)
    assert (row["payout"], row["entries"]) == ("1.00", [])


WRONG: list[tuple[dict[str, Any], int, list[str]]] = [
    ({}, 422, ["payout"]),
    ({"payout": "-1"}, 422, ["payout"]),
    ({"payout": "1", "reason": ""}, 422, ["reason"]),
    ({"payout": "1", "currency": "USD"}, 422, ["currency"]),
    ({"sale_amount": "5"}, 422, ["sale_amount"]),
]


async def test_wrong_correction_is_refused(clicks: Settings) -> None:
    async with api_of(clicks, scopes=SCOPES) as client:
        await told(client, {"click_id": HASH})
        for body, status, fields in WRONG:
            answer = await correct(client, body)
            assert (answer.status_code, list(answer.json()["errors"])) == (status, fields), body
        for id_ in (99, "x", HASH):
            assert (await correct(client, {"payout": "1"}, id_)).status_code == 404
        row = await one(client)
        assert (row["payout"], row["corrections"]) == ("2.00", [])
    await run_sql(clicks, "UPDATE conversion SET (sale_amount, sale_currency, refunded) = (9, 'EUR', 4)")
    async with api_of(clicks, scopes=SCOPES) as client:
        assert "4.00 of it is refunded" in (await correct(client, {"sale_amount": "3"})).json()["message"]


async def test_repeat_under_the_same_key_corrects_once(clicks: Settings) -> None:
    key = {"Idempotency-Key": "k"}
    async with api_of(clicks, scopes=SCOPES) as client:
        await told(client, {"click_id": HASH})
        await told(client, {"click_id": OTHER_HASH})
        first = await correct(client, {"payout": "1"}, **key)
        await correct(client, {"payout": "5"})
        again = await correct(client, {"payout": "1"}, **key)
        assert again.json() == first.json()
        assert (await one(client))["payout"] == "5.00"
        assert (await correct(client, {"payout": "1"}, 2, **key)).status_code == 422, "of another conversion"


async def upload(client: AsyncClient, lines: list[str], query: str = "") -> Response:
    headers = {"Content-Type": "text/csv"}
    return await client.post(f"{UPLOADS}{query}", content="\n".join(lines).encode(), headers=headers)


HEAD = "conversion_id,order_id,payout,revenue,reason"


async def test_file_corrects_all_or_nothing(clicks: Settings) -> None:
    await run_sql(clicks, "UPDATE goal SET multiple = true")
    async with api_of(clicks, scopes=(*SCOPES, "offers:read")) as client:
        for order in ("a", "b"):
            await told(client, {"click_id": HASH, "order_id": order})
        await told(client, {"click_id": HASH, "order_id": "c", "status": "pending"})
        good = ["1,,1,,wrong price", ",b,,9.5,goodwill", "3,,0,0,wrong price"]
        faulty = ["1,,2,,again", ",x,1,,x", "99,,1,,x"]
        answer = await upload(client, [HEAD, *good, *faulty])
        named = ["lines.6.order_id"]
        assert (answer.status_code, list(answer.json()["errors"])) == (422, named)
        answer = await upload(client, [HEAD, *good, faulty[0], faulty[2]])
        assert list(answer.json()["errors"]) == ["lines.5.conversion_id", "lines.6.conversion_id"]
        answer = await upload(client, [HEAD, "1,b,1,,x", "1,,,,x", "1,,y,,"])
        assert list(answer.json()["errors"]) == ["lines.4.payout", "lines.4.reason"]
        answer = await upload(client, [HEAD, "1,b,1,,x", "1,,,,x"])
        assert list(answer.json()["errors"]) == ["lines.2", "lines.3.payout"]
        trial = (await upload(client, [HEAD, *good], "?dry_run=true")).json()
        assert [await amounts(client, id_) for id_ in (1, 2, 3)] == [("2.00", "3.00")] * 3
        done = (await upload(client, [HEAD, *good])).json()
        assert (trial["corrections"], trial["dry_run"]) == (done["corrections"], True)
        corrected = [("1.00", "3.00"), ("2.00", "9.50"), ("0.00", "0.00")]
        assert [await amounts(client, id_) for id_ in (1, 2, 3)] == corrected
        assert booked(await one(client, 3)) == []
        reasons = [(await one(client, id_))["entries"][1]["reason"] for id_ in (1, 2)]
        assert reasons == ["wrong price", "goodwill"]
        noted = (await listed(client, AUDIT))["data"][:3]
        places = [f"conversions/{id_}/corrections" for id_ in (3, 2, 1)]
        assert [change["path"].rpartition("/")[0] for change in noted] == places
        sides = [(change["before"]["payout"], change["after"]["payout"]) for change in noted]
        assert sides == [("2.00", "0.00"), ("2.00", "2.00"), ("2.00", "1.00")]


async def test_amount_that_nobody_can_pay_has_a_warning(clicks: Settings) -> None:
    async with api_of(clicks, scopes=SCOPES) as client:
        await told(client, {"click_id": HASH})
        currency = (await one(client))["payout_currency"]
        row = (await correct(client, {"payout": "0.005", "revenue": "0.05"})).json()
        warning = f"payout: 0.005 {currency} is finer than the currency's unit of 0.01"
        assert (row["payout"], row["warnings"]) == ("0.005", [warning])
        assert "warnings" not in (await correct(client, {"payout": "0.01"})).json()
    async with api_of(clicks, scopes=("money:write",)) as client:
        assert (await correct(client, {"payout": "0.005"})).json()["warnings"] is None


async def amounts(client: AsyncClient, id_: int) -> tuple[str, str]:
    row = await one(client, id_)
    return row["payout"], row["revenue"]


async def test_scopes_of_corrections(clicks: Settings) -> None:
    async with api_of(clicks, scopes=SCOPES) as client:
        await told(client, {"click_id": HASH})
    async with api_of(clicks, scopes=("conversions:read", "conversions:write", "money:read")) as client:
        assert (await correct(client, {"payout": "1"})).status_code == 403
        assert (await upload(client, [HEAD, "1,,1,,x"])).status_code == 403
    async with api_of(clicks, scopes=("money:write",)) as client:
        row = (await correct(client, {"payout": "1"})).json()
        assert {name for name, value in row.items() if value is not None} == {
            "conversion_id",
            "reason",
            "author",
        }
    async with api_of(clicks, scopes=("conversions:read",)) as client:
        assert (await one(client))["corrections"] is None
    with pytest.raises(asyncpg.RestrictViolationError):
        await run_sql(clicks, "UPDATE conversion_correction SET reason = 'y'")
