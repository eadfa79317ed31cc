"""`tracker rebuild-stats`: whether the counts are what the clicks come to, and making them so."""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime

from tracker.commands.arguments import add_json
from tracker.settings import Settings
from tracker.store import db
from tracker.store.clicks import recount
from tracker.store.clicks.recount import Difference

_ABOUT = """\
The counts per quarter-hour and minute are made in the transaction that stores a click; this makes them anew
out of the clicks, a day at a time, and says on stderr how far it is. Safe while clicks are stored: writers
wait only while the wrong counts of a day are written.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--check", action="store_true", help="only name the counts that differ; exit code 1 if any does"
    )
    parser.add_argument(
        "--from", dest="first", type=_day, default=date.min, metavar="DATE", help="first day (UTC)"
    )
    parser.add_argument(
        "--to", dest="last", type=_day, default=date.max, metavar="DATE", help="last day (UTC)"
    )
    add_json(parser)
    parser.epilog = _ABOUT


def run(settings: Settings, arguments: Namespace) -> int:
    assert settings.postgres_dsn
    days = (arguments.first, arguments.last)
    if arguments.check:
        return int(bool(asyncio.run(check(settings.postgres_dsn, *days, as_json=arguments.json))))
    asyncio.run(rebuild(settings.postgres_dsn, *days, as_json=arguments.json))
    return 0


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no day such as 2026-12-24") from error


async def check(dsn: str, first: date, last: date, *, as_json: bool) -> int:
    """Print every count that differs; returns how many do."""
    number = 0
    async with _connected(dsn) as connection:
        found = await recount.days(connection, first, last)
        for day in found:
            of_day = 0
            async for difference in recount.differences(connection, day):
                of_day += 1
                print(_as_json(difference) if as_json else _in_words(difference))
            number += of_day
            _progress(day, f"{of_day} counts differ" if of_day else "counts agree")
    if not as_json:
        print(f"{number} counts of {len(found)} days differ" if number else f"{len(found)} days agree")
    return number


async def rebuild(dsn: str, first: date, last: date, *, as_json: bool) -> None:
    """Make the counts anew, a day a transaction, and print how many were wrong."""
    number = 0
    async with _connected(dsn) as connection:
        found = await recount.days(connection, first, last)
        for day in found:
            of_day = await recount.mend(connection, day)
            number += of_day
            _progress(day, f"{of_day} counts were wrong" if of_day else "counts agree")
    if as_json:
        print(json.dumps({"days": len(found), "mended": number}))
    else:
        print(f"{len(found)} days, {number} counts were wrong and are mended")


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[db.Connection]:
    connection = await db.connect(dsn)
    try:
        await recount.begin(connection)
        yield connection
    finally:
        await connection.close()


def _progress(day: date, what: str) -> None:
    print(f"{day}  {what}", file=sys.stderr, flush=True)


def _in_words(difference: Difference) -> str:
    whose = f"{difference.dimension} {difference.key}" if difference.key else difference.dimension
    said = "no count" if difference.said is None else f"count {difference.said}"
    return f"{_time(difference.millis)}  {whose}: {said}, {difference.found or 0} clicks"


def _as_json(difference: Difference) -> str:
    return json.dumps(
        {
            "dimension": difference.dimension,
            "key": difference.key,
            "from": _time(difference.millis),
            "count": difference.said,
            "clicks": difference.found or 0,
        }
    )


def _time(millis: int) -> str:
    return f"{datetime.fromtimestamp(millis / 1000, UTC):%Y-%m-%d %H:%M}"
