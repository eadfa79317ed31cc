"""What is done to users: invited, changed, reset, disabled, deleted. Each act is in the audit trail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from tracker.people import one_time_links
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Row
from tracker.store.db import Connection
from tracker.store.people import one_time_links as stored_links
from tracker.store.people import sessions, users
from tracker.store.people.one_time_links import Purpose
from tracker.store.people.users import USERS


class Invited(NamedTuple):
    """A user, and the path of the user's one-time link."""

    row: Row
    link: str
    purpose: Purpose


class LastAdminError(Exception):
    """The act would leave no admin who can sign in."""


def place(id_: int) -> str:
    """A user's path in the audit trail."""
    return f"users/{id_}"


async def invite(connection: Connection, author: Author, fields: Mapping[str, Any]) -> Invited:
    """Add a user without a password, and make a link to set one.

    Raises:
        TakenError: another user has the e-mail address.
    """
    row = await users.add(connection, dict(fields))
    await edit.note(connection, author, USERS, place(row["id"]), None, row)
    return Invited(row, await one_time_links.make(connection, "invitation", row["id"]), "invitation")


async def change(connection: Connection, author: Author, before: Row, fields: Mapping[str, Any]) -> Row:
    """Change a user. A change of rights ends the user's sessions.

    Raises:
        LastAdminError: no admin would be left.
        TakenError: another user has the e-mail address.
    """
    async with _keeping_an_admin(connection, before):
        row = await users.change(connection, before["id"], {**before, **fields})
    if row["is_disabled"]:
        await _sign_out(connection, row["id"])
    if row["is_disabled"] or row["email"] != before["email"]:  # a link may lie in the former mailbox
        await stored_links.void(connection, row["id"])
    await edit.note(connection, author, USERS, place(row["id"]), before, row)
    return row


async def reset(connection: Connection, author: Author, before: Row, *, drops_factor: bool) -> Invited:
    """Make a link to set a new password, and to drop the second factor. Until it is used, nothing changes."""
    purpose: Purpose = "reset" if before["has_password"] else "invitation"
    link = await one_time_links.make(connection, purpose, before["id"], drops_factor=drops_factor)
    after = {**before, "link": purpose}
    await edit.note(connection, author, USERS, place(before["id"]), before, after)
    return Invited(before, link, purpose)


async def delete(connection: Connection, author: Author, before: Row) -> None:
    """Delete a user with all sessions and links. The user's acts stay in the audit trail.

    Raises:
        LastAdminError: no admin would be left.
    """
    async with _keeping_an_admin(connection, before):
        await edit.delete(connection, USERS, {"id": before["id"]})
    await edit.note(connection, author, USERS, place(before["id"]), before, None)


async def end_session(connection: Connection, author: Author, before: Row, session_id: int) -> bool:
    """Sign a user out in one place. False if there is no such session."""
    if not await sessions.end(connection, session_id, before["id"]):
        return False
    after = {**before, "sessions": f"ended: {session_id}"}
    await edit.note(connection, author, USERS, place(before["id"]), before, after)
    return True


async def end_sessions(connection: Connection, author: Author, before: Row) -> None:
    """Sign a user out everywhere."""
    await _sign_out(connection, before["id"])
    await edit.note(connection, author, USERS, place(before["id"]), before, {**before, "sessions": "ended"})


async def _sign_out(connection: Connection, id_: int) -> None:
    await sessions.end_all(connection, id_)


@asynccontextmanager
async def _keeping_an_admin(connection: Connection, before: Row) -> AsyncIterator[None]:
    """Refuse an act on the last admin. Of two acts on two admins, the second sees the first."""
    if before["role"] != "admin" or not before["has_password"] or before["is_disabled"]:
        yield
        return
    await users.lock(connection, "admins")
    yield
    if not await users.has_admin(connection):
        raise LastAdminError
