"""Ids and amounts have one form at every door. The inside of an id is unchanged."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from tests.field.advertiser import SECRET, advertiser_of
from tests.integration.api_client import api_of
from tests.integration.importing import Importer, importer
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.conversions.postbacks import PATH as POSTBACKS
from tracker.api.conversions.status_upload import UPLOADS
from tracker.settings import Settings

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

CLICKS = "/backend/open-api/v1/users/clicks"

SPACES = [" ", "\t", "\u00a0", "\u3000", "\u200b", "\u2060", "\ufeff", "\r\n"]

AMOUNTS: list[tuple[str, str, str]] = [
    ("59.970000000000006", "59.97", "a float of another language"),
    (".50", "0.5", "SQL's and Perl's way"),
    ("5 ", "5", "trimmed"),
    ("+7", "7", "a sign that says nothing"),
    ("1E1", "10", "JSON's and Java's way"),
    ("12.", "12", "a point too many"),
    ("0012.50", "12.5", "filled up"),
    ("1.0000005", "1.000001", "half away from zero, to what the column holds"),
    ("\u200b3\u00a0", "3", "from a spreadsheet"),
]


async def test_amount_is_brought_to_its_plain_form(database: Settings) -> None:
    async with advertiser_of(database) as advertiser, api_of(database, scopes=("conversions:write",)) as api:
        for text, amount, why in AMOUNTS:
            first, second, third = [await advertiser.click() for _ in range(3)]
            told = await advertiser.calls(f"click_id={first}&sale_amount={quote(text)}")
            assert (told.result, told.reason) == ("stored", ""), why
            await advertiser.calls("", json={"click_id": second, "sale_amount": text})
            await api.post(CONVERSIONS, json={"click_id": third, "sale_amount": text})
            for click in (first, second, third):
                assert await advertiser.conversions("sale_amount", click) == [(Decimal(amount),)], why


async def test_json_number_is_read_exactly(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        for number, amount in (("1E1", 10), ("59.970000000000006", "59.97"), ("99999999999999.000001",) * 2):
            click = await advertiser.click()
            body = f'{{"click_id": "{click}", "sale_amount": {number}}}'
            await advertiser.calls("", content=body, headers={"content-type": "application/json"})
            assert await advertiser.conversions("sale_amount", click) == [(Decimal(amount),)], number


# Amounts of goals that ignore them or use them, and the results.
FAULTS: list[tuple[str, str, str]] = [
    ("payout=twelve", "stored", "payout is left out: must be an amount like 12.50"),
    ("goal_id=34&payout=twelve", "rejected", "payout must be an amount like 12.50"),
    ("goal_id=34&payout=1,50", "rejected", "payout must be an amount like 12.50"),
    ("revenue=-1", "rejected", "revenue must be an amount like 12.50"),
    ("sale_amount=12,50", "stored", "sale_amount is left out: must be an amount like 12.50"),
    ("goal_id=33&sale_amount=12,50", "rejected", "sale_amount must be an amount like 12.50"),
    ("currency=EURO", "stored", "currency is left out: must be a currency"),
    ("goal_id=33&sale_amount=5&currency=EURO", "rejected", "currency must be a currency"),
    ("goal_id=34&payout=5&currency=EURO", "rejected", "currency must be a currency"),
    ("goal_id=34&currency=EURO", "stored", "currency is left out: must be a currency"),
    ("payout=1e99&sale_amount=x", "stored", "sale_amount is left out"),
    ("/pixel?payout=x&revenue=y", "stored", "payout is left out: must be an amount"),
]


async def test_unreadable_amount_is_ignored_where_amounts_are(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        await advertiser.connection.execute("UPDATE goal SET takes_revenue = false WHERE id IN (33, 34)")
        for query, result, reason in FAULTS:
            click = await advertiser.click()
            told = await advertiser.calls(f"{query}&click_id={click}")
            assert (told.status, told.result) == (200, result), (query, told.reason)
            assert reason in told.reason, (query, told.reason)


async def test_amount_without_its_currency_is_ignored(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        click = await advertiser.click()
        await advertiser.calls(f"click_id={click}&sale_amount=100&currency=Dollars")
        assert await advertiser.conversions("sale_amount, sale_currency", click) == [(None, None)]


async def test_reversal_with_an_unreadable_amount_is_a_reversal(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        click = await advertiser.click()
        await advertiser.calls(f"click_id={click}&goal_id=33&sale_amount=100")
        told = await advertiser.calls(f"click_id={click}&goal_id=33&status=rejected&sale_amount=none%20left")
        assert (told.result, told.reason.split(":")[0]) == ("updated", "sale_amount is left out")
        assert await advertiser.conversions("status, sale_amount", click) == [("rejected", 100)]


async def test_rejection_of_an_order_needs_no_readable_amount(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        for amount in ("-100", "100,00", "EUR 100"):
            for before in ("&sale_amount=100&status=pending", "&sale_amount=100&status=hold", ""):
                click = await advertiser.click()
                call = f"click_id={click}&goal_id=33"
                if before:
                    await advertiser.calls(f"{call}{before}")
                told = await advertiser.calls(f"{call}&status=declined&sale_amount={quote(amount)}")
                assert told.result == ("updated" if before else "stored"), told.reason
                assert "sale_amount is left out: must be an amount" in told.reason, told.reason
                sale = 100 if before else None
                assert await advertiser.conversions("status, sale_amount", click) == [("rejected", sale)]


async def test_ids_are_trimmed_and_not_otherwise_changed(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        for n, space in enumerate(SPACES):
            click, white = await advertiser.click(), quote(space)
            said = f"goal_id={white}31{white}&click_id={white}{click.upper()}{white}"
            inside = f"b {n}"
            results = [
                (await advertiser.calls(f"{said}&order_id={order_id}")).result
                for order_id in (f"B{n}", f"B{n}{white}", f"{white}B{n}", f"b{n}", quote(inside))
            ]
            assert results == ["stored", "unchanged", "unchanged", "stored", "stored"], repr(space)
            assert await advertiser.conversions("order_id", click) == [(f"B{n}",), (f"b{n}",), (inside,)]


async def test_secret_is_trimmed(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        for token in (f"%20{SECRET}", f"{SECRET}%0A", f"{SECRET}%E2%80%8B"):
            answer = await advertiser.edge.get(f"/postback?click_id=x&token={token}")
            assert answer.status_code == 200, token


async def test_long_id_is_measured_trimmed(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        click = await advertiser.click()
        told = await advertiser.calls(f"click_id={'%20' * 300}{click}{'%20' * 300}&order_id={'A' * 500}%20")
        assert (told.status, told.result) == (200, "stored")
        assert (await advertiser.calls(f"click_id={click}&order_id={'A' * 501}")).status == 422


async def test_id_that_is_stored_untrimmed_is_still_found(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        click, other = await advertiser.click(), await advertiser.click()
        for order_id in ("B1", "B2"):
            await advertiser.calls(f"click_id={click}&goal_id=31&order_id={order_id}&status=pending")
        await advertiser.connection.execute("UPDATE conversion SET order_id = 'B1 ' WHERE order_id = 'B2'")
        results = [
            await advertiser.calls(f"click_id={one}&goal_id=31&order_id=B1{space}&status=approved")
            for one, space in ((click, "%20"), (click, "%20%20"), (click, ""), (other, "%20"), (other, ""))
        ]
        assert [told.result for told in results] == [
            *("updated", "updated", "unchanged"),
            *("rejected", "rejected"),
        ]
        assert await advertiser.conversions("order_id, status", click) == [
            ("B1", "approved"),
            ("B1 ", "approved"),
        ]
        await advertiser.connection.execute(
            "INSERT INTO legacy_click (legacy_id, hash) VALUES ('old ', $1), ('old', $2)", click, other
        )
        for named, hash_ in (("old%20", click), ("old", other), ("old%09", other)):
            told = await advertiser.calls(f"click_id={named}&goal_id=32")
            assert told.result == "stored", named
            assert len(await advertiser.conversions("id", hash_)) == 1 + 2 * (hash_ == click), named
            await advertiser.connection.execute("ALTER TABLE conversion_entry DISABLE TRIGGER append_only")
            await advertiser.connection.execute("DELETE FROM conversion_entry")
            await advertiser.connection.execute("DELETE FROM conversion_change")
            await advertiser.connection.execute("DELETE FROM conversion WHERE goal_id = 32")


FILTERS: list[tuple[str, str, dict[str, str], int]] = [
    ("conversions", "exact", {"order_id": "B1"}, 1),
    ("conversions", "trimmed", {"order_id": "B1 "}, 1),
    ("conversions", "invisible", {"order_id": "\u200bB1\n"}, 1),
    ("conversions", "an older row", {"order_id": "C1 "}, 1),
    ("conversions", "not an older row", {"order_id": "C1"}, 0),
    ("conversions", "a hash", {"click_hash": " CLICK\t"}, 2),
    ("conversions", "a hash with hyphens", {"click_hash": "HYPHENS "}, 2),
    ("conversions", "an id", {"goal_id": " 31"}, 2),
    ("conversions", "a status", {"status": "Approved "}, 2),
    ("postbacks", "a click", {"click_id": " CLICK"}, 2),
    ("postbacks", "a click as a UUID", {"click_id": "HYPHENS"}, 2),
    ("postbacks", "another click", {"click_id": "click"}, 0),
]


async def test_filters_and_paths_take_ids_as_doors_do(database: Settings) -> None:
    scopes = ("conversions:read", "clicks:read")
    async with advertiser_of(database) as advertiser, api_of(database, scopes=scopes) as api:
        click = await advertiser.click()
        for order_id in ("B1", "C1"):
            await advertiser.calls(f"click_id={click}%20&goal_id=31&order_id={order_id}")
        await advertiser.connection.execute("UPDATE conversion SET order_id = 'C1 ' WHERE order_id = 'C1'")
        for kind, why, query, total in FILTERS:
            path = CONVERSIONS if kind == "conversions" else POSTBACKS
            hyphens = str(UUID(click)).upper()
            asked = {
                name: value.replace("CLICK", click).replace("HYPHENS", hyphens)
                for name, value in query.items()
            }
            answer = await api.get(path, params=asked)
            assert (answer.status_code, answer.json()["total"]) == (200, total), (why, answer.text)
        ((hash_,),) = await advertiser.fetch(
            "SELECT encode(uuid_send(min(hash::text)::uuid), 'hex') FROM conversion"
        )
        for path in (
            f"{CLICKS}/{UUID(click)}",
            f"{CLICKS}/{click}%20",
            f"{CLICKS}/%20{click.upper()}",
            f"{CONVERSIONS}/{hash_}%20",
        ):
            assert (await api.get(path)).status_code == 200, path
        logged = (await api.get(POSTBACKS)).json()["data"]
        assert {row["click_id"] for row in logged} == {click}


async def test_uploads_and_imports_take_ids_as_doors_do(database: Settings, importer: Importer) -> None:
    async with advertiser_of(database) as advertiser:
        click = await advertiser.click()
        for order_id in ("B1", "B2", "B3"):
            await advertiser.calls(f"click_id={click}&goal_id=31&order_id={order_id}&status=pending")
        await advertiser.connection.execute("UPDATE conversion SET order_id = 'B1 ' WHERE order_id = 'B2'")
        file = "order_id,goal_id,status\nB1 ,31 ,approved\nB1, 31,hold\n B3\u200b,,Approved \n{order},,paid\n"
        async with api_of(database, scopes=("conversions:write",)) as api:
            answer = await api.post(UPLOADS, content=file.encode(), headers={"content-type": "text/csv"})
            hash_ = (await advertiser.conversions("encode(uuid_send(hash), 'hex')", click))[0][0]
            file = f"hash,status\n{str(UUID(hash_)).upper()},hold\n"
            uuid = await api.post(UPLOADS, content=file.encode(), headers={"content-type": "text/csv"})
        assert {name: answer.json()[name] for name in ("changed", "refused")} == {"changed": 3, "refused": 1}
        assert uuid.json()["matched"] == 1, uuid.text
        assert await advertiser.conversions("order_id, status", click) == [
            ("B1", "hold"),
            ("B1 ", "approved"),
            ("B3", "approved"),
        ]
        head = "click_hash,status,created_at,order_id,sale_amount,goal_id,legacy_id\n"
        rows = [
            f" {click.upper()}\u00a0,paid ,2026-01-02 03:04:05, D1 ,1E1, 31,a",
            f"{click},paid,2026-01-02 03:04:05,null,N/A,31,b",
        ]
        done = await importer.run("conversions", importer.file("c.csv", head + "\n".join(rows) + "\n"))
        assert done.code == 0, done.err
        found = await advertiser.conversions("order_id, sale_amount", click)
        assert found[3:] == [("D1", 10), (None, None)]


async def test_api_takes_ids_as_doors_do(database: Settings) -> None:
    async with advertiser_of(database) as advertiser, api_of(database, scopes=("conversions:write",)) as api:
        click = await advertiser.click()
        bodies: list[tuple[dict[str, Any], str]] = [
            ({"click_id": f" {click.upper()}\n", "order_id": "B1", "status": " Pending"}, "stored"),
            ({"click_id": click, "order_id": "B1\u00a0", "currency": " eur "}, "unchanged"),
            ({"click_id": click, "order_id": "\tB1", "status": "approved\r"}, "updated"),
        ]
        for body, result in bodies:
            answer = await api.post(CONVERSIONS, json=body | {"goal_id": 31})
            assert answer.json()["result"] == result, answer.text
        ((id_,),) = await advertiser.conversions("id", click)
        answer = await api.patch(f"{CONVERSIONS}/{id_}%20", json={"status": " Rejected"})
        assert (answer.status_code, answer.json()["status"]) == (200, "rejected")


async def test_upload_takes_a_hash_with_hyphens(database: Settings) -> None:
    async with advertiser_of(database) as advertiser, api_of(database, scopes=("conversions:write",)) as api:
        click = await advertiser.click()
        await advertiser.calls(f"click_id={click}&status=pending")
        content = f"hash,status\n{str(UUID(click)).upper()} ,approved\n".encode()
        answer = await api.post(UPLOADS, content=content, headers={"content-type": "text/csv"})
        assert answer.json()["changed"] == 1, answer.text


async def test_words_of_the_catalogue_are_trimmed_and_folded(database: Settings) -> None:
    offers = "/backend/open-api/v1/users/offers"
    scopes = ("offers:read", "offers:write", "money:write")
    async with advertiser_of(database), api_of(database, scopes=scopes) as api:
        for path, field, text, kept in (
            ("3", "status", " Paused\u200b", "paused"),
            ("3", "visibility", "PUBLIC", "public"),
            ("3", "referrer_policy", "\u00a0Origin", "origin"),
            ("3/goals/31", "payout_type", "Percent ", "percent"),
            ("3/goals/31", "initial_status", "\ufeffHold", "hold"),
        ):
            answer = await api.patch(f"{offers}/{path}", json={field: text})
            assert answer.status_code == 200, answer.text
            assert answer.json()[field] == kept, text
        assert (await api.patch(f"{offers}/3", json={"status": "paus ed"})).status_code == 422
