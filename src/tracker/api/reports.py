"""Reports: clicks and conversions by one or two groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, Field, create_model
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.exports import CSV, csv_file, excel_file
from tracker.api.http.problems import SECURITY_HEADERS, Problem
from tracker.domain.click_fields import DIMENSIONS
from tracker.domain.click_fields import Field as ClickField
from tracker.reading import reports
from tracker.reading.reports import ReportQuery, TooManyClicksError, changes_of
from tracker.reading.visibility import Visibility
from tracker.store.reports.report import MOST_ROWS, Report, ReportRequest

PATH = "/backend/open-api/v1/users/reports"
_ApprovedMoney = Annotated[
    dict[str, str],
    Field(
        description="Amounts of approved conversions by currency: exact decimals as strings. "
        "{} if there are none.",
        examples=[{"EUR": "250.00", "USD": "12.50"}],
    ),
]
_PendingMoney = Annotated[
    dict[str, str],
    Field(
        description="Amounts of conversions that are pending or on hold, by currency.",
        examples=[{"EUR": "7.25"}],
    ),
]


class ReportSums(BaseModel):
    """Sums without tests: gross = clicks + invalid, clicks = uniques + duplicates."""

    clicks: int = Field(description="Accepted clicks of people.", examples=[1170])
    uniques: int = Field(
        description="Accepted clicks that are their visitor's first in the offer's window.", examples=[1020]
    )
    duplicates: int = Field(description="Accepted clicks that are not unique.", examples=[150])
    invalid: int = Field(description="Rejected and forwarded clicks, and clicks of bots.", examples=[30])
    gross: int = Field(description="All clicks.", examples=[1200])
    conversions_approved: int = Field(
        description="Approved conversions. Each conversion counts by its current status.", examples=[20]
    )
    conversions_pending: int = Field(examples=[3])
    conversions_hold: int = Field(examples=[1])
    conversions_rejected: int = Field(examples=[2])
    conversions_over_cap: int = Field(description="Conversions over a cap, of any status.", examples=[1])
    payout: _ApprovedMoney
    revenue: _ApprovedMoney
    pending_payout: _PendingMoney
    pending_revenue: _PendingMoney


class _NamedGroups(BaseModel):
    day: str = Field(default="", description="In the time zone of the request.", examples=["2026-11-25"])
    hour: str = Field(
        default="",
        description="In the time zone of the request, with its offset.",
        examples=["2026-11-25T17:00:00+01:00"],
    )
    offer_id: int = Field(default=0, examples=[3])
    offer_name: str | None = None
    offer_url_id: int | None = None
    affiliate_id: int = Field(default=0, examples=[513])
    affiliate_name: str | None = None


def _group(field: ClickField) -> Any:
    if field.is_nullable:
        return field.kind | None, None
    return field.kind, field.kind()


_GROUPS: dict[str, Any] = {
    field.name: _group(field) for field in DIMENSIONS.values() if field.name not in _NamedGroups.model_fields
}


class ReportRow(create_model("Groups", __base__=_NamedGroups, **_GROUPS), ReportSums):  # type: ignore[misc]
    """One group. Of its group fields it has only those of group_by."""


_Adjusted = Annotated[
    dict[str, str],
    Field(
        description="The amounts booked for these changes, by currency, with a sign.",
        examples=[{"EUR": "-12.50"}],
    ),
]


class ReportChanges(BaseModel):
    """Changes of the report's conversions since their period was closed."""

    text: str = Field(examples=["changed since it was closed: 1 conversion, payout -12.50 EUR"])
    conversions: int = Field(
        description="Conversions that are new, or have another status or amount.", examples=[1]
    )
    payout: _Adjusted
    revenue: _Adjusted


class ReportAnswer(BaseModel):
    """A report. Groups are sorted by time, then by clicks, the most first."""

    data: list[ReportRow]
    other: ReportSums | None = Field(
        description=f"Sums of the groups beyond the first {MOST_ROWS:,}. null if there are none."
    )
    totals: ReportSums
    changed_since_close: ReportChanges | None = Field(
        None,
        description="Only in a report about a closed period. The rows show conversions as they are now. "
        "CSV has the text in the header Changed-Since-Close.",
    )


_ALL = Visibility(tuple(ReportRow.model_fields))


@endpoint(
    scope="reports:read",
    query=ReportQuery,
    returns=ReportAnswer,
    files=("text/csv",),
    tag="Reports",
    has_complete_until=True,
)
async def read_report(call: Call[ReportQuery]) -> Response:
    """Get a report

    Counts clicks and conversions in one or two groups, without test clicks. Each number equals the total of
    the list with the same filters. Reports are fast if all groups and filters besides time are of one
    dimension. Other reports read clicks one by one. If the time range has too many clicks for that, the
    answer is 503 and says what to narrow.

    Conversions are those of the counted clicks. Filters and groups are about the clicks, status and reason
    included. Currencies are never added up. CSV has a column for each currency, such as payout_EUR.
    """
    return await answer_report(call.request, call.query, _ALL)


routes: list[Route] = [Route(PATH, read_report)]


async def answer_report(request: Request, query: ReportQuery, sight: Visibility) -> Response:
    """What is seen of a report."""
    query.check_separator()
    state = request.app.state
    asked = await reports.request_of(state.pool, query, state.settings.time_zone, sight)
    report = await _read(request, asked)
    if query.format == "json":
        return _json(asked.groups, report, sight)
    return _file(query, asked.groups, report, sight)


async def _read(request: Request, asked: ReportRequest) -> Report:
    try:
        return await reports.read(request.app.state.pool, asked)
    except TooManyClicksError:
        detail = "These groups and filters match more clicks than can be read in time."
        errors = {"created_from": ["use a shorter time range, or groups and filters of one dimension"]}
        raise Problem(503, detail, errors=errors) from None


def _json(groups: Sequence[str], report: Report, sight: Visibility) -> Response:
    other = reports.other(report)
    body = {
        "data": list(reports.rows(groups, report, sight)),
        "other": None if other is None else reports.sums(other, sight),
        "totals": reports.sums(report.totals, sight),
        **({} if report.changed is None else {"changed_since_close": changes_of(report.changed, sight)}),
    }
    return Response(orjson.dumps(body), headers=SECURITY_HEADERS, media_type="application/json")


def _file(query: ReportQuery, groups: Sequence[str], report: Report, sight: Visibility) -> Response:
    keys, rows = reports.as_table(groups, report, sight)
    is_for_people = query.format == "excel"
    body = excel_file(keys, rows, query.separator or ",") if is_for_people else csv_file(keys, rows)
    headers = {**SECURITY_HEADERS, "Content-Disposition": 'attachment; filename="report.csv"'}
    if report.changed is not None:
        headers["Changed-Since-Close"] = str(changes_of(report.changed, sight)["text"])
    return Response(body, headers=headers, media_type=CSV)
