"""The commands of the catalogue: they follow the rules of the API and write its audit trail."""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import MAXYEAR, UTC, datetime, tzinfo
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import orjson
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo

from tracker.catalogue.errors import CatalogueError
from tracker.catalogue.resource import (
    WARNINGS,
    Editor,
    Resource,
    change_row,
    check_parent,
    create_row,
    delete_row,
    found,
    path_of,
    place_of,
    wanted,
)
from tracker.catalogue.resources import RESOURCES
from tracker.catalogue.validation import validated
from tracker.commands.arguments import add_confirm, add_json, text, whole
from tracker.commands.author import author
from tracker.commands.tables import print_table
from tracker.domain.local_time import zone_named
from tracker.domain.model import MAX_ID
from tracker.domain.normalise import text_of, texts, trim
from tracker.errors import UserError
from tracker.parameters import Query
from tracker.settings import Settings
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Row, Table
from tracker.store.conversions import closed_offers
from tracker.store.db import Pool, open_pool

_PATHS = {
    "postback-secrets": "advertisers/{advertiser_id}/postback-secrets",
    "offer-urls": "offers/{offer_id}/urls",
    "offer-affiliates": "offers/{offer_id}/affiliates",
    "free-values": "offers/{offer_id}/free-values",
    "caps": "offers/{offer_id}/caps",
    "goals": "offers/{offer_id}/goals",
    "goal-terms": "goals/{goal_id}/terms",
    "affiliate-postbacks": "affiliates/{affiliate_id}/postbacks",
}
"""The API path of a command, if it differs from the command's name."""
_RESOURCES: dict[str, Resource] = {resource.path: resource for resource in RESOURCES}
_READ_AT_ONCE = 1000
_STDIN = Path("-")
_LONGEST_FILE = 10_000  # bytes of a file with a secret
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "advertisers": ("id", "name", "email", "external_id", "tags"),
    "advertisers/{advertiser_id}/postback-secrets": ("id", "name", "created_at", "expires_at"),
    "status-words": ("id", "advertiser_id", "word", "status"),
    "offers": ("id", "name", "advertiser_id", "status", "closed", "visibility", "category", "tags"),
    "offers/{offer_id}/urls": ("id", "name", "status", "weight", "url"),
    "offers/{offer_id}/affiliates": ("affiliate_id", "status", "closed_until"),
    "offers/{offer_id}/free-values": ("id", "affiliate_id", "n", "value"),
    "offers/{offer_id}/caps": ("id", "affiliate_id", "counts", "period", "amount", "currency", "on_reached"),
    "offers/{offer_id}/goals": (
        *("id", "name", "code", "status", "is_base", "payout_type", "payout", "revenue_type", "revenue"),
        "currency",
    ),
    "goals/{goal_id}/terms": ("id", "affiliate_id", "country_code", "payout", "revenue"),
    "affiliates": ("id", "name", "status", "group_id", "is_test", "email", "external_id", "tags"),
    "affiliates/{affiliate_id}/postbacks": ("id", "status", "offer_id", "goal_id", "statuses", "url"),
}
"""The columns of a list for people, by path. Default: the ids, and the columns that filter the list."""

_HOW_TO_WRITE = """\
Write a field as field=value. The value is text if the field takes text, otherwise JSON:
  name='Puzzle Quest'  advertiser_id=1  is_test=true  'targeting={"country": ["DE"]}'  fallback_url=null
A list of texts can have commas, as in tags=vip,mobile.
field:=JSON is always JSON, such as host:=null. null resets a field to its default.

fields:
"""


class Assignment(NamedTuple):
    """A field and its value, as typed."""

    field: str
    text: str
    is_json: bool


def add_arguments(parser: ArgumentParser) -> None:
    resource = _resource(parser.prog.rpartition(" ")[2])
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (purpose, has_key, writes) in _ACTIONS.items():
        if resource.table.key or name in ("show", "set"):
            action = actions.add_parser(
                name,
                help=purpose,
                description=f"{purpose[0].upper()}{purpose[1:]}.",
                formatter_class=RawDescriptionHelpFormatter,
            )
            _add_words(action, resource, name, has_key=has_key, writes=writes)


_ACTIONS = {
    "list": ("show all, or only rows with field=value", False, False),
    "show": ("show one", True, False),
    "add": ("create one and show it", False, True),
    "set": ("change fields of one", True, True),
    "rm": ("archive one, or delete it if nothing refers to it", True, True),
}
"""Each action: its help, whether it needs an existing row, whether it changes anything."""


