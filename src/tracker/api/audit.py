"""The audit trail: who changed what of the catalogue, when, from what to what."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.auth import authorize
from tracker.api.openapi import answers, documented
from tracker.api.parameters import Id, Text, choice, read_query
from tracker.api.resource import ROOT
from tracker.api.resource_endpoints import READ, PageQuery, list_rows, listed
from tracker.store.managed import AUDIT


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


@documented.validate(
    query=AuditQuery,
    resp=answers(listed("ChangeList", Change), 401, 403, 422, 503),
    tags=["Management"],
    operation_id="list_changes",
    skip_validation=True,
)
async def list_changes(request: Request) -> Response:
    """List changes

    The audit trail, newest first: what was changed through the API, written in the transaction of the change.
    """
    await authorize(request, READ)
    return await list_rows(request, AUDIT, read_query(request, AuditQuery), {})


routes: list[BaseRoute] = [Route(f"{ROOT}/audit", list_changes)]
