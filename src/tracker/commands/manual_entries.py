"""`tracker manual-entries`: bonuses, fees, chargebacks and payments of affiliates and advertisers."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from datetime import datetime, tzinfo
from pathlib import Path

from tracker.catalogue import manual_entries
from tracker.catalogue.booked_lines import read_file, read_texts
from tracker.catalogue.errors import CatalogueError
from tracker.catalogue.manual_entries import NUMBERS, SHAPE, ManualEntryFields, ReversalFields
from tracker.commands.arguments import add_json, assignment, each_once, text, whole
from tracker.commands.author import author
from tracker.commands.tables import show_rows
from tracker.domain.local_time import zone_named
from tracker.domain.model import MAX_ID
from tracker.errors import UserError
from tracker.settings import Settings
from tracker.store.books.manual_entries import TABLE
from tracker.store.books.requests import booking
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Row, Wanted
from tracker.store.db import Pool, open_pool

_FIELDS = """\
fields: affiliate_id or advertiser_id, kind (bonus, fee, chargeback, payment), amount (above 0), currency,
  reason, and if you like booked_at (a day, default: now) and reference (each once for a party).
A bonus raises what is owed. A chargeback and a payment lower it. A fee is in favour of the network.
"""
_EXAMPLES = f"""\
An entry is never changed. A wrong one is reversed by another.

{_FIELDS}
examples:
  tracker manual-entries add affiliate_id=513 kind=payment amount=125 currency=EUR reason=October
  tracker manual-entries reverse 17 --reason 'wrong account'
  tracker manual-entries upload payments.csv --dry-run
"""
_SHOWN = (
    "id",
    "affiliate_id",
    "advertiser_id",
    "kind",
    "change",
    "currency",
    "booked_at",
    "reference",
    "reason",
)


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog, parser.formatter_class = _EXAMPLES, RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("list", help="show the latest entries")
    show.add_argument("--count", type=whole(1, 1000), default=50, metavar="N", help="show the latest N (50)")
    add = actions.add_parser(
        "add", help="book an entry", epilog=_FIELDS, formatter_class=RawDescriptionHelpFormatter
    )
    add.add_argument("assignments", type=assignment, nargs="+", metavar="FIELD=VALUE")
    reverse = actions.add_parser("reverse", help="undo an entry by another one")
    reverse.add_argument("id", type=whole(1, MAX_ID), metavar="ID")
    reverse.add_argument("--reason", type=text, required=True, help="why it is undone")
    upload = actions.add_parser(
        "upload", help="book a CSV file", epilog=_FIELDS, formatter_class=RawDescriptionHelpFormatter
    )
    upload.add_argument("file", type=Path, metavar="FILE", help="with a header of the fields")
    for action in (add, reverse, upload):
        action.add_argument(
            "--dry-run", action="store_true", help="show what would be booked, and book nothing"
        )
    for action in (show, add, reverse, upload):
        add_json(action)


def run(settings: Settings, arguments: Namespace) -> int:
    try:
        rows = asyncio.run(_run(settings, arguments))
    except CatalogueError as error:
        raise UserError(error.detail) from None
    except OSError as error:
        raise UserError(f"{arguments.file} cannot be read: {error.strerror}") from None
    if not arguments.json:
        rows = [_for_people(row, zone_named(settings.time_zone)) for row in rows]
    is_trial = arguments.action != "list" and arguments.dry_run
    show_rows(_SHOWN, rows, as_json=arguments.json, is_trial=is_trial)
    return 0


def _for_people(row: Row, zone: tzinfo) -> Row:
    """The row with its time in the network's zone, as it was given. JSON has it in UTC, as the API does."""
    booked_at = datetime.fromisoformat(row["booked_at"]).astimezone(zone)
    return {**row, "booked_at": f"{booked_at:%Y-%m-%d %H:%M:%S}"}


async def _run(settings: Settings, arguments: Namespace) -> Sequence[Row]:
    assert settings.postgres_dsn
    pool = await open_pool(settings.postgres_dsn, size=1)
    try:
        if arguments.action == "list":
            return (await edit.page(pool, TABLE, Wanted(), 1, arguments.count)).rows
        return await _book(pool, settings, arguments)
    finally:
        pool.terminate()


async def _book(pool: Pool, settings: Settings, arguments: Namespace) -> Sequence[Row]:
    zone, by = zone_named(settings.time_zone), author()
    file = (
        read_file(arguments.file.read_bytes(), ManualEntryFields, SHAPE)
        if arguments.action == "upload"
        else {}
    )
    async with booking(pool, is_trial=arguments.dry_run) as connection:
        if arguments.action == "upload":
            return await manual_entries.book(connection, by, file, zone)
        if arguments.action == "reverse":
            reversal = read_texts({"reason": arguments.reason}, ReversalFields, ())
            return [await manual_entries.reverse(connection, by, arguments.id, reversal, zone)]
        entry = read_texts(each_once(arguments.assignments), ManualEntryFields, NUMBERS)
        return [await manual_entries.book_one(connection, by, entry, zone)]
