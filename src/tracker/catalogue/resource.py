"""One kind of object of the catalogue: its declaration, and the rules of a change.

The rules are the same for the API, the command line, imports and repairs. A change is read, checked, written
and noted in one transaction. Two changes at once run one after the other, and the second sees the first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Container, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, Field

from tracker.catalogue.errors import CatalogueError, Kind, conflict, invalid
from tracker.catalogue.fields import Fields, is_host
from tracker.catalogue.validation import check_storable, merged, validated
from tracker.domain import normalise
from tracker.errors import Errors
from tracker.parameters import Bool, Ids, Search, choice
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Reference, Row, Table, TakenError, Wanted
from tracker.store.db import Connection, Pool

READ, WRITE, MONEY = "offers:read", "offers:write", "money:write"
"""Scopes: to read the catalogue, to change it, and to change the fields that decide about money."""

WARNINGS = "warnings"
"""A key beside an object's fields: what the object will not do as it is kept. It is left out if empty."""

Warns = Callable[[Connection, Row | None, Row], Awaitable[list[str]]]
"""Says what a new or changed object will not do as it is kept."""


async def _never_warns(_connection: Connection, _before: Row | None, _row: Row) -> list[str]:
    return []


Asks = Callable[[Connection, Row, Row], Awaitable[Errors]]
"""Says which effects of a change cannot be undone, by the fields that have them."""


async def _never_asks(_connection: Connection, _before: Row, _fields: Row) -> Errors:
    return {}


Checks = Callable[[Connection, Row], Awaitable[Errors]]
"""Says what is wrong with an object beside the others, by field. The row has an id if it is stored."""


async def _never_wrong(_connection: Connection, _row: Row) -> Errors:
    return {}


_SEARCH = (
    "Only objects with this text in: {}, in any case. The one with this id is first, then those with this "
    "name."
)
_SORT = "id, or name without regard to case. With -, the last is first."


class Resource(NamedTuple):
    """The declaration of one kind of object."""

    path: str  # as in the audit trail, with the parent's id as {offer_id}
    noun: str  # as in "one offer"
    table: Table
    fields: type[Fields]
    filters: Mapping[str, Any] = {}  # parameters of the list, by column: types of parameters
    facts: Mapping[str, Any] = {}  # the types of table.facts
    scope: str = WRITE  # of changes
    money: frozenset[str] = frozenset()  # fields that take MONEY in its place, unless they stay
    new: type[Fields] | None = None  # the fields of a new object: those of `fields`, and what `mint` takes
    mint: Callable[[Row], tuple[Row, Row]] | None = (
        None  # makes table.minted, and the row of it that is shown once
    )
    refuses: Callable[[Row, Row], Errors] = lambda before, fields: {}  # why a row cannot become another
    implies: Callable[[Row, Row], Row] = lambda before, written: {}  # further fields that a change means
    checks: Checks = _never_wrong
    warns: Warns = _never_warns
    asks: Asks = _never_asks
    confirmable: tuple[str, ...] = ()  # the fields that it may ask about
    of_network: frozenset[str] = frozenset()  # fields that the network's settings have defaults for
    amounts: frozenset[str] = frozenset()  # fields that a reader without sight of money does not see
    plain: Mapping[str, Collection[str]] = {}  # the values of columns in the rows that such a reader sees
    is_of_money: bool = False  # such a reader sees no row

    def without_money(self, row: Row) -> Row | None:
        """A row as a reader without sight of money sees it. None: not at all."""
        if self.is_of_money or any(row[column] not in values for column, values in self.plain.items()):
            return None
        return {name: value for name, value in row.items() if name not in self.amounts}

    @property
    def parameters(self) -> dict[str, Any]:
        """The filters of the list as fields of a pydantic model: types and descriptions by column."""
        fields: dict[str, Any] = {
            column: (type_, Field(None, description=f"Only objects with this {column}."))
            for column, type_ in self.filters.items()
        }
        if self.table.key == "id":
            fields["id"] = (Ids, Field(None, description="Only the objects with these ids."))
        if self.table.searched:
            fields["q"] = (Search, Field("", description=_SEARCH.format(", ".join(self.table.searched))))
            fields["sort"] = (choice("id", "-id", "name", "-name"), Field("id", description=_SORT))
        if self.table.can_archive:
            fields["is_archived"] = (
                Bool,
                Field(False, description="true: archived objects. false: all others."),
            )
        return fields

    @property
    def only_when_new(self) -> frozenset[str]:
        """What `mint` takes. It is never shown."""
        return frozenset(self.new.model_fields if self.new else ()) - self.fields.model_fields.keys()

    @property
    def can_warn(self) -> bool:
        return self.warns is not _never_warns or self.fields.doubts != Fields.doubts

    async def warnings(self, connection: Connection, before: Row | None, row: Row) -> list[str]:
        """The warnings about a new object (`before` is None) or about a change."""
        doubts = [
            f"{field}: {doubt}"
            for field, doubts in self.fields.doubts(row).items()
            for doubt in doubts
            if before is None or row[field] != before[field]
        ]
        return [*doubts, *await self.warns(connection, before, row)]

    @property
    def name(self) -> str:
        return self.fields.__name__

    @property
    def money_when_new(self) -> frozenset[str]:
        """The fields of money that a new object can be without."""
        known = self.fields.model_fields
        return frozenset(name for name in self.money if not known[name].is_required())

    @property
    def scopes(self) -> tuple[str, ...]:
        """One of these is needed to change any field."""
        return (self.scope, MONEY) if self.money else (self.scope,)


