"""The audit trail: who changed what of the catalogue, when, from what to what."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.catalogue import PageQuery, list_rows, listed
from tracker.api.conversions import affiliate_postbacks, period_closes
from tracker.api.http.auth import authorize
from tracker.api.http.endpoint import documented, needs, responses
from tracker.api.http.query import Id, Text, choice, read_query
from tracker.catalogue import advertisers_affiliates, goals, links, offers, traffic
from tracker.catalogue.resource import READ, ROOT
from tracker.store.catalogue.edit import AUDIT
from tracker.store.conversions import affiliate_postbacks as outgoing

_ALL_SCOPE = "admin"
_SCOPES = {
    **{
        resource.table.name: READ
        for module in (goals, links, offers, advertisers_affiliates, traffic)
        for resource in module.RESOURCES
    },
    period_closes.TABLE.name: period_closes.READ_SCOPE,
    outgoing.SENT.name: affiliate_postbacks.READ_SCOPE,
}
"""Who sees changes of a kind of object; of any other kind, as tokens, only who may do everything."""


class AuditQuery(PageQuery):
    """Which changes."""

    path: Text = Field(None, description="Changes of the object with this path, as in offers/3/urls/132.")
    resource: Text = Field(None, description="Changes of this kind of object, as in offer_url.")
    token_id: Id = Field(None, description="Changes made with this token.")
    action: choice("create", "update", "delete") = Field(None, description="Changes with this action.")  # type: ignore[valid-type]


class Change(BaseModel):
    """One change of one object."""

    id: int
    at: str = Field(description="UTC.", examples=["2026-11-25T16:00:00.123456+00:00"])
    token_id: int | None = Field(description="null for the command line.")
    token_name: str = Field(description="The name of the token at that time.")
    action: Literal["create", "update", "delete"]
    resource: str = Field(examples=["offer_url"])
    path: str = Field(examples=["offers/3/urls/132"])
    before: dict[str, Any] | None = Field(description="The object before. null if it was created.")
    after: dict[str, Any] | None = Field(description="The object after. null if it was deleted.")


@documented.validate(
    query=AuditQuery,
    resp=responses(listed("ChangeList", Change), 401, 403, 422, 503),
    security=needs(READ),
    tags=["Management"],
    operation_id="list_changes",
    skip_validation=True,
)
async def list_changes(request: Request) -> Response:
    """List changes

    The audit trail, newest first: what was changed through the API, written in the transaction of the change.
    Seen with scopes of their own only: period closes (`money:read`), postbacks that were fired again
    (`conversions:read`), tokens (`admin`).
    """
    token = await authorize(request, READ)
    query = read_query(request, AuditQuery)
    if token.allows(_ALL_SCOPE):
        return await list_rows(request, AUDIT, query, {})
    seen = {resource for resource, scope in _SCOPES.items() if token.allows(scope)}
    if query.resource is not None:
        seen &= {query.resource}
    place = {"resource": sorted(seen)}
    return await list_rows(request, AUDIT, query.model_copy(update={"resource": None}), place)


routes: list[BaseRoute] = [Route(f"{ROOT}/audit", list_changes)]
