"""`tracker reports`: a report of the API, on a terminal or as a file."""

from __future__ import annotations

import asyncio
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter

import orjson

from tracker.api.http.exports import csv_file, excel_file
from tracker.api.reports import ReportRow
from tracker.commands.arguments import text
from tracker.commands.queries import add_query, format_asked, query_of, user_error
from tracker.commands.tables import cell, print_table
from tracker.errors import UserError
from tracker.parameters import ParameterError
from tracker.reading.reports import query as reports
from tracker.reading.reports.query import ReportQuery
from tracker.reading.reports.rows import Shown, Table, as_table, changes_of
from tracker.reading.visibility import Visibility
from tracker.settings import Settings
from tracker.store.db import open_pool
from tracker.store.reports.sources import NARROW, TooManyClicksError

_ALL = Visibility(tuple(ReportRow.model_fields))

_ABOUT = """\
Counts clicks and conversions in groups, without tests. Each currency has columns of its own. The columns are
those of the API's CSV (docs/reference/reports.md).

examples:
  tracker reports --group-by offer --from 2026-11-01 --to 2026-11-30
  tracker reports --group-by day,affiliate --from 2026-11-01 offer_id=3 --csv > november.csv
  tracker reports --group-by affiliate --from 2026-11-01 --to 2026-11-30 date_basis=booked
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog, parser.formatter_class = _ABOUT, RawDescriptionHelpFormatter
    parser.add_argument(
        "--group-by",
        type=text,
        required=True,
        metavar="GROUPS",
        help="one to three, such as offer,day",
    )
    add_query(parser, ReportQuery, "group_by")


def run(settings: Settings, arguments: Namespace) -> int:
    format_ = format_asked(arguments)
    further = {"format": format_} if format_ else {}
    query = query_of(arguments, ReportQuery, group_by=arguments.group_by, **further)
    try:
        asyncio.run(_run(settings, query))
    except ParameterError as error:
        raise user_error(error) from None
    except TooManyClicksError as error:
        raise UserError(f"these groups and filters match {error}: {NARROW}") from None
    return 0


async def _run(settings: Settings, query: ReportQuery) -> None:
    assert settings.postgres_dsn
    query = query.checked(settings.time_zone)
    pool = await open_pool(settings.postgres_dsn)
    try:
        asked = await reports.request_of(pool, query, settings.time_zone, _ALL)
        report = await reports.read(pool, asked)
    finally:
        pool.terminate()
    shown = Shown(query.group_by, query.shown(_ALL), _ALL)
    _print(query, as_table(report, shown, has_totals=bool(query.totals)))
    if report.is_approximate:
        print(
            "tracker: approximate: values with few clicks are not kept apart, so (other) has their clicks, "
            "and may have some clicks of the rows",
            file=sys.stderr,
        )
    if report.changed is not None:
        print(f"tracker: {changes_of(report.changed, _ALL)['text']}", file=sys.stderr)


def _print(query: ReportQuery, table: Table) -> None:
    if "format" not in query.model_fields_set:
        print_table(table.columns, ([cell(row[name]) for name in table.columns] for row in table.rows))
    elif query.format in ("json", "ndjson"):
        sys.stdout.buffer.writelines(orjson.dumps(row) + b"\n" for row in table.rows)
    elif query.format == "csv":
        sys.stdout.buffer.write(csv_file(table.columns, table.rows))
    else:
        sys.stdout.buffer.write(excel_file(table.columns, table.rows, query.separator or ","))
