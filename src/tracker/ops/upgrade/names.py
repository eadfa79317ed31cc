"""Names with invisible characters around them, in a decomposed form, or without a visible character."""

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
    """Find such names of all kinds of objects."""
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
        yield of_row(resource, row, f"name {row['name']!a} {error}: give it another name")
        return
    if name != row["name"]:
        text = f"name {row['name']!a} is {name!a} without its invisible characters"
        yield of_row(resource, row, text, {"name": name})
