"""`tracker export`: the catalogue, clicks and conversions as files that `tracker import` reads."""

from __future__ import annotations

import asyncio
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from re import escape
from shlex import join
from typing import IO, Any, NamedTuple

from tracker.commands.arguments import assignment, text
from tracker.commands.queries import add_span, query_of, user_error
from tracker.domain.normalise import texts
from tracker.errors import UserError
from tracker.exporting import rows
from tracker.exporting.catalogue import KINDS, LEFT_OUT, Csv, Json, Layout, Limit, Writer, Yaml, objects
from tracker.exporting.files import NewFiles, new_files
from tracker.parameters import ParameterError
from tracker.reading import clicks, conversions
from tracker.reading.clicks import ExportQuery
from tracker.reading.conversions import ConversionExportQuery
from tracker.reading.visibility import Visibility
from tracker.settings import Settings
from tracker.store import db
from tracker.store.clicks import columns as click_columns
from tracker.store.clicks import export as click_export
from tracker.store.conversions import list as conversion_list
from tracker.store.db import Pool, open_pool
from tracker.store.json_chunks import Block
from tracker.store.paging import Order

_STDOUT = Path("-")
_LAYOUTS: Mapping[str, Callable[[], Layout]] = {"yaml": Yaml, "json": Json, "csv-dir": Csv}
_FORMATS = ("ndjson", "csv", "excel")
_PART = r"(\.(?P<part>[2-9]|[1-9][0-9]+))?"  # the number of a further file
_SAY_SECONDS = {True: 2.0, False: 60.0}
"""How often an export says how far it is, to a terminal or to a log."""

_ABOUT = """\
A FILE appears when it is complete, and only its owner may read it. Without FILE, or with "-", an export goes
to stdout. `tracker import` reads what is written here: the catalogue first, then clicks, then conversions.
"""

_CATALOGUE = f"""\
The file has every object with its id, in an order that can be imported at once. The same catalogue makes the
same bytes, so two files can be compared. csv-dir makes a directory of CSV files, one for each kind. More than
an import takes of one file goes on in FILE.2, FILE.3 and so on: import these together.

{LEFT_OUT}
Without --with-archived, archived objects are left out with everything that belongs to them. Clicks and
conversions of archived offers and affiliates can only be imported where these are.

kinds: {", ".join(KINDS)}

examples:
  tracker export catalogue network.yaml
  tracker export catalogue --with-archived --format csv-dir network
  tracker export catalogue --kind offers --kind offer_urls --format json
"""

_ROWS = """\
The rows are those of the API's export. They come in the order of their times. ndjson has one JSON object a
line, csv has a header, and excel is CSV for spreadsheets. Memory stays the same for any number of rows.

examples:
  tracker export {kind} {kind}.ndjson
  tracker export {kind} --from 2026-11-01 --to 2026-11-30 --format csv offer_id=3 | gzip > {kind}.csv.gz
"""


class _Kind(NamedTuple):
    """What can be exported as rows."""

    query: type[ExportQuery] | type[ConversionExportQuery]
    keys: tuple[str, ...]
    by_hash: Callable[[Pool, Any, Visibility], Awaitable[Any]]  # the query without earlier trackers' ids
    wanted: Callable[[Any, str], Any]  # its filter, by the network's time zone
    chunks: Callable[[Pool, Any, Order, Sequence[str]], AsyncGenerator[Iterable[Block], None]]


_KINDS: Mapping[str, _Kind] = {
    "clicks": _Kind(ExportQuery, click_columns.KEYS, clicks.by_hash, ExportQuery.clicks, click_export.export),
    "conversions": _Kind(
        ConversionExportQuery,
        conversion_list.KEYS,
        conversions.by_hash,
        ConversionExportQuery.conversions,
        conversion_list.export,
    ),
}


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = _ABOUT
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    listed = _add(kinds, "catalogue", "advertisers, offers with their parts, affiliates", _CATALOGUE)
    listed.add_argument("file", nargs="?", type=Path, default=_STDOUT, metavar="FILE")
    listed.add_argument("--format", choices=_LAYOUTS, help="(yaml, or json for FILE.json)")
    listed.add_argument(
        "--kind", action="append", choices=KINDS, dest="kinds", metavar="KIND", help="repeatable: only these"
    )
    listed.add_argument("--with-archived", action="store_true", help="archived objects, too")
    for name, kind in _KINDS.items():
        own = _add(kinds, name, name, _ROWS.format(kind=name))
        own.add_argument("words", nargs="*", type=text, metavar="FILE or FIELD=VALUE")
        own.add_argument("--format", choices=_FORMATS, help="(ndjson, or csv for FILE.csv)")
        own.add_argument("--fields", type=text, metavar="NAME,…", help="only these columns, in this order")
        add_span(own, kind.query)