def _add_words(action: ArgumentParser, resource: Resource, name: str, *, has_key: bool, writes: bool) -> None:
    table = resource.table
    for column in filter(None, (table.parent, table.key if has_key else "")):
        action.add_argument(column, metavar=column.upper(), help=f"of the {resource.noun}")
    if name in ("list", "add", "set"):
        action.add_argument("assignments", type=_assignment, nargs="*", metavar="FIELD=VALUE")
    if name in ("add", "set"):
        action.epilog = _HOW_TO_WRITE + "\n".join(
            _about(resource, *named) for named in resource.fields.model_fields.items()
        )
    elif name == "list":
        action.epilog = f"fields: {', '.join(resource.parameters)}"
        _add_search(action, table)
    _add_options(action, resource, name, has_key=has_key, writes=writes)
    add_json(action)


def _add_options(
    action: ArgumentParser, resource: Resource, name: str, *, has_key: bool, writes: bool
) -> None:
    for secret in sorted(resource.only_when_new) if name == "add" else ():
        about = (
            f"take the {secret} from a file, or from stdin with -. Other users of the machine see arguments"
        )
        action.add_argument(f"--{secret}-file", type=Path, metavar="FILE", help=about)
    if writes:
        action.add_argument(
            "--dry-run", action="store_true", help="show what would happen, and change nothing"
        )
    if name == "set" and resource.confirmable:
        add_confirm(action, resource.confirmable)
    if writes and has_key:
        action.add_argument(
            "--version",
            type=whole(1, MAX_ID),
            metavar="N",
            help="refuse if the row has another version by now",
        )


def _add_search(action: ArgumentParser, table: Table) -> None:
    if table.searched:
        about = f"only rows with this text in {', '.join(table.searched)}, or with this id"
        action.add_argument("--search", dest="q", type=text, metavar="TEXT", help=about)
        action.add_argument(
            "--sort", type=text, metavar="COLUMN", help="id or name (id). The last first: --sort=-name"
        )


def run(settings: Settings, arguments: Namespace) -> int:
    try:
        asyncio.run(_run(settings, _resource(arguments.command), arguments))
    except CatalogueError as error:
        raise UserError(error.detail) from None
    return 0


async def _run(settings: Settings, resource: Resource, arguments: Namespace) -> None:
    assert settings.postgres_dsn
    pool = await open_pool(settings.postgres_dsn)
    try:
        await _DOES[arguments.action](CatalogueRequest(pool, resource, arguments, settings))
    finally:
        pool.terminate()


class CatalogueRequest(NamedTuple):
    """The parsed command: an action and its target."""

    pool: Pool
    resource: Resource
    arguments: Namespace
    settings: Settings

    def place(self, *columns: str) -> Row:
        return place_of(vars(self.arguments), *columns)

    def editor(self) -> Editor:
        version = getattr(self.arguments, "version", None)
        confirmed = frozenset(getattr(self.arguments, "confirm", ()))
        editor = Editor(
            self.pool,
            author(),
            is_trial=self.arguments.dry_run,
            confirmed=confirmed,
            defaults=self.settings.catalogue_defaults,
        )
        return editor if version is None else editor._replace(expects=lambda current: current == version)


