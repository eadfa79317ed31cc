"""`tracker period-close`: closes the books of a period, after a look at what is undecided."""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from datetime import MAXYEAR, UTC, datetime

from tracker.api.conversions.period_closes import close_books
from tracker.commands.arguments import add_json
from tracker.commands.author import agrees, author
from tracker.commands.tables import print_table
from tracker.domain.local_time import first_second, read_local, zone_named
from tracker.domain.money import show
from tracker.errors import UserError
from tracker.settings import Settings
from tracker.store.catalogue.edit import Row
from tracker.store.conversions import undecided
from tracker.store.conversions.manual import NotLater
from tracker.store.conversions.undecided import Left
from tracker.store.db import Pool, open_pool

_ABOUT = """\
A close is final: nothing opens the period again. From then on nothing is booked in it. A conversion of the
period that is approved or rejected later is booked at that later time, as an adjustment. So the command first
shows which conversions and postbacks of the period are undecided, and then asks.

--until is exclusive, in TRACKER_TIME_ZONE: October ends with 2026-11-01.

examples:
  tracker period-close --until 2026-11-01 --dry-run
  tracker period-close --until 2026-11-01
"""
_FIRST_YEAR = 2000  # no conversion is earlier


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog, parser.formatter_class = _ABOUT, RawDescriptionHelpFormatter
    parser.add_argument(
        "--until", type=_local, required=True, metavar="TIME", help="end of the period, such as 2026-11-01"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what is undecided, and close nothing")
    parser.add_argument("--yes", action="store_true", help="close without asking")
    add_json(parser)


def run(settings: Settings, arguments: Namespace) -> int:
    zone = zone_named(settings.time_zone)
    until = datetime.fromtimestamp(first_second(arguments.until, zone), zone)
    if until > datetime.now(UTC):
        raise UserError(f"--until: {until.isoformat()} is in the future")
    try:
        asyncio.run(_run(settings, arguments, until))
    except NotLater as error:
        raise UserError(f"--until: {until.isoformat()} {error}") from None
    return 0


async def _run(settings: Settings, arguments: Namespace, until: datetime) -> None:
    assert settings.postgres_dsn
    pool = await open_pool(settings.postgres_dsn, size=1)
    try:
        await close_books(pool, until, author(), is_trial=True)  # so that nobody is asked in vain
        async with pool.acquire() as connection:
            left = await undecided.before(connection, until)
        if not arguments.json:
            _show(left, until)
        row = None if arguments.dry_run else await _close(pool, arguments, until)
    finally:
        pool.terminate()
    if arguments.json:
        whole = {"until": until.isoformat(), "undecided": left.row, "closed": row}
        print(json.dumps(whole))
    elif row is None:
        print("tracker: a dry run: nothing was closed", file=sys.stderr)
    else:
        print(f"closed until {until.isoformat()}")


async def _close(pool: Pool, arguments: Namespace, until: datetime) -> Row:
    """Close the books if the operator agrees."""
    question = f"Close the books before {until.isoformat()} for good?"
    if not arguments.yes and (arguments.json or not agrees(question)):
        raise UserError("nothing was closed. --yes closes the books for good")
    return await close_books(pool, until, author())


def _show(left: Left, until: datetime) -> None:
    print(f"undecided before {until.isoformat()}:")
    rows = [
        [
            group.status,
            f"{group.conversions}",
            f"{show(group.payout)} {group.payout_currency}",
            f"{show(group.revenue)} {group.revenue_currency}",
        ]
        for group in left.conversions
    ]
    if rows:
        print_table(("status", "conversions", "payout", "revenue"), rows)
    for result, number in left.postbacks.items():
        print(f"{number} postbacks are {result}: tracker postbacks --result {result}")
    if not rows and not left.postbacks:
        print("nothing")


def _local(text: str) -> datetime:
    try:
        local = read_local(text, is_end=False)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} {error}") from error
    if not _FIRST_YEAR <= local.year < MAXYEAR:
        raise ArgumentTypeError(f"{text!r} is before {_FIRST_YEAR} or in the future")
    return local
