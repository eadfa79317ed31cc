"""The rules of editing users, for the API and the command line. A change is one transaction, and audited."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from tracker.catalogue.errors import CatalogueError, Kind, conflict, invalid
from tracker.catalogue.fields import Fields, Id, NameOrNone
from tracker.catalogue.resource import Editor, Version
from tracker.catalogue.validation import check_storable, merged, validated
from tracker.domain import normalise
from tracker.domain.access import MOST_OWNERS, ROLES, OwnerKind
from tracker.people import users
from tracker.people.sessions import IDLE
from tracker.people.users import Invited, LastAdminError
from tracker.store import tokens
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Row, TakenError
from tracker.store.db import Connection
from tracker.store.people import sessions
from tracker.store.people import users as stored
from tracker.store.people.users import USERS
from tracker.store.token_owner import Owner

_KINDS: tuple[OwnerKind, ...] = ("affiliate", "advertiser")


def _in_order(ids: list[int]) -> list[int]:
    return sorted(set(ids))


_Owners = Annotated[list[Id], Field(max_length=MOST_OWNERS), AfterValidator(_in_order)]


class NewUserFields(Fields):
    """A user to invite."""

    email: Annotated[str, AfterValidator(normalise.email)] = Field(
        min_length=1,
        max_length=500,
        description="Signs in with it, in any case. Unique among users.",
        examples=["jane@net.example"],
    )
    name: NameOrNone = ""
    role: Literal[tuple(ROLES)] = Field(  # type: ignore[valid-type]
        description=" ".join(f"{name}: {role.about}." for name, role in ROLES.items()), examples=["manager"]
    )
    affiliate_ids: _Owners = Field(
        default_factory=list, description="The user sees only rows of these affiliates."
    )
    advertiser_ids: _Owners = Field(
        default_factory=list, description="The user sees only rows of these advertisers."
    )
    hides_money: bool = Field(False, description="true: the user sees no amount anywhere.")

    def clashes(self) -> dict[str, str]:
        """What the role forbids, or lacks."""
        role = ROLES[self.role]
        if self.affiliate_ids and self.advertiser_ids:
            return {"advertiser_ids": "must be empty, because affiliate_ids are given"}
        owners: dict[OwnerKind, list[int]] = {
            "affiliate": self.affiliate_ids,
            "advertiser": self.advertiser_ids,
        }
        wrong = {
            f"{kind}_ids": f"must be empty for the role {self.role}"
            for kind, ids in owners.items()
            if ids and kind not in role.owners
        }
        if not role.scopes and not owners[role.owners[0]]:
            wrong[f"{role.owners[0]}_ids"] = f"is missing: the role {self.role} needs at least one"
        if self.hides_money and not role.may_hide_money:
            wrong["hides_money"] = f"must be false for the role {self.role}"
        return wrong


class UserFields(NewUserFields):
    """The fields of a user that may change. A change of rights ends the user's sessions."""

    is_disabled: bool = Field(False, description="true: the user cannot sign in.")


async def one(editor: Editor, id_: int) -> Row:
    """A user.

    Raises:
        CatalogueError: UNKNOWN.
    """
    return _there(await edit.one(editor.pool, USERS, {"id": id_}))


async def invite(editor: Editor, written: Row) -> Invited:
    """Add a user, and make the link of the invitation.

    Raises:
        CatalogueError: INVALID or CONFLICT.
    """
    fields = _checked(written, NewUserFields)
    async with edit.changing(editor.pool) as connection:
        await _check_owners(connection, fields, {})
        try:
            return await users.invite(connection, editor.author, {**fields, "is_disabled": False})
        except TakenError:
            raise _taken() from None


async def change(editor: Editor, id_: int, written: Row) -> Row:
    """Change some fields of a user. null sets the default.

    Raises:
        CatalogueError: any kind except FORBIDDEN.
    """
    written = dict(written)
    async with edit.changing(editor.pool) as connection:
        before = await _found(connection, id_)
        version = validated({"version": written.pop("version", None)}, Version).version
        _check_version(editor, version, before)
        _check_fixed(before, written)
        writable = {column: before[column] for column in USERS.columns}
        fields = _checked(merged(writable, written), UserFields, writable)
        if fields == writable:
            return before
        await _check_owners(connection, fields, before)
        try:
            return await users.change(connection, editor.author, before, fields)
        except TakenError:
            raise _taken() from None
        except LastAdminError:
            field = "is_disabled" if fields["is_disabled"] else "role"
            raise _last_admin(field) from None


