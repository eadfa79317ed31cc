"""A report over a closed period shows the changes since its close."""

from __future__ import annotations

from typing import Any

import pytest
from httpx import AsyncClient

from tests.factories.postbacks import AN_HOUR, a_postback
from tests.integration.api_client import api_of, run_sql
from tests.integration.test_manual_conversions import OTHER_HASH, clicks
from tests.integration.test_partner_access import OWNER
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.conversions.period_closes import PATH as CLOSES
from tracker.api.http.auth import VIEWS
from tracker.api.reports import PATH as REPORTS
from tracker.settings import Settings
from tracker.store.conversions.apply_postback import take
from tracker.store.db import connect
from tracker.store.tokens import create_token

__all__ = ["clicks"]
pytestmark = pytest.mark.anyio

SCOPES = ("conversions:read", "conversions:write", "reports:read", "admin")
JUNE = {"group_by": "offer", "created_from": "2024-06-01", "created_to": "2024-06-30"}
JULY = {"group_by": "offer", "created_from": "2024-07-01", "created_to": "2024-07-31"}
OWN_TIME = {"date_basis": "conversion"}


async def tell(settings: Settings, *said: dict[str, Any]) -> None:
    assert settings.postgres_dsn
    connection = await connect(settings.postgres_dsn)
    async with connection.transaction():
        await take(connection, [a_postback(**one) for one in said], None)
    await connection.close()


async def changes(client: AsyncClient, query: dict[str, str]) -> Any:
    """The changes in the report, from JSON and from the header of CSV."""
    answer = await client.get(REPORTS, params=query)
    assert answer.status_code == 200, answer.text
    told = answer.json().get("changed_since_close")
    header = (await client.get(REPORTS, params={**query, "format": "csv"})).headers.get("changed-since-close")
    assert header == (told and told["text"])
    statement = (told or {}).pop("statement", None)
    assert (statement is None) == (told is None or "created_from" not in query)
    if statement is not None:
        assert (await client.get(statement)).status_code == 200
    return told


async def close(client: AsyncClient, until: str) -> None:
    answer = await client.post(CLOSES, json={"until": f"{until}T00:00:00+00:00"})
    assert answer.status_code == 201, answer.text


def line(number: int, payout: dict[str, str], revenue: dict[str, str]) -> dict[str, Any]:
    amounts = [
        f"{kind} {amount} {code}"
        for kind, by in (("payout", payout), ("revenue", revenue))
        for code, amount in by.items()
    ]
    text = ", ".join([f"{number} conversion{'s' * (number != 1)}", *amounts])
    return {
        "text": f"changed since it was closed: {text}",
        "conversions": number,
        "payout": payout,
        "revenue": revenue,
    }


async def test_report_over_a_closed_period_shows_changes(clicks: Settings) -> None:
    await run_sql(clicks, "UPDATE goal SET multiple = true")
    told = [
        {"order_id": "rejected", "n": 1},
        {"order_id": "approved", "status": "pending", "n": 2},
        {"order_id": "refused", "status": "pending", "n": 3},
        {"order_id": "stays", "n": 4},
    ]
    await tell(clicks, *told)
    async with api_of(clicks, scopes=SCOPES) as client:
        assert await changes(client, JUNE) is None
        await close(client, "2024-07-01")
        assert await changes(client, JUNE) == line(0, {}, {})
        assert await changes(client, JULY) is None, "nothing of it is closed"
        steps: list[tuple[int, str, dict[str, Any]]] = [
            (1, "rejected", line(1, {"EUR": "-2.00"}, {"EUR": "-3.00"})),
            (2, "approved", line(2, {}, {})),
            (3, "rejected", line(3, {}, {})),
        ]
        for id_, status, expected in steps:
            await client.patch(f"{CONVERSIONS}/{id_}", json={"status": status})
            for query in (JUNE, JUNE | OWN_TIME, {"group_by": "day"}, JUNE | {"affiliate_id": "513"}):
                assert await changes(client, query) == expected, (id_, query)
            assert await changes(client, JUNE | {"affiliate_id": "514"}) == line(0, {}, {})
        (row,) = (await client.get(REPORTS, params=JUNE)).json()["data"]
        assert (row["conversions_approved"], row["conversions_rejected"]) == (2, 2), "as they are now"


