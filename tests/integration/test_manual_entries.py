"""Entries by hand: they are booked once, never changed, and never in a closed period."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from httpx import AsyncClient, Response

from tests.integration.api_client import api_of, run_sql
from tests.integration.test_statements import balances, statements
from tracker.api.conversions.period_closes import PATH as CLOSES
from tracker.api.manual_entries import PATH as ENTRIES
from tracker.api.manual_entries import UPLOADS
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

pytestmark = pytest.mark.anyio

SCOPES = ("money:read", "money:write")
PAYMENT = {"affiliate_id": 513, "kind": "payment", "amount": "125", "currency": "EUR", "reason": "October"}
OCTOBER = {"from": "2024-10-01", "to": "2024-10-31"}


@pytest.fixture
async def demo(database: Settings) -> Settings:
    await load_demo(database.postgres_dsn or "")
    return database


async def book(client: AsyncClient, body: dict[str, Any], **headers: str) -> Response:
    return await client.post(ENTRIES, json=body, headers=headers)


SIGNS = [
    ("affiliate", "bonus", "5.00"),
    ("affiliate", "fee", "-5.00"),
    ("affiliate", "chargeback", "-5.00"),
    ("affiliate", "payment", "-5.00"),
    ("advertiser", "bonus", "5.00"),
    ("advertiser", "fee", "5.00"),
    ("advertiser", "chargeback", "-5.00"),
    ("advertiser", "payment", "-5.00"),
]


async def test_kind_decides_about_the_sign(demo: Settings) -> None:
    async with api_of(demo, scopes=SCOPES) as client:
        for party, kind, change in SIGNS:
            id_ = 513 if party == "affiliate" else 1
            entry = {f"{party}_id": id_, "kind": kind, "amount": "5", "currency": "eur", "reason": "x"}
            row = (await book(client, entry | {"booked_at": "2024-10-10"})).json()
            assert (row["amount"], row["change"], row["currency"]) == ("5.00", change, "EUR"), (party, kind)
        for party, closing in (("affiliate", "-10.00"), ("advertiser", "0.00")):
            (row,) = (await statements(client, party=party, **OCTOBER))["data"]
            assert row["closing"] == closing
            parts = {kind: change for whose, kind, change in SIGNS if whose == party}
            assert {kind: row[kind] for kind in parts} == parts


async def test_entry_is_shown_listed_and_audited(demo: Settings) -> None:
    entry = PAYMENT | {"booked_at": "2024-10-10 12:30:00", "reference": "SEPA-7"}
    async with api_of(demo, scopes=(*SCOPES, "offers:read")) as client:
        answer = await book(client, entry)
        assert answer.status_code == 201, answer.text
        row = answer.json()
        assert row == {
            "id": 1,
            **entry,
            "advertiser_id": None,
            "amount": "125.00",
            "change": "-125.00",
            "booked_at": "2024-10-10T12:30:00+00:00",
            "reverses": None,
            "author": row["author"],
            "created_at": row["created_at"],
        }
        for query, number in (
            ({}, 1),
            ({"kind": "payment"}, 1),
            ({"kind": "fee"}, 0),
            ({"reference": "SEPA-7"}, 1),
        ):
            page = (await client.get(ENTRIES, params=query)).json()
            assert page["total"] == number
            assert page["data"] == [row] * number
        (change,) = (await client.get(f"{ENTRIES.removesuffix('manual-entries')}audit")).json()["data"]
        assert (change["path"], change["after"]) == ("manual-entries/1", row)
    async with api_of(demo, scopes=("offers:read",)) as client:
        assert (await client.get(f"{ENTRIES.removesuffix('manual-entries')}audit")).json()["total"] == 0


async def test_amount_that_nobody_can_pay_has_a_warning(demo: Settings) -> None:
    warning = "amount: 1.50 JPY is finer than the currency's unit of 1"
    async with api_of(demo, scopes=SCOPES) as client:
        fine = (await book(client, PAYMENT | {"amount": "1.5", "currency": "JPY"})).json()
        assert (fine["amount"], fine["warnings"]) == ("1.50", [warning])
        assert "warnings" not in (await book(client, PAYMENT | {"amount": "2", "currency": "JPY"})).json()
        head = "affiliate_id,kind,amount,currency,reason"
        done = await upload(client, [head, "513,fee,1.5,JPY,x", "513,fee,1.125,KWD,x"], "?dry_run=true")
        assert [row.get("warnings") for row in done.json()["entries"]] == [[warning], None]
        assert all("warnings" not in row for row in (await client.get(ENTRIES)).json()["data"])


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"amount": "0"}, "amount"),
    ({"amount": "-5"}, "amount"),
    ({"amount": "1,5"}, "amount"),
    ({"currency": "EURO"}, "currency"),
    ({"kind": "gift"}, "kind"),
    ({"reason": " "}, "reason"),
    ({"affiliate_id": 999}, "affiliate_id"),
    ({"affiliate_id": None, "advertiser_id": 999}, "advertiser_id"),
    ({"advertiser_id": 1}, "affiliate_id"),
    ({"affiliate_id": None}, "affiliate_id"),
    ({"booked_at": "2024-10-32"}, "booked_at"),
    ({"booked_at": "2999-01-01"}, "booked_at"),
    ({"booked_at": "0001-01-01"}, "booked_at"),
    ({"booked_at": "1969-12-31"}, "booked_at"),
    ({"booked_at": "9999-12-31"}, "booked_at"),
    ({"booked_at": "2024-09-30"}, "booked_at"),
    ({"reference": "taken"}, "reference"),
    ({"id": 1}, "id"),
]


async def test_wrong_field_is_named_and_nothing_is_booked(demo: Settings) -> None:
    async with api_of(demo, scopes=(*SCOPES, "admin")) as client:
        await book(client, PAYMENT | {"booked_at": "2024-09-30", "reference": "taken"})
        await client.post(CLOSES, json={"until": "2024-10-01T00:00:00+00:00"})
        for changes, field in WRONG:
            answer = await book(client, PAYMENT | {"booked_at": "2024-10-10"} | changes)
            assert (answer.status_code, list(answer.json()["errors"])) == (422, [field]), changes
        assert (await client.get(ENTRIES)).json()["total"] == 1
        other = PAYMENT | {"affiliate_id": 514, "reference": "taken"}
        assert (await book(client, other)).status_code == 201, "a reference is of one party"


async def test_reversal_undoes_an_entry_once(demo: Settings) -> None:
    async with api_of(demo, scopes=(*SCOPES, "admin")) as client:
        await book(client, PAYMENT | {"booked_at": "2024-10-10", "reference": "SEPA-7"})
        await client.post(CLOSES, json={"until": "2024-11-01T00:00:00+00:00"})
        for body, status in (
            ({}, 422),
            ({"reason": "x", "booked_at": "2024-10-11"}, 422),
            ({"reason": "wrong account", "booked_at": "2024-11-05"}, 201),
            ({"reason": "again"}, 409),
        ):
            answer = await client.post(f"{ENTRIES}/1/reverse", json=body)
            assert answer.status_code == status, answer.text
        for id_, status in (("2", 409), ("3", 404), ("x", 404)):
            answer = await client.post(f"{ENTRIES}/{id_}/reverse", json={"reason": "x"})
            assert answer.status_code == status, answer.text
        (reversal,) = (await client.get(ENTRIES, params={"reverses": 1})).json()["data"]
        assert (reversal["kind"], reversal["amount"], reversal["change"]) == ("payment", "125.00", "125.00")
        again = await book(client, PAYMENT | {"booked_at": "2024-11-06", "reference": "SEPA-7"})
        assert again.status_code == 201, "its reference is free again"
        body = await statements(client, party="affiliate", **OCTOBER)
        assert balances(body) == {(513, "EUR"): ("0.00", "0.00", "-125.00")}
        november = {"from": "2024-11", "to": "2024-11"}
        (row,) = (await statements(client, party="affiliate", **november))["data"]
        assert (row["opening"], row["payment"], row["closing"]) == ("-125.00", "0.00", "-125.00")


async def test_repeat_under_the_same_key_books_nothing_again(demo: Settings) -> None:
    key = {"Idempotency-Key": "october"}
    async with api_of(demo, scopes=SCOPES) as client:
        first = await book(client, PAYMENT, **key)
        again = await book(client, PAYMENT, **key)
        assert (again.status_code, again.json()) == (201, first.json())
        other = await book(client, PAYMENT | {"amount": "126"}, **key)
        assert (other.status_code, list(other.json()["errors"])) == (422, ["Idempotency-Key"])
        assert (await client.get(ENTRIES)).json()["total"] == 1


async def upload(client: AsyncClient, lines: list[str], query: str = "", **headers: str) -> Response:
    content = "\r\n".join(lines).encode()
    return await client.post(
        f"{UPLOADS}{query}", content=content, headers={"Content-Type": "text/csv", **headers}
    )


HEAD = "affiliate_id;advertiser_id;kind;amount;currency;date;note;reference"
GOOD = [
    "513;;payment;125.00;EUR;2024-10-10;October;SEPA-7",
    ";1;fee;1.5;KWD;;set-up;",
    "514;;Bonus;100;jpy;;Top;",
]


async def test_file_is_booked_whole_or_not_at_all(demo: Settings) -> None:
    faulty = [
        *GOOD,
        "513;;payment;1;EUR;;x;SEPA-7",
        ";99;fee;x;EUR;2999-01-01;;",
        "513;;fee;1;EUR;2999-01-01;x;",
    ]
    async with api_of(demo, scopes=SCOPES) as client:
        answer = await upload(client, [HEAD, *faulty])
        assert (answer.status_code, list(answer.json()["errors"])) == (
            422,
            ["lines.6.amount", "lines.6.reason"],
        )
        answer = await upload(client, [HEAD, *(faulty[:4]), faulty[5], ";99;fee;1;EUR;;x;"])
        assert list(answer.json()["errors"]) == [
            "lines.5.reference",
            "lines.6.booked_at",
            "lines.7.advertiser_id",
        ]
        assert "Nothing is booked: 3 of 6 lines are wrong" in answer.json()["message"]
        trial = (await upload(client, [HEAD, *GOOD], "?dry_run=true")).json()
        assert (trial["dry_run"], trial["lines"]) == (True, 3)
        assert (await client.get(ENTRIES)).json()["total"] == 0
        key = {"Idempotency-Key": "file"}
        done = (await upload(client, [HEAD, *GOOD], **key)).json()
        assert (await upload(client, [HEAD, *GOOD], **key)).json() == done
        assert [row["change"] for row in done["entries"]] == ["-125.00", "1.50", "100.00"]
        assert [row["change"] for row in trial["entries"]] == ["-125.00", "1.50", "100.00"]
        assert (await client.get(ENTRIES)).json()["total"] == 3


@pytest.mark.parametrize(
    ("lines", "field"),
    [
        ([HEAD], "body"),
        (["affiliate_id,kind,amount,currency"], "body"),
        ([f"{HEAD};colour"], "body"),
        ([HEAD, *["513;;fee;1;EUR;;x;"] * 10_001], "body"),
        ([HEAD, "513;;fee"], "lines.2"),
    ],
)
async def test_unreadable_file_is_refused(demo: Settings, lines: list[str], field: str) -> None:
    async with api_of(demo, scopes=SCOPES) as client:
        answer = await upload(client, lines)
        assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])


async def test_scopes_of_entries(demo: Settings) -> None:
    async with api_of(demo, scopes=("money:read",)) as client:
        assert (await book(client, PAYMENT)).status_code == 403
        assert (await upload(client, [HEAD, *GOOD])).status_code == 403
        assert (await client.post(f"{ENTRIES}/1/reverse", json={"reason": "x"})).status_code == 403
    async with api_of(demo, scopes=("money:write",)) as client:
        assert (await client.get(ENTRIES)).status_code == 403


async def test_entries_are_never_changed(demo: Settings) -> None:
    async with api_of(demo, scopes=SCOPES) as client:
        await book(client, PAYMENT)
    for statement in ("UPDATE manual_entry SET reason = 'y'", "DELETE FROM manual_entry"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await run_sql(demo, statement)


async def test_entry_of_now_is_after_the_close(demo: Settings) -> None:
    until = datetime.now(UTC) - timedelta(milliseconds=1)
    async with api_of(demo, scopes=(*SCOPES, "admin")) as client:
        assert (await client.post(CLOSES, json={"until": until.isoformat()})).status_code == 201
        row = (await book(client, PAYMENT)).json()
        assert datetime.fromisoformat(row["booked_at"]) >= until
