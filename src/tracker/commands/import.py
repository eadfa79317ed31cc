"""`tracker import`: moving in from another tracker, or from another installation of this one."""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import tzinfo
from pathlib import Path
from typing import Any

from tracker.api.times import zone_named
from tracker.commands.arguments import add_json
from tracker.complaint import Complaint
from tracker.importing import run as importing
from tracker.importing import yaml_file
from tracker.importing.clicks import ClickReader
from tracker.importing.files import RowFile, spooled
from tracker.importing.run import Job, Outcome
from tracker.settings import Settings
from tracker.store import imports, pool

_STDIN = Path("-")

_CLICKS = """\
A FILE is CSV with a header, NDJSON, a JSON list, or answers of the clicks API; gzip is seen through, and
"-" is stdin. Fields have the names of the API, and legacy_id is the click's id in the earlier tracker:

  required  offer_id, affiliate_id, created_at, and legacy_id (or the hash of an export of this tracker)
  useful    is_unique, status, is_bot, country_code, device_os, browser, ip, user_agent, aff_sub …, …

created_at is local time in --tz, a time with its offset, or Unix seconds or milliseconds. Offers and
affiliates must be there: `tracker import catalogue` first. What a row does not say is unknown; its click then
is accepted and its visitor's first.

The file is checked whole before anything is stored. A click that is there already stays as it is, so the
same file, or one that overlaps, may be imported again; one that was killed goes on where it was. In the end
every row of the file is held against the table: exit code 0 says that they are all there.

examples:
  tracker import clicks --dry-run clicks-2024.csv.gz
  tracker import clicks clicks.csv --tz Europe/Berlin \\
      --map transaction_id=legacy_id --map 'aff id=affiliate_id' --map notes=
  curl … '…/users/clicks/export' | tracker import clicks -
"""


def add_arguments(parser: ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    clicks = kinds.add_parser(
        "clicks",
        help="historic clicks, with the ids that late postbacks still bring",
        description="Import historic clicks.",
        epilog=_CLICKS,
        formatter_class=RawDescriptionHelpFormatter,
    )
    _add_rows(clicks)


def _add_rows(parser: ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "--source",
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
    add_json(parser)


def run(settings: Settings, arguments: Namespace) -> int:
    return asyncio.run(_import_rows(settings, arguments))


async def _import_rows(settings: Settings, arguments: Namespace) -> int:
    assert settings.postgres_dsn
    names = _names(arguments)
    zone = arguments.tz or zone_named(settings.time_zone)
    connection = await pool.connect(settings.postgres_dsn)
    proven = True
    try:
        if not await imports.begin(connection):
            raise Complaint("another import is running")
        known = await imports.known(connection)
        for given in arguments.files:
            with _readable(given, settings.data_dir) as path:
                reader = ClickReader.of(arguments.source, zone, known)
                job = Job(
                    kind=arguments.kind,
                    source=arguments.source,
                    file=RowFile(path, names, reader.readers),
                    reading=f"{zone} {sorted(names.items())}",
                    reader=reader,
                    store=imports.ClickStore(connection),
                    bad_rows=arguments.skip_bad,
                    is_dry=arguments.dry_run,
                )
                outcome = await importing.run(connection, job)
            print(
                json.dumps(_as_json(given, job, outcome))
                if arguments.json
                else _in_words(given, job, outcome)
            )
            proven &= outcome.is_proven or job.is_dry
    finally:
        await connection.close()
    return 0 if proven else 1


def _names(arguments: Namespace) -> dict[str, str]:
    given = yaml_file.read(arguments.map_file) if arguments.map_file else {}
    if not isinstance(given, dict):
        raise Complaint(f"{arguments.map_file} is not an object of their names and ours")
    return {str(theirs): str(ours or "") for theirs, ours in given.items()} | dict(arguments.map)


@contextmanager
def _readable(given: Path, data_dir: Path) -> Iterator[Path]:
    if given != _STDIN:
        yield given
        return
    path = spooled(sys.stdin.buffer, data_dir)
    try:
        yield path
    finally:
        path.unlink()


def _pair(text: str) -> tuple[str, str]:
    theirs, separator, ours = text.rpartition("=")
    if not separator or not theirs:
        raise ArgumentTypeError(f"{text!r} is not THEIRS=OURS")
    return theirs, ours


def _zone(text: str) -> tzinfo:
    try:
        return zone_named(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} {error}") from None


def _as_json(given: Path, job: Job, outcome: Outcome) -> dict[str, Any]:
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
        },
        "is_proven": outcome.is_proven,
    }


def _in_words(given: Path, job: Job, outcome: Outcome) -> str:
    run, expected, found = outcome.run, imports.total(outcome.expected), imports.total(outcome.found)
    if job.is_dry:
        there = f"{found.rows:,} of {expected.rows:,} {job.kind} are there already"
        return f"{given}: {run.rows:,} rows can be read; {there}"
    verdict = "all are there" if outcome.is_proven else f"they differ on {_listed(outcome)}"
    became = f"{run.stored:,} stored, {run.present:,} there already, {run.refused:,} refused"
    in_file = f"{expected.rows:,} {job.kind} of {len(outcome.expected)} days (checksum {expected.shown})"
    in_table = f"{found.rows:,} of them (checksum {found.shown})"
    return f"""\
{given}: {run.rows:,} rows: {became}
{given}: proof: the file has {in_file}, the table has {in_table}: {verdict}"""


def _listed(outcome: Outcome) -> str:
    days = outcome.days_that_differ
    return ", ".join(map(str, days[:5])) + (f" and {len(days) - 5} other days" if len(days) > 5 else "")
