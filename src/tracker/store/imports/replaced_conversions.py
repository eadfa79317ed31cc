"""Conversions of an import that another import of the same source replaces.

What an approved one has booked is not changed. The difference is booked, as that of a correction or of
another status.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tracker.domain.postback import ConversionStatus, Source
from tracker.store.conversions import booking
from tracker.store.db import Connection
from tracker.store.imports.replaced_clicks import OTHERS
from tracker.store.imports.undo import CHANGED, TELL_NOBODY
from tracker.store.legacy_clicks import source_of

_STORED = f"""
SELECT conversion.*, {CHANGED} AS is_changed FROM conversion WHERE hash = ANY ($1::uuid[])
"""  # noqa: S608
_UPDATE = """
UPDATE conversion SET {} FROM jsonb_populate_recordset(NULL::conversion, $1) AS told
WHERE conversion.id = told.id
"""

_APPROVED = ConversionStatus.APPROVED


class Change(NamedTuple):
    """A stored conversion, and the columns that get other values."""

    id: int
    before: ConversionStatus
    columns: dict[str, Any]

    @property
    def after(self) -> ConversionStatus:
        return ConversionStatus(self.columns.get("status", self.before))


class Replaced(NamedTuple):
    """Stored conversions that differ from those of a file, by hash."""

    changes: dict[str, Change]
    stay: dict[str, str]  # why the others stay


async def find(
    connection: Connection, source: str, rows: Sequence[Mapping[str, Any]], fixed: Sequence[str]
) -> Replaced:
    """The stored conversions that differ. `fixed`: the columns that never change."""
    wanted: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        wanted.setdefault(row["hash"], row)
    replaced = Replaced({}, {})
    for stored in await connection.fetch(_STORED, list(wanted)):
        row = wanted[stored["hash"].hex]
        columns = {name: row[name] for name in row["named"] if row[name] != _plain(name, stored)}
        if not columns:
            continue
        if why := _why_it_stays(source, stored, [name for name in fixed if name in columns]):
            replaced.stay[row["hash"]] = why
        else:
            change = Change(stored["id"], ConversionStatus(stored["status"]), columns)
            replaced.changes[row["hash"]] = change
    return replaced


def _plain(name: str, stored: Mapping[str, Any]) -> object:
    if name == "legacy_source":
        return source_of(stored)
    return stored[name].hex if name == "click_hash" else stored[name]


def _why_it_stays(source: str, stored: Mapping[str, Any], fixed: Sequence[str]) -> str:
    if stored["import_source"] != source:
        return OTHERS
    if stored["is_changed"]:
        return "a postback or a person has changed it since"
    if fixed:
        return f"it belongs to its {', '.join(fixed)}: take it back first (tracker import undo)"
    return ""


async def replace(connection: Connection, source: str, author: str, changes: Sequence[Change]) -> None:
    """Change conversions, and book the differences. Affiliates are not told."""
    for names in {tuple(change.columns) for change in changes}:
        rows = [{"id": each.id, **each.columns} for each in changes if tuple(each.columns) == names]
        sets = ", ".join(f"{name} = told.{name}" for name in names)
        await connection.execute(_UPDATE.format(sets), json.dumps(rows, default=str))
    for before, after in {(change.before, change.after) for change in changes}:
        ids = [change.id for change in changes if (change.before, change.after) == (before, after)]
        if before is not after:
            await booking.change(connection, ids, before, after, (Source.IMPORT, author, None))
        elif after is _APPROVED:
            reason = f"replaced by an import of {source}"
            await booking.correct(connection, dict.fromkeys(ids, reason), author)
    await connection.execute(TELL_NOBODY, [change.id for change in changes])