def wanted(place: Row, query: BaseModel) -> Wanted:
    """The rows of a place that a query with a resource's parameters means."""
    given = query.model_dump(exclude={"page", "per_page"}, exclude_none=True)
    text, sort = given.pop("q", ""), given.pop("sort", "")
    equals = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    return Wanted({**place, **equals}, text, sort)


class Version(Fields):
    """The version that a change was made for."""

    version: int | None = None


class Editor(NamedTuple):
    """The author of a change, and its conditions."""

    pool: Pool
    author: Author
    expects: Callable[[int], bool] = lambda _version: True  # whether the change is meant for this version
    is_trial: bool = False  # the change is checked and undone
    confirmed: frozenset[str] = frozenset()  # fields that may change though Resource.asks
    may: Callable[[str], bool] = lambda _scope: True  # by scope. The command line may do everything
    defaults: Mapping[str, str] = {}  # the network's (Settings.catalogue_defaults), by field
    kind: str = ""  # affiliate, empty for the network, or another text of tracker.editor in SQL
    archived: Container[tuple[str, int]] = ()  # table and id of objects that come archived, with their parts


async def create_row(editor: Editor, resource: Resource, place: Row, written: Row) -> Row:
    """Make an object. The row has its minted secrets too, which are shown only now, and WARNINGS.

    Raises:
        CatalogueError: any kind except STALE.
    """
    check_storable(written)
    table = resource.table
    model = resource.new or resource.fields
    fields = _fields(editor, resource, written | implied(editor, resource, {}, written), model=model)
    _check_rights(editor, resource, _unpriced(editor, resource, fields), fields, written)
    given = {name: fields.pop(name) for name in resource.only_when_new}
    kept, shown = resource.mint(given) if resource.mint else ({}, {})
    currency = editor.defaults.get("currency", "")
    async with edit.changing(
        editor.pool,
        is_trial=editor.is_trial,
        currency=currency,
        editor=editor.kind,
        author=editor.author.token_name,
    ) as connection:
        await check_parent(connection, table, place, or_archived=_comes_archived(editor, table, place))
        await _check_references(connection, editor, table, {**place, **fields}, {})
        await _check_others(connection, resource, {**place, **fields})
        try:
            row = await edit.insert(connection, table, {**place, **fields, **kept})
        except TakenError:
            raise _taken(table) from None
        await edit.note(connection, editor.author, table, path_of(resource, row), None, row)
        warnings = await resource.warnings(connection, None, row)
    return {**row, **shown, **_with_key(warnings)}


async def change_row(
    editor: Editor, resource: Resource, place: Row, written: Row, *, of_archived: bool = False
) -> Row:
    """Change some fields of an object. Returns the changed row with WARNINGS.

    `of_archived`: the parent may be archived.

    Raises:
        CatalogueError: any kind.
    """
    check_storable(written)
    table = resource.table
    async with edit.changing(editor.pool, is_trial=editor.is_trial, editor=editor.kind) as connection:
        before = found(await edit.locked(connection, table, place), resource)
        or_archived = of_archived or _comes_archived(editor, table, place)
        await check_parent(connection, table, place, or_archived=or_archived)
        version = validated({"version": written.pop("version", None)}, Version).version
        _check_version(editor.expects, version, before)
        _check_fixed(table, before, written)
        writable = {column: before[column] for column in table.columns}
        patch = written | implied(editor, resource, before, written)
        fields = _fields(editor, resource, merged(writable, patch), writable)
        if fields == writable:
            return before
        _check_rights(editor, resource, writable, fields, written)
        await _check_change(connection, editor, resource, before, fields)
        await _check_confirmed(connection, editor, resource, before, fields)
        try:
            after = await edit.update(connection, table, place, fields)
        except TakenError:
            raise _taken(table) from None
        await edit.note(connection, editor.author, table, path_of(resource, after), before, after)
        warnings = await resource.warnings(connection, before, after)
    return {**after, **_with_key(warnings)}


