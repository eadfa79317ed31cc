"""The audit trail: who changed what of the catalogue, when, from what to what."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.catalogue import PageQuery, list_rows, listed
from tracker.api.conversions import affiliate_postbacks, period_closes
from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.routing import ROOT
from tracker.catalogue.resource import READ
from tracker.catalogue.resources import RESOURCES
from tracker.parameters import Id, Text, choice
from tracker.store.catalogue.edit import AUDIT
from tracker.store.conversions import affiliate_postbacks as outgoing

_ALL_SCOPE = "admin"
_SCOPES = {
    **{resource.table.name: READ for resource in RESOURCES},
    period_closes.TABLE.name: period_closes.READ_SCOPE,
    outgoing.SENT.name: affiliate_postbacks.READ_SCOPE,
}
"""Who sees changes of a kind of object; of any other kind, as tokens, only who may do everything."""


class AuditQuery(PageQuery):
    """Which changes."""

    path: Text = Field(None, description="Changes of this object, as offers/3/urls/132.")
    resource: Text = Field(None, description="Changes of this kind of object, as offer_url.")
    token_id: Id = Field(None, description="Changes with this token.")
    action: choice("create", "update", "delete") = Field(None, description="Changes of this kind.")  # type: ignore[valid-type]


class Change(BaseModel):
    """One change of one object."""

    id: int
    at: str = Field(description="UTC.", examples=["2026-11-25T16:00:00.123456+00:00"])
    token_id: int | None = Field(description="null: on the command line.")
    token_name: str = Field(description="As it was then.")
    action: Literal["create", "update", "delete"]
    resource: str = Field(examples=["offer_url"])
    path: str = Field(examples=["offers/3/urls/132"])
    before: dict[str, Any] | None = Field(description="null: it was not there.")
    after: dict[str, Any] | None = Field(description="null: it is gone.")


@endpoint(scope=READ, query=AuditQuery, returns=listed("ChangeList", Change), tag="Management")
async def list_changes(call: Call[AuditQuery]) -> Response:
    """List changes

    The audit trail, newest first: what was changed through the API, written in the transaction of the change.
    Seen with scopes of their own only: period closes (`money:read`), postbacks that were fired again
    (`conversions:read`), tokens (`admin`).
    """
    query, pool = call.query, call.state.pool
    if call.token.allows(_ALL_SCOPE):
        return await list_rows(pool, AUDIT, query, {})
    seen = {resource for resource, scope in _SCOPES.items() if call.token.allows(scope)}
    if query.resource is not None:
        seen &= {query.resource}
    place = {"resource": sorted(seen)}
    return await list_rows(pool, AUDIT, query.model_copy(update={"resource": None}), place)


routes: list[Route] = [Route(f"{ROOT}/audit", list_changes)]
