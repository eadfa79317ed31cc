"""Reports: clicks and conversions by one or two groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

import orjson
from pydantic import Field, create_model
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.exports import CSV, NDJSON, STREAMED, csv_file, excel_file
from tracker.api.http.problems import SECURITY_HEADERS, Problem
from tracker.api.statements import PATH as STATEMENTS
from tracker.parameters import Model
from tracker.reading.reports import query as reports
from tracker.reading.reports.measures import values
from tracker.reading.reports.query import FIELDS, ReportQuery, measures_of, sort_of
from tracker.reading.reports.rows import Shown, as_table, changes_of, rows
from tracker.reading.visibility import OF_MONEY, Visibility
from tracker.store.db import Pool
from tracker.store.reports.groups import DIMENSIONS, TIMES
from tracker.store.reports.measures import MEASURES, Measure
from tracker.store.reports.report import Report
from tracker.store.reports.request import MOST_ROWS, ReportRequest
from tracker.store.reports.sources import NARROW, TooManyClicksError
from tracker.store.reports.sums import Columns

PATH = "/backend/open-api/v1/users/reports"

_SUMS = Columns(
    size=1,
    counts={
        "gross": [1200],
        "clicks": [1170],
        "uniques": [1020],
        "approved": [100],
        "pending": [20],
        "hold": [5],
        "rejected": [10],
        "over_cap": [2],
        "soon": [1],
        "late": [12],
    },
    medians=[1840],
    money={
        "payout": {"EUR": [250_000_000]},
        "revenue": {"EUR": [400_000_000]},
        "pending_payout": {"EUR": [62_500_000]},
        "pending_revenue": {"EUR": [100_000_000]},
    },
)
_EXAMPLE = {name: values(name, _SUMS)[0] for name in MEASURES}


def _of_measure(name: str, measure: Measure) -> Any:
    """The type of a measure, and its description. A row has it only if it is asked for."""
    kind: Any
    if measure.is_money:
        kind = dict[str, str | None] if measure.per else dict[str, str]
        text = f"{measure.about} By currency: exact decimals as strings. {{}} if there are none."
        return kind, Field({}, description=text, examples=[_EXAMPLE[name]])
    if measure.per:
        text = f"{measure.about} null if that divides by zero."
        return str | None, Field(None, description=text, examples=[_EXAMPLE[name]])
    kind, first = (int | None, None) if measure.is_timed else (int, 0)
    return kind, Field(first, description=measure.about, examples=[_EXAMPLE[name]])


_MEASURES: dict[str, Any] = {name: _of_measure(name, measure) for name, measure in MEASURES.items()}


class ReportSums(create_model("Measures", **_MEASURES)):  # type: ignore[misc]
    """Sums without tests: gross = clicks + invalid, clicks = uniques + duplicates."""


class ComparedSums(ReportSums):
    """Sums, and those of the span that they are compared with."""

    compared: ReportSums | None = Field(None, description="Only with compare: the sums of the other span.")


_TIME_EXAMPLES = {"hour": "2026-11-25T17:00:00+01:00", "day": "2026-11-25", "week": "2026-11-23"}


def _groups() -> dict[str, Any]:
    """The fields of groups, and of their names."""
    fields: dict[str, Any] = {
        time: (str, Field(default="", examples=[_TIME_EXAMPLES.get(time, "2026-11-01")])) for time in TIMES
    }
    for one in DIMENSIONS.values():
        fields[one.key] = (one.kind | None, None) if one.is_nullable else (one.kind, one.kind())
        if one.name:
            fields[one.name] = (str | None, None)
    return fields


class ReportRow(create_model("Groups", __base__=ComparedSums, **_groups())):  # type: ignore[misc]
    """One group. Of its group fields it has only those of group_by."""


_SHOWN = {name: value for name, value in _EXAMPLE.items() if MEASURES[name].is_shown}
EXAMPLES: Mapping[str, Mapping[str, object]] = {
    ReportRow.__name__: {"offer_id": 3, "offer_name": "Test Offer", **_SHOWN},
    ComparedSums.__name__: _SHOWN,
    ReportSums.__name__: _SHOWN,
}
"""An example of each model of sums, by its name. Partners' models have names that end with it."""


_Adjusted = Annotated[
    dict[str, str],
    Field(
        description="The amounts booked for these changes, by currency, with a sign.",
        examples=[{"EUR": "-12.50"}],
    ),
]


class ReportChanges(Model):
    """Changes of the report's conversions since their period was closed."""

    text: str = Field(examples=["changed since it was closed: 1 conversion, payout -12.50 EUR"])
    conversions: int = Field(
        description="Conversions that are new, or have another status or amount.", examples=[1]
    )
    payout: _Adjusted
    revenue: _Adjusted
    statement: str | None = Field(
        None,
        description="The statements of the same days, if the report has both ends: what was booked.",
        examples=["/backend/open-api/v1/users/statements?party=affiliate&from=2026-10-01&to=2026-10-31"],
    )


class ReportAnswer(Model):
    """A report. Groups are sorted as asked for, or by time, then by gross, the most first."""

    data: list[ReportRow]
    other: ComparedSums | None = Field(
        description=f"Sums of the groups that are not rows: beyond `limit` ({MOST_ROWS:,} at most), with "
        "fewer than min_clicks, or without conversions. null if there are none.",
        examples=[None],
    )
    totals: ComparedSums
    approximate: bool = Field(
        default=False,
        description="Only if true: values of a sub id with few clicks are not kept apart. Their clicks are "
        "in `other`, and so may be some clicks of the rows. CSV has it as the header Approximate.",
    )
    changed_since_close: ReportChanges | None = Field(
        None,
        description="Only in a report about a closed period, and not with date_basis=booked, as the book of "
        "a closed period does not change. The rows show conversions as they are now. CSV has the text in the "
        "header Changed-Since-Close.",
    )


