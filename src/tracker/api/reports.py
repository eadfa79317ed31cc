"""Reports: clicks added up by one or two groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.auth import authorize
from tracker.api.click_query import FilterQuery
from tracker.api.completeness import complete_until
from tracker.api.exporting import CSV, csv_header, csv_rows
from tracker.api.openapi import answers, documented
from tracker.api.parameters import read_query
from tracker.api.problems import SECURITY_HEADERS, Problem, invalid
from tracker.api.times import offsets
from tracker.store import reports
from tracker.store.click_counts import Span
from tracker.store.click_list import TOO_SLOW, ClickFilter
from tracker.store.reports import Asked, Group, Offset, Report, Sums

PATH = "/backend/open-api/v1/users/reports"

_SCOPE = "reports:read"
_MOST_DAYS = 20 * 366
_EPOCH = date(1970, 1, 1).toordinal()

# What a row calls its groups: as the click list does.
_FIELDS = {**{time: time for time in reports.TIMES}, **reports.DIMENSIONS}
_NUMBERS = {"offer", "offer_url", "affiliate", "reason"}
_NULLABLE = {"country", "device_type", "browser"}
_NAMES = {"offer": "offer_name", "affiliate": "affiliate_name"}
_OTHER = "(other)"


def _groups(text: str) -> tuple[str, ...]:
    groups = tuple(text.split(","))
    if not 1 <= len(groups) <= 2 or len(set(groups)) < len(groups) or not _FIELDS.keys() >= set(groups):
        raise ValueError(f"is not one or two, with a comma between, of: {', '.join(_FIELDS)}")
    return groups


def _format(text: str) -> str:
    if text not in ("json", "csv"):
        raise ValueError("is none of: json, csv")
    return text


_ONE = f"({'|'.join(_FIELDS)})"
_GROUPS_SCHEMA = {"type": "string", "pattern": f"^{_ONE}(,{_ONE})?$", "examples": ["offer", "day,country"]}


class ReportQuery(FilterQuery):
    """Which clicks, and how they are added up."""

    group_by: Annotated[tuple[str, ...], BeforeValidator(_groups), WithJsonSchema(_GROUPS_SCHEMA)] = Field(
        description=f"One or two, with a comma between, of: {', '.join(_FIELDS)}."
    )
    format: Annotated[
        Literal["json", "csv"],
        BeforeValidator(_format),
        WithJsonSchema({"type": "string", "enum": ["json", "csv"]}),
    ] = Field(default="json", description="JSON, or CSV with a header and without totals.")


class ReportSums(BaseModel):
    """Clicks added up, tests excluded: gross = clicks + invalid, clicks = uniques + duplicates."""

    clicks: int = Field(description="Accepted clicks of people.", examples=[1170])
    uniques: int = Field(description="Of these, the visitors' first in the offer's window.", examples=[1020])
    duplicates: int = Field(description="Of these, the others.", examples=[150])
    invalid: int = Field(description="Clicks that were rejected, forwarded or of bots.", examples=[30])
    gross: int = Field(description="All clicks.", examples=[1200])


class ReportRow(ReportSums):
    """One group; of the first fields it has those that are grouped by."""

    day: str = Field(default="", description="In tz.", examples=["2026-11-25"])
    hour: str = Field(
        default="", description="In tz, with its offset.", examples=["2026-11-25T17:00:00+01:00"]
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


class ReportAnswer(BaseModel):
    """The groups: by time, and those with the most clicks first."""

    data: list[ReportRow]
    other: ReportSums | None = Field(
        description=f"What is in no row, where there are more than {reports.MOST_ROWS:,}; else null."
    )
    totals: ReportSums


@documented.validate(
    query=ReportQuery,
    resp=answers(ReportAnswer, 401, 403, 422, 503),
    tags=["Reports"],
    operation_id="read_report",
    skip_validation=True,
)
async def read_report(request: Request) -> Response:
    """Add clicks up

    Test clicks are left out. Every number is exactly what the list of the same filters would come to. Where
    groups and filters are of one dimension, besides time, the answer comes at once; elsewhere clicks are read
    one by one, and a time range with too many of them is refused with 503, which says what to narrow.
    """
    await authorize(request, _SCOPE)
    query = read_query(request, ReportQuery)
    complete = await complete_until(request)
    asked = await _asked(request, query)
    report = await _read(request, asked)
    write = _csv if query.format == "csv" else _json
    answer = write(asked.groups, report)
    answer.headers.update(complete)
    return answer


routes: list[BaseRoute] = [Route(PATH, read_report)]


async def _asked(request: Request, query: ReportQuery) -> Asked:
    network_zone = request.app.state.settings.time_zone
    clicks = query.clicks(network_zone)
    if reports.TIMES.keys().isdisjoint(query.group_by):
        return Asked(clicks, query.group_by)
    clicks = _clamped(clicks, await reports.extent(request.app.state.pool))
    low, high = clicks.span.low // 1000, -(-clicks.span.high // 1000)
    if high - low > _MOST_DAYS * 86_400:
        raise invalid({"created_from": [f"leaves more than {_MOST_DAYS} days to go through by day or hour"]})
    return Asked(
        clicks, query.group_by, [Offset(*offset) for offset in offsets(low, high, query.zone(network_zone))]
    )


def _clamped(clicks: ClickFilter, to: Span) -> ClickFilter:
    low = min(max(clicks.span.low, to.low), to.high)
    return clicks._replace(span=Span(low, max(low, min(clicks.span.high, to.high))))


async def _read(request: Request, asked: Asked) -> Report:
    try:
        return await reports.read(request.app.state.pool, asked)
    except TOO_SLOW:
        if reports.is_kept(asked):
            raise
        detail = "These groups and filters have more clicks than can be read one by one in time."
        errors = {"created_from": ["give a shorter time range, or groups and filters of one dimension only"]}
        raise Problem(503, detail, errors=errors) from None


def _json(groups: Sequence[str], report: Report) -> Response:
    other = _other(report)
    body = {
        "data": list(_rows(groups, report)),
        "other": None if other is None else _sums(other),
        "totals": _sums(report.totals),
    }
    return Response(orjson.dumps(body), headers=SECURITY_HEADERS, media_type="application/json")


def _csv(groups: Sequence[str], report: Report) -> Response:
    names = [name for group in groups for name in (_FIELDS[group], _NAMES.get(group)) if name]
    rows: list[dict[str, object]] = list(_rows(groups, report))
    other = _other(report)
    if other is not None:
        rows.append({**dict.fromkeys(names, _OTHER), **_sums(other)})
    body = csv_header((*names, *ReportSums.model_fields)) + csv_rows(rows)
    headers = {**SECURITY_HEADERS, "Content-Disposition": 'attachment; filename="report.csv"'}
    return Response(body, headers=headers, media_type=CSV)


def _rows(groups: Sequence[str], report: Report) -> Iterator[dict[str, object]]:
    for group in sorted(report.groups, key=lambda group: _time(groups, group)):
        row: dict[str, object] = {}
        for name, key in zip(groups, _keys(groups, group), strict=True):
            row[_FIELDS[name]] = key
            if name in _NAMES:
                row[_NAMES[name]] = report.names[name].get(str(key))
        yield {**row, **_sums(group.sums)}


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


def _sums(sums: Sums) -> dict[str, object]:
    return {
        "clicks": sums.clicks,
        "uniques": sums.uniques,
        "duplicates": sums.clicks - sums.uniques,
        "invalid": sums.gross - sums.clicks,
        "gross": sums.gross,
    }


def _other(report: Report) -> Sums | None:
    """What the totals have beyond the groups."""
    if len(report.groups) < reports.MOST_ROWS:
        return None
    shown = [sum(column) for column in zip(*(group.sums for group in report.groups), strict=True)]
    other = Sums(*(whole - part for whole, part in zip(report.totals, shown, strict=True)))
    return other if other.gross else None
