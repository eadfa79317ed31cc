"""Clicks of an import that another import of the same source replaces.

A field that the file leaves out keeps its value. A replaced click is a new row with a new id, so the feed of
clicks tells of it. Its conversions get its new values, except for those that money depends on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from tracker.domain.click_fields import ADV_SUBS
from tracker.domain.conversion import ConvertedClick
from tracker.domain.model import ClickRow
from tracker.store.clicks import counts as click_counts
from tracker.store.clicks import deltas
from tracker.store.db import Connection

OTHERS = "no import of this source stored it"
"""Why a row stays."""

_COLUMNS = ", ".join(f"found.{name}" for name in ClickRow._fields)
# The bounds match the list. They let the planner skip partitions.
_STORED = f"""
WITH found AS (SELECT * FROM click WHERE hash = ANY ($1::uuid[]) AND hash BETWEEN $2 AND $3)
SELECT {_COLUMNS}, source IS NOT DISTINCT FROM $4 AS is_ours,
       EXISTS (SELECT FROM conversion WHERE click_hash = found.hash) AS is_converted
FROM found LEFT JOIN imported_click ON imported_click.hash = found.hash
"""  # noqa: S608
_TAKE_OUT = f"""
WITH taken AS (
    DELETE FROM click WHERE hash = ANY ($1::uuid[]) AND hash BETWEEN $2 AND $3
    RETURNING {click_counts.COUNTED}
), {deltas.noting("taken", "-stored", sign=-1)}
SELECT count(*) FROM taken
"""  # noqa: S608

_OF_MONEY = ("offer_id", "advertiser_id", "affiliate_id", "is_test")
_TOLD = tuple(name for name in ConvertedClick._fields[3:] if name not in _OF_MONEY)
_TELL_CONVERSIONS = f"""
UPDATE conversion SET (click_id, click_status, {", ".join(_TOLD)})
    = (click.id, click.status, {", ".join(f"click.{name}" for name in _TOLD)})
FROM click
WHERE click_hash = ANY ($1::uuid[]) AND click.hash = click_hash AND click.hash BETWEEN $2 AND $3
"""  # noqa: S608


class Wanted(Protocol):
    """A click of a file."""

    @property
    def row(self) -> ClickRow: ...
    @property
    def named(self) -> tuple[str, ...]: ...


class Replaced(NamedTuple):
    """Stored clicks that differ from those of a file, by hash."""

    rows: dict[str, ClickRow]  # what they become
    stay: dict[str, str]  # why the others stay


async def find(connection: Connection, source: str, items: Iterable[Wanted]) -> Replaced:
    """The stored clicks that differ from the ones of a file."""
    wanted: dict[str, Wanted] = {}
    for item in items:
        wanted.setdefault(item.row.hash, item)
    replaced = Replaced({}, {})
    if not wanted:
        return replaced
    bounds = min(wanted), max(wanted)
    for record in await connection.fetch(_STORED, list(wanted), *bounds, source):
        stored = {name: value.hex if isinstance(value, UUID) else value for name, value in record.items()}
        hash_ = stored["hash"]
        changes = _changes(wanted[hash_], stored)
        if not changes:
            continue
        if why := _why_it_stays(stored, changes):
            replaced.stay[hash_] = why
        else:
            before = {name: stored[name] for name in ClickRow._fields}
            replaced.rows[hash_] = ClickRow(**{**before, **changes})
    return replaced


async def take_out(connection: Connection, hashes: Collection[str]) -> None:
    """Delete clicks with their counts. They are stored again in this transaction."""
    if hashes:
        await connection.execute(_TAKE_OUT, list(hashes), min(hashes), max(hashes))


async def tell_conversions(connection: Connection, hashes: Collection[str]) -> None:
    """Give conversions the new values of their clicks."""
    if hashes:
        await connection.execute(_TELL_CONVERSIONS, list(hashes), min(hashes), max(hashes))


def _changes(item: Wanted, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that get other values: those of the file, and those that follow from them."""
    row = item.row._asdict()
    # Exports show the adv_sub… of a conversion as those of its click.
    named = [name for name in item.named if not (stored["is_converted"] and name in ADV_SUBS)]
    changes = {name: row[name] for name in named if row[name] != stored[name]}
    follow: list[str] = []
    if changes.keys() & {"is_unique", "group_hash"}:
        follow += ["is_unique", "group_hash"]
    if "offer_id" in changes:
        follow += ["advertiser_id", "brand_id", "requested_offer_id"]
    if "affiliate_id" in changes:
        follow.append("aff_group_id")
    return changes | {name: row[name] for name in follow if row[name] != stored[name]}


def _why_it_stays(stored: Mapping[str, Any], changes: Mapping[str, Any]) -> str:
    if not stored["is_ours"]:
        return OTHERS
    kept = [name for name in _OF_MONEY if name in changes]
    if stored["is_converted"] and kept:
        return f"its conversions are of its {', '.join(kept)}: take them back first (tracker import undo)"
    return ""
