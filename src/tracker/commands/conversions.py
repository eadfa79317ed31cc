"""`tracker conversions`: the list and the export of the API, on a terminal or as a file."""

from __future__ import annotations

import asyncio
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter

from tracker.commands.arguments import whole
from tracker.commands.queries import add_query, format_asked, query_of, user_error
from tracker.commands.tables import cell, print_table
from tracker.errors import UserError
from tracker.exporting import rows
from tracker.parameters import ParameterError
from tracker.reading.conversions import ConversionExportQuery, by_hash
from tracker.reading.visibility import Visibility
from tracker.settings import Settings
from tracker.store.conversions import list as conversion_list
from tracker.store.conversions.list import KEYS, ConversionFilter
from tracker.store.db import Pool, open_pool
from tracker.store.paging import Order, Row

_MOST = 10**12
_MOST_IN_TABLE = 10_000
_SHOWN = 50
_COLUMNS = ("id", "created_at", "status", "offer_id", "affiliate_id", "order_id", "payout", "revenue", "sale")

_ABOUT = f"""\
Without an option it shows the newest {_SHOWN} in a table. --csv, --excel and --json write all of them with
all columns, as the export of the API does. A million rows take no more memory than a thousand.

examples:
  tracker conversions status=pending affiliate_id=513
  tracker conversions --from 2026-11-01 --to 2026-11-30 --csv > november.csv
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog, parser.formatter_class = _ABOUT, RawDescriptionHelpFormatter
    add_query(parser, ConversionExportQuery)
    parser.add_argument(
        "--limit", type=whole(1, _MOST), metavar="N", help=f"the first N (a table: {_SHOWN}, a file: all)"
    )


def run(settings: Settings, arguments: Namespace) -> int:
    format_ = format_asked(arguments)
    further = {"format": "ndjson" if format_ == "json" else format_} if format_ else {}
    query = query_of(arguments, ConversionExportQuery, **further)
    try:
        asyncio.run(_run(settings, query, arguments.limit))
    except ParameterError as error:
        raise user_error(error) from None
    return 0


async def _run(settings: Settings, query: ConversionExportQuery, limit: int | None) -> None:
    """A table, or a file if the query names a format."""
    assert settings.postgres_dsn
    query.check_separator()
    pool = await open_pool(settings.postgres_dsn, size=1)
    try:
        query = await by_hash(pool, query, Visibility(KEYS))
        conversions, order = query.conversions(settings.time_zone), query.order(settings.time_zone)
        if "format" in query.model_fields_set:
            chunks = conversion_list.export(pool, conversions, order, KEYS)
            await rows.write(chunks, KEYS, KEYS, query, sys.stdout.buffer, limit=limit)
        else:
            await _show(pool, conversions, order, limit or _SHOWN)
    finally:
        pool.terminate()


async def _show(pool: Pool, conversions: ConversionFilter, order: Order, limit: int) -> None:
    if limit > _MOST_IN_TABLE:
        raise UserError(f"a table has at most {_MOST_IN_TABLE:,} rows: use --csv or --json for more")
    page = await conversion_list.page(pool, conversions, order, 1, limit)
    print_table(_COLUMNS, map(_cells, page.rows))
    if page.has_more:
        more = f"{len(page.rows):,} of {page.total:,} are shown: --limit N shows more, --csv writes all"
        print(f"tracker: {more}", file=sys.stderr)


def _cells(row: Row) -> list[str]:
    money = {
        "payout": _money(row["payout"], row["payout_currency"]),
        "revenue": _money(row["revenue"], row["revenue_currency"]),
        "sale": _money(row["sale_amount"], row["sale_currency"]),
    }
    return [cell({**row, **money}[name]) for name in _COLUMNS]


def _money(amount: object, currency: object) -> str:
    return "" if amount is None else f"{amount} {currency}"
