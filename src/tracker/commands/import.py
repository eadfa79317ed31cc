"""`tracker import`: moving in from another tracker, or from another installation of this one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import tzinfo
from pathlib import Path
from typing import Any

from tracker.api.times import zone_named
from tracker.commands.arguments import add_confirm, add_json
from tracker.complaint import Complaint
from tracker.domain.csv_rows import Columns
from tracker.domain.normalise import text_of
from tracker.importing import catalogue, clicks, conversions, entries, yaml_file
from tracker.importing import run as importing
from tracker.importing.catalogue import Result
from tracker.importing.clicks import ClickReader
from tracker.importing.conversions import ConversionReader
from tracker.importing.files import RowFile, spooled
from tracker.importing.run import Job, Outcome
from tracker.settings import Settings
from tracker.store import imports, pool, status_words
from tracker.store.imported_clicks import ClickStore
from tracker.store.imported_conversions import ConversionStore
from tracker.store.pool import Connection

_STDIN = Path("-")
_MOST_ERRORS = 50
_MODULES: dict[str, Any] = {"clicks": clicks, "conversions": conversions}

_ABOUT = """\
First the catalogue, then clicks, then conversions: each names what was imported before it. All of it may be
done while the tracker runs, and done again: what is there already is left as it is.
"""

_CATALOGUE = """\
A FILE is YAML, JSON, or CSV that is named by what it lists, as offers.csv or offer_urls.csv; gzip is seen
through. Objects have the fields of the management API, and whatever else they name may be named by its name
in place of its id:

  advertisers:
    - name: PlayGames
  affiliates:
    - {id: 513, name: John Doe}
  offers:
    - id: 3
      name: Puzzle Quest
      advertiser: PlayGames
      urls: [{url: "https://advertiser.test/?click={hash}"}]
      goals: [{is_base: true, payout: "2.50", currency: EUR}]
      affiliates: [{affiliate: John Doe, status: approved}]

An id that is given is kept. Without one, an object is known by what no two may have alike, else by its name:
where there is one, it becomes what the file says, and what the file leaves out stays. Either all of it is
done, or, where anything is wrong, nothing, and every defect is named.
"""

_ROWS = """\
A FILE is CSV with a header, NDJSON, a JSON list, or answers of the API; gzip is seen through, and "-" is
stdin. Times are local in --tz, or have their offset, or are Unix seconds or milliseconds. In CSV ="0123" is
0123, and an id such as 1.23E+17, which a spreadsheet has made of a longer one, is wrong.

The file is checked whole before anything is stored. What is there already stays as it is, so the same file,
or one that overlaps, may be imported again; an import that was killed goes on where it was. In the end every
row of the file is held against the table: exit code 0 says that they are all there.
"""

_CLICKS = f"""\
Fields have the names of the API, and legacy_id is the click's id in the earlier tracker, which late postbacks
still bring:

  required  offer_id, affiliate_id, created_at, and legacy_id (or the hash of an export of this tracker)
  useful    is_unique, status, is_bot, country_code, device_os, browser, ip, user_agent, aff_sub …, …

Offers and affiliates must be there. What a row does not say is unknown; its click then is accepted, and its
visitor's first.

{_ROWS}
examples:
  tracker import clicks --dry-run clicks-2024.csv.gz
  tracker import clicks clicks.csv --tz Europe/Berlin \\
      --map transaction_id=legacy_id --map 'aff id=affiliate_id' --map notes=
  curl … '…/users/clicks/export' | tracker import clicks -