async def delete_row(editor: Editor, resource: Resource, place: Row) -> None:
    """Archive an object, or delete it if its table has no archive.

    Raises:
        CatalogueError: UNKNOWN, CONFLICT, STALE or FORBIDDEN.
    """
    table = resource.table
    if table.can_archive:
        await change_row(editor, resource, place, {"is_archived": True}, of_archived=True)
        return
    async with edit.changing(editor.pool, is_trial=editor.is_trial) as connection:
        row = found(await edit.locked(connection, table, place), resource)
        _check_version(editor.expects, None, row)
        await edit.delete(connection, table, place)
        await edit.note(connection, editor.author, table, path_of(resource, row), row, None)


def _with_key(warnings: list[str]) -> Row:
    return {WARNINGS: warnings} if warnings else {}


# Checks


def implied(editor: Editor, resource: Resource, before: Row, written: Row) -> Row:
    """Further fields that a change means. A missing scope leaves them out and refuses nothing."""
    meant = resource.implies(before, written)
    return meant if editor.may(MONEY) else {name: meant[name] for name in meant.keys() - resource.money}


def _fields(
    editor: Editor,
    resource: Resource,
    written: Row,
    before: Row | None = None,
    model: type[Fields] | None = None,
) -> Row:
    fields = validated({**_defaults(editor, resource), **written}, model or resource.fields, before)
    clashes = fields.clashes()
    if clashes:
        raise invalid({field: [message] for field, message in clashes.items()})
    return fields.model_dump(warnings=False)  # a field that stays may have a former type


def _defaults(editor: Editor, resource: Resource) -> Row:
    """The network's own defaults of a resource's fields."""
    return {name: value for name, value in editor.defaults.items() if name in resource.of_network}


def _check_rights(editor: Editor, resource: Resource, before: Row, fields: Row, written: Row) -> None:
    """Each field that changes takes its own scope.

    Raises:
        CatalogueError: FORBIDDEN. It names the fields that were written, or those that follow from them.
    """
    changed = {name for name, value in fields.items() if value != before[name]}
    for scope, names in ((MONEY, changed & resource.money), (resource.scope, changed - resource.money)):
        if names and not editor.may(scope):
            errors = {
                field: [f"needs the scope {scope}"] for field in sorted(names & written.keys() or names)
            }
            raise CatalogueError(Kind.FORBIDDEN, errors, scope=scope)


def _unpriced(editor: Editor, resource: Resource, fields: Row) -> Row:
    """The fields of a new object, with those of money at their defaults."""
    known = resource.fields.model_fields
    defaults = {name: known[name].get_default(call_default_factory=True) for name in resource.money_when_new}
    return fields | defaults | _defaults(editor, resource)


def _check_version(expects: Callable[[int], bool], version: int | None, row: Row) -> None:
    """Refuse a change that was made for another version than the current one.

    Raises:
        CatalogueError: STALE by the editor's condition, CONFLICT by the body's version.
    """
    current = row["version"]
    errors = {"version": [f"is not current: the current version is {current}"]}
    if not expects(current):
        detail = f"The object was changed. Its current version is {current}."
        raise CatalogueError(Kind.STALE, errors, detail, version=current)
    if version not in (None, current):
        detail = f"The object was changed since version {version}. Its current version is {current}."
        raise CatalogueError(Kind.CONFLICT, errors, detail, version=current)


def _check_fixed(table: Table, before: Row, written: Row) -> None:
    """Refuse other values of the columns that name a row. The same values are allowed."""
    facts = (*table.fixed, *table.facts)
    changed = [name for name in facts if written.get(name, before[name]) != before[name]]
    if changed:
        raise invalid({name: ["cannot be changed"] for name in changed})
    for name in set(facts) - set(table.columns):
        written.pop(name, None)


async def _check_change(
    connection: Connection, editor: Editor, resource: Resource, before: Row, fields: Row
) -> None:
    table = resource.table
    refused = resource.refuses(before, fields)
    if refused:
        raise conflict(refused)
    is_restored = before.get("is_archived") and not fields["is_archived"]
    known = {} if is_restored else before
    await _check_references(connection, editor, table, {**before, **fields}, known)
    await _check_others(connection, resource, {**before, **fields})
    if fields.get("is_archived") and not before["is_archived"]:
        users = await edit.users(connection, table, before["id"])
        if users:
            detail = f"It is still used by {', '.join(users)}."
            errors = {"is_archived": [f"is used by {', '.join(users)}"]}
            raise CatalogueError(Kind.CONFLICT, errors, detail)


