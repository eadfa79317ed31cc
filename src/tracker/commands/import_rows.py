"""`tracker import clicks` and `tracker import conversions`: historic rows, with their proof."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import tzinfo
from pathlib import Path
from typing import Any

from tracker.commands.arguments import text
from tracker.commands.author import author
from tracker.commands.import_arguments import add_files, add_mapping, name_the_left_out, name_the_not_found
from tracker.domain.csv_rows import Columns
from tracker.domain.local_time import zone_named
from tracker.errors import UserError
from tracker.importing import clicks, conversions, meaning, presets, yaml_file
from tracker.importing import run as importing
from tracker.importing.clicks import ClickReader
from tracker.importing.connection import connect
from tracker.importing.conversions import ConversionReader
from tracker.importing.date_formats import DateFormat
from tracker.importing.files import RowFile, spooled
from tracker.importing.meaning import Meaning, TranslatingReader
from tracker.importing.run import Job, Outcome
from tracker.settings import Settings
from tracker.store.conversions import status_words
from tracker.store.db import Connection
from tracker.store.imports import progress as imports
from tracker.store.imports.clicks import ClickStore
from tracker.store.imports.conversions import ConversionStore
from tracker.store.imports.progress import Run
from tracker.store.legacy_clicks import OWN

_EARLIER = "earlier"
_STDIN = Path("-")
_MODULES: dict[str, Any] = {"clicks": clicks, "conversions": conversions}

_ROWS = """\
A FILE is CSV with a header, NDJSON, a JSON list, or responses of an API. It may be gzipped, and "-" is
stdin. Times are local in --tz, or have an offset, or are Unix seconds or milliseconds, or have a
--date-format. In CSV ="0123" is read as 0123. An id such as 1.23E+17 is an error: a spreadsheet has shortened
it.

The whole file is checked before anything is stored. Existing rows stay unchanged, so you can import the same
or an overlapping file again. With --replace, rows of the same source become what the file says, and the book
gets the difference. A killed import continues where it stopped. At the end every row of the file is
compared with the table: exit code 0 means that all of them are there.
"""


ABOUT_CLICKS = f"""\
Fields have the names of the API. legacy_id is the click's id in the earlier tracker: late postbacks carry it.

  required  offer_id, affiliate_id, created_at, and legacy_id (or the hash of an export of this tracker)
  useful    is_unique, status, is_bot, country_code, device_os, browser, ip, user_agent, aff_sub …, …
            legacy_source: the source of the row's legacy_id, if not --source

Offers and affiliates must exist. A field that a row leaves out is unknown. Without a status the click is
accepted, and without is_unique it is unique.

{_ROWS}
examples:
  tracker import clicks --dry-run clicks-2024.csv.gz
  tracker import clicks clicks.csv --tz Europe/Berlin \\
      --map transaction_id=legacy_id --map 'aff id=affiliate_id' --map notes=
  tracker import clicks report.json --rows data.table --map offer.id=offer_id --map click.id=legacy_id \\
      --map-value 'is_unique:Unique=true' --date-format '%d.%m.%Y %H:%M' --ignore-rest
  tracker import clicks --from list
  curl … '…/users/clicks/export' | tracker import clicks -