def _add(kinds: Any, name: str, purpose: str, about: str) -> ArgumentParser:
    parser: ArgumentParser = kinds.add_parser(
        name,
        help=purpose,
        description=f"Export {purpose}.",
        epilog=about,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--force", action="store_true", help="replace an existing FILE")
    return parser


def run(settings: Settings, arguments: Namespace) -> int:
    try:
        if arguments.kind == "catalogue":
            asyncio.run(_export_catalogue(settings, arguments))
        else:
            asyncio.run(_export_rows(settings, arguments, _KINDS[arguments.kind]))
    except ParameterError as error:
        raise user_error(error) from None
    except OSError as error:
        if error.filename is None:  # this error is a server's, not a file's
            raise
        raise UserError(f"{Path(error.filename).parent} takes no file: {error.strerror}") from None
    return 0


# Catalogue


async def _export_catalogue(settings: Settings, arguments: Namespace) -> None:
    name = arguments.format or ("json" if arguments.file.suffix == ".json" else "yaml")
    layout = _LAYOUTS[name]()
    if arguments.file == _STDOUT:
        if name == "csv-dir":
            raise UserError("--format csv-dir needs the name of a directory")
        await _write_objects(settings, arguments, Writer(layout, _only_stdout, Limit()))
    elif name == "csv-dir":
        arguments.file.mkdir(mode=0o700, exist_ok=True)
        family = f"({'|'.join(KINDS)}){_PART}" + escape(".csv")
        await _write_files(settings, arguments, layout, arguments.file, "", family)
    else:
        stem, suffix = arguments.file.stem, arguments.file.suffix
        family = f"{escape(stem)}{_PART}{escape(suffix)}"
        await _write_files(settings, arguments, layout, arguments.file.parent, stem, family)


def _only_stdout(_stem: str, part: int) -> IO[bytes]:
    if part > 1:
        raise UserError("this is more than an import takes of one file: name a FILE, and it becomes several")
    return sys.stdout.buffer


async def _write_files(
    settings: Settings, arguments: Namespace, layout: Layout, directory: Path, name: str, family: str
) -> None:
    suffix = arguments.file.suffix if name else ".csv"
    with new_files(directory, family, force=arguments.force) as files:

        def open_file(stem: str, part: int) -> IO[bytes]:
            return files.open(f"{name or stem}{'' if part == 1 else f'.{part}'}{suffix}")

        writer = Writer(layout, open_file, Limit())
        await _write_objects(settings, arguments, writer)
    print(f"{writer.number.total():,} objects. To import them: {_how_to_import(files)}")


def _how_to_import(files: NewFiles) -> str:
    return join(["tracker", "import", "catalogue", *map(str, files.paths)])


async def _write_objects(settings: Settings, arguments: Namespace, writer: Writer) -> None:
    """Write the catalogue as it is at one moment."""
    assert settings.postgres_dsn
    connection = await db.connect(settings.postgres_dsn)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            async for kind, row in objects(connection, with_archived=arguments.with_archived):
                if arguments.kinds is None or kind in arguments.kinds:
                    writer.add(kind, row)
        writer.end()
    finally:
        await connection.close()


# Clicks and conversions


async def _export_rows(settings: Settings, arguments: Namespace, kind: _Kind) -> None:
    path = _path_of(arguments)
    name = arguments.format or ("csv" if path.suffix == ".csv" else "ndjson")
    query = query_of(arguments, kind.query, **_order(arguments), format=name)
    query.check_separator()
    zone = settings.time_zone
    shown = _shown(arguments.fields, kind.keys)
    keys = kind.keys if shown == kind.keys else tuple(dict.fromkeys((*rows.NEEDED, *shown)))
    progress = _Progress(arguments.kind)
    assert settings.postgres_dsn
    pool = await open_pool(settings.postgres_dsn, size=1)
    try:
        query = await kind.by_hash(pool, query, Visibility(kind.keys))
        with _opened(path, force=arguments.force) as out:
            chunks = kind.chunks(pool, kind.wanted(query, zone), query.order(zone), keys)
            await rows.write(chunks, keys, shown, query, out, tell=progress.tell)
    finally:
        pool.terminate()
    if path != _STDOUT:
        print(f"{path}: {progress.rows:,} {arguments.kind}")


def _path_of(arguments: Namespace) -> Path:
    """The file among the words. The others become arguments.filters."""
    names = [word for word in arguments.words if "=" not in word]
    arguments.filters = [assignment(word) for word in arguments.words if "=" in word]
    if len(names) > 1:
        raise UserError(f"{names[1]} is neither FIELD=VALUE nor the only FILE")
    return Path(names[0]) if names else _STDOUT


def _order(arguments: Namespace) -> dict[str, str]:
    """Oldest first unless a word says otherwise, so that an import gives ids in the order of times."""
    return {} if "sort" in dict(arguments.filters) else {"sort": "created_at"}


def _shown(fields: str | None, keys: tuple[str, ...]) -> tuple[str, ...]:
    if fields is None:
        return keys
    shown = tuple(dict.fromkeys(texts(fields)))
    unknown = [name for name in shown if name not in keys]
    if unknown or not shown:
        raise UserError(f"--fields: {', '.join(unknown) or 'nothing'} is not one of {', '.join(keys)}")
    return shown


@contextmanager
def _opened(path: Path, *, force: bool) -> Iterator[IO[bytes]]:
    if path == _STDOUT:
        yield sys.stdout.buffer
        return
    with new_files(path.parent, escape(path.name), force=force) as files:
        yield files.open(path.name)


class _Progress:
    """Says on stderr now and then how far an export is."""

    def __init__(self, kind: str) -> None:
        self.rows = 0
        self._kind = kind
        self._every = _SAY_SECONDS[sys.stderr.isatty()]
        self._began = self._said = time.monotonic()

    def tell(self, number: int) -> None:
        self.rows = number
        now = time.monotonic()
        if now - self._said >= self._every:
            self._said = now
            rate = round(number / (now - self._began))
            print(f"{number:,} {self._kind} written, {rate:,} a second", file=sys.stderr, flush=True)
