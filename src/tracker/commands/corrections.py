"""`tracker corrections`: amounts of conversions that the operator sets, one by one or from a file."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from tracker.catalogue import corrections
from tracker.catalogue.booked_lines import read_file, read_texts
from tracker.catalogue.corrections import SHAPE, CorrectionFields, CorrectionLine
from tracker.catalogue.errors import CatalogueError
from tracker.commands.arguments import add_json, assignment, each_once, whole
from tracker.commands.author import author
from tracker.commands.tables import show_rows
from tracker.domain.model import MAX_ID
from tracker.errors import UserError
from tracker.settings import Settings
from tracker.store.books.requests import booking
from tracker.store.catalogue.edit import Row
from tracker.store.db import open_pool

_ABOUT = """\
The amounts are the right ones, in the conversion's own currencies. Of an approved conversion the difference
is booked, as an adjustment if its period is closed. Later postbacks do not change these amounts.

fields: payout, revenue, sale_amount, reason. A file has conversion_id or order_id, too.

examples:
  tracker corrections set 902 payout=7.50 revenue=10 reason='wrong price'
  tracker corrections upload october.csv --dry-run
"""
_SHOWN = (
    *("conversion_id", "status", "payout_before", "payout", "payout_currency"),
    *("revenue_before", "revenue", "revenue_currency", "reason"),
)


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog, parser.formatter_class = _ABOUT, RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    one = actions.add_parser("set", help="correct one conversion")
    one.add_argument("id", type=whole(1, MAX_ID), metavar="CONVERSION")
    one.add_argument("assignments", type=assignment, nargs="+", metavar="FIELD=VALUE")
    file = actions.add_parser("upload", help="correct the conversions of a CSV file, all or none")
    file.add_argument("file", type=Path, metavar="FILE", help="with a header")
    for action in (one, file):
        action.add_argument(
            "--dry-run", action="store_true", help="show what would change, and change nothing"
        )
        add_json(action)


def run(settings: Settings, arguments: Namespace) -> int:
    try:
        rows = asyncio.run(_run(settings, arguments))
    except CatalogueError as error:
        raise UserError(error.detail) from None
    except OSError as error:
        raise UserError(f"{arguments.file} cannot be read: {error.strerror}") from None
    show_rows(_SHOWN, rows, as_json=arguments.json, is_trial=arguments.dry_run)
    return 0


async def _run(settings: Settings, arguments: Namespace) -> Sequence[Row]:
    assert settings.postgres_dsn
    lines, fields = {}, None
    if arguments.action == "upload":
        lines = read_file(arguments.file.read_bytes(), CorrectionLine, SHAPE)
    else:
        fields = read_texts(each_once(arguments.assignments), CorrectionFields, ())
    pool = await open_pool(settings.postgres_dsn, size=1)
    try:
        async with booking(pool, is_trial=arguments.dry_run) as connection:
            if fields is None:
                return await corrections.correct(connection, author(), lines)
            return [await corrections.correct_one(connection, author(), arguments.id, fields)]
    finally:
        pool.terminate()
