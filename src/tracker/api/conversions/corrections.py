"""Corrections: the operator sets amounts of conversions, one by one or by a file."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Iterable, Iterator

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
from tracker.api.catalogue import PageQuery, listed
from tracker.api.conversions.endpoints import ALL, PATH, READ_SCOPE, read_conversion
from tracker.api.conversions.schema import Status
from tracker.api.http.endpoint import Body, Call, FileBody, endpoint
from tracker.api.http.listing import as_json
from tracker.api.http.paging import envelope
from tracker.api.http.routing import ROOT
from tracker.catalogue import corrections
from tracker.catalogue.booked_lines import read_file
from tracker.catalogue.corrections import SHAPE, CorrectionFields, CorrectionLine
from tracker.catalogue.validation import check_storable, validated
from tracker.parameters import Id, Model
from tracker.reading.keys import KEY, KeyQuery
from tracker.store.books import corrections as stored
from tracker.store.catalogue.edit import Row
from tracker.store.db import Connection
from tracker.store.tokens import Token

LIST = f"{ROOT}/corrections"
UPLOADS = f"{PATH}/correction-uploads"
SCOPE = "money:write"

_EXAMPLE = (
    "conversion_id,order_id,payout,revenue,reason\r\n902,,7.50,10.00,wrong price\r\n,A-1002,0,0,goodwill\r\n"
)
_JSON_EXAMPLE = '{"conversion_id":902,"payout":"7.50","revenue":"10.00","reason":"wrong price"}\n'
_OPEN = ("conversion_id", "reason", "author")
"""Keys for a token that may not read conversions."""


class BookedEntry(Model):
    """An entry in the book: the difference that a correction makes."""

    booked_at: str = Field(description="UTC.", examples=["2026-11-05T09:00:00.123456+00:00"])
    is_adjustment: bool = Field(description="true: the period of the conversion is closed.")
    payout: str = Field(examples=["-5.00"])
    payout_currency: str = Field(examples=["EUR"])
    revenue: str = Field(examples=["-5.00"])
    revenue_currency: str = Field(examples=["EUR"])


class CorrectedConversion(Model):
    """The amounts of a conversion before and after. Without conversions:read all amounts are null."""

    conversion_id: int = Field(examples=[902])
    status: Status | None = Field(description="The difference is booked if it is approved.")
    affiliate_id: int | None = Field(examples=[513])
    advertiser_id: int | None = Field(examples=[1])
    payout_before: str | None = Field(examples=["12.50"])
    payout: str | None = Field(examples=["7.50"])
    payout_currency: str | None = Field(examples=["EUR"])
    revenue_before: str | None = Field(examples=["15.00"])
    revenue: str | None = Field(examples=["10.00"])
    revenue_currency: str | None = Field(examples=["EUR"])
    sale_amount_before: str | None
    sale_amount: str | None
    sale_currency: str | None
    reason: str = Field(examples=["wrong price"])
    author: str = Field(description="Name of the token.", examples=["accounts"])
    booked: list[BookedEntry] | None = Field(
        description="What is booked. Empty: nothing, because it is not approved or nothing differs."
    )
    warnings: list[str] | None = Field(
        None, description="Amounts that have more decimals than their currency. Absent without them."
    )


class Correction(Model):
    """A correction of the past. It never changes: a later one may correct the conversion again."""

    id: int = Field(examples=[3])
    at: str = Field(description="UTC.", examples=["2026-11-05T09:00:00.123456+00:00"])
    conversion_id: int = Field(examples=[902])
    offer_id: int = Field(examples=[3])
    affiliate_id: int = Field(examples=[513])
    advertiser_id: int = Field(examples=[1])
    payout_before: str = Field(examples=["12.50"])
    payout: str = Field(examples=["7.50"])
    payout_currency: str = Field(examples=["EUR"])
    revenue_before: str = Field(examples=["15.00"])
    revenue: str = Field(examples=["10.00"])
    revenue_currency: str = Field(examples=["EUR"])
    sale_amount_before: str | None
    sale_amount: str | None
    sale_currency: str | None
    reason: str = Field(examples=["wrong price"])
    author: str = Field(description="Name of the token or user.", examples=["accounts"])


class CorrectionListQuery(PageQuery):
    """Which corrections."""

    conversion_id: Id = Field(None, description="Corrections of this conversion.")
    affiliate_id: Id = Field(None, description="Corrections of this affiliate's conversions.")
    advertiser_id: Id = Field(None, description="Corrections of this advertiser's conversions.")


class CorrectionQuery(KeyQuery, BookingQuery):
    """Which conversion, and whether it is corrected."""


class CorrectedFile(Model):
    """The result of a file. If any line were wrong, nothing would be corrected."""

    dry_run: bool
    lines: int = Field(description="Corrected conversions.", examples=[2])
    sums: list[BookedSum] | None = Field(
        description=f"{SUMS} Of affiliates payouts, of advertisers revenues. null without conversions:read."
    )
    corrections: list[CorrectedConversion] = Field(description=f"The first {MOST_LISTED:,} corrections.")


@endpoint(
    scope="money:read",
    query=CorrectionListQuery,
    returns=listed("CorrectionList", Correction),
    tag="Money",
    has_complete_until=True,
)
async def list_corrections(call: Call[CorrectionListQuery]) -> Response:
    """List corrections

    The latest is first.
    """
    query, number = call.query, call.query.page or 1
    wanted = {name: getattr(query, name) for name in stored.FILTERS}
    page = await stored.page(call.state.pool, wanted, number, query.per_page)
    return as_json(envelope(page, per_page=query.per_page, number=number))


@endpoint(
    scope=SCOPE,
    query=CorrectionQuery,
    headers=BookingHeaders,
    body=Body(CorrectionFields),
    returns=CorrectedConversion,
    status=201,
    tag="Conversions",
    path={"id": KEY},
)
async def correct_conversion(call: Call[CorrectionQuery]) -> Response:
    """Correct a conversion

    Sets its payout, revenue or sale_amount, for a partial refund or a wrong price. The currencies stay. Of an
    approved conversion the difference is booked with its author and reason, as an adjustment if its period is
    closed. Later postbacks can set its status, but none of its amounts. Only their refunds still count: a
    full refund rejects it, and a partial one changes an uncorrected percentage. Affiliates get no postback.
    `dry_run=true` shows the amounts and what would be booked, and changes nothing.
    """
    body = await call.object()
    check_storable(body)
    fields = validated(body, CorrectionFields)
    conversion_id = int(str((await read_conversion(call, ALL))["id"]))

    async def book(connection: Connection) -> object:
        row = await corrections.correct_one(connection, call.author, conversion_id, fields)
        return _visible_to(call.token, row)

    return await book_once(call, orjson.dumps(body), book)


@endpoint(
    scope=SCOPE,
    query=BookingQuery,
    headers=BookingHeaders,
    body=FileBody({CSV: _EXAMPLE, NDJSON: _JSON_EXAMPLE}, MAX_FILE),
    returns=CorrectedFile,
    status=201,
    tag="Conversions",
)
async def upload_corrections(call: Call[BookingQuery]) -> Response:
    """Upload corrections

    A file with at most 10,000 lines: CSV with a header (text/csv) or NDJSON (application/x-ndjson). A line
    has conversion_id or order_id, payout, revenue or sale_amount, and a reason. `advertiser_id` tells
    conversions with the same order id apart. If a line is wrong, the answer names its number and field, and
    nothing is corrected. `dry_run=true` shows the corrections and changes nothing.
    """
    media_type, body = await call.file()
    lines = await to_thread(read_file, body, CorrectionLine, SHAPE, is_csv=media_type == CSV)

    async def book(connection: Connection) -> object:
        rows = await corrections.correct(connection, call.author, lines)
        shown = [_visible_to(call.token, row) for row in rows[:MOST_LISTED]]
        sums = sums_of(_booked(rows)) if call.token.allows(READ_SCOPE) else None
        is_trial = bool(call.query.dry_run)
        return {"dry_run": is_trial, "lines": len(rows), "sums": sums, "corrections": shown}

    return await book_once(call, body, book)


routes: list[Route] = [
    Route(LIST, list_corrections),
    Route(UPLOADS, upload_corrections, methods=["POST"]),
    Route(f"{PATH}/{{id}}/corrections", correct_conversion, methods=["POST"]),
]


def _booked(rows: Iterable[Row]) -> Iterator[Booking]:
    for row in rows:
        for entry in row["booked"]:
            yield "affiliate", row["affiliate_id"], entry["payout_currency"], entry["payout"]
            yield "advertiser", row["advertiser_id"], entry["revenue_currency"], entry["revenue"]


def _visible_to(token: Token, row: Row) -> Row:
    if token.allows(READ_SCOPE):
        return row
    return {name: value if name in _OPEN else None for name, value in row.items()}
