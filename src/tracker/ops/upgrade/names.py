"""Names with something invisible around them, in a decomposed form, or that nobody can see."""

from __future__ import annotations

from collections.abc import Iterator

from tracker.catalogue import advertisers_affiliates, goals, links, offers
from tracker.catalogue.resource import Resource
from tracker.domain import normalise
from tracker.ops.upgrade.concern import Concern, of_row
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Row
from tracker.store.db import Connection

_NAMED: tuple[Resource, ...] = tuple(
    resource
    for module in (advertisers_affiliates, offers, goals, links)
    for resource in module.RESOURCES
    if "name" in resource.fields.model_fields
)


async def find(connection: Connection) -> list[Concern]:
    """Of all kinds of objects that have a name."""
    return [
        concern
        for resource in _NAMED
        for row in await edit.every(connection, resource.table)
        if row["name"] and not row.get("is_archived")
        for concern in _of_name(resource, row)
    ]


def _of_name(resource: Resource, row: Row) -> Iterator[Concern]:
    try:
        name = normalise.name(row["name"])
    except ValueError as error:
        yield of_row(resource, row, f"name {row['name']!a} {error}: give it one")
        return
    if name != row["name"]:
        text = f"name {row['name']!a} is {name!a} without what nobody sees"
        yield of_row(resource, row, text, {"name": name})
