"""`tracker import`: move in from another tracker, or from another installation of this one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import tzinfo
from pathlib import Path
from typing import Any

from tracker.commands import import_undo
from tracker.commands.arguments import add_confirm, add_json
from tracker.commands.author import author
from tracker.domain.csv_rows import Columns
from tracker.domain.local_time import zone_named
from tracker.domain.normalise import id_ as id_of
from tracker.domain.normalise import text_of
from tracker.errors import UserError
from tracker.importing import catalogue, clicks, conversions, entries, meaning, presets, yaml_file
from tracker.importing import run as importing
from tracker.importing.catalogue import Result
from tracker.importing.clicks import ClickReader
from tracker.importing.conversions import ConversionReader
from tracker.importing.date_formats import DateFormat
from tracker.importing.entries import Entry
from tracker.importing.files import RowFile, spooled
from tracker.importing.meaning import Meaning, TranslatingReader
from tracker.importing.run import Job, Outcome
from tracker.settings import Settings
from tracker.store import db
from tracker.store.conversions import status_words
from tracker.store.db import Connection
from tracker.store.imports import progress as imports
from tracker.store.imports.clicks import ClickStore
from tracker.store.imports.conversions import ConversionStore
from tracker.store.imports.progress import Run
from tracker.store.legacy_clicks import OWN

_EARLIER = "earlier"
_STDIN = Path("-")
_MOST_ERRORS = 50
_LONGEST_NAME = 60  # characters of a column's name
_MODULES: dict[str, Any] = {"clicks": clicks, "conversions": conversions}

_ABOUT = """\
Import the catalogue first, then clicks, then conversions: each refers to the ones before. You can import
while the tracker runs, and import a file again: existing rows stay unchanged.
"""

_CATALOGUE = """\
A FILE is YAML, JSON, or CSV named after its objects, such as offers.csv or offer_urls.csv. It may be gzipped.
Objects have the fields of the management API. They may refer to other objects by name instead of id:

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

A FILE with rows of one kind is named after it, such as offers.json. It may be an answer of another tracker's
API. Its names and values are mapped with the kind in front:

  tracker import catalogue --dry-run offers.csv affiliates.csv --ignore-rest \\
      --map 'offers.Offer ID=id' --map offers.Title=name --map 'offers.Customer=advertiser' \\
      --map-value offers.status:Live=active --map-value 'offers.status:On hold=paused'
  tracker import catalogue --from everflow offers.json affiliates.json

Ids in the file are kept. An object without an id is matched by its unique fields, or else by its name. A
matching object gets the values of the file and keeps the other fields. The import is all or nothing: if
anything is wrong, every error is named and nothing is changed.
"""

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

_CLICKS = f"""\
Fields have the names of the API. legacy_id is the click's id in the earlier tracker: late postbacks carry it.

  required  offer_id, affiliate_id, created_at, and legacy_id (or the hash of an export of this tracker)
  useful    is_unique, status, is_bot, country_code, device_os, browser, ip, user_agent, aff_sub …, …

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

_CONVERSIONS = f"""\
Fields have the names of the API. click_hash is the click's hash or its id in the earlier tracker.

  required  click_hash, status, created_at
  useful    legacy_id, order_id, goal_id or goal_name (else the offer's base goal), payout, revenue, currency,
            sale_amount, …

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


_FORMS = """\
A form says what links or postbacks of another shape mean. It does not say who sends them: postbacks need the
advertiser's secret or address as before. The forms come into the catalogue like other objects: look at them,
change them and delete them there.

examples:
  tracker import forms --from list
  tracker import forms --from tune --dry-run
  tracker import forms --from tune --host go.example --advertiser 7
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = _ABOUT
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    listed = _add(kinds, "catalogue", "advertisers, offers with their parts, affiliates", _CATALOGUE)
    _add_files(listed)
    _add_mapping(listed, "KIND.")
    _add_catalogue_arguments(listed)
    forms = _add(kinds, "forms", "the forms of a platform's links and postbacks", _FORMS)
    _add_from(forms, is_required=True)
    forms.add_argument("--host", type=_text, help="only links and postbacks of this host (any)")
    forms.add_argument(
        "--advertiser", type=_id, metavar="ID", help="only this advertiser's postbacks (every advertiser's)"
    )
    forms.add_argument(
        "--source",
        type=_text,
        metavar="NAME",
        help="the --source that its clicks were imported with (--from)",
    )
    _add_catalogue_arguments(forms)
    _add_row_arguments(_add(kinds, "clicks", "historic clicks with their ids", _CLICKS))
    _add_row_arguments(_add(kinds, "conversions", "historic conversions", _CONVERSIONS))
    _add_undo(kinds)


