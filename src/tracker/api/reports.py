"""Reports: clicks and conversions added up by one or two groups."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from functools import reduce
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.clicks.query import FilterQuery
from tracker.api.http.auth import authorize
from tracker.api.http.complete_until import complete_until
from tracker.api.http.endpoint import documented, needs, responses
from tracker.api.http.exports import CSV, csv_file, excel_file
from tracker.api.http.problems import SECURITY_HEADERS, Problem, invalid
from tracker.api.http.query import EXCEL, SeparatorQuery, choice, read_query
from tracker.api.http.visibility import Visibility
from tracker.domain.local_time import offsets
from tracker.domain.money import show
from tracker.store.clicks.list import ClickFilter
from tracker.store.paging import TOO_SLOW
from tracker.store.reports import report as reports
from tracker.store.reports.closes import ChangedSinceClose
from tracker.store.reports.conversions import COUNTS, KINDS
from tracker.store.reports.report import Group, Offset, Report, ReportRequest, Sums
from tracker.store.time_span import Span

PATH = "/backend/open-api/v1/users/reports"

_SCOPE = "reports:read"
_MOST_DAYS = 20 * 366
_EPOCH = date(1970, 1, 1).toordinal()

FIELDS = {**{time: time for time in reports.TIMES}, **reports.DIMENSIONS}
"""What a row calls its groups: as the click list does."""

_NUMBERS = {"offer", "offer_url", "affiliate", "reason"}
_NULLABLE = {"country", "device_type", "browser"}
_NAMES = {"offer": "offer_name", "affiliate": "affiliate_name"}
_OTHER = "(other)"
_FORMATS = ("json", "csv", "excel")


def groups_of(known: Collection[str]) -> Any:
    """The type of group_by: one or two of some groups."""

    def read(text: str) -> tuple[str, ...]:
        groups = tuple(text.split(","))
        if not 1 <= len(groups) <= 2 or len(set(groups)) < len(groups) or not set(known) >= set(groups):
            raise ValueError(f"is not one or two, separated by a comma, of: {', '.join(known)}")
        return groups

    one = f"({'|'.join(known)})"
    schema = {"type": "string", "pattern": f"^{one}(,{one})?$", "examples": ["offer", "day,country"]}
    return Annotated[
        tuple[str, ...],
        BeforeValidator(read),
        WithJsonSchema(schema),
        Field(description=f"One or two groups, separated by a comma: {', '.join(known)}."),
    ]


def _format(text: str) -> str:
    if text not in _FORMATS:
        raise ValueError(f"is not one of: {', '.join(_FORMATS)}")
    return text


class ReportQuery(FilterQuery, SeparatorQuery):
    """Which clicks, and how they are added up."""

    group_by: groups_of(FIELDS)  # type: ignore[valid-type]
    date_basis: choice("click", "conversion") = Field(  # type: ignore[valid-type]
        default="click",
        description="Whether conversions count at the time of their click or at their own time, in the "
        "time filters and in the groups day and hour. Clicks always count at their own time.",
    )
    format: Annotated[
        Literal["json", "csv", "excel"],
        BeforeValidator(_format),
        WithJsonSchema({"type": "string", "enum": list(_FORMATS)}),
    ] = Field(default="json", description=f"json, or csv: CSV with a header and without totals. {EXCEL}")


_ApprovedMoney = Annotated[
    dict[str, str],
    Field(
        description="Amounts of approved conversions by currency: exact decimals as strings.",
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


class ReportRow(ReportSums):
    """One group. Of its group fields it has only those of group_by."""

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
    country_code: str | None = None
    device_type: str | None = None
    device_os: str = ""
    browser: str | None = None
    affiliate_source: str = ""
    status: str = ""
    reason: int = 0


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
        description=f"Sums of the groups beyond the first {reports.MOST_ROWS:,}. null if there are none."
    )
    totals: ReportSums
    changed_since_close: ReportChanges | None = Field(
        None,
        description="Only in a report about a closed period. The rows show conversions as they are now. "
        "CSV has the text in the header Changed-Since-Close.",
    )


_ALL = Visibility(tuple(ReportRow.model_fields))


@documented.validate(
    query=ReportQuery,
    resp=responses(ReportAnswer, 401, 403, 422, 503),
    security=needs(_SCOPE),
    tags=["Reports"],
    operation_id="read_report",
    skip_validation=True,
)
async def read_report(request: Request) -> Response:
    """Add clicks and conversions up

    Test clicks are left out. Every number is exactly what the list of the same filters would come to. Where
    groups and filters are of one dimension, besides time, clicks are added up at once; elsewhere they are
    read one by one, and a time range with too many of them is refused with 503, which says what to narrow.

    Conversions are those of the same clicks: filters and groups are about these, also status and reason.
    Currencies are never added up; CSV has a column for each that occurs, as payout_EUR.
    """
    await authorize(request, _SCOPE)
    return await answer_report(request, read_query(request, ReportQuery), _ALL)


routes: list[BaseRoute] = [Route(PATH, read_report)]


async def answer_report(request: Request, query: ReportQuery, sight: Visibility) -> Response:
    """What is seen of a report."""
    query.check_separator()
    complete = await complete_until(request)
    asked = await _asked(request, query, sight)
    report = await _read(request, asked)
    if query.format == "json":
        answer = _json(asked.groups, report, sight)
    else:
        answer = _file(query, asked.groups, report, sight)
    answer.headers.update(complete)
    return answer


async def _asked(request: Request, query: ReportQuery, sight: Visibility) -> ReportRequest:
    network_zone, basis = request.app.state.settings.time_zone, query.date_basis
    clicks = sight.narrow(query.clicks(network_zone))
    if reports.TIMES.keys().isdisjoint(query.group_by):
        return ReportRequest(clicks, query.group_by, basis=basis)
    clicks = _clamped(clicks, await reports.extent(request.app.state.pool, basis))
    low, high = clicks.span.low // 1000, -(-clicks.span.high // 1000)
    if high - low > _MOST_DAYS * 86_400:
        raise invalid({"created_from": [f"leaves more than {_MOST_DAYS} days for a report by day or hour"]})
    changes = offsets(low, high, query.zone(network_zone))
    return ReportRequest(clicks, query.group_by, [Offset(*offset) for offset in changes], basis)


def _clamped(clicks: ClickFilter, to: Span) -> ClickFilter:
    low = min(max(clicks.span.low, to.low), to.high)
    return clicks._replace(span=Span(low, max(low, min(clicks.span.high, to.high))))


async def _read(request: Request, asked: ReportRequest) -> Report:
    try:
        return await reports.read(request.app.state.pool, asked)
    except TOO_SLOW:
        if reports.is_kept(asked):
            raise
        detail = "These groups and filters match more clicks than can be read in time."
        errors = {"created_from": ["use a shorter time range, or groups and filters of one dimension"]}
        raise Problem(503, detail, errors=errors) from None


def _json(groups: Sequence[str], report: Report, sight: Visibility) -> Response:
    other = _other(report)
    body = {
        "data": list(_rows(groups, report, sight)),
        "other": None if other is None else _sums(other, sight),
        "totals": _sums(report.totals, sight),
        **({} if report.changed is None else {"changed_since_close": changes_of(report.changed, sight)}),
    }
    return Response(orjson.dumps(body), headers=SECURITY_HEADERS, media_type="application/json")


def _file(query: ReportQuery, groups: Sequence[str], report: Report, sight: Visibility) -> Response:
    names = [name for group in groups for name in (FIELDS[group], _NAMES.get(group)) if name in sight.keys]
    rows: list[dict[str, object]] = list(_rows(groups, report, sight))
    other = _other(report)
    if other is not None:
        rows.append({**dict.fromkeys(names, _OTHER), **_sums(other, sight)})
    kinds = [kind for kind in KINDS if kind in sight.keys]
    money = [(kind, currency) for kind in kinds for currency in sorted(_currencies(report.totals, kind))]
    rows = [_flat(row, money) for row in rows]
    columns = [name for name in ReportSums.model_fields if name in sight.keys and name not in KINDS]
    columns += [f"{kind}_{currency}" for kind, currency in money]
    keys = (*names, *columns)
    is_for_people = query.format == "excel"
    body = excel_file(keys, rows, query.separator or ",") if is_for_people else csv_file(keys, rows)
    headers = {**SECURITY_HEADERS, "Content-Disposition": 'attachment; filename="report.csv"'}
    if report.changed is not None:
        headers["Changed-Since-Close"] = str(changes_of(report.changed, sight)["text"])
    return Response(body, headers=headers, media_type=CSV)


def changes_of(changed: ChangedSinceClose, sight: Visibility) -> dict[str, object]:
    """What is seen of what changed, and the line that says it."""
    kinds = [kind for kind in ("payout", "revenue") if kind in sight.keys]
    money = {
        kind: {
            currency: _signed(amount)
            for (told, currency), amount in sorted(changed.money.items())
            if told == kind
        }
        for kind in kinds
    }
    amounts = [f"{kind} {amount} {code}" for kind in kinds for code, amount in money[kind].items()]
    number = f"{changed.conversions} conversion{'' if changed.conversions == 1 else 's'}"
    text = f"changed since it was closed: {', '.join([number, *amounts])}"
    told: dict[str, object] = {"text": text, "conversions": changed.conversions}
    return told | {kind: money[kind] for kind in kinds}


def _signed(amount: Decimal) -> str:
    return f"{'-' if amount < 0 else '+'}{show(abs(amount))}"


def _currencies(sums: Sums, kind: str) -> set[str]:
    return {currency for told, currency in sums.money if told == kind}


def _flat(row: dict[str, Any], money: Sequence[tuple[str, str]]) -> dict[str, object]:
    """A row with a column for each kind and currency."""
    counts = {name: value for name, value in row.items() if name not in KINDS}
    return {**counts, **{f"{kind}_{currency}": row[kind].get(currency, "0.00") for kind, currency in money}}


def _rows(groups: Sequence[str], report: Report, sight: Visibility) -> Iterator[dict[str, object]]:
    for group in sorted(report.groups, key=lambda group: _time(groups, group)):
        row: dict[str, object] = {}
        for name, key in zip(groups, _keys(groups, group), strict=True):
            row[FIELDS[name]] = key
            if _NAMES.get(name) in sight.keys:
                row[_NAMES[name]] = report.names[name].get(str(key))
        yield {**row, **_sums(group.sums, sight)}


def _time(groups: Sequence[str], group: Group) -> list[int]:
    """Where a group is in time: nowhere, and so in its place, if it is no group of time."""
    told = {name: numbers for name, numbers in _told(groups, group) if name in reports.TIMES}
    hour = told.get("hour")
    instant = [] if hour is None else [hour[0] * 3600 - hour[1], hour[0]]
    return [*told.get("day", []), *instant]


def _keys(groups: Sequence[str], group: Group) -> list[object]:
    return [_key(name, told) for name, told in _told(groups, group)]


def _told(groups: Sequence[str], group: Group) -> list[tuple[str, list[Any]]]:
    """What tells each group of a row."""
    numbers = iter(group.keys)
    return [(name, [next(numbers) for _ in reports.TIMES.get(name, (name,))]) for name in groups]


def _key(group: str, told: list[Any]) -> object:
    if group == "day":
        return date.fromordinal(_EPOCH + told[0]).isoformat()
    if group == "hour":
        zone = timezone(timedelta(seconds=told[1]))
        return (datetime(1970, 1, 1, tzinfo=zone) + timedelta(hours=told[0])).isoformat()
    if group in _NUMBERS:
        return int(told[0]) if told[0] else None
    return told[0] or (None if group in _NULLABLE else "")


def _sums(sums: Sums, sight: Visibility) -> dict[str, object]:
    money = {
        kind: {currency: show(sums.money[kind, currency]) for currency in sorted(_currencies(sums, kind))}
        for kind in KINDS
    }
    told = {
        "clicks": sums.clicks,
        "uniques": sums.uniques,
        "duplicates": sums.clicks - sums.uniques,
        "invalid": sums.gross - sums.clicks,
        "gross": sums.gross,
        **{f"conversions_{name}": getattr(sums, name) for name in COUNTS},
        **money,
    }
    return {name: value for name, value in told.items() if name in sight.keys}


def _other(report: Report) -> Sums | None:
    """What the totals have beyond the groups."""
    if len(report.groups) < reports.MOST_ROWS:
        return None
    shown = reduce(Sums.plus, (group.sums for group in report.groups), Sums())
    other = report.totals.plus(shown, -1)
    return other if any(other[:-1]) else None
