"""`tracker rebuild-stats`: compares the counts with the clicks, and corrects them."""

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
from tracker.store import adding_up, db, retention
from tracker.store.books import months
from tracker.store.clicks import deltas, recount
from tracker.store.clicks.recount import Difference
from tracker.store.reports import conversion_counts, sub_id_pieces

_ABOUT = """\
The transaction that stores a click also updates the counts per quarter-hour and minute. One that changes a
conversion updates the sums for reports. A worker adds up finished days, clicks by sub id, and the months of
the book of money. This command counts all again, one day at a time, and shows its progress on stderr. A month
of the book belongs to its first day. Deltas that wait are added up first. It is safe while clicks are stored,
and no writer waits for it. Counts of clicks stay as they are on days whose rows are not kept any more
(TRACKER_KEEP_DAYS), because nothing is left to count.

example: tracker rebuild-stats --check --from 2026-11-01 --to 2026-11-30
"""

_DAYS = (recount.days, conversion_counts.days, sub_id_pieces.days, months.days)
_COUNTS = (*retention.OF_ROWS, conversion_counts, months)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--check",
        action="store_true",
        help="only show the counts that differ, with exit code 1 if there are any",
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
        raise ArgumentTypeError(f"{text!r} is not a day such as 2026-12-24") from error


async def check(dsn: str, first: date, last: date, *, as_json: bool) -> int:
    """Print every count that differs and return how many do."""
    number = 0
    async with _connected(dsn) as connection:
        days = await _days(connection, first, last)
        for day in days:
            of_day = 0
            for of in _COUNTS:
                async for difference in of.differences(connection, day):
                    of_day += 1
                    print(_as_json(difference) if as_json else _in_words(difference))
            number += of_day
            _progress(day, f"{of_day} counts differ" if of_day else "counts agree")
    if not as_json:
        print(f"{number} counts of {len(days)} days differ" if number else f"{len(days)} days agree")
    return number


async def rebuild(dsn: str, first: date, last: date, *, as_json: bool) -> None:
    """Count the clicks again, one transaction per day, and print how many counts were wrong."""
    number = 0
    async with _connected(dsn) as connection:
        days = await _days(connection, first, last)
        for day in days:
            of_day = sum([await of.correct(connection, day) for of in _COUNTS])
            number += of_day
            _progress(day, f"{of_day} counts were wrong" if of_day else "counts agree")
    if as_json:
        print(json.dumps({"days": len(days), "mended": number}))
    else:
        print(f"{len(days)} days, {number} wrong counts are corrected")


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[db.Connection]:
    connection = await db.connect(dsn)
    try:
        await recount.begin(connection)
        for of in (deltas, conversion_counts):  # each day reads what is left of them again
            for _ in range(0, (await of.waiting(connection)).rows, adding_up.MOST):
                await of.add_up(connection)
        yield connection
    finally:
        await connection.close()


async def _days(connection: db.Connection, first: date, last: date) -> list[date]:
    found = [await days(connection, first, last) for days in _DAYS]
    return sorted({day for days in found for day in days})


def _progress(day: date, what: str) -> None:
    print(f"{day}  {what}", file=sys.stderr, flush=True)


def _in_words(difference: Difference) -> str:
    counter = f"{difference.dimension} {difference.key}" if difference.key else difference.dimension
    count = "no count" if difference.said is None else f"count {difference.said}"
    return f"{_time(difference.millis)}  {counter}: {count}, {difference.found or 0} {difference.unit}"


def _as_json(difference: Difference) -> str:
    return json.dumps(
        {
            "dimension": difference.dimension,
            "key": difference.key,
            "from": _time(difference.millis),
            "count": difference.said,
            difference.unit: difference.found or 0,
        },
        default=str,  # amounts of money
    )


def _time(millis: int) -> str:
    return f"{datetime.fromtimestamp(millis / 1000, UTC):%Y-%m-%d %H:%M}"
