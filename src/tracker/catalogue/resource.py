"""One kind of object of the catalogue: what there is to say about it, and how its rows change.

Whoever asks for that, by HTTP or on the command line. A change is read, checked, written and noted in one
transaction, so two at once come one after the other, and the second sees the first.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from tracker.api.http.auth import lacking
from tracker.api.http.body import check_storable, merged, validated
from tracker.api.http.problems import Errors, Problem, conflict, invalid
from tracker.catalogue.fields import Fields, is_host
from tracker.domain import normalise
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Reference, Row, Table, TakenError
from tracker.store.db import Connection, Pool

ROOT = "/backend/open-api/v1/users"

READ, WRITE, MONEY = "offers:read", "offers:write", "money:write"
"""Scopes: to look at the catalogue, to change it, and to change what decides about money."""

WARNINGS = "warnings"
"""In an answer, beside the object's fields: what it will not do as it is kept. Only where there is any."""

# Possessive: nothing is tried twice, however long the header is.
_LISTED_TAG = re.compile(r'[ \t]*+(?:(W/)?"([\x21\x23-\x7e\x80-\xff]*+)")?[ \t]*+(?:,|\Z)')


Warns = Callable[[Connection, Row | None, Row], Awaitable[list[str]]]
"""Says what an object that is new, or was another before, will not do as it is kept."""


async def _never_warns(_connection: Connection, _before: Row | None, _row: Row) -> list[str]:
    return []


Asks = Callable[[Connection, Row, Row], Awaitable[Errors]]
"""Says what a change would do that cannot be undone, by the fields that do it."""


async def _never_asks(_connection: Connection, _before: Row, _fields: Row) -> Errors:
    return {}


class Resource(NamedTuple):
    """What there is to say about one kind of object."""

    path: str  # under ROOT, with the parent's id as {offer_id}
    noun: str  # as in "one offer"
    table: Table
    fields: type[Fields]
    filters: Mapping[str, Any] = {}  # parameters of the list, by column: types of parameters
    facts: Mapping[str, Any] = {}  # the types of table.facts
    scope: str = WRITE  # of changes
    money: frozenset[str] = frozenset()  # fields that take MONEY in its place, unless they stay
    mint: Callable[[], tuple[Row, Row]] | None = None  # makes table.minted, and what is shown of it, once
    refuses: Callable[[Row, Row], Errors] = lambda before, fields: {}  # why a row does not become another
    implies: Callable[[Row, Row], Row] = lambda before, given: {}  # fields that go with those that are given
    warns: Warns = _never_warns
    asks: Asks = _never_asks
    confirmable: tuple[str, ...] = ()  # the fields that it may ask about

    @property
    def can_warn(self) -> bool:
        return self.warns is not _never_warns or self.fields.doubts != Fields.doubts

    async def warnings(self, connection: Connection, before: Row | None, row: Row) -> list[str]:
        """What is to be said of an object that is new, or of a change of it."""
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
        """The fields of money that an object can be made without."""
        known = self.fields.model_fields
        return frozenset(name for name in self.money if not known[name].is_required())

    @property
    def scopes(self) -> tuple[str, ...]:
        """One of these is needed to change any field."""
        return (self.scope, MONEY) if self.money else (self.scope,)


class Version(Fields):
    """The version that a change was made for."""

    version: int | None = None


class Editor(NamedTuple):
    """Who changes something, where, and on what condition."""

    pool: Pool
    author: Author
    if_match: str | None = None  # as in RFC 9110, section 13.1.1
    is_trial: bool = False  # it is only to be found out what would happen
    confirmed: frozenset[str] = frozenset()  # fields whose change is made whatever it does; see Resource.asks
    may: Callable[[str], bool] = lambda _scope: True  # the command line may do everything


async def create_row(editor: Editor, resource: Resource, place: Row, given: Row) -> Row:
    """Make an object; the row returned also has what is minted with it, and shown only now; see WARNINGS.

    Raises:
        Problem: 403, 404, 409 or 422, which says what is wrong.
    """
    check_storable(given)
    table = resource.table
    fields = _fields(resource, given | implied(editor, resource, {}, given))
    _check_rights(editor, resource, _unpriced(resource, fields), fields, given)
    kept, shown = resource.mint() if resource.mint else ({}, {})
    async with edit.changing(editor.pool, is_trial=editor.is_trial) as connection:
        await check_parent(connection, table, place)
        await _check_references(connection, table, {**place, **fields}, {})
        try:
            row = await edit.insert(connection, table, {**place, **fields, **kept})
        except TakenError:
            raise _taken(table) from None
        await edit.note(connection, editor.author, table, path_of(resource, row), None, row)
        warnings = await resource.warnings(connection, None, row)
    return {**row, **shown, **_told(warnings)}


