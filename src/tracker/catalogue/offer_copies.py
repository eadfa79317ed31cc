"""Copies an offer with its parts: a draft that can be changed before it goes live."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import TopologicalSorter
from typing import Annotated

from pydantic import Field

from tracker.catalogue import goals, offers
from tracker.catalogue.fields import Fields, Name
from tracker.catalogue.resource import MONEY, WARNINGS, Editor, Resource, change_row, create_row, found
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Row
from tracker.store.db import Connection

_OWN = frozenset({"external_id", "closed_until", "is_archived", "status"})
"""Fields of an offer that its copy does not take over."""
_COPY = " (copy)"
_LONGEST_NAME = 500
_WITHOUT_PRICES = f"goals: their prices and terms are not copied, because that needs the scope {MONEY}"

_GOALS, _TERMS = goals.RESOURCES
_PARTS = tuple(
    resource
    for resource in offers.RESOURCES
    if resource.table.parent == "offer_id" and resource is not offers.OFFER_AFFILIATES
)


class OfferCopy(Fields):
    """How the copy of an offer is called."""

    name: Annotated[
        Name | None,
        Field(description="The name of the new offer. null: the former name, followed by (copy)."),
    ] = None


async def copy_offer(editor: Editor, offer_id: int, name: str | None) -> Row:
    """Make a draft with the fields, URLs, goals, terms, free values and caps of an offer, in one transaction.

    Archived parts stay behind, and so do parts of archived affiliates. No affiliate is approved for the new
    offer. An editor without the scope of money copies goals without their prices. Returns the new offer, with
    WARNINGS.

    Raises:
        CatalogueError: UNKNOWN if there is no such offer, INVALID for a part that today's rules refuse, or
            FORBIDDEN.
    """
    async with edit.changing(editor.pool) as connection:
        inside = editor._replace(pool=edit.as_pool(connection))
        before = found(await edit.one(connection, offers.OFFERS.table, {"id": offer_id}), offers.OFFERS)
        kept = {name: value for name, value in _written(offers.OFFERS, before).items() if name not in _OWN}
        called = name or before["name"][: _LONGEST_NAME - len(_COPY)] + _COPY
        after = await create_row(inside, offers.OFFERS, {}, kept | {"name": called, "status": "draft"})
        warnings = after.pop(WARNINGS, [])
        await _copy_goals(connection, inside, offer_id, after["id"])
        for resource in _PARTS:
            await _copy(connection, inside, resource, {"offer_id": offer_id}, {"offer_id": after["id"]})
    if not editor.may(MONEY):
        return after | {WARNINGS: [*warnings, _WITHOUT_PRICES]}
    return after | ({WARNINGS: warnings} if warnings else {})


async def _copy_goals(connection: Connection, editor: Editor, offer_id: int, copy_id: int) -> None:
    """Copy the goals, each after its parent, with their terms. The new offer has its base goal already."""
    former = {row["id"]: row for row in await _parts(connection, _GOALS, {"offer_id": offer_id})}
    parents = {id_: [row["parent_goal_id"]] if row["parent_goal_id"] else [] for id_, row in former.items()}
    hidden = frozenset() if editor.may(MONEY) else _GOALS.money
    copies: dict[int, int] = {}
    for id_ in TopologicalSorter(parents).static_order():
        row = former[id_]
        fields = {name: value for name, value in _written(_GOALS, row).items() if name not in hidden}
        fields["parent_goal_id"] = copies.get(row["parent_goal_id"])
        copies[id_] = await _put_goal(connection, editor, copy_id, fields, is_base=row["is_base"])
        if editor.may(MONEY):
            await _copy(connection, editor, _TERMS, {"goal_id": id_}, {"goal_id": copies[id_]})


async def _put_goal(
    connection: Connection, editor: Editor, offer_id: int, fields: Row, *, is_base: bool
) -> int:
    place = {"offer_id": offer_id}
    if is_base:
        base = found(await edit.one(connection, _GOALS.table, place | {"is_base": True}), _GOALS)
        row = await change_row(editor, _GOALS, place | {"id": base["id"]}, fields)
    else:
        row = await create_row(editor, _GOALS, place, fields)
    id_: int = row["id"]
    return id_


async def _copy(
    connection: Connection,
    editor: Editor,
    resource: Resource,
    former: Mapping[str, int],
    place: Mapping[str, int],
) -> None:
    """Copy all parts of one kind from one place to another."""
    for row in await _parts(connection, resource, former):
        await create_row(editor, resource, dict(place), _written(resource, row))


async def _parts(connection: Connection, resource: Resource, place: Mapping[str, int]) -> list[Row]:
    """The parts that are not archived, and whose affiliate is not."""
    rows = await edit.every(connection, resource.table, place)
    return [
        row
        for row in sorted(rows, key=lambda row: row["id"])
        if not row.get("is_archived") and await _has_affiliate(connection, row.get("affiliate_id"))
    ]


async def _has_affiliate(connection: Connection, id_: int | None) -> bool:
    return not id_ or await edit.exists(connection, "affiliate", id_)


def _written(resource: Resource, row: Row) -> Row:
    """The fields of a row that somebody wrote."""
    return {column: row[column] for column in resource.table.columns}
