"""A row that this version sees differently, and the change that would put it right."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from tracker.catalogue.errors import CatalogueError
from tracker.catalogue.resource import Editor, Resource, change_row, path_of
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Row
from tracker.store.db import REFUSED, Pool

Fix = Callable[[Pool, bool], Awaitable[str]]
"""Makes a change, or in a trial (True) only sees whether it can be made; "" or why it cannot."""

_AUTHOR = Author(None, "tracker doctor --fix")


class Concern(NamedTuple):
    """One row, or some that are alike."""

    where: str  # its path of the API, or what tells it
    text: str  # what is the matter, what the row does as it stands, and what it would do
    fix: Fix | None = None  # None: somebody has to decide


def of_row(resource: Resource, row: Row, text: str, patch: Row | None = None) -> Concern:
    """A concern about an object of the catalogue; the patch, by the API's rules and in its trail, ends it."""
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
        except REFUSED as error:  # the row is wrong in another place, too
            return str(error).partition("\n")[0]
        return ""

    return Concern(path_of(resource, row), text, fix if patch else None)