async def test_conversion_or_refund_after_the_close_is_a_change(clicks: Settings) -> None:
    await run_sql(clicks, "UPDATE goal_price SET (payout_type, payout) = ('percent', 10)")
    sold = {"order_id": "o", "sale_amount": "100", "currency": "USD"}
    await tell(clicks, sold)
    async with api_of(clicks, scopes=SCOPES) as client:
        await close(client, "2024-07-01")
        await tell(clicks, {**sold, "status": "rejected", "refund_amount": "40", "n": 1})
        assert await changes(client, JUNE) == line(1, {"USD": "-4.00"}, {})
        await tell(clicks, {"click_id": OTHER_HASH, "n": 2})
        assert (await changes(client, JUNE))["conversions"] == 2


async def test_correction_after_the_close_is_a_change(clicks: Settings) -> None:
    """Also of a conversion without a decision, which has no money in the book."""
    await tell(clicks, {"status": "pending"}, {"click_id": OTHER_HASH, "n": 1})
    async with api_of(clicks, scopes=SCOPES) as client:
        await close(client, "2024-07-01")
        for id_, expected in ((1, line(1, {}, {})), (2, line(2, {"EUR": "-0.50"}, {}))):
            body = {"payout": "1.50", "reason": "wrong price"}
            answer = await client.post(f"{CONVERSIONS}/{id_}/corrections", json=body)
            assert answer.status_code == 201, answer.text
            assert await changes(client, JUNE) == expected


async def test_conversions_are_compared_with_their_own_close(clicks: Settings) -> None:
    """A decision after the close of its own period is a change, even before a later close."""
    await tell(clicks, {}, {"click_id": OTHER_HASH, "after": 40 * 24 * AN_HOUR, "n": 1})
    async with api_of(clicks, scopes=SCOPES) as client:
        await close(client, "2024-07-01")
        await client.patch(f"{CONVERSIONS}/1", json={"status": "rejected"})
        await client.patch(f"{CONVERSIONS}/2", json={"status": "rejected"})
        await close(client, "2024-08-01")
        expected = line(1, {"EUR": "-2.00"}, {"EUR": "-3.00"})
        assert await changes(client, {"group_by": "day"}) == expected
        assert await changes(client, JUNE | OWN_TIME) == expected
        assert await changes(client, JULY | OWN_TIME) == line(0, {}, {})


@pytest.mark.parametrize(
    ("query", "statement"),
    [
        ({}, "party=affiliate&from=2024-06-01&to=2024-06-30"),
        ({"affiliate_id": "513"}, "party=affiliate&from=2024-06-01&to=2024-06-30&affiliate_id=513"),
        (
            {"advertiser_id": "1", "tz": "Asia/Tokyo"},
            "party=advertiser&from=2024-06-01&to=2024-06-30&tz=Asia%2FTokyo&advertiser_id=1",
        ),
    ],
)
async def test_changes_lead_to_the_statements_of_the_same_days(
    clicks: Settings, query: dict[str, str], statement: str
) -> None:
    async with api_of(clicks, scopes=SCOPES) as client:
        await close(client, "2024-08-01")
        told = (await client.get(REPORTS, params=JUNE | query)).json()["changed_since_close"]
        assert told["statement"].partition("?")[2] == statement
        assert (await client.get(told["statement"])).status_code == 200


async def test_partner_reads_its_own_amounts_only(clicks: Settings) -> None:
    await tell(clicks, {})
    async with api_of(clicks, scopes=(*SCOPES, "conversions:write")) as client:
        await close(client, "2024-07-01")
        await client.patch(f"{CONVERSIONS}/1", json={"status": "rejected"})
    for kind, amounts in (("affiliate", ["payout"]), ("advertiser", ["revenue"])):
        async with api_of(clicks, scopes=()) as client:
            assert clicks.postgres_dsn
            token = await create_token(clicks.postgres_dsn, ["reports:read"], **OWNER[kind])
            client.headers["Authorization"] = f"Bearer {token}"
            told = (await client.get(f"{VIEWS[kind]}/reports", params=JUNE)).json()["changed_since_close"]
        assert told.keys() == {"text", "conversions", *amounts}
        assert [word for word in ("payout", "revenue") if word in told["text"]] == amounts