def _add(kinds: Any, name: str, purpose: str, about: str) -> ArgumentParser:
    parser: ArgumentParser = kinds.add_parser(
        name,
        help=purpose,
        description=f"Import {purpose}.",
        epilog=about,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add_json(parser)
    return parser


def _add_files(parser: ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")


def _add_catalogue_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    add_confirm(parser, [field for resource in catalogue.RESOURCES for field in resource.confirmable])


class _ListPresets(Action):
    """`--from list` lists the presets instead of an import, as `--help` does."""

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, value: Any, option_string: str | None = None
    ) -> None:
        if value == "list":
            print("\n".join(_presets_in_words()))
            parser.exit()
        setattr(namespace, self.dest, value)


def _presets_in_words() -> Iterator[str]:
    for preset in map(presets.load, presets.names()):
        yield f"{preset.name} ({preset.platform})"
        yield from (f"  {part.name}: {part.page}, read on {part.read_on}" for part in preset.parts())


def _add_from(parser: ArgumentParser, *, is_required: bool = False) -> None:
    parser.add_argument(
        "--from",
        dest="preset",
        action=_ListPresets,
        required=is_required,
        metavar="NAME",
        help=f"the columns and values of a platform: {', '.join(presets.names())}, or list for the "
        "pages they were read from. Other options win over it",
    )


def _add_undo(kinds: Any) -> None:
    parser: ArgumentParser = kinds.add_parser(
        "undo",
        help="take back what the imports of a source stored",
        description="Take back what the imports of a source stored.",
        epilog=import_undo.ABOUT,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", type=_text, required=True, metavar="NAME", help="name of the source")
    import_undo.add_arguments(parser)
    add_json(parser)


def _add_mapping(parser: ArgumentParser, kind: str = "") -> None:
    """`kind`: what stands before the names of a field, as a metavar."""
    _add_from(parser)
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        type=_pair,
        metavar=f"{kind}THEIRS=OURS",
        help="repeatable: the file's name for a field. THEIRS= leaves the column out. "
        "Dots lead into nested JSON",
    )
    parser.add_argument(
        "--map-value",
        action="append",
        default=[],
        type=_value,
        metavar=f"{kind}FIELD:THEIRS=OURS",
        help="repeatable: the file's value of our FIELD for a value of ours. FIELD:THEIRS= means no value",
    )
    parts = "{columns: {theirs: ours}, values: {field: {theirs: ours}}, ignore_rest: true, …}"
    parser.add_argument(
        "--map-file",
        type=Path,
        metavar="FILE",
        help="the same as a YAML or JSON file: "
        + (
            f"{{kind: {parts}}}"
            if kind
            else f"{{theirs: ours}}, or {parts} with dates: [format] and rows: path"
        ),
    )
    parser.add_argument(
        "--ignore-rest",
        action="store_true",
        help="leave out columns that have no meaning here, and name them",
    )


def _add_row_arguments(parser: ArgumentParser) -> None:
    _add_files(parser)
    _add_mapping(parser)
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


def run(settings: Settings, arguments: Namespace) -> int:
    run = _RUN.get(arguments.kind, _import_rows)
    try:
        return asyncio.run(run(settings, arguments))
    except OSError as error:
        if error.filename is None:  # this error is a server's, not a file's
            raise
        raise UserError(f"{error.filename}: {(error.strerror or str(error)).lower()}") from None


@asynccontextmanager
async def _importing(settings: Settings) -> AsyncIterator[Connection]:
    assert settings.postgres_dsn
    connection = await db.connect(settings.postgres_dsn)
    try:
        if not await imports.begin(connection):
            raise UserError("another import is running")
        yield connection
    finally:
        await connection.close()


# Catalogue


async def _import_catalogue(settings: Settings, arguments: Namespace) -> int:
    kinds = entries.Kinds(catalogue.RESOURCES)
    meanings = entries.meanings_of(_meanings(arguments), kinds, ignore_rest=arguments.ignore_rest)
    left_out: dict[str, None] = {}
    wanted = [entry for path in arguments.files for entry in entries.read(path, kinds, meanings, left_out)]
    _name_the_left_out("the files", left_out)
    return await _bring(settings, arguments, wanted)


async def _import_forms(settings: Settings, arguments: Namespace) -> int:
    kinds = entries.Kinds(catalogue.RESOURCES)
    said = {
        "host": arguments.host,
        "advertiser_id": arguments.advertiser,
        "source": arguments.source or arguments.preset,
    }
    preset = presets.load(arguments.preset)
    wanted = [
        entries.form(kinds.top[kind], form, said, f"{preset.name}: {form.get('name')}")
        for kind, forms in preset.forms().items()
        for form in forms
    ]
    return await _bring(settings, arguments, wanted)


def _meanings(arguments: Namespace) -> dict[str, Meaning]:
    """What the files mean by kind: by the options, by --map-file, and by --from."""
    columns: dict[str, dict[str, str]] = {}
    values: dict[str, dict[str, dict[str, str]]] = {}
    for theirs, ours in arguments.map:
        kind, name = _of_kind(theirs, f"--map {theirs}={ours}")
        columns.setdefault(kind, {})[name] = ours
    for said, theirs, ours in arguments.map_value:
        kind, field = _of_kind(said, f"--map-value {said}:{theirs}={ours}")
        values.setdefault(kind, {}).setdefault(field, {})[theirs] = ours
    found = {kind: Meaning(columns.get(kind, {}), values.get(kind, {})) for kind in {**columns, **values}}
    if arguments.map_file:
        content = yaml_file.read(arguments.map_file)
        if not isinstance(content, dict):
            raise UserError(f"{arguments.map_file} is not an object such as {{offers: {{Title: name}}}}")
        _add_below(
            found,
            {kind: meaning.read(part, f"{arguments.map_file}: {kind}") for kind, part in content.items()},
        )
    if arguments.preset:
        _add_below(found, presets.load(arguments.preset).catalogue())
    return found


def _add_below(meanings: dict[str, Meaning], others: Mapping[str, Meaning]) -> None:
    for kind, other in others.items():
        meanings[kind] = meanings[kind].over(other) if kind in meanings else other


def _of_kind(name: str, option: str) -> tuple[str, str]:
    kind, dot, field = name.partition(".")
    if not (dot and field):
        raise UserError(f"{option}: put the kind in front, such as offers.{name}")
    return kind, field


async def _bring(settings: Settings, arguments: Namespace, wanted: Sequence[Entry]) -> int:
    async with _importing(settings) as connection:
        result = await catalogue.bring(
            connection,
            wanted,
            is_dry=arguments.dry_run,
            confirmed=frozenset(arguments.confirm),
            defaults=settings.catalogue_defaults,
        )
    for line in result.errors[:_MOST_ERRORS]:
        print(line, file=sys.stderr)
    if result.errors:
        raise UserError(f"nothing is changed. Errors: {len(result.errors)}")
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


async def _undo(settings: Settings, arguments: Namespace) -> int:
    async with _importing(settings) as connection:
        await import_undo.run(connection, arguments)
    return 0


# Clicks and conversions


async def _import_rows(settings: Settings, arguments: Namespace) -> int:
    means, rows = _meaning(arguments), _MODULES[arguments.kind]
    zone = arguments.tz or zone_named(settings.time_zone)
    source = arguments.source or arguments.preset or _EARLIER
    proven = True
    async with _importing(settings) as connection:
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
            with _opened(path, settings.data_dir, columns, means.rows) as file:
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
            _name_the_left_out(path, file.left_out)
            print(
                json.dumps(_as_json(path, job, outcome)) if arguments.json else _in_words(path, job, outcome)
            )
            proven &= outcome.is_proven or job.is_dry
    return 0 if proven else 1


def _name_the_left_out(path: Path | str, names: Collection[str]) -> None:
    if names:
        named = ", ".join(name[:_LONGEST_NAME] for name in names)
        print(f"{path}: left out, because they have no meaning here: {named}", file=sys.stderr)


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
    said = Meaning(
        dict(arguments.map), values, tuple(arguments.date_format), arguments.rows, arguments.ignore_rest
    )
    if arguments.map_file:
        said = said.over(meaning.read(yaml_file.read(arguments.map_file), str(arguments.map_file)))
    if arguments.preset:
        said = said.over(presets.load(arguments.preset).rows(arguments.kind))
    return said


@contextmanager
def _opened(path: Path, data_dir: Path, columns: Columns, rows: str) -> Iterator[RowFile]:
    if path != _STDIN:
        if path.is_file():
            yield RowFile(path, columns, rows=rows)
            return
        with path.open("rb") as pipe, spooled(pipe, data_dir) as content:
            yield RowFile(path, columns, content, rows=rows)
        return
    if sys.stdin is None:
        raise UserError("stdin is closed")
    with spooled(sys.stdin.buffer, data_dir) as content:
        yield RowFile(Path("stdin"), columns, content, rows=rows)


def _pair(text: str) -> tuple[str, str]:
    theirs, separator, ours = text.rpartition("=")
    if not separator or not theirs:
        raise ArgumentTypeError(f"{text!r} is not THEIRS=OURS, such as transaction_id=legacy_id")
    return _text(theirs), ours


def _value(text: str) -> tuple[str, str, str]:
    field, colon, pair = text.partition(":")
    theirs, equals, ours = pair.rpartition("=")
    if not (field and colon and equals):
        raise ArgumentTypeError(f"{text!r} is not FIELD:THEIRS=OURS, such as status:Confirmed=approved")
    return _text(field), _text(theirs), _text(ours)


def _date_format(text: str) -> DateFormat:
    try:
        return DateFormat.of(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} {error}") from None


def _id(text: str) -> int:
    id_ = id_of(text)
    if id_ is None:
        raise ArgumentTypeError(f"{text!r} is not an id")
    return id_


def _source(text: str) -> str:
    if (text := _text(text)) == OWN:
        raise ArgumentTypeError(f"{OWN} is this tracker: give the earlier one another name")
    return text


def _text(word: str) -> str:
    """A word of the command line, normalised as the texts of files are."""
    return text_of(os.fsencode(word))


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


_RUN = {"catalogue": _import_catalogue, "forms": _import_forms, "undo": _undo}
"""The imports that bring no rows."""