async def _list(asked: CatalogueRequest) -> None:
    table = asked.resource.table
    place = asked.place(table.parent)
    await check_parent(asked.pool, table, place, or_archived=True)
    filters = create_model("Filters", __base__=Query, **asked.resource.parameters)
    rows_wanted = wanted(place, validated(_filters(asked), filters))
    rows: list[Row] = []
    while True:
        page = await edit.page(asked.pool, table, rows_wanted, len(rows) // _READ_AT_ONCE + 1, _READ_AT_ONCE)
        rows += page.rows
        if not page.has_more:
            break
    if asked.arguments.json:
        print(*(orjson.dumps(row).decode() for row in rows), sep="\n", end="\n" if rows else "")
    else:
        await _print_list(asked, rows)


def _filters(asked: CatalogueRequest) -> dict[str, str]:
    given = {field: text for field, text, _ in asked.arguments.assignments}
    options = vars(asked.arguments)
    return given | {name: options[name] for name in ("q", "sort") if options.get(name) is not None}


async def _show(asked: CatalogueRequest) -> None:
    table = asked.resource.table
    place = asked.place(*table.fixed)
    _print_row(asked, found(await edit.one(asked.pool, table, place), asked.resource))


async def _add(asked: CatalogueRequest) -> None:
    place = asked.place(asked.resource.table.parent)
    _print_row(asked, await create_row(asked.editor(), asked.resource, place, _given(asked)))


async def _set(asked: CatalogueRequest) -> None:
    place = asked.place(*asked.resource.table.fixed)
    _print_row(asked, await change_row(asked.editor(), asked.resource, place, _given(asked)))


async def _rm(asked: CatalogueRequest) -> None:
    table = asked.resource.table
    place = asked.place(*table.fixed)
    await delete_row(asked.editor(), asked.resource, place)
    done = "archived" if table.can_archive else "deleted"
    path = path_of(asked.resource, place)
    if asked.arguments.json:
        print(json.dumps({"path": path, "done": done, "dry_run": asked.arguments.dry_run}))
    else:
        print(f"{path}: {'would be ' if asked.arguments.dry_run else ''}{done}")


_DOES: Mapping[str, Callable[[CatalogueRequest], Awaitable[None]]] = {
    "list": _list,
    "show": _show,
    "add": _add,
    "set": _set,
    "rm": _rm,
}


# Input


def _assignment(word: str) -> Assignment:
    field, equals, text = word.partition("=")
    if not equals or not field:
        raise ArgumentTypeError(f"{word!r} is not FIELD=VALUE")
    return Assignment(field.removesuffix(":"), text, field.endswith(":"))


def _given(asked: CatalogueRequest) -> Row:
    given: Row = {}
    for name in asked.resource.only_when_new:
        file: Path | None = getattr(asked.arguments, f"{name}_file", None)
        if file is not None:
            given[name] = _content(file)
    for assignment in asked.arguments.assignments:
        if assignment.field in asked.resource.only_when_new:
            raise UserError(
                f"{assignment.field} is never an argument: use --{assignment.field}-file FILE or -"
            )
        if assignment.field in given:
            raise UserError(f"{assignment.field} is repeated")
        given[assignment.field] = _value(assignment, asked.resource.fields.model_fields)
    return given


def _content(file: Path) -> str:
    """The text of a file, or of stdin. The end of its line is not part of it."""
    try:
        content = (
            sys.stdin.buffer.read(_LONGEST_FILE) if file == _STDIN else file.read_bytes()[:_LONGEST_FILE]
        )
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    return trim(text_of(content))


def _value(assignment: Assignment, fields: Mapping[str, FieldInfo]) -> object:
    """The text itself where the field takes it, else what it is as JSON, else texts between commas."""
    field, text = fields.get(assignment.field), assignment.text
    if not assignment.is_json and field is not None and _fits(field, text):
        return text
    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        if assignment.is_json:
            raise UserError(f"{assignment.field} is not JSON") from None
        is_list = field is not None and get_origin(field.annotation) is list and not text.startswith("[")
        return texts(text) if is_list else text
    is_text = field is not None and field.annotation is str and not assignment.is_json
    return text if is_text else value


def _fits(field: FieldInfo, value: object) -> bool:
    type_: Any = Annotated[field.annotation, Field(), *field.metadata]
    try:
        TypeAdapter(type_, config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError:
        return False
    return True


def _resource(command: str) -> Resource:
    return _RESOURCES[_PATHS.get(command, command)]


# Output


def _about(resource: Resource, name: str, field: FieldInfo) -> str:
    known = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    default = "needed" if field.is_required() else f"({_text(field.get_default(call_default_factory=True))})"
    default = "" if name in resource.of_network else default  # its description has it
    parts = (field.description, ", ".join(map(str, known)), default)
    return f"  {name:20} {' '.join(part for part in parts if part)}".rstrip()


def _print_row(asked: CatalogueRequest, row: Row) -> None:
    warnings = row.get(WARNINGS, [])
    if asked.arguments.json:
        print(orjson.dumps(row).decode())
    else:
        row = {name: value for name, value in row.items() if name != WARNINGS}
        width = max(map(len, row))
        below = "\n" + " " * (width + 2)  # a note may have several lines
        lines = (f"{name:{width}}  {_text(value)}".rstrip() for name, value in row.items())
        print(*(line.replace("\n", below) for line in lines), sep="\n")
    for warning in warnings:
        print(f"tracker: warning: {warning}", file=sys.stderr)
    if getattr(asked.arguments, "dry_run", False):
        print("tracker: a dry run: nothing was changed", file=sys.stderr)


async def _print_list(asked: CatalogueRequest, rows: Sequence[Row]) -> None:
    resource = asked.resource
    columns = _COLUMNS.get(resource.path) or tuple(dict.fromkeys((*resource.table.fixed, *resource.filters)))
    if "closed" in columns:
        caps = await closed_offers.by_cap(asked.pool, [row["id"] for row in rows])
        zone = zone_named(asked.settings.time_zone)
        rows = [{**row, "closed": _closed(row["closed_until"], caps.get(row["id"]), zone)} for row in rows]
    print_table(columns, ([_text(row[column]) or "-" for column in columns] for row in rows))


def _closed(until: str | None, cap: str | None, zone: tzinfo) -> str | None:
    """Until when an offer is closed. None if it is open."""
    if until == "infinity":
        return "closed"
    if until is None or (at := datetime.fromisoformat(until)) <= datetime.now(UTC):
        return None
    if cap and at.year == MAXYEAR:
        return "capped for good"
    return f"{'capped' if cap else 'closed'} until {at.astimezone(zone):%Y-%m-%d %H:%M}"


def _text(value: object) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return value if isinstance(value, str) else orjson.dumps(value).decode()