"""


ABOUT_CONVERSIONS = f"""\
Fields have the names of the API. click_hash is the click's hash or its id in the earlier tracker.

  required  click_hash, status, created_at
  useful    legacy_id, order_id, goal_id or goal_name (else the offer's base goal), payout, revenue, currency,
            sale_amount, legacy_source (the source of the row's earlier ids, if not --source), …

Conversions are kept as the earlier tracker had them: no window, cap or price is applied, and no postback goes
to an affiliate. Approved conversions are booked. A status may be one of status-words. currency applies to all
amounts. The alternatives are payout_currency, revenue_currency and sale_currency, or the goal's currency.
legacy_id distinguishes conversions of one click, goal and order.

{_ROWS}
examples:
  tracker import conversions --dry-run conversions.csv --tz Europe/Berlin
  tracker import conversions report.csv \\
      --map 'Click ID=click_hash' --map State=status --map Date=created_at \\
      --map-value 'status:Confirmed=approved' --map-value 'status:=hold' --date-format '%m/%d/%Y %I:%M %p'
"""


def add_arguments(parser: ArgumentParser) -> None:
    add_files(parser)
    add_mapping(parser)
    parser.add_argument(
        "--date-format",
        action="append",
        default=[],
        type=_date_format,
        metavar="FORMAT",
        help="repeatable: how times are written, such as '%%d.%%m.%%Y %%H:%%M:%%S'. %%z is an offset, and "
        "%%Z at the end a zone's name",
    )
    parser.add_argument(
        "--rows", default="", metavar="PATH", help="where the rows of JSON stand, such as data.table"
    )
    parser.add_argument(
        "--source",
        type=_source,
        metavar="NAME",
        help="name of the earlier tracker if there are several: a part of the hash (--from, or earlier)",
    )
    parser.add_argument(
        "--tz", type=_zone, metavar="ZONE", help="time zone of times without an offset (TRACKER_TIME_ZONE)"
    )
    parser.add_argument(
        "--skip-bad",
        type=Path,
        metavar="FILE",
        help="append wrong rows to FILE as NDJSON, and continue",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="rows that imports of the source stored become what the file says. Others stay",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check the file, report what is there already, store nothing"
    )


async def run(settings: Settings, arguments: Namespace) -> int:
    means, rows = _meaning(arguments), _MODULES[arguments.kind]
    zone = arguments.tz or zone_named(settings.time_zone)
    source = arguments.source or arguments.preset or _EARLIER
    proven = True
    async with connect(settings) as connection:
        reader, store = await _means(connection, arguments, source, zone, means)
        means.check(reader.readers, arguments.kind)
        for path in arguments.files:
            _see_that_they_differ(path, arguments.skip_bad)
            columns = Columns(
                reader.readers,
                rows.REQUIRED,
                means.columns,
                "use --map to give it a field, or to leave it out, or --ignore-rest",
                rows.OPAQUE,
                rows.IDS,
                means.ignore_rest,
            )
            mapped = [theirs for theirs, ours in arguments.map if ours]
            with _opened(path, settings.data_dir, columns, means.rows, mapped) as file:
                job = Job(
                    kind=arguments.kind,
                    source=source,
                    file=file,
                    reading=f"{zone} {means.shown}",
                    reader=TranslatingReader(reader, means.translation) if means.values else reader,
                    store=store,
                    bad_rows=arguments.skip_bad,
                    is_dry=arguments.dry_run,
                    replaces=arguments.replace,
                )
                outcome = await importing.run(connection, job)
            name_the_left_out(path, file.left_out)
            name_the_not_found(path, file.not_found.values())
            print(
                json.dumps(_as_json(path, job, outcome)) if arguments.json else _in_words(path, job, outcome)
            )
            proven &= outcome.is_proven or job.is_dry
    return 0 if proven else 1


def _see_that_they_differ(path: Path, bad_rows: Path | None) -> None:
    """Reject a file to which its own bad rows would be appended: it has no end."""
    if bad_rows is not None and bad_rows.exists() and path.exists() and path.samefile(bad_rows):
        raise UserError(f"{path}: --skip-bad needs another file than the one that is imported")


async def _means(
    connection: Connection, arguments: Namespace, source: str, zone: tzinfo, means: Meaning
) -> tuple[ClickReader, ClickStore] | tuple[ConversionReader, ConversionStore]:
    if arguments.kind == "conversions":
        words = await status_words.every(connection)
        replacing = author().token_name if arguments.replace else None
        store = ConversionStore(connection, source, replacing=replacing)
        return ConversionReader.of(source, zone, words, means.dates), store
    known = await imports.known(connection)
    reader = ClickReader.of(source, zone, known, means.dates)
    return reader, ClickStore(connection, source, replaces=arguments.replace)


def _meaning(arguments: Namespace) -> Meaning:
    """What the files mean by the options, by --map-file, and by --from: the first that says it decides."""
    values: dict[str, dict[str, str]] = {}
    for field, theirs, ours in arguments.map_value:
        values.setdefault(field, {})[theirs] = ours
    means = Meaning(
        dict(arguments.map), values, tuple(arguments.date_format), arguments.rows, arguments.ignore_rest
    )
    if arguments.map_file:
        means = means.over(meaning.read(yaml_file.read(arguments.map_file), str(arguments.map_file)))
    if arguments.preset:
        means = means.over(presets.load(arguments.preset).rows(arguments.kind))
    return means


@contextmanager
def _opened(
    path: Path, data_dir: Path, columns: Columns, rows: str, mapped: Collection[str]
) -> Iterator[RowFile]:
    if path != _STDIN:
        if path.is_file():
            yield RowFile(path, columns, rows=rows, wanted=mapped)
            return
        with path.open("rb") as pipe, spooled(pipe, data_dir) as content:
            yield RowFile(path, columns, content, rows=rows, wanted=mapped)
        return
    if sys.stdin is None:
        raise UserError("stdin is closed")
    with spooled(sys.stdin.buffer, data_dir) as content:
        yield RowFile(Path("stdin"), columns, content, rows=rows, wanted=mapped)


def _date_format(text: str) -> DateFormat:
    try:
        return DateFormat.of(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} {error}") from None


def _source(argument: str) -> str:
    if (source := text(argument)) == OWN:
        raise ArgumentTypeError(f"{OWN} is this tracker: give the earlier one another name")
    return source


def _zone(text: str) -> tzinfo:
    try:
        return zone_named(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} {error}") from None


def _as_json(path: Path, job: Job, outcome: Outcome) -> dict[str, Any]:
    expected, found = imports.total(outcome.expected), imports.total(outcome.found)
    return {
        "file": str(path),
        "is_dry_run": job.is_dry,
        **{name: getattr(outcome.run, name) for name in Run._fields},
        "proof": {
            "in_file": {"rows": expected.rows, "checksum": expected.shown},
            "in_table": {"rows": found.rows, "checksum": found.shown},
            "days": len(outcome.expected),
            "days_that_differ": [str(day) for day in outcome.days_that_differ],
            "rows_that_differ": outcome.rows_differing,
            "rows_that_stay": outcome.rows_staying if job.replaces else outcome.rows_differing,
            "fields_that_differ": dict(outcome.differing),
        },
        "is_proven": outcome.is_proven,
    }


def _in_words(path: Path, job: Job, outcome: Outcome) -> str:
    run, expected, found = outcome.run, imports.total(outcome.expected), imports.total(outcome.found)
    if job.is_dry and run.refused:
        new = run.rows - run.refused - found.rows
        counted = f"{new:,} would be stored, {found.rows:,} are there already, {run.refused:,} put aside"
        return f"{path}: {run.rows:,} rows: {counted}{_difference(job, outcome)}"
    if job.is_dry:
        present = f"{found.rows:,} of {expected.rows:,} {job.kind} are there already"
        return f"{path}: {run.rows:,} rows can be read. {present}{_difference(job, outcome)}"
    verdict = (
        "all are there"
        if outcome.is_proven
        else f"they differ on {_listed(outcome)}{_difference(job, outcome)}"
    )
    replaced = f"{run.replaced:,} replaced, " if job.replaces else ""
    totals = f"{run.stored:,} stored, {replaced}{run.present:,} there already, {run.refused:,} refused"
    in_file = f"{expected.rows:,} {job.kind} of {len(outcome.expected)} days (checksum {expected.shown})"
    in_table = f"{found.rows:,} of them (checksum {found.shown})"
    return f"""\
{path}: {run.rows:,} rows: {totals}
{path}: proof: the file has {in_file}, the table has {in_table}: {verdict}"""


def _listed(outcome: Outcome) -> str:
    days = outcome.days_that_differ
    return ", ".join(map(str, days[:5])) + (f" and {len(days) - 5} other days" if len(days) > 5 else "")


def _difference(job: Job, outcome: Outcome) -> str:
    if not outcome.rows_differing:
        return ""
    fields = ", ".join(f"{name} of {number:,}" for name, number in outcome.differing.most_common())
    they_stay = "These stay"
    if job.replaces and job.is_dry:
        staying = outcome.rows_staying
        they_stay = f"{outcome.rows_differing - staying:,} of them would be replaced, {staying:,} stay"
    return f". {outcome.rows_differing:,} are there with other values ({fields}). {they_stay}"
