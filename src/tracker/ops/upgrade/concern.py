"""A row that this version treats differently, and the change that fixes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from tracker.catalogue.errors import CatalogueError
from tracker.catalogue.resource import Editor, Resource, change_row, path_of
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Row
from tracker.store.db import REFUSED, Pool

Fix = Callable[[Pool, bool], Awaitable[str]]
"""Makes a change, or only tests it in a trial (True). Returns "" or the reason why it cannot be made."""

_AUTHOR = Author(None, "tracker doctor --fix")


class Concern(NamedTuple):
    """One row, or several equal ones."""

    where: str  # its API path, or another name
    text: str  # the fault, its effect now, and the corrected value
    fix: Fix | None = None  # None: a person has to decide


def of_row(resource: Resource, row: Row, text: str, patch: Row | None = None) -> Concern:
    """A concern about an object of the catalogue.

    The patch fixes it, by the API's rules and with an audit entry.
    """
    place = {column: row[column] for column in resource.table.fixed}

    async def fix(pool: Pool, is_trial: bool) -> str:
        assert patch
        now = await edit.one(pool, resource.table, place)
        if now is None or any(now[field] != row[field] for field in patch):
            return "it has been changed"
        editor = Editor(pool, _AUTHOR, is_trial=is_trial)
        try:
            await change_row(editor, resource, place, {**patch, "version": now["version"]})
        except CatalogueError as error:
            return error.detail
        except REFUSED as error:  # another field of the row is wrong too
            return str(error).partition("\n")[0]
        return ""

    return Concern(path_of(resource, row), text, fix if patch else None)
