"""Statements: what is owed to affiliates, and what advertisers owe."""

from __future__ import annotations

from asyncio import to_thread
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, Field, create_model
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.catalogue import listed
from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.exports import CSV, STREAMED, answer_export, csv_file, excel_file
from tracker.api.http.listing import as_json
from tracker.api.http.paging import envelope
from tracker.api.http.problems import SECURITY_HEADERS
from tracker.api.http.routing import ROOT
from tracker.parameters import Model
from tracker.reading import statements
from tracker.reading.statements import (
    Answer,
    BalanceQuery,
    StatementEntriesQuery,
    StatementLinesQuery,
    StatementQuery,
)
from tracker.store.token_owner import Owner

PATH = f"{ROOT}/statements"
BALANCES = f"{ROOT}/balances"
SCOPE = "money:read"

_Amount = Annotated[str, Field(examples=["125.00"])]


class AdjustedPeriod(Model):
    """The adjustments of one closed period, booked in the span of the statement."""

    from_: str | None = Field(
        alias="from",
        description="The end of the period before. null: the adjusted period is the first.",
        examples=["2026-10-01 00:00:00"],
    )
    until: str | None = Field(
        description="The end of the period, exclusive.", examples=["2026-11-01 00:00:00"]
    )
    entries: int = Field(examples=[1])
    amount: str = Field(examples=["-12.50"])


class BookedGroup(Model):
    """A part of what is booked. It has only the keys of its group_by."""

    offer_id: int = Field(default=0, examples=[3])
    offer_name: str | None = None
    goal_id: int = Field(default=0, examples=[30])
    goal_name: str | None = None
    month: str = Field(default="", examples=["2026-10"])
    day: str = Field(default="", examples=["2026-10-31"])
    kind: str = Field(default="", description="approval, reversal or correction.", examples=["approval"])
    entries: int = Field(examples=[10])
    amount: _Amount


class StatementRow(Model):
    """A statement of one party in one currency: closing is the sum of all amounts above it."""

    affiliate_id: int = Field(default=0, description="Only with party=affiliate.", examples=[513])
    affiliate_name: str | None = None
    advertiser_id: int = Field(default=0, description="Only with party=advertiser.", examples=[1])
    advertiser_name: str | None = None
    currency: str = Field(examples=["EUR"])
    opening: str = Field(description="The sum of all entries before `from`.", examples=["0.00"])
    booked: str = Field(
        description="Approvals, reversals and corrections, booked at the conversions' own time.",
        examples=["125.00"],
    )
    adjustments: str = Field(
        description="The same of conversions whose period was closed before. `adjusted` names the periods.",
        examples=["-12.50"],
    )
    bonus: str = Field(
        description="Entries by hand, like the next three. Each has its sign.", examples=["0.00"]
    )
    fee: str = Field(examples=["0.00"])
    chargeback: str = Field(examples=["0.00"])
    payment: str = Field(examples=["-100.00"])
    closing: str = Field(
        description="What is owed at the end. Below 0: too much was paid.", examples=["12.50"]
    )
    adjusted: list[AdjustedPeriod]
    groups: list[BookedGroup] | None = Field(
        default=None, description="Only with group_by. The sum of their amounts is `booked`."
    )


def _total_of(row: type[BaseModel], name: str) -> type[BaseModel]:
    """The sum of rows in one currency: a row without its party and its parts."""
    left_out = ("affiliate_id", "affiliate_name", "advertiser_id", "advertiser_name", "adjusted", "groups")
    fields: dict[str, Any] = {
        key: (field.annotation, field) for key, field in row.model_fields.items() if key not in left_out
    }
    return create_model(name, __doc__="The sum of all rows in one currency.", **fields)


_TOTALS = "The sums of all rows, by currency. Currencies are never added up."
StatementTotal = _total_of(StatementRow, "StatementTotal")


class StatementEntry(Model):
    """An entry of a statement. It has the columns of the lines."""

    booked_at: str = Field(examples=["2026-10-15 12:00:00"])
    line: str = Field(
        description="approval, reversal, correction, bonus, fee, chargeback or payment.",
        examples=["approval"],
    )
    affiliate_id: int = Field(default=0, description="Only with party=affiliate.", examples=[513])
    affiliate_name: str | None = None
    advertiser_id: int = Field(default=0, description="Only with party=advertiser.", examples=[1])
    advertiser_name: str | None = None
    amount: str = Field(description="With its sign.", examples=["2.50"])
    currency: str = Field(examples=["EUR"])
    conversion_id: int | None
    order_id: str | None = Field(None, description="Not for affiliates.")
    offer_id: int | None
    offer_name: str | None
    goal_id: int | None
    goal_name: str | None
    conversion_at: str | None
    period_until: str | None = Field(description="Of an adjustment: the end of the period that it adjusts.")
    entry_id: int
    reverses: int | None
    reference: str
    reason: str
    author: str = Field(default="", description="Not for partners.")


class StatementAnswer(Model):
    """Statements by party and currency. Amounts have the decimals of their currency, finer ones have six."""

    party: Literal["affiliate", "advertiser"]
    from_: str = Field(alias="from", description="The first day.", examples=["2026-10-01"])
    to: str = Field(description="The last day.", examples=["2026-10-31"])
    tz: str = Field(examples=["Europe/Berlin"])
    is_final: bool = Field(
        description="true: the whole span is closed, so nothing in these statements changes any more."
    )
    data: list[StatementRow]
    totals: list[StatementTotal] = Field(description=_TOTALS)  # type: ignore[valid-type]