ALL = Visibility(tuple(ReportRow.model_fields))
"""What the network sees of a report."""


def without_money(measures: Iterable[str]) -> list[str]:
    """The measures that show no amount."""
    return [name for name in measures if name not in OF_MONEY]


_PLAIN = without_money(MEASURES)
_OF_PLAIN: dict[str, Any] = {"measures": measures_of(_PLAIN), "sort": sort_of(FIELDS, _PLAIN)}
_WithoutMoney = create_model(
    "ReportQueryWithoutMoney", __base__=ReportQuery, __doc__=ReportQuery.__doc__, **_OF_PLAIN
)


@endpoint(
    scope="reports:read",
    query=ReportQuery,
    without_money=_WithoutMoney,
    returns=ReportAnswer,
    files=STREAMED,
    tag="Reports",
    has_complete_until=True,
    from_standby=True,
)
async def read_report(call: Call[ReportQuery]) -> Response:
    """Get a report

    Counts clicks and conversions in one to three groups, without test clicks. Each number equals the total of
    the list with the same filters. Reports are fast if all groups and filters besides time are of one
    dimension, or of offers and affiliates in whole days (UTC). Other reports read clicks one by one. If the
    time range has too many clicks for that, the answer is 503 and says what to narrow.

    Conversions are those of the counted clicks. Filters and groups are about the clicks, status and reason
    included. Only conversions have a goal or a sale_status: clicks are counted in the row without one.
    Currencies are never added up. CSV has a column for each currency, such as payout_EUR.
    """
    return await answer_report(call, call.query, ALL.seen_by(call.token))


routes: list[Route] = [Route(PATH, read_report)]


async def answer_report(call: Call[Any], query: ReportQuery, sight: Visibility) -> Response:
    """What is seen of a report."""
    query = query.checked(call.network_zone)
    if query.format == "json":
        body = orjson.dumps(await report_of(call.pool, query, call.network_zone, sight))
        return Response(body, headers=SECURITY_HEADERS, media_type="application/json")
    _, report = await _report(call.pool, query, call.network_zone, sight)
    return _file(query, report, Shown(query.group_by, query.shown(sight), sight))


async def report_of(
    pool: Pool, query: ReportQuery, network_zone: str, sight: Visibility
) -> dict[str, object]:
    """What is seen of a report of a checked query, as JSON has it.

    Raises:
        ParameterError: two parameters contradict each other.
        Problem: 503 if its clicks cannot be read in time.
    """
    asked, report = await _report(pool, query, network_zone, sight)
    shown = Shown(query.group_by, query.shown(sight), sight)
    return _as_json(report, shown, {} if sight.hides_money else _statement(query, asked))


async def _report(
    pool: Pool, query: ReportQuery, network_zone: str, sight: Visibility
) -> tuple[ReportRequest, Report]:
    asked = await reports.request_of(pool, query, network_zone, sight)
    return asked, await _read(pool, asked)


async def _read(pool: Pool, asked: ReportRequest) -> Report:
    try:
        return await reports.read(pool, asked)
    except TooManyClicksError as error:
        detail = f"These groups and filters match {error}."
        errors = {"created_from": [NARROW]}
        raise Problem(503, detail, errors=errors) from None


def _statement(query: ReportQuery, asked: ReportRequest) -> dict[str, str]:
    """The path of the statements of the same days, for the network."""
    (start, end), clicks = query.times(), asked.wanted.clicks
    if start is None or end is None or clicks.owner is not None:
        return {}
    ids = {column: value for column, value in clicks.equals if column in ("affiliate_id", "advertiser_id")}
    party = "advertiser" if ids.keys() == {"advertiser_id"} else "affiliate"
    span = {"party": party, "from": start.date(), "to": end.date()}
    zone = {"tz": query.tz} if query.tz else {}
    own = {name: value for name, value in ids.items() if name == f"{party}_id"}
    return {"statement": f"{STATEMENTS}?{urlencode({**span, **zone, **own})}"}


def _as_json(report: Report, shown: Shown, statement: Mapping[str, str]) -> dict[str, object]:
    changed = {} if report.changed is None else {**changes_of(report.changed, shown.visibility), **statement}
    return {
        **rows(report, shown)._asdict(),
        **({"approximate": True} if report.is_approximate else {}),
        **({"changed_since_close": changed} if changed else {}),
    }


def _file(query: ReportQuery, report: Report, shown: Shown) -> Response:
    keys, table = as_table(report, shown, has_totals=bool(query.totals))
    body, media_type, extension = _FILES[query.format](query, keys, table)
    headers = {**SECURITY_HEADERS, "Content-Disposition": f'attachment; filename="report.{extension}"'}
    if report.is_approximate:
        headers["Approximate"] = "true"
    if report.changed is not None:
        headers["Changed-Since-Close"] = str(changes_of(report.changed, shown.visibility)["text"])
    return Response(body, headers=headers, media_type=media_type)


_Written = tuple[bytes, str, str]
"""A file, its media type and its extension."""


def _csv(_query: ReportQuery, keys: Sequence[str], table: Sequence[dict[str, object]]) -> _Written:
    return csv_file(keys, table), CSV, "csv"


def _excel(query: ReportQuery, keys: Sequence[str], table: Sequence[dict[str, object]]) -> _Written:
    return excel_file(keys, table, query.separator or ","), CSV, "csv"


def _ndjson(_query: ReportQuery, _: Sequence[str], table: Sequence[dict[str, object]]) -> _Written:
    return b"".join(orjson.dumps(row) + b"\n" for row in table), NDJSON, "ndjson"


_FILES = {"csv": _csv, "excel": _excel, "ndjson": _ndjson}
