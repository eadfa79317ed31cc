"""Corrections: the operator sets amounts of conversions, one by one or by a file."""

from __future__ import annotations

from asyncio import to_thread

import orjson
from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.booking import MAX_FILE, MOST_LISTED, BookingHeaders, FileQuery, book_once
from tracker.api.conversions.endpoints import ALL, PATH, READ_SCOPE, read_conversion
from tracker.api.conversions.schema import Status
from tracker.api.http.endpoint import Body, Call, FileBody, endpoint
from tracker.catalogue import corrections
from tracker.catalogue.booked_lines import read_file
from tracker.catalogue.corrections import SHAPE, CorrectionFields, CorrectionLine
from tracker.catalogue.validation import check_storable, validated
from tracker.reading.keys import KEY, KeyQuery
from tracker.store.catalogue.edit import Row
from tracker.store.db import Connection
from tracker.store.tokens import Token

UPLOADS = f"{PATH}/correction-uploads"
SCOPE = "money:write"

_EXAMPLE = (
    "conversion_id,order_id,payout,revenue,reason\r\n902,,7.50,10.00,wrong price\r\n,A-1002,0,0,goodwill\r\n"
)
_OPEN = ("conversion_id", "reason", "author")
"""Keys for a token that may not read conversions."""


class CorrectedConversion(BaseModel):
    """The amounts of a conversion before and after. Without conversions:read all amounts are null."""

    conversion_id: int = Field(examples=[902])
    status: Status | None = Field(description="The difference is booked if it is approved.")
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
    warnings: list[str] | None = Field(
        None, description="Amounts that have more decimals than their currency. Absent without them."
    )


class CorrectedFile(BaseModel):
    """The result of a file. If any line were wrong, nothing would be corrected."""

    dry_run: bool
    lines: int = Field(description="Corrected conversions.", examples=[2])
    corrections: list[CorrectedConversion] = Field(description=f"The first {MOST_LISTED:,} corrections.")


@endpoint(
    scope=SCOPE,
    query=KeyQuery,
    headers=BookingHeaders,
    body=Body(CorrectionFields),
    returns=CorrectedConversion,
    status=201,
    tag="Conversions",
    path={"id": KEY},
)
async def correct_conversion(call: Call[KeyQuery]) -> Response:
    """Correct a conversion

    Sets its payout, revenue or sale_amount, for a partial refund or a wrong price. The currencies stay. Of an
    approved conversion the difference is booked with its author and reason, as an adjustment if its period is
    closed. Later postbacks can set its status, but none of its amounts. Only their refunds still count: a
    full refund rejects it, and a partial one changes an uncorrected percentage. Affiliates get no postback.
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
    query=FileQuery,
    headers=BookingHeaders,
    body=FileBody({"text/csv": _EXAMPLE}, MAX_FILE),
    returns=CorrectedFile,
    status=201,
    tag="Conversions",
)
async def upload_corrections(call: Call[FileQuery]) -> Response:
    """Upload corrections

    A CSV file with a header and at most 10,000 lines. A line has conversion_id or order_id, payout, revenue
    or sale_amount, and a reason. `advertiser_id` tells conversions with the same order id apart. If a line is
    wrong, the answer names its number and field, and nothing is corrected. `dry_run=true` shows the
    corrections and changes nothing.
    """
    _, body = await call.file()
    lines = await to_thread(read_file, body, CorrectionLine, SHAPE)
    is_trial = bool(call.query.dry_run)

    async def book(connection: Connection) -> object:
        rows = await corrections.correct(connection, call.author, lines)
        shown = [_visible_to(call.token, row) for row in rows[:MOST_LISTED]]
        return {"dry_run": is_trial, "lines": len(rows), "corrections": shown}

    return await book_once(call, body, book, is_trial=is_trial)


routes: list[Route] = [
    Route(UPLOADS, upload_corrections, methods=["POST"]),
    Route(f"{PATH}/{{id}}/corrections", correct_conversion, methods=["POST"]),
]


def _visible_to(token: Token, row: Row) -> Row:
    if token.allows(READ_SCOPE):
        return row
    return {name: value if name in _OPEN else None for name, value in row.items()}
