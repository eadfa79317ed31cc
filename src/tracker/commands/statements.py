"""`tracker statements`: what is owed to affiliates, and what advertisers owe."""

from __future__ import annotations

import asyncio
import re
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from urllib.parse import urlencode

import orjson

from tracker.api.http.exports import csv_file, format_of
from tracker.commands.arguments import text
from tracker.commands.tables import cell, print_table
from tracker.errors import UserError, in_words
from tracker.parameters import ParameterError
from tracker.reading import statements
from tracker.reading.query import SomeQuery, read_query
from tracker.reading.statements import Answer, StatementLinesQuery, StatementQuery, UnknownPartyError
from tracker.settings import Settings
from tracker.store.db import Pool, open_pool

_ABOUT = """\
A row a party and currency: closing = opening + booked + adjustments + bonus + fee + chargeback + payment.
Each part has its sign. --json also names the periods that adjustments adjust.

examples:
  tracker statements --party affiliate --from 2026-10-01 --to 2026-10-31
  tracker statements --party advertiser --from 2026-10 --to 2026-10 --id 7 --group-by offer
  tracker statements --party affiliate --from 2026-10 --to 2026-10 --csv > october.csv
  tracker statements --party affiliate --from 2026-10 --to 2026-10 --id 513 --lines > lines.csv
"""
_OPTIONS = (
    ("--from", "DAY", "the first day, or a month, such as 2026-10-01 or 2026-10"),
    ("--to", "DAY", "the last day, inclusive, or a month"),
    ("--until", "DAY", "instead of --to: the day after the last one"),
    ("--tz", "ZONE", "IANA time zone of the days (TRACKER_TIME_ZONE)"),
    ("--group-by", "GROUP", "split what is booked by offer, goal, month, day or kind"),
)
_OTHER = re.compile(r"(so is |combined with |is before |is not after )(from|until)\b")
"""Where an error of one option names another one."""
_FIELDS = {option.removeprefix("--").replace("-", "_"): option for option, *_ in _OPTIONS}


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog, parser.formatter_class = _ABOUT, RawDescriptionHelpFormatter
    parser.add_argument("--party", required=True, choices=("affiliate", "advertiser"))
    parser.add_argument("--id", type=text, metavar="ID", help="of one affiliate or advertiser alone")
    for option, value, about in _OPTIONS:
        parser.add_argument(option, type=text, metavar=value, help=about)
    parser.add_argument(
        "--lines", action="store_true", help="print all entries of these days instead, as CSV or with --json"
    )
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print JSON, as the API does")
    formats.add_argument("--csv", action="store_true", help="print CSV")


def run(settings: Settings, arguments: Namespace) -> int:
    if arguments.lines:
        query = _query(arguments, StatementLinesQuery, format="ndjson" if arguments.json else "csv")
        asyncio.run(_write_lines(settings, query))
        return 0
    answer = asyncio.run(_read(settings, _query(arguments, StatementQuery)))
    keys, rows = answer.table
    if arguments.json:
        print(orjson.dumps({**answer.facts, "data": list(answer.rows)}).decode())
    elif arguments.csv:
        sys.stdout.write(csv_file(keys, rows).decode())
    else:
        print_table(keys, [[cell(row[key]) for key in keys] for row in rows])
        if not answer.is_final:
            print("tracker: not final: the days are not closed yet", file=sys.stderr)
    return 0


async def _read(settings: Settings, query: StatementQuery) -> Answer:
    async with _database(settings) as pool:
        return await statements.read(pool, query, settings.time_zone)


async def _write_lines(settings: Settings, query: StatementLinesQuery) -> None:
    """Write each block as soon as it is read."""
    async with _database(settings) as pool:
        zone = query.zone(settings.time_zone)
        asked = await statements.request_of(pool, query, settings.time_zone)
        keys, (write_head, writer, _, _) = statements.line_keys(asked), format_of(query)
        write, out = writer(keys), sys.stdout.buffer
        out.write(write_head(keys))
        async with aclosing(statements.lines(pool, asked, zone)) as chunks:
            async for blocks in chunks:
                out.writelines(map(write, blocks))


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Pool]:
    assert settings.postgres_dsn
    pool = await open_pool(settings.postgres_dsn, size=1)
    try:
        yield pool
    except UnknownPartyError as error:
        raise UserError(error.line) from None
    except ParameterError as error:
        raise _user_error(error) from None
    finally:
        pool.terminate()


def _query(arguments: Namespace, model: type[SomeQuery], **further: str) -> SomeQuery:
    options = {**_FIELDS, f"{arguments.party}_id": "--id"}
    given = {
        field: getattr(arguments, option.removeprefix("--").replace("-", "_"))
        for field, option in options.items()
    }
    try:
        words = {"party": arguments.party, **further} | {field: word for field, word in given.items() if word}
        return read_query(urlencode(words).encode(), model)
    except ParameterError as error:
        raise _user_error(error) from None


def _user_error(error: ParameterError) -> UserError:
    """The error of a query, with the names of options."""
    options = {**_FIELDS, "affiliate_id": "--id", "advertiser_id": "--id"}
    line = in_words({options.get(name, name): why for name, why in error.errors.items()})
    line = line.replace("is not a parameter of this endpoint", "cannot be combined with --lines")
    return UserError(_OTHER.sub(r"\1--\2", line))