"""

_CONVERSIONS = f"""\
Fields have the names of the API; click_hash is the click's hash, or its id in the earlier tracker:

  required  click_hash, status, created_at
  useful    legacy_id, order_id, goal_id or goal_name (else the offer's base goal), payout, revenue, currency,
            sale_amount, …

They stand as the earlier tracker had them: no window, cap or price is held against them, and no affiliate is
told. What is approved is booked. A status may be one of status-words. currency is of all amounts; else
payout_currency, revenue_currency and sale_currency, or the goal's. legacy_id tells conversions of one click,
goal and order apart.

{_ROWS}"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = _ABOUT
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    listed = _add(kinds, "catalogue", "advertisers, offers and what belongs to them, affiliates", _CATALOGUE)
    listed.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    add_confirm(listed, [field for resource in catalogue.RESOURCES for field in resource.confirmable])
    _add_row_arguments(_add(kinds, "clicks", "historic clicks, with the ids they had", _CLICKS))
    _add_row_arguments(_add(kinds, "conversions", "historic conversions", _CONVERSIONS))


def _add(kinds: Any, name: str, purpose: str, about: str) -> ArgumentParser:
    parser: ArgumentParser = kinds.add_parser(
        name,
        help=purpose,
        description=f"Import {purpose}.",
        epilog=about,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    add_json(parser)
    return parser


def _add_row_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--source",
        type=_text,
        default="earlier",
        metavar="NAME",
        help="the earlier tracker's name, where there are several: with an id it makes the hash (earlier)",
    )
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        type=_pair,
        metavar="THEIRS=OURS",
        help="repeatable: a field by its name in the file; THEIRS= leaves it out",
    )
    parser.add_argument(
        "--map-file", type=Path, metavar="FILE", help="the same, as YAML or JSON: {theirs: ours}"
    )
    parser.add_argument(
        "--tz", type=_zone, metavar="ZONE", help="of times without an offset (TRACKER_TIME_ZONE)"
    )
    parser.add_argument(
        "--skip-bad",
        type=Path,
        metavar="FILE",
        help="append rows that are wrong to FILE as NDJSON, and go on",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check, say what is there already, store nothing"
    )


def run(settings: Settings, arguments: Namespace) -> int:
    run = _import_catalogue if arguments.kind == "catalogue" else _import_rows
    try:
        return asyncio.run(run(settings, arguments))
    except OSError as error:
        if error.filename is None:  # it is no file, but a server
            raise
        raise Complaint(f"{error.filename}: {(error.strerror or str(error)).lower()}") from None


@asynccontextmanager
async def _importing(settings: Settings) -> AsyncIterator[Connection]:
    assert settings.postgres_dsn
    connection = await pool.connect(settings.postgres_dsn)
    try:
        if not await imports.begin(connection):
            raise Complaint("another import is running")
        yield connection
    finally:
        await connection.close()


# Catalogue


async def _import_catalogue(settings: Settings, arguments: Namespace) -> int:
    kinds = entries.Kinds(catalogue.RESOURCES)
    wanted = [entry for path in arguments.files for entry in entries.read(path, kinds)]
    async with _importing(settings) as connection:
        confirmed = frozenset(arguments.confirm)
        result = await catalogue.bring(connection, wanted, is_dry=arguments.dry_run, confirmed=confirmed)
    for line in result.errors[:_MOST_ERRORS]:
        print(line, file=sys.stderr)
    if result.errors:
        raise Complaint(f"{len(result.errors)} things are wrong; nothing is changed")
    for line in result.warnings[:_MOST_ERRORS]:
        print(f"tracker: warning: {line}", file=sys.stderr)
    print(json.dumps(_plan(result)) if arguments.json else _plan_in_words(result, arguments.dry_run))
    return 0


def _plan(result: Result) -> dict[str, Any]:
    return {
        "created": [change.path for change in result.changes if change.is_new],
        "changed": {change.path: change.fields for change in result.changes if not change.is_new},
        "left": result.left,
    }


def _plan_in_words(result: Result, is_dry: bool) -> str:
    lines = [
        f"{change.path}: new" if change.is_new else f"{change.path}: {', '.join(change.fields)}"
        for change in result.changes
    ]
    new = sum(change.is_new for change in result.changes)
    would_be = "would be " if is_dry else ""
    changed = len(lines) - new
    return "\n".join(
        [*lines, f"{new} {would_be}created, {changed} {would_be}changed, {result.left} left as they are"]
    )


# Clicks and conversions


async def _import_rows(settings: Settings, arguments: Namespace) -> int:
    names, rows = _names(arguments), _MODULES[arguments.kind]
    zone = arguments.tz or zone_named(settings.time_zone)
    proven = True
    async with _importing(settings) as connection:
        reader, store = await _means(connection, arguments, zone)
        for given in arguments.files:
            _see_that_they_differ(given, arguments.skip_bad)
            columns = Columns(
                reader.readers,
                rows.REQUIRED,
                names,
                "--map it to one, or to nothing",
                rows.OPAQUE,
                rows.IDS,
            )
            with _opened(given, settings.data_dir, columns) as file:
                job = Job(
                    kind=arguments.kind,
                    source=arguments.source,
                    file=file,
                    reading=f"{zone} {sorted(names.items())}",
                    reader=reader,
                    store=store,
                    bad_rows=arguments.skip_bad,
                    is_dry=arguments.dry_run,
                )
                outcome = await importing.run(connection, job)
            print(
                json.dumps(_told(given, job, outcome)) if arguments.json else _in_words(given, job, outcome)
            )
            proven &= outcome.is_proven or job.is_dry
    return 0 if proven else 1