async def reset(editor: Editor, id_: int, *, drops_factor: bool) -> Invited:
    """Make a link with which a user sets a new password.

    Raises:
        CatalogueError: UNKNOWN, STALE, or CONFLICT for a disabled user.
    """
    async with edit.changing(editor.pool) as connection:
        before = await _found(connection, id_)
        _check_version(editor, None, before)
        if before["is_disabled"]:
            raise conflict({"is_disabled": ["is true: enable the user first"]})
        return await users.reset(connection, editor.author, before, drops_factor=drops_factor)


async def remove(editor: Editor, id_: int) -> Row:
    """Delete a user with all sessions and links, and return the former row.

    Raises:
        CatalogueError: UNKNOWN, STALE, or CONFLICT for the last admin.
    """
    async with edit.changing(editor.pool) as connection:
        before = await _found(connection, id_)
        _check_version(editor, None, before)
        try:
            await users.delete(connection, editor.author, before)
        except LastAdminError:
            raise _last_admin("role") from None
        return before


async def open_sessions(editor: Editor, id_: int) -> list[dict[str, Any]]:
    """The open sessions of a user, the last seen first.

    Raises:
        CatalogueError: UNKNOWN.
    """
    async with editor.pool.acquire() as connection, connection.transaction():
        user = await _found(connection, id_)
        return await sessions.of_user(connection, user["id"], IDLE)


async def end_sessions(editor: Editor, id_: int, session_id: int | None = None) -> None:
    """End one session of a user, or all of them.

    Raises:
        CatalogueError: UNKNOWN user or session.
    """
    async with edit.changing(editor.pool) as connection:
        before = await _found(connection, id_)
        if session_id is None:
            await users.end_sessions(connection, editor.author, before)
        elif not await users.end_session(connection, editor.author, before, session_id):
            raise CatalogueError(Kind.UNKNOWN, {}, f"The user has no session {session_id}.")


async def _found(connection: Connection, id_: int) -> Row:
    return _there(await stored.shown(connection, id_))


def _there(row: Row | None) -> Row:
    if row is None:
        raise CatalogueError(Kind.UNKNOWN, {}, "There is no such user.")
    return row


def _checked(written: Row, model: type[NewUserFields], before: Row | None = None) -> Row:
    check_storable(written)
    fields = validated(written, model, before)
    if clashes := fields.clashes():
        raise invalid({field: [message] for field, message in clashes.items()})
    return fields.model_dump(warnings=False)


def _check_fixed(before: Row, written: Row) -> None:
    """Refuse other values of what a change cannot set. The same values are allowed, as the API shows them."""
    facts = ("id", *USERS.facts)
    if changed := [name for name in facts if written.get(name, before[name]) != before[name]]:
        raise invalid({name: ["cannot be changed"] for name in changed})
    for name in facts:
        written.pop(name, None)


def _check_version(editor: Editor, version: int | None, before: Row) -> None:
    current = before["version"]
    errors = {"version": [f"is not current: the current version is {current}"]}
    if not editor.expects(current):
        raise CatalogueError(Kind.STALE, errors, "The user was changed since.", version=current)
    if version not in (None, current):
        raise CatalogueError(Kind.CONFLICT, errors, "The user was changed since.", version=current)


async def _check_owners(connection: Connection, fields: Row, before: Row) -> None:
    """Refuse new owners that do not exist. Those that the user has had may be archived since."""
    for kind in _KINDS:
        column = f"{kind}_ids"
        if new := _new(fields[column], before.get(column, ())):
            unknown = await tokens.unknown_of(connection, Owner(kind, new))
            if unknown is not None:
                raise invalid({column: [f"{unknown} matches no {kind}"]})


def _new(ids: Collection[int], former: Collection[int]) -> tuple[int, ...]:
    return tuple(id_ for id_ in ids if id_ not in former)


def _taken() -> CatalogueError:
    return conflict({"email": ["is the address of another user"]})


def _last_admin(field: str) -> CatalogueError:
    return conflict({field: ["must stay: this is the last admin who can sign in"]})