async def _check_confirmed(
    connection: Connection, editor: Editor, resource: Resource, before: Row, fields: Row
) -> None:
    """Refuse effects that cannot be undone until they are confirmed.

    Raises:
        CatalogueError: CONFLICT. It names the fields that are not confirmed, and the effects of their change.
    """
    effects = await resource.asks(connection, before, fields)
    errors = {
        field: [f"{' and '.join(whys)}. {_HOW_TO_CONFIRM.format(field)}"]
        for field, whys in effects.items()
        if field not in editor.confirmed
    }
    if errors:
        raise conflict(errors)


_HOW_TO_CONFIRM = "To change it, confirm {0} (API: ?confirm={0}, command line: --confirm {0})"


async def _check_references(
    connection: Connection, editor: Editor, table: Table, row: Row, known: Row
) -> None:
    """Refuse references to rows that do not exist, unless the row had them before.

    Raises:
        CatalogueError: INVALID. It names the fields.
    """
    errors = {}
    for reference in table.references:
        named = (reference.column, reference.within)
        if not row[reference.column] or all(row.get(name) == known.get(name) for name in named if name):
            continue  # 0: every affiliate
        wrong = await _wrong_with(connection, editor, reference, row)
        if wrong:
            errors[reference.column] = [wrong]
    if errors:
        raise invalid(errors)


async def _check_others(connection: Connection, resource: Resource, row: Row) -> None:
    """Refuse an object that cannot be beside the others.

    Raises:
        CatalogueError: INVALID. It names the fields.
    """
    errors = await resource.checks(connection, row)
    if errors:
        raise invalid(errors)


async def _wrong_with(connection: Connection, editor: Editor, reference: Reference, row: Row) -> str:
    """The fault of a reference. Empty if it has none."""
    target, id_ = reference.table, row[reference.column]
    if reference.other_than and id_ == row.get(reference.other_than):
        return f"names the {target} itself"
    whole = row.get(reference.within) if reference.within else None
    within = None if whole is None else {reference.within: whole}
    or_archived = (target, id_) in editor.archived
    if not await edit.exists(connection, target, id_, within=within, or_archived=or_archived):
        return f"matches no {target}" + ("" if whole is None else f" with this {reference.within}")
    if reference.is_chain and "id" in row and await edit.leads_to(connection, reference, id_, row["id"]):
        return f"leads back to the {target} itself"
    return ""


def _comes_archived(editor: Editor, table: Table, place: Row) -> bool:
    """Whether the parent of a row is one of the objects that come archived."""
    return (table.parent_table, place.get(table.parent)) in editor.archived


async def check_parent(
    source: Pool | Connection, table: Table, place: Row, *, or_archived: bool = False
) -> None:
    whose = table.parent_table
    if whose and not await edit.exists(source, whose, place[table.parent], or_archived=or_archived):
        errors = {table.parent: [f"matches no {whose}"]}
        raise CatalogueError(Kind.UNKNOWN, errors, f"The {whose} does not exist.")


def _taken(table: Table) -> CatalogueError:
    if table.minted:
        return conflict({"secret": ["is taken: it belongs to one advertiser only"]})  # and not to whom
    columns = table.unique or table.exclusive
    detail = f"Another object has the same {', '.join(columns)}."
    return CatalogueError(Kind.CONFLICT, {column: ["is taken"] for column in columns}, detail)


# Places


def found(row: Row | None, resource: Resource) -> Row:
    if row is None:
        raise CatalogueError(Kind.UNKNOWN, {}, f"The {resource.noun} does not exist.")
    return row


def path_of(resource: Resource, row: Row) -> str:
    collection = resource.path.format_map(row)
    return f"{collection}/{row[resource.table.key]}" if resource.table.key else collection


def place_of(texts: Mapping[str, str], *columns: str) -> Row:
    """The columns that name an object or its parent, read from their texts.

    Raises:
        CatalogueError: UNKNOWN if one is not an id.
    """
    place: Row = {}
    for column in filter(None, columns):
        text = texts[column]
        place[column] = _read_host(text) if column == "host" else read_id(text)
        if place[column] is None:
            detail = f"There is no object with the {column} {text[:50]!r}."
            raise CatalogueError(Kind.UNKNOWN, {}, detail)
    return place


def _read_host(text: str) -> str | None:
    return text if is_host(text) else None


def read_id(text: str) -> int | None:
    """An id, as it is written in a path. None if the text is not one."""
    return normalise.id_(text)
