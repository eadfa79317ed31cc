"""Entries by hand: bonuses, fees, chargebacks and payments of affiliates and advertisers."""

from __future__ import annotations

from asyncio import to_thread
from typing import Literal

import orjson
from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.booking import (
    CSV,
    MAX_FILE,
    MOST_LISTED,
    NDJSON,
    SUMS,
    BookedSum,
    Booking,
    BookingHeaders,
    BookingQuery,
    book_once,
    sums_of,
)
from tracker.api.catalogue import PageQuery, as_json, list_rows, listed
from tracker.api.http.endpoint import Body, Call, FileBody, endpoint
from tracker.api.http.routing import ROOT
from tracker.catalogue import manual_entries
from tracker.catalogue.booked_lines import read_file
from tracker.catalogue.manual_entries import SHAPE, ManualEntryFields, ReversalFields
from tracker.catalogue.validation import check_storable, validated
from tracker.domain.local_time import zone_named
from tracker.domain.money import in_unit
from tracker.domain.normalise import amount, id_
from tracker.domain.statement import ManualKind, Party, change_of
from tracker.parameters import Id, Ident, Model, choice
from tracker.reading.statements import balance_of
from tracker.store.books.manual_entries import TABLE
from tracker.store.catalogue.edit import Row
from tracker.store.db import Connection

PATH = f"{ROOT}/manual-entries"
UPLOADS = f"{PATH}/uploads"
READ_SCOPE, WRITE_SCOPE = "money:read", "money:write"

_EXAMPLE = (
    "affiliate_id,kind,amount,currency,booked_at,reason,reference\r\n"
    "513,payment,125.00,EUR,2026-11-05,October,SEPA-2026-1105-7\r\n"
    "514,bonus,20,EUR,,Top of October,\r\n"
)
_JSON_EXAMPLE = (
    '{"affiliate_id":513,"kind":"payment","amount":"125.00","currency":"EUR","reason":"October"}\n'
)


class ManualEntry(Model):
    """An entry by hand. It never changes: another entry may reverse it."""

    id: int = Field(examples=[17])
    affiliate_id: int | None = Field(examples=[513])
    advertiser_id: int | None
    kind: Literal["bonus", "fee", "chargeback", "payment"]
    amount: str = Field(examples=["125.00"])
    currency: str = Field(examples=["EUR"])
    change: str = Field(description="How it changes the balance of its party.", examples=["-125.00"])
    booked_at: str = Field(description="UTC.", examples=["2026-11-05T00:00:00+00:00"])
    reason: str = Field(examples=["October"])
    reference: str = Field(description="Empty without one.", examples=["SEPA-2026-1105-7"])
    reverses: int | None = Field(description="The entry that it undoes.")
    author: str = Field(description="Name of the token.", examples=["accounts"])
    created_at: str = Field(description="UTC.", examples=["2026-11-05T09:00:00.123456+00:00"])
    balance_before: str | None = Field(
        None, description="Only with dry_run=true: the balance of its party in this currency."
    )
    balance_after: str | None = Field(None, description="Only with dry_run=true.")
    warnings: list[str] | None = Field(
        None, description="Of a new entry: its amount has more decimals than its currency. Else absent."
    )


class ManualEntryQuery(PageQuery):
    """Which entries."""

    affiliate_id: Id = Field(None, description="Entries of this affiliate.")
    advertiser_id: Id = Field(None, description="Entries of this advertiser.")
    kind: choice("bonus", "fee", "chargeback", "payment") = Field(None, description="Entries of this kind.")  # type: ignore[valid-type]
    reference: Ident = Field(None, description="Entries with this reference.")
    reverses: Id = Field(None, description="The entry that undoes this one.")


class BookedFile(Model):
    """The result of a file. If any line were wrong, nothing would be booked."""

    dry_run: bool
    lines: int = Field(description="Booked lines.", examples=[2])
    sums: list[BookedSum] = Field(description=SUMS)
    entries: list[ManualEntry] = Field(description=f"The first {MOST_LISTED:,} entries.")


@endpoint(
    scope=READ_SCOPE,
    query=ManualEntryQuery,
    returns=listed("ManualEntryList", ManualEntry),
    tag="Money",
)
async def list_manual_entries(call: Call[ManualEntryQuery]) -> Response:
    """List entries by hand

    The latest is first.
    """
    return await list_rows(call.state.pool, TABLE, call.query, {})


