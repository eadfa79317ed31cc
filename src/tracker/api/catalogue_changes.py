"""The change feed of the catalogue, for a copy elsewhere."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.listing import answer_changes
from tracker.api.http.routing import ROOT
from tracker.catalogue.resource import READ, path_of
from tracker.catalogue.resources import RESOURCES
from tracker.parameters import AfterId, Model, ParameterError, PerPage, Query, about, choices
from tracker.store.catalogue.changes import Change, changes
from tracker.store.catalogue.edit import Row
from tracker.store.feeds import AheadError

_BY_TABLE: Final = {resource.table.name: resource for resource in RESOURCES}
_NAMES = tuple(_BY_TABLE)
_PLAIN_NAMES = tuple(name for name, resource in _BY_TABLE.items() if not resource.is_of_money)
_KINDS = "Only these kinds of objects, as the audit trail names them."


class CatalogueChangesQuery(Query):
    """From where on, and which kinds of objects."""

    updated_after: AfterId = Field(
        default=0, description="Start with 0, then send next_updated_after. No change is skipped."
    )
    per_page: PerPage = Field(default=200, description="Objects per answer.")
    resource: choices(*_NAMES) = about(_KINDS)  # type: ignore[valid-type]


class _WithoutMoney(CatalogueChangesQuery):
    """The same for a token that hides money."""

    resource: choices(*_PLAIN_NAMES) = about(_KINDS)  # type: ignore[valid-type]


class ChangedObject(Model):
    """An object of the catalogue that is new, changed or deleted."""

    resource: str = Field(description="Its kind, as the audit trail names it.", examples=["offer_url"])
    path: str = Field(description="The object's path in the API.", examples=["offers/3/urls/132"])
    version: int = Field(description="Grows with every change of the catalogue.")
    is_deleted: bool = Field(description="true: the object is gone. Archived objects are not deleted.")
    object: dict[str, Any] | None = Field(
        description="The object as GET of its path shows it, archived or not. null if it is deleted."
    )


class ChangedObjectList(Model):
    """Changed objects in the order of versions."""

    data: list[ChangedObject]
    total: None
    per_page: int = Field(examples=[200])
    page: None
    pages: None
    next_updated_after: int = Field(description="The updated_after for the next request.", examples=[184])


@endpoint(
    scope=READ,
    query=CatalogueChangesQuery,
    without_money=_WithoutMoney,
    returns=ChangedObjectList,
    tag="Management",
)
async def list_catalogue_changes(call: Call[CatalogueChangesQuery]) -> Response:
    """Follow the catalogue

    Objects of all kinds that are new, changed or deleted since `updated_after`, in the order of their
    versions. Each change comes at least once after its commit, and none is skipped. An object comes as it is
    now: two changes between two requests are one row.
    """
    query = call.query
    hides_money = call.token.hides_money
    names = query.resource or (_PLAIN_NAMES if hides_money else _NAMES)
    tables = [_BY_TABLE[name].table for name in names]
    try:
        found, upto = await changes(call.state.pool, tables, query.updated_after or 0, query.per_page)
    except AheadError as error:
        raise ParameterError({"updated_after": [str(error)]}) from None
    rows = [_shown(change, _seen(change, hides_money=hides_money)) for change in found]
    seen = [row for row in rows if row["object"] is not None or row["is_deleted"]]
    return answer_changes(seen, upto, query.per_page)


def _seen(change: Change, *, hides_money: bool) -> Row | None:
    if change.is_deleted:
        return None
    return _BY_TABLE[change.table.name].without_money(change.row) if hides_money else change.row


def _shown(change: Change, row: Row | None) -> dict[str, object]:
    return {
        "resource": change.table.name,
        "path": path_of(_BY_TABLE[change.table.name], change.row),
        "version": change.version,
        "is_deleted": change.is_deleted,
        "object": row,
    }


routes: list[Route] = [Route(f"{ROOT}/catalogue-changes", list_catalogue_changes)]