class BalanceRow(Model):
    """What one party is owed or owes now in one currency: balance is the sum of all amounts above it."""

    affiliate_id: int = Field(default=0, description="Only with party=affiliate.", examples=[513])
    affiliate_name: str | None = None
    advertiser_id: int = Field(default=0, description="Only with party=advertiser.", examples=[1])
    advertiser_name: str | None = None
    currency: str = Field(examples=["EUR"])
    approved: str = Field(
        description="Approvals, reversals and corrections of conversions, of all times.", examples=["125.00"]
    )
    bonus: str = Field(
        description="Entries by hand, like the next three. Each has its sign.", examples=["0.00"]
    )
    fee: str = Field(examples=["0.00"])
    chargeback: str = Field(examples=["0.00"])
    payment: str = Field(examples=["-100.00"])
    balance: str = Field(description="What is open. Below 0: too much was paid.", examples=["25.00"])


BalanceTotal = _total_of(BalanceRow, "BalanceTotal")


class BalanceAnswer(Model):
    """Balances by party and currency."""

    data: list[BalanceRow]
    totals: list[BalanceTotal] = Field(description=_TOTALS)  # type: ignore[valid-type]


@endpoint(
    scope=SCOPE,
    query=StatementQuery,
    returns=StatementAnswer,
    files=("text/csv",),
    tag="Money",
    has_complete_until=True,
)
async def read_statements(call: Call[StatementQuery]) -> Response:
    """Get statements

    What the network owes each affiliate, or each advertiser owes the network, by currency: the opening
    balance, what was booked, adjustments of closed periods, entries by hand, and the closing balance. A party
    without an entry and without a balance is left out. Currencies are never added up.
    """
    return await answer_statements(call, call.query, None)


@endpoint(
    scope=SCOPE,
    query=StatementEntriesQuery,
    returns=listed("StatementEntryList", StatementEntry),
    tag="Money",
    has_complete_until=True,
)
async def list_statement_entries(call: Call[StatementEntriesQuery]) -> Response:
    """List the entries of statements

    The lines page by page, the oldest first. Page numbers work for the first 10,000 entries: an export of the
    lines has all.
    """
    return await answer_entries(call, call.query, None)


@endpoint(scope=SCOPE, query=BalanceQuery, returns=BalanceAnswer, tag="Money", has_complete_until=True)
async def read_balances(call: Call[BalanceQuery]) -> Response:
    """Get balances

    What is open now between the network and each party, by currency. It is the closing balance of a statement
    of all times. Conversions without a decision are not in it. A party without any entry is left out.
    """
    return await answer_balances(call, call.query, None)


@endpoint(
    scope=SCOPE, query=StatementLinesQuery, returns=None, files=STREAMED, tag="Money", has_complete_until=True
)
async def export_statement_lines(call: Call[StatementLinesQuery]) -> Response:
    """Export the lines of statements

    A stream of all entries of the span in the order of their time, with their conversions. The line of an
    adjustment names the end of the period that it adjusts. The amounts of a party in a currency sum up to its
    closing balance less its opening balance.
    """
    return await answer_lines(call, call.query, None)


async def answer_statements(call: Call[Any], query: StatementQuery, owner: Owner | None) -> Response:
    """The statements that are visible to the network or to an owner."""
    query.check_separator()
    answer = await statements.read(call.state.pool, query, call.network_zone, owner)
    body = await to_thread(_body, answer, query)  # 30,000 statements take half a second
    if query.format == "json":
        return Response(body, headers=SECURITY_HEADERS, media_type="application/json")
    headers = {**SECURITY_HEADERS, "Content-Disposition": 'attachment; filename="statements.csv"'}
    return Response(body, headers=headers, media_type=CSV)


async def answer_balances(call: Call[Any], query: BalanceQuery, owner: Owner | None) -> Response:
    """The balances that are visible to the network or to an owner."""
    return as_json(await statements.balances(call.state.pool, query, owner))


async def answer_entries(call: Call[Any], query: StatementEntriesQuery, owner: Owner | None) -> Response:
    """A page of the entries that are visible to the network or to an owner."""
    page = await statements.entries(call.state.pool, query, call.network_zone, owner)
    return as_json(envelope(page, per_page=query.per_page, number=query.page or 1))


async def answer_lines(call: Call[Any], query: StatementLinesQuery, owner: Owner | None) -> Response:
    """The lines that are visible to the network or to an owner."""
    zone = query.zone(call.network_zone)
    asked = await statements.request_of(call.state.pool, query, call.network_zone, owner)
    chunks = statements.lines(call.state.pool, asked, zone)
    keys = statements.line_keys(asked)
    return await answer_export(call.request, chunks, name="statement-lines", keys=keys, query=query)


routes: list[Route] = [
    Route(PATH, read_statements),
    Route(f"{PATH}/lines", export_statement_lines),
    Route(f"{PATH}/entries", list_statement_entries),
    Route(BALANCES, read_balances),
]


def _body(answer: Answer, query: StatementQuery) -> bytes:
    if query.format == "json":
        return orjson.dumps({**answer.facts, "data": list(answer.rows), "totals": answer.totals})
    keys, rows = answer.table
    is_for_people = query.format == "excel"
    return excel_file(keys, rows, query.separator or ",") if is_for_people else csv_file(keys, rows)