@endpoint(
    scope=WRITE_SCOPE,
    query=BookingQuery,
    headers=BookingHeaders,
    body=Body(ManualEntryFields),
    returns=ManualEntry,
    status=201,
    tag="Money",
)
async def create_manual_entry(call: Call[BookingQuery]) -> Response:
    """Book an entry by hand

    A bonus, a fee, a chargeback or a payment of one affiliate or advertiser. It cannot be changed or deleted.
    A wrong one is undone by `…/{id}/reverse`. It needs a time outside of closed periods. A reference
    prevents that a payment is booked twice, and so does an Idempotency-Key. `dry_run=true` shows the entry
    and the balance before and after it, and books nothing.
    """
    body = await call.object()
    check_storable(body)
    entry = validated(body, ManualEntryFields)
    zone = zone_named(call.network_zone)

    async def book(connection: Connection) -> object:
        return await manual_entries.book_one(connection, call.author, entry, zone)

    return await _with_balance(call, await book_once(call, orjson.dumps(body), book))


@endpoint(
    scope=WRITE_SCOPE,
    query=BookingQuery,
    headers=BookingHeaders,
    body=Body(ReversalFields),
    returns=ManualEntry,
    status=201,
    may_fail=(409,),
    tag="Money",
    path={"id": "The entry's id."},
)
async def reverse_manual_entry(call: Call[BookingQuery]) -> Response:
    """Reverse an entry by hand

    Books a further entry with the opposite change. Both stay. An entry that is reversed already, or is itself
    a reversal, gets 409. The reference of a reversed entry may be used again. `dry_run=true` shows the entry
    and the balance before and after it, and books nothing.
    """
    body = await call.object()
    check_storable(body)
    reversal = validated(body, ReversalFields)
    zone, entry_id = zone_named(call.network_zone), id_(call.path["id"])

    async def book(connection: Connection) -> object:
        return await manual_entries.reverse(connection, call.author, entry_id, reversal, zone)

    return await _with_balance(call, await book_once(call, orjson.dumps(body), book))


@endpoint(
    scope=WRITE_SCOPE,
    query=BookingQuery,
    headers=BookingHeaders,
    body=FileBody({CSV: _EXAMPLE, NDJSON: _JSON_EXAMPLE}, MAX_FILE),
    returns=BookedFile,
    status=201,
    tag="Money",
)
async def upload_manual_entries(call: Call[BookingQuery]) -> Response:
    """Upload entries by hand

    A file with at most 10,000 lines: CSV with a header (text/csv) or NDJSON (application/x-ndjson). A line
    has affiliate_id or advertiser_id, kind, amount, currency and reason, and may have booked_at and
    reference. If a line is wrong, the answer names its number and field, and nothing is booked.
    `dry_run=true` shows the entries and books nothing.
    """
    media_type, body = await call.file()
    entries = await to_thread(read_file, body, ManualEntryFields, SHAPE, is_csv=media_type == CSV)
    zone, is_trial = zone_named(call.network_zone), bool(call.query.dry_run)

    async def book(connection: Connection) -> object:
        rows = await manual_entries.book(connection, call.author, entries, zone)
        booked = (_booking(row) for row in rows)
        return {
            "dry_run": is_trial,
            "lines": len(rows),
            "sums": sums_of(booked),
            "entries": rows[:MOST_LISTED],
        }

    return await book_once(call, body, book)


routes: list[Route] = [
    Route(PATH, list_manual_entries),
    Route(PATH, create_manual_entry, methods=["POST"]),
    Route(UPLOADS, upload_manual_entries, methods=["POST"]),
    Route(f"{PATH}/{{id}}/reverse", reverse_manual_entry, methods=["POST"]),
]


def _booking(row: Row) -> Booking:
    party = "affiliate" if row["affiliate_id"] else "advertiser"
    return party, row[f"{party}_id"], row["currency"], row["change"]


async def _with_balance(call: Call[BookingQuery], answer: Response) -> Response:
    """The answer of a dry run with the balances of its party. They are read when no lock is held any more."""
    if not call.query.dry_run:
        return answer
    row = orjson.loads(answer.body)
    party = Party.ADVERTISER if row["affiliate_id"] is None else Party.AFFILIATE
    id_, kind, is_reversal = row[f"{party}_id"], ManualKind(row["kind"]), row["reverses"] is not None
    before = await balance_of(call.state.pool, party, id_, row["currency"])
    change = change_of(party, kind, amount(row["amount"]), is_reversal=is_reversal)
    balances = {"balance_before": before, "balance_after": before + change}
    shown = {name: in_unit(owed, row["currency"]) for name, owed in balances.items()}
    return as_json(row | shown, 201)
