"""One kind of object of the catalogue: what there is to say about it, and how its rows change.

A change is read, checked, written and noted in one transaction, so two at once come one after the other, and
the second sees the first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from starlette.requests import Request

from tracker.api.fields import Fields, is_host
from tracker.api.json_body import JSON, MERGE_PATCH, check_storable, merged, read_object, validated
from tracker.api.problems import Problem, invalid
from tracker.store import managed
from tracker.store.managed import Author, Row, Table, TakenError
from tracker.store.pool import Connection, Pool

ROOT = "/backend/open-api/v1/users"

_ID = re.compile(r"[1-9][0-9]{0,17}")
_ETAG = re.compile(r'(W/)?"([^"]*)"')


class Resource(NamedTuple):
    """What there is to say about one kind of object."""

    path: str  # under ROOT, with the parent's id as {offer_id}
    noun: str  # as in "one offer"
    table: Table
    fields: type[Fields]
    filters: Mapping[str, Any] = {}  # parameters of the list, by column: types of click_query

    @property
    def name(self) -> str:
        return self.fields.__name__


class Version(Fields):
    """The version that a change was made for."""

    version: int | None = None


async def create_row(request: Request, resource: Resource, author: Author) -> Row:
    given = await read_object(request, JSON)
    check_storable(given)
    place = place_of(request, resource.table.parent)
    fields = _fields(resource, given)
    async with managed.changing(request.app.state.pool) as connection:
        await check_parent(connection, place)
        await _check_references(connection, resource.table, {**place, **fields}, {})
        try:
            row = await managed.insert(connection, resource.table, {**place, **fields})
        except TakenError:
            raise _taken(resource.table) from None
        await managed.note(connection, author, resource.table, path_of(resource, row), None, row)
    return row


async def change_row(request: Request, resource: Resource, author: Author) -> Row:
    given = await read_object(request, JSON, MERGE_PATCH)
    check_storable(given)
    return await _changed(request, resource, author, given)


async def delete_row(request: Request, resource: Resource, author: Author) -> None:
    if resource.table.can_archive:
        await _changed(request, resource, author, {"is_archived": True})
        return
    place = place_of(request, *resource.table.fixed)
    async with managed.changing(request.app.state.pool) as connection:
        row = found(await managed.locked(connection, resource.table, place), resource)
        _check_version(request, None, row)
        await managed.delete(connection, resource.table, place)
        await managed.note(connection, author, resource.table, path_of(resource, row), row, None)


async def _changed(request: Request, resource: Resource, author: Author, given: Row) -> Row:
    table = resource.table
    place = place_of(request, *table.fixed)
    async with managed.changing(request.app.state.pool) as connection:
        before = found(await managed.locked(connection, table, place), resource)
        _check_version(request, validated({"version": given.pop("version", None)}, Version).version, before)
        _check_fixed(table, before, given)
        writable = {column: before[column] for column in table.columns}
        fields = _fields(resource, merged(writable, given))
        if fields == writable:
            return before
        await _check_change(connection, table, before, fields)
        try:
            after = await managed.update(connection, table, place, fields)
        except TakenError:
            raise _taken(table) from None
        await managed.note(connection, author, table, path_of(resource, after), before, after)
    return after


# What is checked


def _fields(resource: Resource, given: Row) -> Row:
    fields = validated(given, resource.fields)
    clashes = fields.clashes()
    if clashes:
        raise invalid({field: [message] for field, message in clashes.items()})
    return fields.model_dump()


def _check_version(request: Request, version: int | None, row: Row) -> None:
    """A change of what is not current any more is refused.

    Raises:
        Problem: 412 by If-Match, 409 by the body's version.
    """
    current = row["version"]
    errors = {"version": [f"is {current} now"]}
    if "if-match" in request.headers and not _matches(
        ", ".join(request.headers.getlist("if-match")), current
    ):
        detail = f"It was changed since: its version is {current} now."
        raise Problem(412, detail, errors=errors, headers={"ETag": etag(row)})
    if version not in (None, current):
        detail = f"It was changed since version {version}: its version is {current} now."
        raise Problem(409, detail, errors=errors, headers={"ETag": etag(row)})


def _matches(condition: str, version: int) -> bool:
    """Whether If-Match holds (RFC 9110, section 13.1.1): weak tags never match."""
    return condition.strip() == "*" or ("", str(version)) in _ETAG.findall(condition)


def _check_fixed(table: Table, before: Row, given: Row) -> None:
    """What names a row, or is not written like the rest, may be said again, not changed."""
    fixed = {*table.fixed, *table.read_only}
    changed = [name for name in given if name in fixed and given[name] != before[name]]
    if changed:
        raise invalid({name: ["cannot be changed"] for name in changed})
    for name in fixed - set(table.columns):
        given.pop(name, None)


async def _check_change(connection: Connection, table: Table, before: Row, fields: Row) -> None:
    is_restored = before.get("is_archived") and not fields["is_archived"]
    known = {} if is_restored else before
    await _check_references(connection, table, {**before, **fields}, known)
    if fields.get("is_archived") and not before["is_archived"]:
        users = await managed.users(connection, table, before["id"])
        if users:
            detail = f"It is still needed by {', '.join(users)}."
            raise Problem(409, detail, errors={"is_archived": [f"is needed by {', '.join(users)}"]})


async def _check_references(connection: Connection, table: Table, row: Row, known: Row) -> None:
    """Whom a row names must be there, unless it named them before.

    Raises:
        Problem: 422 naming the fields.
    """
    errors = {}
    for column, target, other_than in table.references:
        id_ = row[column]
        if not id_ or id_ == known.get(column):  # 0: every affiliate
            continue
        if other_than and id_ == row.get(other_than):
            errors[column] = ["is the offer itself"]
        elif not await managed.exists(connection, target, id_):
            errors[column] = [f"is of no {target}"]
    if errors:
        raise invalid(errors)


async def check_parent(source: Pool | Connection, place: Row, *, or_archived: bool = False) -> None:
    if place and not await managed.exists(source, "offer", place["offer_id"], or_archived=or_archived):
        raise Problem(404, "There is no such offer.", errors={"offer_id": ["is of no offer"]})


def _taken(table: Table) -> Problem:
    detail = f"There is another one with the same {', '.join(table.unique)}."
    return Problem(409, detail, errors={column: ["is taken"] for column in table.unique})


# Where things are


def place_of(request: Request, *columns: str) -> Row:
    """The columns that a path gives.

    Raises:
        Problem: 404 where one is no id.
    """
    place: Row = {}
    for column in filter(None, columns):
        text = request.path_params[column]
        place[column] = _read_host(text) if column == "host" else read_id(text)
        if place[column] is None:
            raise Problem(404, f"There is none with the {column} {text[:50]!r}.")
    return place


def _read_host(text: str) -> str | None:
    return text if is_host(text) else None


def found(row: Row | None, resource: Resource) -> Row:
    if row is None:
        raise Problem(404, f"There is no such {resource.noun}.")
    return row


def path_of(resource: Resource, row: Row) -> str:
    collection = resource.path.format_map(row)
    return f"{collection}/{row[resource.table.key]}" if resource.table.key else collection


def etag(row: Row) -> str:
    return f'"{row["version"]}"'


def read_id(text: str) -> int | None:
    """An id in a path; None where it is none."""
    return int(text) if _ID.fullmatch(text) else None
