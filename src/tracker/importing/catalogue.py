"""Makes the catalogue equal to the files: in one transaction, completely or not at all.

An object is matched by its id, or else by its external id, its unique fields, or its name. Fields in a file
replace the stored values, and other fields stay. Every change goes through the rules of the management API
and is in the audit trail with the author "import".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from graphlib import TopologicalSorter
from typing import Annotated, Any, NamedTuple, TypeGuard, cast

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from tracker.catalogue import resources
from tracker.catalogue.errors import CatalogueError
from tracker.catalogue.fields import Fields
from tracker.catalogue.resource import Editor, Resource, change_row, create_row, implied, path_of
from tracker.catalogue.validation import replacing
from tracker.domain.model import MAX_ID
from tracker.domain.normalise import composed
from tracker.importing.entries import Entry
from tracker.importing.values import error_of
from tracker.store.catalogue import base_goals, edit
from tracker.store.catalogue.edit import Author, Reference, Row
from tracker.store.db import Connection

_AUTHOR = Author(None, "import")

_KNOWN_BY = {"offer_url": ("url",), "affiliate_postback": ("url", "offer_id", "goal_id")}
"""Fields that identify objects without a name, together with their parent."""


class Change(NamedTuple):
    """The change of an object, or in a dry run the change that would be made."""

    path: str
    is_new: bool
    fields: tuple[str, ...]  # fields that were changed


class Result(NamedTuple):
    changes: list[Change]
    left: int  # objects that already matched the files
    errors: list[str]
    warnings: list[str]


class _UnclearError(ValueError):
    """An entry does not identify an object."""


class _UndoneError(Exception):
    """Undoes a transaction."""


RESOURCES = tuple(
    resource
    for resource in resources.RESOURCES
    if not resource.mint  # secrets are created here, and shown once
)
"""The resources of a catalogue."""

_EDITOR, _PAUSER = "url_saved_by", "paused_by"
FACTS = frozenset({"is_base", _EDITOR, _PAUSER})
"""Facts that tell one object from others, or whom to trust. A file may have them."""


async def bring(
    connection: Connection,
    entries: Sequence[Entry],
    *,
    is_dry: bool,
    confirmed: frozenset[str],
    defaults: Mapping[str, str],
) -> Result:
    """Create and change objects according to the entries. With errors or in a dry run nothing is kept.

    `confirmed`: fields that are changed although Resource.asks wants a confirmation.
    `defaults`: as in Editor.
    """
    pool = edit.as_pool(connection)
    archived = _archived_in(entries)
    editor = Editor(pool, _AUTHOR, confirmed=confirmed, defaults=defaults, archived=archived)
    bringing = _Bringing(connection, editor, entries)
    with suppress(_UndoneError):
        async with edit.changing(pool):
            await bringing.keep_ids_free()
            for resource in in_order():
                await bringing.run(resource)
            await bringing.check_archived()
            await bringing.warn()
            if is_dry or bringing.errors:
                raise _UndoneError
            await bringing.pass_ids()
    return bringing.result()


def in_order() -> list[Resource]:
    """Referenced objects come first."""
    resources = {resource.table.name: resource for resource in RESOURCES}
    referred = {
        name: {resource.table.parent_table, *(reference.table for reference in resource.table.references)}
        for name, resource in resources.items()
    }
    before = {name: sorted(tables - {name, ""}) for name, tables in referred.items()}
    return [resources[name] for name in TopologicalSorter(before).static_order()]


class _Rows:
    """The current rows of a table, by any of their columns."""

    def __init__(self, rows: Iterable[Row], last_id: int) -> None:
        self.last_id = last_id
        self._rows = list(rows)
        self._found: dict[tuple[str, ...], dict[bytes, list[Row]]] = {}

    def find(self, by: Row) -> list[Row]:
        columns = tuple(sorted(by))
        if columns not in self._found:
            self._found[columns] = defaultdict(list)
            for row in self._rows:
                self._found[columns][_key(row, columns)].append(row)
        return self._found[columns].get(_key(by, columns), [])

    def add(self, row: Row) -> None:
        self._rows.append(row)
        for columns, matches in self._found.items():
            matches[_key(row, columns)].append(row)

    def give_id(self, row: Row, id_: int) -> None:
        for columns, matches in self._found.items():
            matches[_key(row, columns)].remove(row)
        row["id"] = id_
        for columns, matches in self._found.items():
            matches[_key(row, columns)].append(row)

    def next_id(self) -> int:
        self.last_id += 1
        return self.last_id


class _Bringing:
    """The changes so far."""

    def __init__(self, connection: Connection, editor: Editor, entries: Sequence[Entry]) -> None:
        self._connection = connection
        self._editor = editor
        self._entries = entries
        self._loaded: dict[str, _Rows] = {}
        self._meant: dict[int, Row] = {}  # the row of an entry, by the entry's position
        self._places = {id(entry): place for place, entry in enumerate(entries)}
        self._changes: dict[int, Change] = {}
        self._before: dict[int, Row | None] = {}  # the former rows of changed objects, None for new ones
        self._new_offers: set[int] = set()
        self.errors: list[str] = []
        self._warnings: list[str] = []

    def result(self) -> Result:
        left = len(self._meant) - len(self._changes)
        return Result(list(self._changes.values()), left, self.errors, self._warnings)

    async def run(self, resource: Resource) -> None:
        """All objects are created first and then get their fields, because they may refer to each other."""
        own = [(place, entry) for place, entry in enumerate(self._entries) if entry.resource is resource]
        if not own:
            return
        for step in (self._find_or_create, self._change):
            for place, entry in own:
                try:
                    await step(place, entry)
                except _UnclearError as error:
                    self.errors.append(f"{entry.where}: {error}")
                except CatalogueError as error:
                    self.errors += _lines(entry, error)

    async def warn(self) -> None:
        """Report warnings about objects, now that all parts of them exist."""
        for place, before in self._before.items():
            row = self._meant[place]
            warnings = await self._entries[place].resource.warnings(self._connection, before, row)
            self._warnings += [f"{self._entries[place].where}: {warning}" for warning in warnings]

    async def check_archived(self) -> None:
        """Refuse to archive new objects that others use."""
        for place, before in self._before.items():
            row, table = self._meant[place], self._entries[place].resource.table
            if before is None and row.get("is_archived"):
                users = await edit.users(self._connection, table, row["id"])
                if users:
                    why = f"is_archived is used by {', '.join(users)}"
                    self.errors.append(f"{self._entries[place].where}: {why}")

    async def keep_ids_free(self) -> None:
        """Keep the ids of the files free from the base goals that offers bring with them."""
        highest = max(self._said_ids("goal"), default=0)
        if highest > await edit.last_id(self._connection, "goal"):
            await edit.pass_id(self._connection, "goal", highest)

    async def pass_ids(self) -> None:
        """Make later ids start after those of the files."""
        for table, rows in self._loaded.items():
            if rows.last_id:
                await edit.pass_id(self._connection, table, rows.last_id)

    async def _rows(self, name: str) -> _Rows:
        if name not in self._loaded:
            table = next(resource.table for resource in RESOURCES if resource.table.name == name)
            rows = await edit.every(self._connection, table)
            last_id = await edit.last_id(self._connection, name) if table.key == "id" else 0
            self._loaded[name] = _Rows(rows, max([last_id, *self._said_ids(name)]))
        return self._loaded[name]

    def _said_ids(self, table: str) -> list[int]:
        own = (entry.given.get("id") for entry in self._entries if entry.resource.table.name == table)
        return [id_ for id_ in own if _is_id(id_)]

    async def _find_or_create(self, place: int, entry: Entry) -> None:
        parent = await self._parent(entry)
        if parent is None:
            return  # the object has an error of its own, which is reported
        table = entry.resource.table
        if table.key == "id" and "id" in entry.given and not _is_id(entry.given["id"]):
            raise _UnclearError(f"id is not a whole number from 1 to {MAX_ID}")
        to_others = [reference for reference in table.references if reference.table != table.name]
        values = parent | await self._resolved(entry, parent, to_others)
        rows = await self._rows(table.name)
        if values.get("is_base") and "id" in values and parent.get("offer_id") in self._new_offers:
            await self._give_base_goal(rows, parent, values["id"])
        row = _find(entry.resource, rows, values, parent)
        if row is None:
            row = await self._create(entry.resource, rows, values, parent)
            self._changes[place] = Change(path_of(entry.resource, row), True, ())
            self._before[place] = None
        elif _alike("name", row.get("name")) != _alike("name", values.get("name", row.get("name"))):
            rows.add({**row, "name": values["name"]})
        self._meant[place] = row

    async def _give_base_goal(self, rows: _Rows, offer: Row, id_: int) -> None:
        """Give the id of a file to the base goal that a new offer has brought."""
        for row in rows.find({**offer, "is_base": True}):
            if not rows.find({"id": id_}):
                await base_goals.give_id(self._connection, offer["offer_id"], id_)
                rows.give_id(row, id_)

    async def _create(self, resource: Resource, rows: _Rows, values: Row, parent: Row) -> Row:
        table = resource.table
        where = dict(parent)
        if table.key == "id":
            where["id"] = values.get("id") or rows.next_id()
        named_elsewhere = {"id", *parent, *table.facts}
        fields = {name: value for name, value in values.items() if name not in named_elsewhere}
        row = await create_row(self._editor_of(values), resource, where, fields)
        rows.add(row)
        if table.name == "offer":
            self._new_offers.add(row["id"])
        return row

    async def _change(self, place: int, entry: Entry) -> None:
        before = self._meant.get(place)
        if before is None:
            return
        table = entry.resource.table
        values = await self._resolved(entry, before, table.references)
        values |= implied(self._editor, entry.resource, before, values)
        editor = self._editor_of(values)
        for fact in (_EDITOR, _PAUSER):
            values.pop(fact, None)
        if all(name in before and before[name] == value for name, value in values.items()):
            return
        patch = {name: replacing(before.get(name), value) for name, value in values.items()}
        where = {column: before[column] for column in table.fixed}
        after = await change_row(editor, entry.resource, where, patch)
        self._meant[place] = after
        self._before.setdefault(place, before)
        changed = tuple(name for name in table.columns if before[name] != after[name])
        changed = tuple(name for name in changed if name in entry.given) or changed
        if changed and place not in self._changes:
            self._changes[place] = Change(path_of(entry.resource, after), False, changed)

    def _editor_of(self, values: Row) -> Editor:
        """The editor of an object. What an affiliate saved elsewhere is not the network's here."""
        if values.get(_EDITOR) != "affiliate":
            return self._editor
        is_off_by_network = values.get(_PAUSER) == "network"
        return self._editor._replace(kind="affiliate, off by network" if is_off_by_network else "affiliate")

    async def _parent(self, entry: Entry) -> Row | None:
        """The column and value that name an entry's parent. None: the parent could not be created."""
        table = entry.resource.table
        if not table.parent:
            return {}
        if entry.parent is not None:
            row_of_parent = self._meant.get(self._places[id(entry.parent)])
            return row_of_parent and {table.parent: row_of_parent["id"]}
        whose = Reference(table.parent, table.parent_table)
        values = await self._resolved(entry, {}, [whose])
        if not isinstance(values.get(table.parent), int):
            raise _UnclearError(f"{table.parent} is missing, and so is {table.parent_table}")
        return {table.parent: values[table.parent]}

    async def _resolved(self, entry: Entry, row: Row, references: Iterable[Reference]) -> Row:
        """The fields with ids instead of names: `advertiser: PlayGames` becomes an `advertiser_id`."""
        values = dict(entry.given)
        table = entry.resource.table
        by_name = {reference.column.removesuffix("_id"): reference for reference in table.references}
        if table.parent:
            by_name[table.parent_table] = Reference(table.parent, table.parent_table)
        wanted = {reference.column for reference in references}
        for name, reference in by_name.items():
            if name in values and name not in table.columns:
                named = values.pop(name)
                if reference.column in wanted:
                    values[reference.column] = await self._id_of(name, named, reference, {**row, **values})
            if reference.column not in wanted and reference.column != table.parent:
                values.pop(reference.column, None)
        return values

    async def _id_of(self, name: str, wanted: Any, reference: Reference, row: Row) -> int | None:
        if wanted is None:
            return None
        within = {reference.within: row[reference.within]} if row.get(reference.within) else {}
        rows = await self._rows(reference.table)
        matches = _current(rows.find({"name": wanted, **within}))
        if len(matches) != 1:
            number = len(matches) or "no"
            raise _UnclearError(f"{name} {wanted!r} is the name of {number} objects: give {reference.column}")
        return cast(int, matches[0]["id"])