async def change_row(
    editor: Editor, resource: Resource, place: Row, given: Row, *, of_archived: bool = False
) -> Row:
    """Change some fields of an object; returns it as it is then; see WARNINGS.

    `of_archived`: also if its parent is archived.

    Raises:
        Problem: 403, 404, 409, 412 or 422, which says what is wrong.
    """
    check_storable(given)
    table = resource.table
    async with edit.changing(editor.pool, is_trial=editor.is_trial) as connection:
        before = found(await edit.locked(connection, table, place), resource)
        await check_parent(connection, table, place, or_archived=of_archived)
        version = validated({"version": given.pop("version", None)}, Version).version
        _check_version(editor.if_match, version, before)
        _check_fixed(table, before, given)
        writable = {column: before[column] for column in table.columns}
        asked = given | implied(editor, resource, before, given)
        fields = _fields(resource, merged(writable, asked), writable)
        if fields == writable:
            return before
        _check_rights(editor, resource, writable, fields, given)
        await _check_change(connection, resource, before, fields)
        await _check_confirmed(connection, editor, resource, before, fields)
        try:
            after = await edit.update(connection, table, place, fields)
        except TakenError:
            raise _taken(table) from None
        await edit.note(connection, editor.author, table, path_of(resource, after), before, after)
        warnings = await resource.warnings(connection, before, after)
    return {**after, **_told(warnings)}


async def delete_row(editor: Editor, resource: Resource, place: Row) -> None:
    table = resource.table
    if table.can_archive:
        await change_row(editor, resource, place, {"is_archived": True}, of_archived=True)
        return
    async with edit.changing(editor.pool, is_trial=editor.is_trial) as connection:
        row = found(await edit.locked(connection, table, place), resource)
        _check_version(editor.if_match, None, row)
        await edit.delete(connection, table, place)
        await edit.note(connection, editor.author, table, path_of(resource, row), row, None)


def _told(warnings: list[str]) -> Row:
    return {WARNINGS: warnings} if warnings else {}


# What is checked


def implied(editor: Editor, resource: Resource, before: Row, given: Row) -> Row:
    """Further fields that a change means. Nobody is refused for one that was not asked for."""
    meant = resource.implies(before, given)
    return meant if editor.may(MONEY) else {name: meant[name] for name in meant.keys() - resource.money}


def _fields(resource: Resource, given: Row, before: Row | None = None) -> Row:
    fields = validated(given, resource.fields, before)
    clashes = fields.clashes()
    if clashes:
        raise invalid({field: [message] for field, message in clashes.items()})
    return fields.model_dump(warnings=False)  # a field that stays may be of another type than is saved today


def _check_rights(editor: Editor, resource: Resource, before: Row, fields: Row, given: Row) -> None:
    """Each field that changes takes its own scope.

    Raises:
        Problem: 403 naming the fields that were given, or those that follow from them.
    """
    changed = {name for name, value in fields.items() if value != before[name]}
    for scope, names in ((MONEY, changed & resource.money), (resource.scope, changed - resource.money)):
        if names and not editor.may(scope):
            raise lacking((scope,), sorted(names & given.keys() or names))


def _unpriced(resource: Resource, fields: Row) -> Row:
    """The fields of a new object, with those of money at their defaults."""
    known = resource.fields.model_fields
    return fields | {
        name: known[name].get_default(call_default_factory=True) for name in resource.money_when_new
    }


def _check_version(if_match: str | None, version: int | None, row: Row) -> None:
    """A change of what is not current any more is refused.

    Raises:
        Problem: 412 by If-Match, 409 by the body's version.
    """
    current = row["version"]
    errors = {"version": [f"is not current: the current version is {current}"]}
    if if_match is not None and not if_match_holds(if_match, current):
        detail = f"The object was changed. Its current version is {current}."
        raise Problem(412, detail, errors=errors, headers={"ETag": etag(row)})
    if version not in (None, current):
        detail = f"The object was changed since version {version}. Its current version is {current}."
        raise Problem(409, detail, errors=errors, headers={"ETag": etag(row)})


def if_match_holds(condition: str, version: int) -> bool:
    """Whether If-Match holds (RFC 9110, section 13.1.1). No weak tag does, nor what is no list of tags.

    A tag's form is that of section 8.8.3, a list's that of section 5.6.1.2, which may have empty elements.
    """
    if condition.strip(" \t") == "*":
        return True
    is_matched, at = False, 0
    while at < len(condition):
        element = _LISTED_TAG.match(condition, at)
        if element is None:
            return False
        is_matched |= element.groups() == (None, str(version))
        at = element.end()
    return is_matched


