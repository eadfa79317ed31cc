"""The change feed of the catalogue, for a copy elsewhere."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.listing import answer_changes
from tracker.api.http.routing import ROOT
from tracker.catalogue.resource import READ, path_of
from tracker.catalogue.resources import RESOURCES
from tracker.parameters import AfterId, ParameterError, PerPage, Query, about, choices
from tracker.store.catalogue.changes import Change, changes
from tracker.store.feeds import AheadError

_BY_TABLE: Final = {resource.table.name: resource for resource in RESOURCES}
_NAMES = tuple(_BY_TABLE)


class CatalogueChangesQuery(Query):
    """From where on, and which kinds of objects."""

    updated_after: AfterId = Field(
        default=0, description="Start with 0, then send next_updated_after. No change is skipped."
    )
    per_page: PerPage = Field(default=200, description="Objects per answer.")
    resource: choices(*_NAMES) = about("Only these kinds of objects, as the audit trail names them.")  # type: ignore[valid-type]


class ChangedObject(BaseModel):
    """An object of the catalogue that is new, changed or deleted."""

    resource: str = Field(description="Its kind, as the audit trail names it.", examples=["offer_url"])
    path: str = Field(description="The object's path in the API.", examples=["offers/3/urls/132"])
    version: int = Field(description="Grows with every change of the catalogue.")
    is_deleted: bool = Field(description="true: the object is gone. Archived objects are not deleted.")
    object: dict[str, Any] | None = Field(
        description="The object as GET of its path shows it, archived or not. null if it is deleted."
    )


class ChangedObjectList(BaseModel):
    """Changed objects in the order of versions."""

    data: list[ChangedObject]
    total: None
    per_page: int = Field(examples=[200])
    page: None
    pages: None
    next_updated_after: int = Field(description="The updated_after for the next request.", examples=[184])


@endpoint(scope=READ, query=CatalogueChangesQuery, returns=ChangedObjectList, tag="Management")
async def list_catalogue_changes(call: Call[CatalogueChangesQuery]) -> Response:
    """Follow the catalogue

    Objects of all kinds that are new, changed or deleted since `updated_after`, in the order of their
    versions. Each change comes at least once after its commit, and none is skipped. An object comes as it is
    now: two changes between two requests are one row.
    """
    query = call.query
    tables = [_BY_TABLE[name].table for name in query.resource or _NAMES]
    try:
        found, upto = await changes(call.state.pool, tables, query.updated_after or 0, query.per_page)
    except AheadError as error:
        raise ParameterError({"updated_after": [str(error)]}) from None
    return answer_changes([_shown(change) for change in found], upto, query.per_page)


def _shown(change: Change) -> dict[str, object]:
    return {
        "resource": change.table.name,
        "path": path_of(_BY_TABLE[change.table.name], change.row),
        "version": change.version,
        "is_deleted": change.is_deleted,
        "object": None if change.is_deleted else change.row,
    }


routes: list[Route] = [Route(f"{ROOT}/catalogue-changes", list_catalogue_changes)]