def _find(resource: Resource, rows: _Rows, values: Row, parent: Row) -> Row | None:
    """The row of an entry, if it exists."""
    table = resource.table
    if not table.key:
        return rows.find({})[0]
    if "id" in values and table.key == "id":
        matches = rows.find({"id": values["id"]})
        if matches and any(matches[0][column] != value for column, value in parent.items()):
            raise _UnclearError(f"id {values['id']} is of another {table.parent_table}")
        if not matches and values.get("is_base"):
            raise _UnclearError("the offer's base goal has another id: leave the id out")
        return matches[0] if matches else None
    external = _external_id(resource, values)
    matches = _current(rows.find(external)) if external else []
    if not matches:
        matches = _current(rows.find({**parent, **_identity(resource, values)}))
        # Two partners may have one name. The one with another external id is the other.
        matches = [row for row in matches if not (external and row["external_id"])]
    if len(matches) > 1:
        raise _UnclearError(f"there are {len(matches)} matches: give the id")
    return matches[0] if matches else None


def _external_id(resource: Resource, values: Row) -> Row:
    """The external id of an entry, if its kind has one and the entry gives it."""
    if "external_id" not in resource.table.exclusive or not values.get("external_id"):
        return {}
    return {"external_id": _as_kept(resource.fields, "external_id", values["external_id"])}