def _check_fixed(table: Table, before: Row, given: Row) -> None:
    """What names a row may be said again, not changed."""
    facts = (*table.fixed, *table.facts)
    changed = [name for name in facts if given.get(name, before[name]) != before[name]]
    if changed:
        raise invalid({name: ["cannot be changed"] for name in changed})
    for name in set(facts) - set(table.columns):
        given.pop(name, None)


async def _check_change(connection: Connection, resource: Resource, before: Row, fields: Row) -> None:
    table = resource.table
    refused = resource.refuses(before, fields)
    if refused:
        raise conflict(refused)
    is_restored = before.get("is_archived") and not fields["is_archived"]
    known = {} if is_restored else before
    await _check_references(connection, table, {**before, **fields}, known)
    if fields.get("is_archived") and not before["is_archived"]:
        users = await edit.users(connection, table, before["id"])
        if users:
            detail = f"It is still used by {', '.join(users)}."
            raise Problem(409, detail, errors={"is_archived": [f"is used by {', '.join(users)}"]})


async def _check_confirmed(
    connection: Connection, editor: Editor, resource: Resource, before: Row, fields: Row
) -> None:
    """What cannot be undone is said before it is done.

    Raises:
        Problem: 409 naming the fields that are not confirmed, and what their change would do.
    """
    asked = await resource.asks(connection, before, fields)
    errors = {
        field: [f"{' and '.join(whys)}. {_HOW_TO_CONFIRM.format(field)}"]
        for field, whys in asked.items()
        if field not in editor.confirmed
    }
    if errors:
        raise conflict(errors)


_HOW_TO_CONFIRM = "To change it, confirm {0} (API: ?confirm={0}, command line: --confirm {0})"


async def _check_references(connection: Connection, table: Table, row: Row, known: Row) -> None:
    """Whom a row names must be there, unless it named them before.

    Raises:
        Problem: 422 naming the fields.
    """
    errors = {}
    for reference in table.references:
        named = (reference.column, reference.within)
        if not row[reference.column] or all(row.get(name) == known.get(name) for name in named if name):
            continue  # 0: every affiliate
        wrong = await _wrong_with(connection, reference, row)
        if wrong:
            errors[reference.column] = [wrong]
    if errors:
        raise invalid(errors)


async def _wrong_with(connection: Connection, reference: Reference, row: Row) -> str:
    """What is wrong with a reference of a row; "" where nothing is."""
    target, id_ = reference.table, row[reference.column]
    if reference.other_than and id_ == row.get(reference.other_than):
        return f"names the {target} itself"
    whole = row.get(reference.within) if reference.within else None
    if not await edit.exists(
        connection, target, id_, within=None if whole is None else {reference.within: whole}
    ):
        return f"matches no {target}" + ("" if whole is None else f" with this {reference.within}")
    if reference.is_chain and "id" in row and await edit.leads_to(connection, reference, id_, row["id"]):
        return f"leads back to the {target} itself"
    return ""


async def check_parent(
    source: Pool | Connection, table: Table, place: Row, *, or_archived: bool = False
) -> None:
    whose = table.parent_table
    if whose and not await edit.exists(source, whose, place[table.parent], or_archived=or_archived):
        raise Problem(404, f"The {whose} does not exist.", errors={table.parent: [f"matches no {whose}"]})


def _taken(table: Table) -> Problem:
    columns = table.unique or table.exclusive
    detail = f"Another object has the same {', '.join(columns)}."
    return Problem(409, detail, errors={column: ["is taken"] for column in columns})


# Where things are


def found(row: Row | None, resource: Resource) -> Row:
    if row is None:
        raise Problem(404, f"The {resource.noun} does not exist.")
    return row


def path_of(resource: Resource, row: Row) -> str:
    collection = resource.path.format_map(row)
    return f"{collection}/{row[resource.table.key]}" if resource.table.key else collection


def place_of(texts: Mapping[str, str], *columns: str) -> Row:
    """The columns that name an object, or whose it is, out of their texts.

    Raises:
        Problem: 404 where one is no id.
    """
    place: Row = {}
    for column in filter(None, columns):
        text = texts[column]
        place[column] = _read_host(text) if column == "host" else read_id(text)
        if place[column] is None:
            raise Problem(404, f"There is no object with the {column} {text[:50]!r}.")
    return place


def _read_host(text: str) -> str | None:
    return text if is_host(text) else None


def etag(row: Row) -> str:
    return f'"{row["version"]}"'


def read_id(text: str) -> int | None:
    """An id in a path; None where it is none."""
    return normalise.id_(text)
