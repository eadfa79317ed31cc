"""Dry runs of what books money: they show what would be booked, to the last decimal, and book nothing."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from httpx import AsyncClient

from tests.factories.clicks import HASH
from tests.integration.api_client import api_of, run_sql
from tests.integration.test_api_conversions import listed
from tests.integration.test_manual_conversions import clicks, told
from tracker.api.conversions.corrections import LIST as CORRECTIONS
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.conversions.period_closes import PATH as CLOSES
from tracker.api.manual_entries import PATH as ENTRIES
from tracker.api.statements import BALANCES, PATH
from tracker.settings import Settings
from tracker.store.tokens import create_token

__all__ = ["clicks"]
pytestmark = pytest.mark.anyio

SCOPES = ("conversions:read", "conversions:write", "money:read", "money:write", "admin")
DRY = {"dry_run": "true"}


async def post(client: AsyncClient, path: str, body: dict[str, Any], **params: str) -> dict[str, Any]:
    answer = await client.post(path, json=body, params=params)
    assert answer.status_code == 201, answer.text
    row: dict[str, Any] = answer.json()
    return row


async def balances(client: AsyncClient, party: str = "affiliate") -> dict[str, str]:
    rows = (await listed(client, BALANCES, party=party))["data"]
    return {row["currency"]: row["balance"] for row in rows}


# Currency, kind, amount, and the balance of the affiliate after it.
ENTRIES_BY_HAND = [
    ("EUR", "bonus", "10.01", "10.01"),
    ("EUR", "payment", "12.34", "-2.33"),
    ("JPY", "bonus", "1250", "1250"),
    ("JPY", "fee", "1", "1249"),
    ("KWD", "bonus", "1.505", "1.505"),
    ("KWD", "chargeback", "0.006", "1.499"),
]
OF_TRIAL = {"id", "created_at", "booked_at", "balance_before", "balance_after"}


async def test_preview_of_an_entry_is_what_is_booked(clicks: Settings) -> None:
    async with api_of(clicks, scopes=SCOPES) as client:
        for currency, kind, amount, after in ENTRIES_BY_HAND:
            body = {"affiliate_id": 513, "kind": kind, "amount": amount, "currency": currency, "reason": "r"}
            before = await balances(client)
            preview = await post(client, ENTRIES, body, **DRY)
            assert await balances(client) == before, "a dry run books nothing"
            booked = await post(client, ENTRIES, body)
            assert {name: preview[name] for name in preview.keys() - OF_TRIAL} == {
                name: booked[name] for name in booked.keys() - OF_TRIAL
            }
            assert preview["balance_after"] == (await balances(client))[currency] == after
            assert preview["balance_before"] == before.get(currency, preview["balance_before"])
        first = (await listed(client, ENTRIES))["data"][-1]["id"]
        undone = await post(client, f"{ENTRIES}/{first}/reverse", {"reason": "r"}, **DRY)
        assert (undone["balance_before"], undone["balance_after"]) == ("-2.33", "-12.34")
        await post(client, f"{ENTRIES}/{first}/reverse", {"reason": "r"})
        assert (await balances(client))["EUR"] == "-12.34"


async def test_preview_of_a_correction_is_what_is_booked(clicks: Settings) -> None:
    async with api_of(clicks, scopes=SCOPES) as client:
        await told(client, {"click_id": HASH})
        for close, adjusts in ((None, False), ("2024-07-01T00:00:00+00:00", True)):
            if close:
                await run_sql(clicks, "UPDATE conversion SET created_at = '2024-06-15'")
                await post(client, CLOSES, {"until": close})
            body = {"payout": "1.505" if adjusts else "1.25", "revenue": "0", "reason": "r"}
            entries = (await listed(client, f"{CONVERSIONS}/1"))["data"][0]["entries"]
            preview = await post(client, f"{CONVERSIONS}/1/corrections", body, **DRY)
            assert (await listed(client, f"{CONVERSIONS}/1"))["data"][0]["entries"] == entries
            answer = await post(client, f"{CONVERSIONS}/1/corrections", body)
            (entry,) = (await listed(client, f"{CONVERSIONS}/1"))["data"][0]["entries"][len(entries) :]
            for shown in (preview, answer):
                (booked,) = shown["booked"]
                assert [booked[name] for name in ("payout", "revenue", "is_adjustment")] == [
                    *(entry["payout"], entry["revenue"], adjusts)
                ]
        rows = (await listed(client, CORRECTIONS))["data"]
        assert [(row["conversion_id"], row["payout_before"], row["payout"]) for row in rows] == [
            (1, "1.25", "1.505"),
            (1, "2.00", "1.25"),
        ]
        for name, id_, total in (("affiliate_id", rows[0]["affiliate_id"], 2), ("advertiser_id", 999, 0)):
            assert (await listed(client, CORRECTIONS, **{name: id_}))["total"] == total


async def test_preview_of_an_undecided_correction_books_nothing(clicks: Settings) -> None:
    async with api_of(clicks, scopes=SCOPES) as client:
        await told(client, {"click_id": HASH, "status": "pending"})
        body = {"payout": "1", "reason": "r"}
        assert (await post(client, f"{CONVERSIONS}/1/corrections", body, **DRY))["booked"] == []


async def test_preview_of_a_close_names_what_is_undecided(clicks: Settings) -> None:
    until = {"until": "2024-07-01T00:00:00+00:00"}
    async with api_of(clicks, scopes=SCOPES) as client:
        await told(client, {"click_id": HASH, "status": "pending"})
        await run_sql(clicks, "UPDATE conversion SET created_at = '2024-06-15'")
        preview = await post(client, CLOSES, until, **DRY)
        (group,) = preview["undecided"]["conversions"]
        assert [group[name] for name in ("status", "conversions", "payout", "payout_currency")] == [
            *("pending", 1, "2.00", "EUR")
        ]
        assert preview["undecided"]["postbacks"] == {}
        assert (await listed(client, CLOSES))["total"] == 0, "a dry run closes nothing"
        assert "undecided" not in await post(client, CLOSES, until)
        for params in ({}, DRY):
            assert (await client.post(CLOSES, json=until, params=params)).status_code == 409


async def test_balance_is_the_closing_balance_of_all_times(clicks: Settings) -> None:
    async with api_of(clicks, scopes=SCOPES) as client:
        await told(client, {"click_id": HASH})
        entry = {"affiliate_id": 513, "kind": "payment", "amount": "1.5", "currency": "EUR", "reason": "r"}
        await post(client, ENTRIES, entry)
        for party in ("affiliate", "advertiser"):
            (row,) = (await listed(client, BALANCES, party=party))["data"]
            span = {"from": "2020-01-01", "to": "2039-12-31"}
            (statement,) = (await listed(client, PATH, party=party, **span))["data"]
            same = ("bonus", "fee", "chargeback", "payment", f"{party}_id", f"{party}_name", "currency")
            assert [row[name] for name in same] == [statement[name] for name in same]
            assert (row["approved"], row["balance"]) == (statement["booked"], statement["closing"])
        for query in ("party=affiliate&advertiser_id=1", "party=affiliate&affiliate_id=999", ""):
            assert (await client.get(f"{BALANCES}?{query}")).status_code == 422, query
        for kind, own, foreign in (("affiliate", 513, 514), ("advertiser", 1, 2)):
            ids: dict[str, Any] = {f"{kind}_id": own}
            secret = await create_token(clicks.postgres_dsn or "", ("money:read",), **ids)
            client.headers["Authorization"] = f"Bearer {secret}"
            path = BALANCES.replace("users", f"{kind}s")
            (row,) = (await listed(client, path))["data"]
            assert row[f"{kind}_id"] == own
            assert (await client.get(f"{path}?{kind}_id={foreign}")).status_code == 422
            assert (await client.get(BALANCES)).status_code == 403


async def test_entries_are_the_lines_page_by_page(clicks: Settings) -> None:
    async with api_of(clicks, scopes=SCOPES) as client:
        await told(client, {"click_id": HASH, "order_id": "o"})
        for amount in ("1", "2"):
            entry = {"affiliate_id": 513, "kind": "bonus", "amount": amount, "currency": "EUR", "reason": "r"}
            await post(client, ENTRIES, entry)
        span = {"from": "2020-01-01", "to": "2039-12-31"}
        for whose, party in (("users", {"party": "affiliate"}), ("affiliates", {}), ("advertisers", {})):
            if whose != "users":
                ids: dict[str, Any] = {"affiliate_id": 513} if whose == "affiliates" else {"advertiser_id": 1}
                secret = await create_token(clicks.postgres_dsn or "", ("money:read",), **ids)
                client.headers["Authorization"] = f"Bearer {secret}"
            path = PATH.replace("users", whose)
            lines = [
                orjson.loads(line)
                for line in (
                    await client.get(f"{path}/lines", params={**party, **span, "format": "ndjson"})
                ).text.splitlines()
            ]
            assert len(lines) == (1 if whose == "advertisers" else 3)
            found: list[Any] = []
            for page in range(1, len(lines) + 2):
                answer = await listed(client, f"{path}/entries", **party, **span, page=page, per_page=1)
                assert (answer["total"], answer["pages"]) == (len(lines), len(lines))
                found += answer["data"]
            assert found == lines
            deep = {**party, **span, "page": 11, "per_page": 1000}
            assert (await client.get(f"{path}/entries", params=deep)).status_code == 200
            deep["page"] = 12
            assert list((await client.get(f"{path}/entries", params=deep)).json()["errors"]) == ["page"]