def _identity(resource: Resource, values: Row) -> Row:
    """The fields that identify an object without an id."""
    table = resource.table
    if values.get("is_base"):
        return {"is_base": True}
    named = ("name",) if values.get("name") else None
    present = tuple(name for name in values if name in table.columns)
    columns = table.unique or named or _KNOWN_BY.get(table.name) or present
    fields = resource.fields.model_fields
    return {
        column: _as_kept(resource.fields, column, values[column])
        if column in values
        else fields[column].get_default()
        for column in columns
    }


def _as_kept(fields: type[Fields], column: str, value: Any) -> Any:
    """A value as it is stored, such as a word in lower case. Errors are reported later."""
    try:
        return _type_of(fields, column).validate_python(value)
    except ValidationError:
        return value


@cache
def _type_of(fields: type[Fields], column: str) -> TypeAdapter[Any]:
    field = fields.model_fields[column]
    type_: Any = Annotated[field.annotation, Field(), *field.metadata]
    return TypeAdapter(type_)


def _archived_in(entries: Iterable[Entry]) -> set[tuple[str, int]]:
    return {
        (entry.resource.table.name, entry.given["id"])
        for entry in entries
        if entry.given.get("is_archived") is True and _is_id(entry.given.get("id"))
    }


def _is_id(value: object) -> TypeGuard[int]:
    return type(value) is int and 1 <= value <= MAX_ID


def _current(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if not row.get("is_archived")]


def _key(row: Row, columns: Iterable[str]) -> bytes:
    return orjson.dumps([_alike(column, row.get(column)) for column in columns])


def _alike(column: str, value: Any) -> Any:
    """A name in the normal form of all its spellings. Other values stay."""
    return composed(value) if column == "name" and isinstance(value, str) else value


def _lines(entry: Entry, error: CatalogueError) -> list[str]:
    if not error.errors:
        return [f"{entry.where}: {error.detail}"]
    return [
        f"{entry.where}: {error_of(field, why, entry.given.get(field), entry.theirs)}"
        for field, whys in error.errors.items()
        for why in whys
    ]