def _see_that_they_differ(given: Path, bad_rows: Path | None) -> None:
    """A file to which its own bad rows are appended has no end."""
    if bad_rows is not None and bad_rows.exists() and given.exists() and given.samefile(bad_rows):
        raise Complaint(f"{given}: --skip-bad needs another file than the one that is read")


async def _means(
    connection: Connection, arguments: Namespace, zone: tzinfo
) -> tuple[ClickReader, ClickStore] | tuple[ConversionReader, ConversionStore]:
    if arguments.kind == "conversions":
        words = await status_words.every(connection)
        return ConversionReader.of(arguments.source, zone, words), ConversionStore(connection)
    known = await imports.known(connection)
    return ClickReader.of(arguments.source, zone, known), ClickStore(connection)


def _names(arguments: Namespace) -> dict[str, str]:
    given = yaml_file.read(arguments.map_file) if arguments.map_file else {}
    if not isinstance(given, dict):
        raise Complaint(f"{arguments.map_file} is not an object of their names and ours")
    return {str(theirs): str(ours or "") for theirs, ours in given.items()} | dict(arguments.map)


@contextmanager
def _opened(given: Path, data_dir: Path, columns: Columns) -> Iterator[RowFile]:
    if given != _STDIN:
        if given.is_file():
            yield RowFile(given, columns)
            return
        with given.open("rb") as pipe, spooled(pipe, data_dir) as content:
            yield RowFile(given, columns, content)
        return
    if sys.stdin is None:
        raise Complaint("stdin is closed")
    with spooled(sys.stdin.buffer, data_dir) as content:
        yield RowFile(Path("stdin"), columns, content)


def _pair(text: str) -> tuple[str, str]:
    theirs, separator, ours = text.rpartition("=")
    if not separator or not theirs:
        raise ArgumentTypeError(f"{text!r} is not THEIRS=OURS")
    return _text(theirs), ours


def _text(word: str) -> str:
    """A word of the command line in the form that texts of files have."""
    return text_of(os.fsencode(word))


def _zone(text: str) -> tzinfo:
    try:
        return zone_named(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} {error}") from None


def _told(given: Path, job: Job, outcome: Outcome) -> dict[str, Any]:
    expected, found = imports.total(outcome.expected), imports.total(outcome.found)
    return {
        "file": str(given),
        "is_dry_run": job.is_dry,
        **{name: getattr(outcome.run, name) for name in ("rows", "stored", "present", "refused")},
        "proof": {
            "in_file": {"rows": expected.rows, "checksum": expected.shown},
            "in_table": {"rows": found.rows, "checksum": found.shown},
            "days": len(outcome.expected),
            "days_that_differ": [str(day) for day in outcome.days_that_differ],
            "rows_that_differ": outcome.rows_differing,
            "fields_that_differ": dict(outcome.differing),
        },
        "is_proven": outcome.is_proven,
    }


def _in_words(given: Path, job: Job, outcome: Outcome) -> str:
    run, expected, found = outcome.run, imports.total(outcome.expected), imports.total(outcome.found)
    if job.is_dry:
        there = f"{found.rows:,} of {expected.rows:,} {job.kind} are there already"
        return f"{given}: {run.rows:,} rows can be read; {there}{_difference(outcome)}"
    verdict = (
        "all are there" if outcome.is_proven else f"they differ on {_listed(outcome)}{_difference(outcome)}"
    )
    became = f"{run.stored:,} stored, {run.present:,} there already, {run.refused:,} refused"
    in_file = f"{expected.rows:,} {job.kind} of {len(outcome.expected)} days (checksum {expected.shown})"
    in_table = f"{found.rows:,} of them (checksum {found.shown})"
    return f"""\
{given}: {run.rows:,} rows: {became}
{given}: proof: the file has {in_file}, the table has {in_table}: {verdict}"""


def _listed(outcome: Outcome) -> str:
    days = outcome.days_that_differ
    return ", ".join(map(str, days[:5])) + (f" and {len(days) - 5} other days" if len(days) > 5 else "")


def _difference(outcome: Outcome) -> str:
    if not outcome.rows_differing:
        return ""
    fields = ", ".join(f"{name} of {number:,}" for name, number in outcome.differing.most_common())
    return f"; {outcome.rows_differing:,} are there with other values ({fields}), which stay"
